// The node's devices, the settings and the counters in real maps.
#include "maps/device_table.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstring>
#include <vector>

#include "maps/kernel_map_store.h"

namespace waggle::maps {
namespace {

using testing::HasSubstr;

os::UniqueFd MakeDevices(uint32_t entries) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  return os::UniqueFd(bpf_map_create(BPF_MAP_TYPE_HASH, "devices", sizeof(uint32_t),
                                     sizeof(waggle_device), entries, &options));
}
os::UniqueFd MakeSettings() {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
  return os::UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "settings", sizeof(uint32_t),
                                     sizeof(waggle_settings), 1, &options));
}
os::UniqueFd MakeStats(uint32_t entries) {
  return os::UniqueFd(bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "stats", sizeof(uint32_t),
                                     sizeof(uint64_t), entries, nullptr));
}
os::UniqueFd Copy(const os::UniqueFd& fd) {
  return os::UniqueFd(dup(fd.get()));
}

waggle_device Pod(int32_t netns_id, uint32_t bridge = 0) {
  waggle_device device{};
  device.role = WAGGLE_ROLE_POD;
  device.netns_id = netns_id;
  device.bridge = bridge;
  return device;
}

TEST(DeviceTable, HoldsWhatWasPutAndNotDeleted) {
  const os::UniqueFd fd = MakeDevices(64);
  ASSERT_TRUE(fd) << "these tests need root";
  DeviceTable table(Copy(fd));
  EXPECT_TRUE(table.Read()->empty());
  ASSERT_TRUE(table.Put(7, Pod(1)).ok());
  ASSERT_TRUE(table.Put(9, Pod(2, 3)).ok());
  ASSERT_TRUE(table.Put(9, Pod(4, 3)).ok()) << "another pod, same index";
  ASSERT_TRUE(table.Put(11, Pod(5)).ok());
  ASSERT_TRUE(table.Delete(11).ok());
  EXPECT_TRUE(table.Delete(11).ok()) << "not there any more";
  const auto devices = table.Read();
  ASSERT_TRUE(devices.ok());
  ASSERT_EQ(devices->size(), 2u);
  EXPECT_EQ(devices->at(7).netns_id, 1);
  EXPECT_EQ(devices->at(9).netns_id, 4);
  EXPECT_EQ(devices->at(9).bridge, 3u);
}

// A replaced element is another one for a moment.
TEST(DeviceTable, LeavesAnEqualRowAlone) {
  const os::UniqueFd fd = MakeDevices(1);
  ASSERT_TRUE(fd) << "these tests need root";
  DeviceTable table(Copy(fd));
  ASSERT_TRUE(table.Put(7, Pod(1)).ok());
  const uint32_t ifindex = 7;
  ASSERT_EQ(bpf_map_freeze(fd.get()), 0) << "user space can write no more";
  EXPECT_TRUE(table.Put(7, Pod(1)).ok());
  const absl::Status refused = table.Put(7, Pod(2));
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.message()), HasSubstr("map devices"));
  EXPECT_FALSE(table.Delete(ifindex).ok());
}

TEST(DeviceTable, SaysThatItIsFullAndWhichDeviceIsLeftOut) {
  const os::UniqueFd fd = MakeDevices(2);
  ASSERT_TRUE(fd) << "these tests need root";
  DeviceTable table(Copy(fd));
  ASSERT_TRUE(table.Put(1, Pod(1)).ok());
  ASSERT_TRUE(table.Put(2, Pod(2)).ok());
  const absl::Status full = table.Put(3, Pod(3));
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("map devices is full: device 3"));
  EXPECT_TRUE(table.Put(2, Pod(4)).ok()) << "what is there can change";
}

TEST(SettingsRow, IsWrittenInPlaceAndReadByAnyDescriptor) {
  const os::UniqueFd fd = MakeSettings();
  ASSERT_TRUE(fd) << "these tests need root";
  auto settings = SettingsRow::Open(fd.get());
  ASSERT_TRUE(settings.ok()) << settings.status();
  settings->SetLostFlowsPassUntil(123);
  settings->SetTcAttach(WAGGLE_TC_TCX);
  settings->SetForwarding(WAGGLE_FORWARDING_REDIRECT, WAGGLE_FORWARDING_AUTO, "a long reason");
  settings->SetForwarding(WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_AUTO, "a reason");
  for (const waggle_settings& row : {settings->Get(), *ReadSettings(fd.get())}) {
    EXPECT_EQ(row.lost_flows_pass_until_ns, 123u);
    EXPECT_EQ(row.tc_attach, static_cast<uint32_t>(WAGGLE_TC_TCX));
    EXPECT_EQ(row.forwarding, static_cast<uint32_t>(WAGGLE_FORWARDING_STACK));
    EXPECT_EQ(row.forwarding_asked, static_cast<uint32_t>(WAGGLE_FORWARDING_AUTO));
    EXPECT_STREQ(row.forwarding_reason, "a reason");
  }
  // A second mapping shows the same memory; what is in force outlives the agent.
  EXPECT_STREQ(SettingsRow::Open(fd.get())->Get().forwarding_reason, "a reason");
  EXPECT_FALSE(SettingsRow::Open(-1).ok());
  EXPECT_FALSE(ReadSettings(-1).ok());
}

TEST(SettingsRow, TextIsCutBetweenCharactersAndEndsInNul) {
  const os::UniqueFd fd = MakeSettings();
  ASSERT_TRUE(fd) << "these tests need root";
  auto settings = SettingsRow::Open(fd.get());
  ASSERT_TRUE(settings.ok());
  const auto stored = [&](const std::string& text) {
    settings->SetForwarding(WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_STACK, text);
    return std::string(settings->Get().forwarding_reason);
  };
  constexpr size_t kRoom = WAGGLE_REASON_LEN - 1;
  EXPECT_EQ(stored(""), "");
  EXPECT_EQ(stored(std::string(kRoom, 'a')), std::string(kRoom, 'a'));
  EXPECT_EQ(stored(std::string(kRoom + 1, 'a')), std::string(kRoom, 'a'));
  EXPECT_EQ(stored(std::string(kRoom - 1, 'a') + "…"), std::string(kRoom - 1, 'a'));
  EXPECT_EQ(stored(std::string(kRoom - 3, 'a') + "…b"), std::string(kRoom - 3, 'a') + "…");
  // Somebody without NUL.
  waggle_settings row = settings->Get();
  std::memset(row.forwarding_reason, 'x', sizeof(row.forwarding_reason));
  const uint32_t zero = 0;
  ASSERT_EQ(bpf_map_update_elem(fd.get(), &zero, &row, BPF_ANY), 0);
  EXPECT_EQ(std::string(settings->Get().forwarding_reason), std::string(kRoom, 'x'));
  EXPECT_EQ(std::string(ReadSettings(fd.get())->forwarding_reason), std::string(kRoom, 'x'));
}

// Reasons are only appended: an upgrade copies into a larger map, a downgrade into a smaller.
TEST(Counters, AreCopiedForEachCpuAndReason) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  const os::UniqueFd small = MakeStats(11), large = MakeStats(30), small_again = MakeStats(11);
  ASSERT_TRUE(small && large && small_again) << "these tests need root";
  const auto value_of = [&](const os::UniqueFd& fd, uint32_t reason) {
    std::vector<uint64_t> values(cpus);
    EXPECT_EQ(bpf_map_lookup_elem(fd.get(), &reason, values.data()), 0);
    return values;
  };
  const auto counted = [&](uint32_t reason) {
    std::vector<uint64_t> values(cpus);
    for (size_t cpu = 0; cpu < cpus; ++cpu)
      values[cpu] = (uint64_t{1} << 40) + reason * 1000 + cpu;
    return values;
  };
  for (uint32_t reason = 0; reason < 11; ++reason) {
    std::vector<uint64_t> values = counted(reason);
    ASSERT_EQ(bpf_map_update_elem(small.get(), &reason, values.data(), BPF_ANY), 0);
  }
  ASSERT_TRUE(CopyCounters(small.get(), large.get()).ok());
  ASSERT_TRUE(CopyCounters(large.get(), small_again.get()).ok());
  for (uint32_t reason = 0; reason < 30; ++reason) {
    EXPECT_EQ(value_of(large, reason), reason < 11 ? counted(reason) : std::vector<uint64_t>(cpus));
    if (reason < 11) {
      EXPECT_EQ(value_of(small_again, reason), counted(reason));
    }
  }
  EXPECT_FALSE(CopyCounters(-1, large.get()).ok());
  EXPECT_FALSE(CopyCounters(small.get(), -1).ok());
}

}  // namespace
}  // namespace waggle::maps
