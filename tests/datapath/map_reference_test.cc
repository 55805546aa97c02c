// docs/map-reference.md against the types in the built object: names, order, types,
// offsets and sizes of all fields; types, flags, keys, values and sizes of all maps;
// labels of all reasons. Needs no root: nothing is loaded.
#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/datapath/kernel_maps.h"
#include "waggle_bpf.skel.h"

namespace waggle {
namespace {

struct Field {
  std::string name;
  std::string type;
  std::string offset;
  std::string size;
  friend bool operator==(const Field&, const Field&) = default;
};
struct Struct {
  std::string size;
  std::vector<Field> fields;
  friend bool operator==(const Struct&, const Struct&) = default;
};
struct Map {
  std::string name;
  std::string type;
  std::string flags;
  std::string key;
  std::string value;
  std::string size_flag;
  std::string entries;
  friend bool operator==(const Map&, const Map&) = default;
};
struct Reference {
  std::vector<Map> maps;
  std::map<std::string, Struct> structs;
  std::vector<std::string> reasons;
  friend bool operator==(const Reference&, const Reference&) = default;
};

// ---- The document

std::string WithoutQuotes(std::string cell) {
  std::erase(cell, '`');
  const size_t begin = cell.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return cell.substr(begin, cell.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream stream(line.substr(1));
  std::string cell;
  while (std::getline(stream, cell, '|'))
    cells.push_back(WithoutQuotes(cell));
  return cells;
}

std::string Document() {
  std::ifstream file(WAGGLE_SOURCE_DIR "/docs/map-reference.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Reference Parse(const std::string& text) {
  Reference reference;
  std::stringstream stream(text);
  std::string line;
  std::string section;
  Struct* at = nullptr;
  while (std::getline(stream, line)) {
    if (line.starts_with("## ")) {
      section = line.substr(3);
      at = nullptr;
    }
    char name[64] = {};
    uint32_t size = 0;
    if (std::sscanf(line.c_str(), "### %*s `struct %63[a-z0-9_]`, %u bytes", name, &size) == 2) {
      at = &reference.structs[name];
      at->size = std::to_string(size);
    }
    if (!line.starts_with("| ")) continue;
    const std::vector<std::string> cells = Cells(line);
    if (section == "Maps" && cells.size() >= 7 && cells[0] != "map") {
      reference.maps.push_back(
          {cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]});
    }
    if (section == "stats" && cells.size() >= 2 && cells[0] != "index") {
      EXPECT_EQ(cells[0], std::to_string(reference.reasons.size()));
      reference.reasons.push_back(cells[1]);
    }
    if (at && cells.size() >= 4 && cells[0] != "field") {
      at->fields.push_back({cells[0], cells[1], cells[2], cells[3]});
    }
  }
  return reference;
}

// ---- The object

std::string TypeName(const btf* types, uint32_t id) {
  const btf_type* type = btf__type_by_id(types, id);
  if (btf_is_array(type)) {
    const struct btf_array* array = btf_array(type);
    return TypeName(types, array->type) + "[" + std::to_string(array->nelems) + "]";
  }
  return btf__name_by_offset(types, type->name_off);
}

// The structure's name, or the scalar's; structures are added to the reference.
std::string Describe(const btf* types, uint32_t id, Reference& reference) {
  const btf_type* type = btf__type_by_id(types, id);
  const std::string name = TypeName(types, id);
  if (!btf_is_struct(type)) return name;
  Struct& made = reference.structs[name];
  made.size = std::to_string(btf__resolve_size(types, id));
  made.fields.clear();
  for (uint32_t i = 0; i < btf_vlen(type); ++i) {
    const btf_member& member = btf_members(type)[i];
    made.fields.push_back({btf__name_by_offset(types, member.name_off),
                           TypeName(types, member.type),
                           std::to_string(btf_member_bit_offset(type, i) / 8),
                           std::to_string(btf__resolve_size(types, member.type))});
    // A part that is a structure has a table of its own.
    if (btf_is_struct(btf__type_by_id(types, member.type))) Describe(types, member.type, reference);
  }
  return name;
}

std::string FlagNames(uint32_t flags) {
  std::string names;
  if (flags & BPF_F_NO_PREALLOC) names += "NO_PREALLOC";
  if (flags & BPF_F_MMAPABLE) names += "MMAPABLE";
  if (flags & ~static_cast<uint32_t>(BPF_F_NO_PREALLOC | BPF_F_MMAPABLE)) names += "?";
  return names;
}

Reference FromObject() {
  Reference reference;
  const std::unique_ptr<waggle_bpf, void (*)(waggle_bpf*)> skeleton(waggle_bpf__open(),
                                                                    waggle_bpf__destroy);
  if (!skeleton) return reference;
  const btf* types = bpf_object__btf(skeleton->obj);
  for (const maps::MapInfo& info : maps::kMaps) {
    const std::string name(info.name);
    const bpf_map* map = bpf_object__find_map_by_name(skeleton->obj, name.c_str());
    if (!map) {
      ADD_FAILURE() << "no map " << name;
      continue;
    }
    // maps.bpf.h has defaults of its own; the loader sets those of layout.h.
    const std::string entries = info.size ? std::to_string(info.size({}))
                                : bpf_map__max_entries(map) > 0
                                    ? std::to_string(bpf_map__max_entries(map))
                                    : "";
    reference.maps.push_back({name, libbpf_bpf_map_type_str(bpf_map__type(map)),
                              FlagNames(bpf_map__map_flags(map)),
                              Describe(types, bpf_map__btf_key_type_id(map), reference),
                              Describe(types, bpf_map__btf_value_type_id(map), reference),
                              std::string(info.flag), entries});
  }
#define WAGGLE_REASON(identifier, label, class_, text) reference.reasons.push_back(label);
#include "bpf/reasons.def"
#undef WAGGLE_REASON
  return reference;
}

std::string ToText(const Map& map) {
  return map.name + " " + map.type + " " + map.flags + " " + map.key + " " + map.value + " " +
         map.size_flag + " " + map.entries;
}
std::string ToText(const Field& field) {
  return field.name + " " + field.type + " at " + field.offset + " size " + field.size;
}
template <typename T>
std::string ToText(const std::vector<T>& all) {
  std::string text;
  for (const T& one : all)
    text += ToText(one) + "\n";
  return text;
}

TEST(MapReference, EveryMapIsDescribed) {
  EXPECT_EQ(ToText(Parse(Document()).maps), ToText(FromObject().maps));
}

TEST(MapReference, EveryFieldHasItsNameTypeOffsetAndSize) {
  const Reference document = Parse(Document());
  const Reference object = FromObject();
  EXPECT_EQ(object.structs.size(), 17u);
  for (const auto& [name, made] : object.structs) {
    SCOPED_TRACE(name);
    const auto found = document.structs.find(name);
    if (found == document.structs.end()) {
      ADD_FAILURE() << "not in the document";
      continue;
    }
    EXPECT_EQ(found->second.size, made.size);
    EXPECT_EQ(ToText(found->second.fields), ToText(made.fields));
  }
  EXPECT_EQ(document.structs.size(), object.structs.size());
}

TEST(MapReference, EveryReasonIsListed) {
  EXPECT_EQ(Parse(Document()).reasons, FromObject().reasons);
}

// Each change of one side alone is noticed.
TEST(MapReference, DifferencesAreNoticed) {
  const Reference object = FromObject();
  const std::string document = Document();
  ASSERT_EQ(Parse(document), object);
  const std::pair<const char*, const char*> edits[] = {
      {"| `policy` | `__u8` | 7 | 1 |", "| `polity` | `__u8` | 7 | 1 |"},
      {"| `policy` | `__u8` | 7 | 1 |", "| `policy` | `__u16` | 7 | 1 |"},
      {"| `policy` | `__u8` | 7 | 1 |", "| `policy` | `__u8` | 8 | 1 |"},
      {"| `policy` | `__u8` | 7 | 1 |", "| `policy` | `__u8` | 7 | 2 |"},
      {"\n| `policy` | `__u8` | 7 | 1 |", "\n policy"},
      {"`struct waggle_list`, 16 bytes", "`struct waggle_list`, 24 bytes"},
      {"| `lists` | array |", "| `lists` | hash |"},
      {"| `--max-backends` | 262144 |", "| `--max-backends` | 65536 |"},
      {"| `no-endpoints` |", "| `no-backends` |"},
      {"| `--max-flows` | 524288 |", "| `--max-flows` | 65536 |"},
      {"| `how` | `__u8` | 6 | 1 |", "| `how` | `__u8` | 5 | 1 |"},
      {"| `netns_id` | `__s32` |", "| `netns_id` | `__u32` |"},
  };
  for (const auto& [from, to] : edits) {
    std::string edited = document;
    const size_t at = edited.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    edited.replace(at, std::string(from).size(), to);
    EXPECT_FALSE(Parse(edited) == object) << to;
  }
}

}  // namespace
}  // namespace waggle
