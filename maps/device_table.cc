#include "maps/device_table.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/hash_walk.h"
#include "userspace/os/errno_status.h"

namespace waggle::maps {
namespace {

static_assert(sizeof(waggle_settings) % 8 == 0,
              "the kernel rounds the stride of an array up to 8 bytes");

// Longest prefix of at most `size` bytes that does not end within a character.
std::string_view CutUtf8(std::string_view text, size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80)
    --size;
  return text.substr(0, size);
}

}  // namespace

absl::StatusOr<Devices> ReadDevices(int fd) {
  Devices devices;
  absl::Status status = ReadHash<uint32_t, waggle_device>(
      fd, "devices",
      [&](uint32_t ifindex, const waggle_device& device) { devices[ifindex] = device; });
  if (!status.ok()) return status;
  return devices;
}

absl::Status DeviceTable::Put(uint32_t ifindex, const waggle_device& device) {
  waggle_device known{};
  if (bpf_map_lookup_elem(fd_.get(), &ifindex, &known) == 0 &&
      std::memcmp(&known, &device, sizeof(known)) == 0) {
    return absl::OkStatus();
  }
  absl::Status status = PutElement(fd_.get(), &ifindex, &device, "devices");
  if (absl::IsResourceExhausted(status)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("map devices is full: device ", ifindex,
                     " is not covered; fewer devices, or --ignore-devices, make room"));
  }
  return status;
}

absl::Status DeviceTable::Delete(uint32_t ifindex) {
  return DeleteElement(fd_.get(), &ifindex, "devices");
}

absl::StatusOr<SettingsRow> SettingsRow::Open(int fd) {
  absl::StatusOr<ArrayMapping> mapping =
      ArrayMapping::Map(fd, sizeof(waggle_settings), /*writable=*/true, "settings");
  if (!mapping.ok()) return mapping.status();
  SettingsRow settings;
  settings.mapping_ = *std::move(mapping);
  return settings;
}

void SettingsRow::SetLostFlowsPassUntil(uint64_t ns) {
  static_assert(sizeof(row()->lost_flows_pass_until_ns) == sizeof(uint64_t));
  auto* field = reinterpret_cast<uint64_t*>(&row()->lost_flows_pass_until_ns);
  std::atomic_ref<uint64_t>(*field).store(ns, std::memory_order_relaxed);
}

void SettingsRow::SetForwarding(waggle_forwarding in_force, waggle_forwarding asked,
                                std::string_view reason) {
  std::atomic_ref<__u32>(row()->forwarding).store(in_force, std::memory_order_relaxed);
  row()->forwarding_asked = asked;
  const std::string_view text = CutUtf8(reason, WAGGLE_REASON_LEN - 1);
  std::memset(row()->forwarding_reason, 0, WAGGLE_REASON_LEN);
  std::memcpy(row()->forwarding_reason, text.data(), text.size());
}

void SettingsRow::SetTcAttach(waggle_tc_attach attach) {
  std::atomic_ref<__u32>(row()->tc_attach).store(attach, std::memory_order_relaxed);
}

waggle_settings SettingsRow::Get() const {
  waggle_settings copy = *row();
  copy.forwarding_reason[WAGGLE_REASON_LEN - 1] = '\0';
  return copy;
}

absl::StatusOr<waggle_settings> ReadSettings(int fd) {
  waggle_settings settings{};
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(fd, &zero, &settings) != 0) {
    return os::ErrnoStatus(errno, "read map settings");
  }
  settings.forwarding_reason[WAGGLE_REASON_LEN - 1] = '\0';
  return settings;
}

}  // namespace waggle::maps
