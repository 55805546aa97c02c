// Pins as values: those of this version, those of an older one that had no packet path, and
// those that somebody damaged. On a bpf file system of the test's own.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "maps/device_table.h"
#include "maps/pins.h"
#include "maps/reader.h"
#include "tests/datapath/pinned_maps.h"
#include "tests/unit/maps/flow_testing.h"

namespace waggle::maps {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kPacketPath = {"flows",   "half_open", "fragments",
                                              "devices", "settings",  "icmp_budget"};

class PinsTest : public PinnedMaps {};

const MapUsage* UsageOf(const KernelView& view, std::string_view name) {
  for (const MapUsage& usage : view.maps) {
    if (usage.name == name) return &usage;
  }
  return nullptr;
}

TEST_F(PinsTest, TellOfThePacketPath) {
  ASSERT_NO_FATAL_FAILURE(Pin());
  auto settings = SettingsRow::Open(Fd("settings"));
  ASSERT_TRUE(settings.ok());
  settings->SetForwarding(WAGGLE_FORWARDING_REDIRECT, WAGGLE_FORWARDING_AUTO, "nobody else");
  waggle_device device{};
  device.role = WAGGLE_ROLE_UPLINK;
  ASSERT_TRUE(DeviceTable(os::UniqueFd(dup(Fd("devices")))).Put(2, device).ok());
  const FlowPair pair = PairOf({});
  for (const FlowEntry& entry : {pair.forward, pair.reply})
    ASSERT_EQ(bpf_map_update_elem(Fd("flows"), &entry.key, &entry.value, BPF_ANY), 0);
  ASSERT_EQ(bpf_map_update_elem(Fd("half_open"), &pair.reply.key, &pair.reply.value, BPF_ANY), 0);

  EXPECT_TRUE(CheckPins(path_).ok()) << CheckPins(path_);
  const auto view = ReadPins(path_);
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_TRUE(view->settings.has_value());
  EXPECT_EQ(view->settings->forwarding, static_cast<uint32_t>(WAGGLE_FORWARDING_REDIRECT));
  EXPECT_STREQ(view->settings->forwarding_reason, "nobody else");
  ASSERT_EQ(view->devices.size(), 1u);
  EXPECT_EQ(view->devices.at(2).role, static_cast<uint32_t>(WAGGLE_ROLE_UPLINK));
  ASSERT_EQ(view->maps.size(), kMaps.size());
  const struct {
    const char* name;
    uint64_t used;
    uint64_t max;
    const char* flag;
  } expected[] = {{"flows", 2, 64, "--max-flows"},
                  {"half_open", 1, 64, "--max-half-open"},
                  {"fragments", 0, 8192, ""},
                  {"devices", 1, 16384, ""},
                  {"settings", 1, 1, ""},
                  {"icmp_budget", 1, 1, ""},
                  {"agent", 1, 1, ""},
                  {"stats", WAGGLE_REASON_COUNT, WAGGLE_REASON_COUNT, ""}};
  for (const auto& row : expected) {
    SCOPED_TRACE(row.name);
    const MapUsage* usage = UsageOf(*view, row.name);
    ASSERT_NE(usage, nullptr);
    EXPECT_EQ(usage->used, row.used);
    EXPECT_EQ(usage->max, row.max);
    EXPECT_EQ(usage->flag, row.flag);
  }
}

// What the version before the packet path left: eight maps, and eleven counters.
TEST_F(PinsTest, OfAnOlderVersionAreReadWithoutTheMapsThatTheyLack) {
  bpf_map__set_max_entries(skeleton_->maps.stats, 11);
  ASSERT_NO_FATAL_FAILURE(Pin());
  for (const std::string& name : kPacketPath)
    ASSERT_EQ(unlink(PinOf(path_, name).c_str()), 0);
  const uint32_t reason = 3;
  std::vector<uint64_t> values(static_cast<size_t>(libbpf_num_possible_cpus()), 5);
  ASSERT_EQ(bpf_map_update_elem(Fd("stats"), &reason, values.data(), BPF_ANY), 0);

  EXPECT_TRUE(CheckPins(path_).ok()) << CheckPins(path_);
  const auto view = ReadPins(path_);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_FALSE(view->settings.has_value());
  EXPECT_TRUE(view->devices.empty());
  EXPECT_EQ(view->maps.size(), kMaps.size() - kPacketPath.size());
  for (const std::string& name : kPacketPath)
    EXPECT_EQ(UsageOf(*view, name), nullptr) << name;
  EXPECT_EQ(UsageOf(*view, "stats")->max, 11u);
  ASSERT_EQ(view->stats.size(), static_cast<size_t>(WAGGLE_REASON_COUNT));
  EXPECT_EQ(view->stats[3], 5 * values.size());
  EXPECT_EQ(view->stats[WAGGLE_REASON_COUNT - 1], 0u);
}

// The others are as old as the pins themselves.
TEST_F(PinsTest, WithoutAnOldMapAreAnErrorThatNamesIt) {
  ASSERT_NO_FATAL_FAILURE(Pin());
  for (const MapInfo& info : kMaps) {
    const std::string name(info.name);
    if (std::find(kPacketPath.begin(), kPacketPath.end(), name) != kPacketPath.end()) continue;
    ASSERT_EQ(unlink(PinOf(path_, name).c_str()), 0);
    const auto view = ReadPins(path_);
    EXPECT_FALSE(view.ok()) << name;
    if (name != "agent") {
      EXPECT_THAT(std::string(view.status().message()), HasSubstr("/" + name));
      EXPECT_TRUE(CheckPins(path_).ok()) << "an agent makes it anew";
    }
    ASSERT_EQ(bpf_obj_pin(Fd(name), PinOf(path_, name).c_str()), 0);
  }
  EXPECT_TRUE(ReadPins(path_).ok());
}

// Somebody else's map under one of our names.
TEST_F(PinsTest, OfAnotherKindAreRefusedByName) {
  ASSERT_NO_FATAL_FAILURE(Pin());
  for (const MapInfo& info : kMaps) {
    const std::string name(info.name);
    const std::string path = PinOf(path_, name);
    ASSERT_EQ(unlink(path.c_str()), 0);
    const os::UniqueFd other(bpf_map_create(BPF_MAP_TYPE_ARRAY, name.c_str(), 4, 12, 3, nullptr));
    ASSERT_EQ(bpf_obj_pin(other.get(), path.c_str()), 0);
    const auto fd = OpenPin(path_, name, Access::kReadOnly);
    EXPECT_TRUE(absl::IsFailedPrecondition(fd.status())) << name << fd.status();
    EXPECT_THAT(std::string(fd.status().message()), HasSubstr("is not Waggle's map " + name));
    EXPECT_FALSE(CheckPins(path_).ok()) << name;
    EXPECT_FALSE(ReadPins(path_).ok()) << name;
    ASSERT_EQ(unlink(path.c_str()), 0);
    ASSERT_EQ(bpf_obj_pin(Fd(name), path.c_str()), 0);
    // Ours goes when it is asked to.
    EXPECT_TRUE(RemoveMapPin(path, name).ok()) << name;
    ASSERT_EQ(bpf_obj_pin(Fd(name), path.c_str()), 0);
  }
  EXPECT_TRUE(ReadPins(path_).ok());
}

}  // namespace
}  // namespace waggle::maps
