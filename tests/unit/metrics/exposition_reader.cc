#include "tests/unit/metrics/exposition_reader.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <sstream>

namespace waggle::metrics {
namespace {

bool IsName(const std::string& name, bool colon) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) != 0) return false;
  return std::all_of(name.begin(), name.end(), [colon](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || (colon && c == ':');
  });
}

bool ToNumber(const std::string& text, double* value) {
  if (text == "+Inf" || text == "-Inf" || text == "NaN") {
    *value = text == "NaN" ? std::numeric_limits<double>::quiet_NaN()
                           : (text[0] == '-' ? -1 : 1) * std::numeric_limits<double>::infinity();
    return true;
  }
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return !text.empty() && std::isspace(static_cast<unsigned char>(text[0])) == 0 && *end == '\0' &&
         std::isfinite(*value);
}

// `name{a="b",c="d"} 1`. False: it is none.
bool ToSample(const std::string& line, ReadSample* sample) {
  size_t at = line.find_first_of("{ ");
  if (at == std::string::npos) return false;
  sample->name = line.substr(0, at);
  if (!IsName(sample->name, true)) return false;
  if (line[at] == '{') {
    ++at;
    while (at < line.size() && line[at] != '}') {
      const size_t equals = line.find("=\"", at);
      if (equals == std::string::npos) return false;
      const std::string name = line.substr(at, equals - at);
      if (!IsName(name, false)) return false;
      std::string value;
      for (at = equals + 2; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] != '\\') {
          value += line[at];
          continue;
        }
        if (++at == line.size()) return false;
        if (line[at] == 'n') {
          value += '\n';
        } else if (line[at] == '\\' || line[at] == '"') {
          value += line[at];
        } else {
          return false;
        }
      }
      if (at == line.size() || !sample->labels.emplace(name, value).second) return false;
      ++at;
      if (at < line.size() && line[at] == ',') {
        ++at;
        if (at < line.size() && line[at] == '}') return false;
      }
    }
    if (at == line.size()) return false;
    ++at;
    if (sample->labels.empty()) return false;
  }
  return at < line.size() && line[at] == ' ' && ToNumber(line.substr(at + 1), &sample->value);
}

std::string Show(const ReadSample& sample) {
  std::string text = sample.name + "{";
  for (const auto& [name, value] : sample.labels)
    text += name + "=" + value + ",";
  return text + "}";
}

bool Belongs(const ReadSample& sample, const ReadFamily& family) {
  if (family.type != "histogram") return sample.name == family.name;
  return sample.name == family.name + "_bucket" || sample.name == family.name + "_sum" ||
         sample.name == family.name + "_count";
}

void CheckHistogram(const ReadFamily& family, std::vector<std::string>* faults) {
  struct Parts {
    std::vector<std::pair<double, double>> buckets;  // le, value
    double sum = -1, count = -1;
  };
  std::map<LabelMap, Parts> all;
  for (const ReadSample& sample : family.samples) {
    LabelMap labels = sample.labels;
    if (sample.name.ends_with("_bucket")) {
      double le = 0;
      if (!ToNumber(labels["le"], &le)) faults->push_back(Show(sample) + ": le is no number");
      labels.erase("le");
      all[labels].buckets.emplace_back(le, sample.value);
    } else {
      (sample.name.ends_with("_sum") ? all[labels].sum : all[labels].count) = sample.value;
    }
  }
  for (const auto& [labels, parts] : all) {
    const std::string where = Show({family.name, labels, 0});
    for (size_t i = 1; i < parts.buckets.size(); ++i) {
      if (parts.buckets[i - 1].first >= parts.buckets[i].first ||
          parts.buckets[i - 1].second > parts.buckets[i].second) {
        faults->push_back(where + ": buckets fall");
      }
    }
    if (parts.buckets.empty() || !std::isinf(parts.buckets.back().first)) {
      faults->push_back(where + ": no bucket +Inf");
    } else if (parts.buckets.back().second != parts.count) {
      faults->push_back(where + ": _count is not that of +Inf");
    }
    if (parts.sum < 0) faults->push_back(where + ": no _sum");
  }
}

}  // namespace

double ReadExposition::Value(const std::string& name, const LabelMap& labels) const {
  for (const ReadFamily& family : families) {
    for (const ReadSample& sample : family.samples) {
      if (sample.name == name && sample.labels == labels) return sample.value;
    }
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::vector<std::string> ReadExposition::Names() const {
  std::vector<std::string> names;
  for (const ReadFamily& family : families)
    names.push_back(family.name);
  std::sort(names.begin(), names.end());
  return names;
}

ReadExposition ParseExposition(const std::string& text, const std::vector<std::string>& any_name) {
  ReadExposition result;
  std::vector<std::string>& faults = result.faults;
  std::set<std::string> names;
  if (!text.ends_with('\n')) faults.push_back("does not end in a newline");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      const size_t end = line.find(' ', 7);
      ReadFamily family;
      family.name = line.substr(7, end - 7);
      if (end == std::string::npos || end + 1 == line.size()) {
        faults.push_back(family.name + ": no help");
      } else {
        family.help = line.substr(end + 1);
      }
      if (!IsName(family.name, true)) faults.push_back(family.name + ": is no name");
      if (!names.insert(family.name).second) faults.push_back(family.name + ": twice");
      result.families.push_back(std::move(family));
    } else if (line.starts_with("# TYPE ")) {
      const size_t end = line.find(' ', 7);
      ReadFamily* family = result.families.empty() ? nullptr : &result.families.back();
      if (family == nullptr || end == std::string::npos ||
          family->name != line.substr(7, end - 7) || !family->type.empty() ||
          !family->samples.empty()) {
        faults.push_back(line + ": does not follow its HELP");
        continue;
      }
      family->type = line.substr(end + 1);
      if (family->type != "counter" && family->type != "gauge" && family->type != "histogram") {
        faults.push_back(line + ": unknown type");
      }
      const bool total = family->name.ends_with("_total");
      const bool exempt =
          std::find(any_name.begin(), any_name.end(), family->name) != any_name.end();
      if (!exempt && total != (family->type == "counter")) {
        faults.push_back(family->name + ": _total is for counters, and for all of them");
      }
    } else {
      ReadSample sample;
      if (!ToSample(line, &sample)) {
        faults.push_back("no sample: " + line);
        continue;
      }
      if (result.families.empty() || !Belongs(sample, result.families.back())) {
        faults.push_back(Show(sample) + ": of another family");
        continue;
      }
      ReadFamily& family = result.families.back();
      for (const ReadSample& other : family.samples) {
        if (other.name == sample.name && other.labels == sample.labels) {
          faults.push_back(Show(sample) + ": twice");
        }
      }
      if (family.type != "gauge" && !(sample.value >= 0)) {
        faults.push_back(Show(sample) + ": is negative");
      }
      family.samples.push_back(std::move(sample));
    }
  }
  for (const ReadFamily& family : result.families) {
    if (family.type.empty()) faults.push_back(family.name + ": no type");
    if (family.type == "histogram") CheckHistogram(family, &faults);
  }
  return result;
}

}  // namespace waggle::metrics
