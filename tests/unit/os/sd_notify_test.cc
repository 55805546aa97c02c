#include "userspace/os/sd_notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "userspace/os/unique_fd.h"

namespace waggle::os {
namespace {

class SdNotifyTest : public testing::Test {
 protected:
  ~SdNotifyTest() override { unsetenv("NOTIFY_SOCKET"); }
};

// An abstract name, chosen by the kernel (autobind): nothing to leave behind.
std::string BindAbstract(int fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)), 0);
  socklen_t length = sizeof(address);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  return "@" + std::string(address.sun_path + 1, length - offsetof(sockaddr_un, sun_path) - 1);
}

TEST_F(SdNotifyTest, WithoutAServiceManagerItDoesNothing) {
  unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(SdNotify("READY=1").ok());
  setenv("NOTIFY_SOCKET", "", 1);
  EXPECT_TRUE(SdNotify("READY=1").ok());
}

TEST_F(SdNotifyTest, SendsTheStateAsOneDatagram) {
  const UniqueFd manager(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  setenv("NOTIFY_SOCKET", BindAbstract(manager.get()).c_str(), 1);
  const absl::Status status = SdNotify("READY=1");
  ASSERT_TRUE(status.ok()) << status;
  char buffer[64] = {};
  EXPECT_EQ(recv(manager.get(), buffer, sizeof(buffer), MSG_DONTWAIT), 7);
  EXPECT_STREQ(buffer, "READY=1");
}

TEST_F(SdNotifyTest, BadAddressesAreErrors) {
  setenv("NOTIFY_SOCKET", "relative/path", 1);
  EXPECT_EQ(SdNotify("READY=1").code(), absl::StatusCode::kInvalidArgument);
  setenv("NOTIFY_SOCKET", ("/" + std::string(200, 'x')).c_str(), 1);
  EXPECT_EQ(SdNotify("READY=1").code(), absl::StatusCode::kInvalidArgument);
  setenv("NOTIFY_SOCKET", "/no/such/socket", 1);
  EXPECT_EQ(SdNotify("READY=1").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace waggle::os
