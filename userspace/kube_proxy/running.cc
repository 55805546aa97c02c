#include "userspace/kube_proxy/running.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "userspace/os/unique_fd.h"

namespace waggle::kube_proxy {
namespace {

// Where kube-proxy answers unless its configuration says otherwise.
constexpr uint16_t kMetricsPort = 10249;
// As the kernel has their names.
constexpr std::string_view kHolders[] = {"k3s", "k3s-server", "k3s-agent", "rke2", "kubelite"};
// On the loopback device: who does not answer in this time hangs.
constexpr timeval kPatience = {2, 0};
// kube-proxy's metrics are some hundred KB.
constexpr size_t kMaxAnswer = 4 << 20;
// State "listening" in /proc/net/tcp.
constexpr std::string_view kListening = "0A";

struct Process {
  int pid = 0;
  std::string name;

  std::string ToString() const { return absl::StrCat(name, " (pid ", pid, ")"); }
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string FolderOf(const Process& process) {
  return absl::StrCat("/proc/", process.pid);
}

// The first process in this network namespace, of those that can be seen, that `is`. A pid of 0:
// there is none. `unseen`: also where the kernel does not say in which namespace it is, to who has
// fewer rights than that process.
Process FindProcess(const std::function<bool(const Process&)>& is, bool unseen = false) {
  struct stat here {};
  if (stat("/proc/self/ns/net", &here) != 0) return {};
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc", error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    Process process;
    const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), process.pid);
    if (bad != std::errc() || rest != name.data() + name.size()) continue;
    process.name = std::string(absl::StripAsciiWhitespace(ReadFile(FolderOf(process) + "/comm")));
    struct stat there {};
    const bool told = stat((FolderOf(process) + "/ns/net").c_str(), &there) == 0;
    if ((told ? there.st_ino == here.st_ino : unseen) && is(process)) return process;
  }
  return {};
}

// "socket:[1234]" of whoever listens at the port, in both families.
std::set<std::string> ListenersAt(uint16_t port) {
  const std::string suffix = absl::StrCat(":", absl::Hex(port, absl::kZeroPad4));
  std::set<std::string> sockets;
  for (const char* file : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const std::string text = ReadFile(file);
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      constexpr size_t kLocal = 1, kState = 3, kInode = 9;
      if (words.size() <= kInode || words[kState] != kListening) continue;
      std::string local = words[kLocal];
      std::transform(local.begin(), local.end(), local.begin(),
                     [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
      if (local.ends_with(suffix)) sockets.insert(absl::StrCat("socket:[", words[kInode], "]"));
    }
  }
  return sockets;
}

bool Holds(const Process& process, const std::set<std::string>& sockets) {
  std::error_code error;
  for (std::filesystem::directory_iterator at(FolderOf(process) + "/fd", error), end;
       !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (sockets.contains(std::filesystem::read_symlink(at->path(), gone).string())) return true;
  }
  return false;
}

// The whole answer to GET, or what came of it in time; empty where nobody answers.
std::string Ask(int family, const char* path) {
  const os::UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return "";
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience));
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(kMetricsPort);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(kMetricsPort);
  v6.sin6_addr = in6addr_loopback;
  const bool is_v4 = family == AF_INET;
  const auto* to =
      is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  if (connect(fd.get(), to, is_v4 ? sizeof(v4) : sizeof(v6)) != 0) return "";
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return "";
  }
  std::string answer;
  std::vector<char> buffer(64 << 10);
  while (answer.size() < kMaxAnswer) {
    const ssize_t size = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    answer.append(buffer.data(), static_cast<size_t>(size));
  }
  return answer;
}

}  // namespace

std::string RunningKubeProxy() {
  const Process own =
      FindProcess([](const Process& process) { return process.name == "kube-proxy"; });
  if (own.pid != 0) return own.ToString();
  for (const int family : {AF_INET, AF_INET6}) {
    if (!IsProxyMode(Ask(family, "/proxyMode")) || IsWaggles(Ask(family, "/metrics"))) continue;
    const std::set<std::string> sockets = ListenersAt(kMetricsPort);
    const Process holder =
        FindProcess([&](const Process& process) { return Holds(process, sockets); });
    return absl::StrCat("in ",
                        holder.pid != 0 ? holder.ToString() : "a program that cannot be seen",
                        ", which answers at port ", kMetricsPort);
  }
  return "";
}

std::string MayHoldKubeProxy() {
  const auto is = [](const Process& process) {
    return std::find(std::begin(kHolders), std::end(kHolders), process.name) != std::end(kHolders);
  };
  // To look in vain costs half a minute.
  const Process holder = FindProcess(is, true);
  return holder.pid != 0 ? holder.ToString() : "";
}

bool IsProxyMode(std::string_view http_answer) {
  const size_t body = http_answer.find("\r\n\r\n");
  if (!http_answer.starts_with("HTTP/1.") || body == std::string_view::npos) return false;
  if (http_answer.substr(0, http_answer.find('\r')).find(" 200") == std::string_view::npos)
    return false;
  const std::string mode(absl::StripAsciiWhitespace(
      absl::string_view(http_answer.data(), http_answer.size()).substr(body + 4)));
  for (const char* known : {"iptables", "ipvs", "nftables", "userspace"}) {
    if (mode == known) return true;
  }
  return false;
}

bool IsWaggles(std::string_view http_answer) {
  return http_answer.find("\nwaggle_") != std::string_view::npos;
}

}  // namespace waggle::kube_proxy
