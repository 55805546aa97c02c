// Waggle's maps pinned on a bpf file system of the test's own.
#ifndef WAGGLE_TESTS_DATAPATH_PINNED_MAPS_H_
#define WAGGLE_TESTS_DATAPATH_PINNED_MAPS_H_

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "tests/datapath/kernel_maps.h"
#include "waggle_bpf.skel.h"

namespace waggle::maps {

// The mount is seen by this process and its children alone, and vanishes with them.
class PinnedMaps : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << std::strerror(errno) << "; these tests need root";
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    std::string pattern = testing::TempDir() + "waggle-pins-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    ASSERT_EQ(mount("bpf", root_.c_str(), "bpf", 0, nullptr), 0) << std::strerror(errno);
  }
  static void TearDownTestSuite() {
    if (root_.empty()) return;
    umount2(root_.c_str(), MNT_DETACH);
    rmdir(root_.c_str());
  }

  void SetUp() override {
    ASSERT_FALSE(root_.empty());
    path_ = root_ + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directory(path_);
    skeleton_ = waggle_bpf__open();
    ASSERT_NE(skeleton_, nullptr);
    SetSizes(skeleton_->obj, kSizes);
  }
  void TearDown() override {
    waggle_bpf__destroy(skeleton_);
    std::filesystem::remove_all(path_);
  }

  // Makes and pins the maps; no program is loaded.
  void Pin() {
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, skeleton_->obj) {
      bpf_program__set_autoload(program, false);
    }
    ASSERT_EQ(waggle_bpf__load(skeleton_), 0);
    for (const MapInfo& info : kMaps) {
      const std::string name(info.name);
      ASSERT_EQ(bpf_obj_pin(Fd(name), PinOf(path_, name).c_str()), 0) << name;
    }
    waggle_agent agent{};
    agent.layout_version = WAGGLE_LAYOUT_VERSION;
    const uint32_t zero = 0;
    ASSERT_EQ(bpf_map_update_elem(Fd("agent"), &zero, &agent, BPF_ANY), 0);
  }
  int Fd(const std::string& name) const { return FdOf(skeleton_->obj, name.c_str()); }

  static constexpr Sizes kSizes = {.frontends = 16,
                                   .services = 16,
                                   .backends = 16,
                                   .udp_flows = 16,
                                   .flows = 64,
                                   .half_open = 64};

  static inline std::string root_;
  std::string path_;
  waggle_bpf* skeleton_ = nullptr;
};

}  // namespace waggle::maps

#endif
