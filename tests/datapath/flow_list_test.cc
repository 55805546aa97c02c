// `waggle flow list` as a user runs it, over pinned maps, with no agent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/datapath/pinned_maps.h"
#include "tests/unit/cli/run.h"
#include "tests/unit/maps/flow_testing.h"

namespace waggle::maps {
namespace {

using cli::RunResult;
using cli::Waggle;
using testing::HasSubstr;
using testing::StartsWith;

class FlowListTest : public PinnedMaps {
 protected:
  void SetUp() override {
    PinnedMaps::SetUp();
    ASSERT_NO_FATAL_FAILURE(Pin());
    AddService(3, "default", "web", {"10.96.0.10:80", "[fd00:96::a]:80"});
    AddService(4, "default", "two", {"10.96.0.11:80", "10.96.0.12:80"});
  }

  void AddService(uint32_t id, const char* ns, const char* name,
                  const std::vector<std::string_view>& frontends) {
    waggle_service service{};
    std::strcpy(service.ns, ns);
    std::strcpy(service.name, name);
    std::strcpy(service.port_name, "http");
    service.protocol = 6;
    ASSERT_EQ(bpf_map_update_elem(Fd("services"), &id, &service, BPF_ANY), 0);
    for (const std::string_view text : frontends) {
      waggle_frontend_key key{};
      PutEndpoint(At(text), key.addr, key.port_be);
      key.protocol = 6;
      waggle_frontend row{};
      row.service_id = id;
      row.tag = waggle_frontend_tag(&key, 0, id, 0);
      ASSERT_EQ(bpf_map_update_elem(Fd("frontends"), &key, &row, BPF_ANY), 0);
    }
  }

  void AddFlow(const char* map, FlowSpec spec) {
    const uint64_t now = MonotonicNs();
    spec.created_ns = spec.forward_ns = spec.reply_ns = now - 5 * kSecondNs;
    const FlowPair pair = PairOf(spec);
    for (const FlowEntry& entry : {pair.forward, pair.reply})
      ASSERT_EQ(bpf_map_update_elem(Fd(map), &entry.key, &entry.value, BPF_ANY), 0);
  }

  RunResult List(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"flow", "list", "--pin-path", path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Waggle(arguments);
  }
  nlohmann::json ListJson(std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"-o", "json"});
    const RunResult result = List(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return nlohmann::json::parse(result.out);
  }
};

TEST_F(FlowListTest, ShowsFlowsOfBothMapsWithTheirServices) {
  AddFlow("flows", {.forward_state = WAGGLE_STATE_ASSURED, .reply_state = WAGGLE_STATE_REPLIED});
  AddFlow("half_open", {.client = "[fd00:1::5]:40001",
                        .frontend = "[fd00:96::a]:80",
                        .backend = "[fd00:2::7]:8080"});
  const nlohmann::json all = ListJson();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["client"], "10.244.1.5:40000");
  EXPECT_EQ(all[0]["state"], "established");
  EXPECT_EQ(all[0]["name"], "web");
  EXPECT_EQ(all[0]["established"], true);
  EXPECT_GE(all[0]["idleSeconds"], 5.0);
  EXPECT_LT(all[0]["idleSeconds"], 60.0);
  EXPECT_EQ(all[1]["frontend"], "[fd00:96::a]:80");
  EXPECT_EQ(all[1]["state"], "syn-sent");
  EXPECT_EQ(all[1]["established"], false);

  const RunResult table = List({});
  EXPECT_EQ(table.exit_code, 0);
  EXPECT_THAT(table.out, StartsWith("PROTOCOL   CLIENT"));
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 3) << table.out;
  EXPECT_EQ(ListJson({"--state", "established"}).size(), 1u);
  EXPECT_EQ(ListJson({"--service", "default/web"}).size(), 2u);
  EXPECT_EQ(ListJson({"--service", "two"}).size(), 0u);
  EXPECT_EQ(ListJson({"--client", "fd00:1::5"}).size(), 1u);
  EXPECT_EQ(ListJson({"--protocol", "tcp"}).size(), 2u);
  EXPECT_EQ(ListJson({"--protocol", "udp"}).size(), 0u);
  EXPECT_EQ(ListJson({"--limit", "1"}).size(), 1u);
  EXPECT_EQ(ListJson({"-n", "kube-system"}).size(), 0u);
}

// Its packets name the backend from the start.
TEST_F(FlowListTest, FindsTheFrontendOfAConnectionThatItsSocketTranslated) {
  const uint8_t socket = WAGGLE_FLOW_SOCKET | WAGGLE_FLOW_REDIRECT;
  AddFlow("flows", {.frontend = "10.244.2.7:8080", .flags = socket, .service_id = 3});
  AddFlow("flows", {.client = "[fd00:1::5]:2",
                    .frontend = "[fd00:2::7]:8080",
                    .backend = "[fd00:2::7]:8080",
                    .flags = socket,
                    .service_id = 3});
  AddFlow(
      "flows",
      {.client = "10.244.1.6:1", .frontend = "10.244.2.7:8080", .flags = socket, .service_id = 4});
  const nlohmann::json all = ListJson();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]["frontend"], "10.96.0.10:80");
  EXPECT_EQ(all[1]["frontend"], nullptr) << "two that it may be";
  EXPECT_EQ(all[1]["name"], "two");
  EXPECT_EQ(all[2]["frontend"], "[fd00:96::a]:80");
  EXPECT_EQ(ListJson({"--frontend", "10.96.0.10"}).size(), 1u);
}

TEST_F(FlowListTest, OfEmptyMapsIsEmpty) {
  EXPECT_EQ(ListJson(), nlohmann::json::array());
  const RunResult table = List({});
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 1) << table.out;
}

TEST_F(FlowListTest, NamesDamageAndShowsTheRest) {
  AddFlow("flows", {});
  FlowEntry damaged = PairOf({.client = "10.244.1.6:1"}).forward;
  damaged.value.tag ^= 1;
  ASSERT_EQ(bpf_map_update_elem(Fd("flows"), &damaged.key, &damaged.value, BPF_ANY), 0);
  const RunResult result = List({"-o", "json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(result.out).size(), 1u);
  EXPECT_THAT(result.err, StartsWith("waggle: 1 entries of the maps flows and half_open"));
}

TEST_F(FlowListTest, SaysWhatIsMissing) {
  const RunResult nothing = Waggle({"flow", "list", "--pin-path", root_ + "/nowhere"});
  EXPECT_EQ(nothing.exit_code, 3);
  EXPECT_THAT(nothing.err, StartsWith("waggle: nothing is pinned in " + root_ + "/nowhere"));
  // An agent from before there was a packet path.
  ASSERT_EQ(unlink(PinOf(path_, "half_open").c_str()), 0);
  const RunResult older = List({});
  EXPECT_EQ(older.exit_code, 3);
  EXPECT_EQ(older.out, "");
  EXPECT_THAT(older.err, HasSubstr("no map half_open is pinned in " + path_));
  EXPECT_THAT(older.err, HasSubstr("had no packet path"));
}

TEST_F(FlowListTest, WithoutRightsSaysSo) {
  const RunResult result =
      cli::RunProgram({"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                       "--inh-caps=-all", WAGGLE_BINARY, "flow", "list", "--pin-path", path_});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("needs root"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

}  // namespace
}  // namespace waggle::maps
