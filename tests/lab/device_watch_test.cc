// What the watch of the devices tells when the kernel refuses to answer.
#include "loader/device_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <iterator>
#include <memory>
#include <thread>

#include "tests/lab/lab.h"

namespace waggle::lab {
namespace {

using loader::DeviceWatch;

// Read() of a thread that can hear, and ask nothing.
absl::StatusOr<loader::DeviceChanges> ReadWithoutAsking(DeviceWatch& watch) {
  absl::StatusOr<loader::DeviceChanges> changes;
  std::thread([&] {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_sendto, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {static_cast<unsigned short>(std::size(code)), code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) Fail("seccomp");
    changes = watch.Read();
  }).join();
  return changes;
}

// An event is told once: it must not go down with an error of the same moment.
TEST(DeviceWatchTest, WhatWasTakenAwayIsToldInSpiteOfAnError) {
  Lab lab;
  Node& node = lab.AddNode(Cni::kRouted);
  const Node& other = lab.AddNode(Cni::kRouted);
  node.Ip("link add d0 type veth peer name p0\n");
  ASSERT_TRUE(node.Run({"tc", "qdisc", "add", "dev", "d0", "clsact"}).ok());
  std::unique_ptr<DeviceWatch> watch;
  std::thread([&] {
    const Fd netns(open(("/run/netns/" + node.name()).c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(netns.get(), CLONE_NEWNET) != 0) Fail("setns");
    auto opened = DeviceWatch::Open();
    if (!opened.ok()) Fail(opened.status().ToString());
    watch = *std::move(opened);
  }).join();

  // What it cannot ask about the peer that moved makes it ask for all, until it can.
  node.Ip("link set p0 netns " + other.name() + "\n");
  ASSERT_TRUE(ReadWithoutAsking(*watch).ok());
  ASSERT_TRUE(watch->pending());
  EXPECT_FALSE(ReadWithoutAsking(*watch).ok()) << "nothing to tell but the error";

  ASSERT_TRUE(node.Run({"tc", "qdisc", "del", "dev", "d0", "clsact"}).ok());
  const auto stripped = ReadWithoutAsking(*watch);
  ASSERT_TRUE(stripped.ok()) << stripped.status();
  ASSERT_FALSE(stripped->stripped.empty());
  EXPECT_EQ(watch->devices().at(stripped->stripped.front()).name, "d0");
  EXPECT_FALSE(stripped->resynced);

  const auto whole = watch->Read();
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->resynced);
  EXPECT_FALSE(watch->pending());
}

}  // namespace
}  // namespace waggle::lab
