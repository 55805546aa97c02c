#include "bench/path/program_time.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "tests/lab/lab.h"

namespace waggle::bench {
namespace {

// BPF_TCX_INGRESS, which headers of Linux 6.1 do not have.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

std::optional<RunTime> ReadProgram(int fd) {
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return std::nullopt;
  return RunTime{info.name, info.run_cnt, info.run_time_ns};
}

// The kernel looks for the device in the caller's network namespace.
lab::Fd AttachAtIngress(const lab::Place& place, const std::string& device, int program) {
  const lab::Fd home(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const lab::Fd there(open(place.surroundings().netns.c_str(), O_RDONLY | O_CLOEXEC));
  if (setns(there.get(), CLONE_NEWNET) != 0) lab::Fail("setns " + place.name());
  const auto index = static_cast<int>(if_nametoindex(device.c_str()));
  lab::Fd link(bpf_link_create(program, index, kTcxIngress, nullptr));
  const int error = errno;
  if (setns(home.get(), CLONE_NEWNET) != 0) lab::Fail("setns home");
  if (!link.valid()) lab::Fail("tcx link on " + device + ": " + std::strerror(error));
  return link;
}

}  // namespace

RunTimeSwitch::RunTimeSwitch() : fd_(bpf_enable_stats(BPF_STATS_RUN_TIME)) {
  if (!fd_.valid()) lab::Fail(std::string("bpf_enable_stats: ") + std::strerror(errno));
}

RunTimes ReadRunTimes(const std::string& pin_path) {
  RunTimes all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(pin_path)) {
    if (!entry.is_regular_file()) continue;
    const lab::Fd fd(bpf_obj_get(entry.path().c_str()));
    if (!fd.valid()) continue;
    // Asking a map or a program as if it were a link gives other numbers, not an error.
    std::error_code ignored;
    const std::string what =
        std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd.get()), ignored);
    if (what.find("bpf_link") == std::string::npos && what.find("bpf-link") == std::string::npos) {
      continue;
    }
    bpf_link_info link{};
    uint32_t length = sizeof(link);
    if (bpf_obj_get_info_by_fd(fd.get(), &link, &length) != 0 || all.count(link.prog_id) != 0) {
      continue;
    }
    const lab::Fd program(bpf_prog_get_fd_by_id(link.prog_id));
    if (!program.valid()) continue;
    if (const auto one = ReadProgram(program.get())) all[link.prog_id] = *one;
  }
  return all;
}

RunTimes Difference(const RunTimes& before, const RunTimes& after) {
  RunTimes result;
  for (const auto& [id, now] : after) {
    RunTime one = now;
    if (const auto then = before.find(id); then != before.end()) {
      one.runs -= then->second.runs;
      one.ns -= then->second.ns;
    }
    if (one.runs > 0) result[id] = one;
  }
  return result;
}

RunTime MeasureEmpty(const lab::Place& place, const std::string& device,
                     const std::function<void()>& body) {
  const bpf_insn pass[] = {
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, -1},  // TC_ACT_UNSPEC
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  const lab::Fd program(
      bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "empty", "GPL", pass, std::size(pass), nullptr));
  if (!program.valid()) lab::Fail(std::string("empty program: ") + std::strerror(errno));
  const lab::Fd link = AttachAtIngress(place, device, program.get());
  body();
  return ReadProgram(program.get()).value_or(RunTime{});
}

}  // namespace waggle::bench
