// Readiness, in the three ways that somebody may wait for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/lab/cluster.h"
#include "userspace/os/unique_fd.h"

namespace waggle::lab {
namespace {

using testing::HasSubstr;

// A service manager's end of sd_notify(3).
class Manager {
 public:
  Manager()
      : path_(testing::TempDir() + "waggle-notify-" + std::to_string(getpid())),
        fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    unlink(path_.c_str());
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval patience{10, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setenv("WAGGLE_LAB_NOTIFY", path_.c_str(), 1);
  }
  ~Manager() {
    unsetenv("WAGGLE_LAB_NOTIFY");
    unlink(path_.c_str());
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  std::string Receive() const {
    char buffer[256];
    const ssize_t length = recv(fd_.get(), buffer, sizeof(buffer), 0);
    return length < 0 ? std::strerror(errno) : std::string(buffer, static_cast<size_t>(length));
  }

 private:
  std::string path_;
  os::UniqueFd fd_;
};

RunResult Look(const Node& node, const Argv& more) {
  Argv arguments = {"status", "--pin-path", node.pin_path()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Waggle(node, arguments);
}

TEST(ReadyTest, ManagerStatusAndLogSaySo) {
  const Manager manager;
  Cluster cluster;
  EXPECT_EQ(Look(cluster.node1, {"--wait", "--timeout", "0"}).status, 3);
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  EXPECT_EQ(manager.Receive(), "READY=1");
  EXPECT_EQ(Look(cluster.node1, {"--wait", "--timeout", "0"}).status, 0);
  EXPECT_THAT(cluster.agent->Log(), HasSubstr("ready: 1 Services in force on node node1"));
  EXPECT_EQ(cluster.agent->Stop(), 0);
  EXPECT_EQ(Look(cluster.node1, {"--wait", "--timeout", "0"}).status, 3);
}

// The pins say what they said before: nobody was killed, and nothing has changed.
TEST(ReadyTest, AFailedStartIsNoKilledAgent) {
  Cluster cluster;
  cluster.Apply(cluster.web);
  cluster.StartAgent();
  EXPECT_EQ(cluster.agent->Stop(), 0);
  AgentOptions options;
  options.manifests = "/no/such/folder";
  Agent broken(cluster.lab, cluster.node1, options);
  EXPECT_THAT(broken.AwaitRefusal().err, HasSubstr("/no/such/folder"));
  const RunResult status = Look(cluster.node1, {});
  EXPECT_THAT(status.out, HasSubstr("Node:       node1"));
  EXPECT_THAT(status.out, HasSubstr("stopped"));
}

}  // namespace
}  // namespace waggle::lab
