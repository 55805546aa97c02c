#include "bench/control_plane/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "userspace/os/unique_fd.h"

namespace waggle::bench {
namespace {

constexpr timespec kPause = {0, 200'000};
constexpr int kPatienceMs = 1000;

lab::Process Start(const lab::Place& pod, lab::Argv arguments) {
  arguments.insert(arguments.begin(), std::filesystem::read_symlink("/proc/self/exe"));
  lab::Process process(pod.surroundings(), arguments, lab::Process::Output::kToPipe);
  if (process.ReadLine() != "ready") lab::Fail("a probe does not start: " + process.Err());
  return process;
}

bool Ready(int fd, short events) {
  pollfd wanted{fd, events, 0};
  return poll(&wanted, 1, kPatienceMs) == 1;
}

// The letter that answers; 0 when nobody does.
char Ask(const sockaddr_in& target) {
  const os::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // No TIME_WAIT: ports would run out.
  const linger reset = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&target), sizeof(target)) != 0 &&
      errno != EINPROGRESS) {
    return 0;
  }
  char letter = 0;
  if (!Ready(fd.get(), POLLIN) || read(fd.get(), &letter, 1) != 1) return 0;
  return letter;
}

}  // namespace

int64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

ProbeServer::ProbeServer(const lab::Place& pod, char letter, uint16_t port)
    : process_(Start(pod, {"serve", std::string(1, letter), std::to_string(port)})) {}

Probe::Probe(const lab::Place& pod, const std::string& target)
    : process_(Start(pod, {"probe", target})) {}

int64_t Probe::AwaitAnswerOf(char letter, std::chrono::milliseconds patience) {
  const int64_t deadline = BoottimeNs() + int64_t{patience.count()} * 1'000'000;
  while (BoottimeNs() < deadline) {
    const auto line = process_.ReadLine(patience);
    // "b 123456789"
    if (line && line->size() > 2 && line->front() == letter) {
      return std::strtoll(line->c_str() + 2, nullptr, 10);
    }
    if (!line && !process_.running()) break;
  }
  lab::Fail(absl::StrCat("the probe gets no answer of '", std::string(1, letter), "' within ",
                         patience.count(), " ms ", process_.Err()));
}

int RunProbeServer(char letter, uint16_t port) {
  const os::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.get(), 128) != 0) {
    std::perror("probe server");
    return 1;
  }
  std::puts("ready");
  std::fflush(stdout);
  while (true) {
    const os::UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    // Who asked may be gone.
    if (peer) send(peer.get(), &letter, 1, MSG_NOSIGNAL);
  }
}

int RunProbe(const std::string& target) {
  const size_t colon = target.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, target.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    std::fprintf(stderr, "probe: '%s' is no address\n", target.c_str());
    return 2;
  }
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(target.c_str() + colon + 1)));
  std::puts("ready");
  std::fflush(stdout);
  for (char last = 0;;) {
    const char letter = Ask(address);
    if (letter != 0 && letter != last) {
      std::printf("%c %lld\n", letter, static_cast<long long>(BoottimeNs()));
      std::fflush(stdout);
      last = letter;
    }
    clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
  }
}

}  // namespace waggle::bench
