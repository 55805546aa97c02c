#include "tests/lab/clients.h"

#include <gtest/gtest.h>

#include <ostream>

#include "absl/strings/str_cat.h"

namespace waggle::lab {
namespace {

Argv Peer(const Argv& arguments) {
  Argv argv = {WAGGLE_LAB_PEER};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Argv ServeArguments(const std::string& name, const std::vector<std::string>& listen) {
  Argv argv = Peer({"serve", "--name", name});
  for (const std::string& one : listen) {
    argv.push_back("--listen");
    argv.push_back(one);
  }
  return argv;
}

void AwaitReady(Process& process, const std::string& what) {
  std::optional<std::string> line = process.ReadLine();
  if (line != "ready") Fail(absl::StrCat(what, " did not start: ", process.Err()));
}

}  // namespace

Server::Server(const Place& place, const std::string& name, const std::vector<std::string>& listen)
    : process_(place.surroundings(), ServeArguments(name, listen), Process::Output::kToPipe) {
  AwaitReady(process_, absl::StrCat("server ", name));
}

Server ServeAll(const Place& place, uint16_t port) {
  std::vector<std::string> listen;
  for (const char* protocol : {"tcp:", "udp:"}) {
    listen.push_back(protocol + At(place.addresses().v4, port));
    listen.push_back(protocol + At(place.addresses().v6, port));
  }
  listen.push_back("echo:" + At(place.addresses().v4, kEchoPort));
  listen.push_back("echo:" + At(place.addresses().v6, kEchoPort));
  return Server(place, place.name(), listen);
}

std::string StepResult::Reply(const char* field) const {
  if (!json_.contains("reply") || !json_["reply"].contains(field)) return "";
  return json_["reply"][field];
}

bool StepResult::eof() const {
  return json_.contains("reply") && json_["reply"].value("eof", false);
}

std::ostream& operator<<(std::ostream& out, const StepResult& result) {
  return out << result.json_.dump();
}

Client::Client(const Place& place)
    : place_(place.name()),
      process_(place.surroundings(), Peer({"steps"}), Process::Output::kToPipe) {}

StepResult Client::Do(const std::string& step) {
  process_.WriteLine(step);
  std::optional<std::string> line = process_.ReadLine();
  if (!line) Fail(absl::StrCat("client in ", place_, " died at: ", step, "\n", process_.Err()));
  return StepResult(nlohmann::json::parse(*line));
}

StepResult Client::Must(const std::vector<std::string>& steps) {
  StepResult result(nlohmann::json::object());
  for (const std::string& step : steps) {
    result = Do(step);
    if (!result.ok()) {
      ADD_FAILURE() << "in " << place_ << ": " << result;
      return result;
    }
  }
  return result;
}

std::ostream& operator<<(std::ostream& out, const Tally& tally) {
  return out << tally.text;
}

Load::Load(const Place& place, const Argv& arguments)
    : place_(place.name()),
      process_(place.surroundings(), Peer(arguments), Process::Output::kToPipe) {
  AwaitReady(process_, absl::StrCat(arguments.front(), " in ", place_));
}

Tally Load::Read(std::chrono::milliseconds patience) {
  std::optional<std::string> line = process_.ReadLine(patience);
  if (!line) {
    Fail(absl::StrCat("load in ", place_,
                      process_.running() ? " has said nothing in time" : " died", "\n",
                      process_.Err()));
  }
  nlohmann::json json = nlohmann::json::parse(*line);
  return {json["attempts"],
          json["ok"],
          json["failures"],
          json["names"],
          json["slowestMs"],
          json.value("shared", uint64_t{0}),
          json.value("changed", uint64_t{0}),
          *line};
}

Tally Load::Mark() {
  process_.WriteLine("mark");
  return Read();
}

Tally Load::Stop() {
  process_.WriteLine("stop");
  return Read();
}

Tally AskMany(const Place& place, const std::string& mode, const std::string& to, int count) {
  Load load(place, {"rate", "--mode", mode, "--to", to, "--count", std::to_string(count)});
  // It ends by itself and says what happened; with a bound for the worst case.
  return load.Finish(std::chrono::seconds(2) * count + kPatience);
}

}  // namespace waggle::lab
