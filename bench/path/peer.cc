#include "bench/path/peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/lab/peer/sockets.h"

namespace waggle::bench {
namespace {

using lab::Fd;
using lab::SocketAddress;

constexpr int64_t kSecond = 1'000'000'000;
// What a blocked call may take beyond the slice before it counts as an error.
constexpr int64_t kGrace = 5 * kSecond;

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

bool Pin(pid_t pid, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(pid, sizeof(set), &set) == 0;
}

// The difference on a machine that does other things is great: two ways that are the same
// measure the same to 1.5 %, and to 40 % with ordinary priority.
void TakePriority() {
  sched_param lowest{};
  lowest.sched_priority = 1;
  if (sched_setscheduler(0, SCHED_FIFO, &lowest) == 0) return;
  // Refused where a cgroup has no share of real time.
  if (setpriority(PRIO_PROCESS, 0, -20) != 0) std::perror("path_bench: setpriority");
}

struct MachineTime {
  int64_t busy_ns = 0;
  int64_t steal_ns = 0;
};

MachineTime ReadMachineTime() {
  std::ifstream in("/proc/stat");
  std::string cpu;
  int64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  in >> cpu >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
  const int64_t tick_ns = kSecond / sysconf(_SC_CLK_TCK);
  return {(user + nice + system + irq + softirq) * tick_ns, steal * tick_ns};
}

// ---- The client.

// What failed, for the first error; errno is read at once.
struct Failure {
  const char* call;
  int error;
};
using Result = std::optional<Failure>;

Result Failed(const char* call) {
  return Failure{call, errno};
}

// One byte each way on a connected socket.
Result Exchange(int fd) {
  char byte = 'w';
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) return Failed("send");
  const ssize_t got = recv(fd, &byte, 1, 0);
  if (got == 0) errno = ECONNRESET;  // the server does not close first
  if (got != 1) return Failed("recv");
  return std::nullopt;
}

Result Open(Op op, const SocketAddress& target, Fd& fd) {
  fd.Reset(socket(target.family(), (IsTcp(op) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Failed("socket");
  if (connect(fd.get(), target.get(), target.length) != 0) return Failed("connect");
  return std::nullopt;
}

class Client {
 public:
  explicit Client(const Job& job) : job_(job) {
    for (const std::string& text : job.targets) {
      targets_.push_back(lab::ParseSocketAddress(text).value());
    }
  }

  Outcome Run() {
    Fd open;
    // On a machine with one CPU both ways are one.
    const int server_place =
        job_.kind.cpus == Cpus::kApart && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1 : 0;
    if (!Pin(0, 0) || !Pin(job_.server, server_place)) {
      Count(*Failed("sched_setaffinity"));
      return outcome_;
    }
    if (!MakesNew(job_.kind.op)) {
      if (Result failure = Open(job_.kind.op, targets_[0], open)) {
        Count(*failure);
        return outcome_;
      }
      const int on = 1;
      if (IsTcp(job_.kind.op)) setsockopt(open.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    Loop(open.get(), job_.warmup_ns, job_.max_ops / 10);
    if (outcome_.errors > 0) return outcome_;

    clockid_t server_clock{};
    if (clock_getcpuclockid(job_.server, &server_clock) != 0) {
      Count({"clock_getcpuclockid", ESRCH});
      return outcome_;
    }
    const MachineTime machine = ReadMachineTime();
    const int64_t server_cpu = Now(server_clock);
    const int64_t client_cpu = Now(CLOCK_PROCESS_CPUTIME_ID);
    const int64_t start = Now(CLOCK_MONOTONIC);
    outcome_.ops = Loop(open.get(), job_.slice_ns, job_.max_ops);
    outcome_.elapsed_ns = Now(CLOCK_MONOTONIC) - start;
    outcome_.client_cpu_ns = Now(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
    outcome_.server_cpu_ns = Now(server_clock) - server_cpu;
    const MachineTime after = ReadMachineTime();
    outcome_.machine_busy_ns = after.busy_ns - machine.busy_ns;
    outcome_.machine_steal_ns = after.steal_ns - machine.steal_ns;
    return outcome_;
  }

 private:
  void Count(const Failure& failure) {
    if (++outcome_.errors > 1) return;
    outcome_.first_error = std::string(failure.call) + ": " +
                           (failure.error == EINTR ? "no answer" : lab::ErrnoName(failure.error));
  }

  // Operations until the time is over; an open socket that failed is of no more use.
  uint64_t Loop(int open, int64_t duration_ns, uint64_t max_ops) {
    const int64_t end = Now(CLOCK_MONOTONIC) + duration_ns;
    SetAlarm(duration_ns + kGrace);
    uint64_t ops = 0;
    while (ops < max_ops && Now(CLOCK_MONOTONIC) < end) {
      Result failure;
      if (MakesNew(job_.kind.op)) {
        Fd fd;
        failure = Open(job_.kind.op, targets_[next_++ % targets_.size()], fd);
        if (!failure) failure = Exchange(fd.get());
      } else {
        failure = Exchange(open);
      }
      if (!failure) {
        ++ops;
      } else {
        Count(*failure);
        if (!MakesNew(job_.kind.op) || failure->error == EINTR) break;
      }
    }
    SetAlarm(0);
    return ops;
  }

  // Interrupts calls that block; again and again, as the first may hit between two.
  static void SetAlarm(int64_t after_ns) {
    itimerval timer{};
    timer.it_value.tv_sec = after_ns / kSecond;
    timer.it_value.tv_usec = after_ns % kSecond / 1000;
    if (after_ns != 0) timer.it_interval.tv_usec = 100'000;
    setitimer(ITIMER_REAL, &timer, nullptr);
  }

  const Job& job_;
  std::vector<SocketAddress> targets_;
  size_t next_ = 0;
  Outcome outcome_;
};

// ---- The server.

// One connection after the other, as the client makes them.
int ServeTcp(int listener) {
  while (true) {
    Fd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      std::perror("path_bench: accept");
      return 1;
    }
    char byte;
    while (recv(fd.get(), &byte, 1, 0) == 1) {
      if (send(fd.get(), &byte, 1, MSG_NOSIGNAL) != 1) break;
    }
  }
}

// Answers come from the address that was asked: the pod has several.
int ServeUdp(int fd) {
  char byte;
  SocketAddress from;
  alignas(cmsghdr) char control[256];
  iovec data{&byte, 1};
  while (true) {
    msghdr message{};
    message.msg_name = from.get();
    message.msg_namelen = sizeof(from.storage);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(fd, &message, 0) != 1) {
      // An ICMP error about an answer to a client that is gone.
      if (errno == EINTR || errno == ECONNREFUSED) continue;
      std::perror("path_bench: recvmsg");
      return 1;
    }
    // The kernel's own choice of the way back, as for a server that has one address.
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
      if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
        reinterpret_cast<in_pktinfo*>(CMSG_DATA(one))->ipi_ifindex = 0;
      } else if (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_PKTINFO) {
        reinterpret_cast<in6_pktinfo*>(CMSG_DATA(one))->ipi6_ifindex = 0;
      }
    }
    sendmsg(fd, &message, 0);
  }
}

}  // namespace

const char* NameOf(Op op) {
  switch (op) {
    case Op::kTcpConnect:
      return "tcp-connect";
    case Op::kTcpOpen:
      return "tcp-open";
    case Op::kUdpNew:
      return "udp-new";
    case Op::kUdpOpen:
      return "udp-open";
  }
  return "unknown";
}

const char* NameOf(Cpus cpus) {
  return cpus == Cpus::kApart ? "apart" : "together";
}

const char* NameOf(net::Family family) {
  return family == net::Family::kIpv4 ? "v4" : "v6";
}

std::string NameOf(const Kind& kind) {
  return std::string(NameOf(kind.op)) + " " + NameOf(kind.family) + " " + NameOf(kind.cpus);
}

bool IsTcp(Op op) {
  return op == Op::kTcpConnect || op == Op::kTcpOpen;
}

bool MakesNew(Op op) {
  return op == Op::kTcpConnect || op == Op::kUdpNew;
}

double Outcome::per_second() const {
  return elapsed_ns > 0 ? static_cast<double>(ops) * 1e9 / static_cast<double>(elapsed_ns) : 0;
}

double Outcome::cpu_ns_per_op() const {
  return ops > 0 ? static_cast<double>(client_cpu_ns + server_cpu_ns) / static_cast<double>(ops)
                 : 0;
}

void to_json(nlohmann::json& json, const Job& job) {
  json = {{"op", static_cast<int>(job.kind.op)},
          {"cpus", static_cast<int>(job.kind.cpus)},
          {"targets", job.targets},
          {"server", job.server},
          {"sliceNs", job.slice_ns},
          {"warmupNs", job.warmup_ns},
          {"maxOps", job.max_ops}};
}

void from_json(const nlohmann::json& json, Job& job) {
  job.kind.op = static_cast<Op>(json.at("op").get<int>());
  job.kind.cpus = static_cast<Cpus>(json.at("cpus").get<int>());
  json.at("targets").get_to(job.targets);
  json.at("server").get_to(job.server);
  json.at("sliceNs").get_to(job.slice_ns);
  json.at("warmupNs").get_to(job.warmup_ns);
  json.at("maxOps").get_to(job.max_ops);
}

void to_json(nlohmann::json& json, const Outcome& outcome) {
  json = {{"ops", outcome.ops},
          {"errors", outcome.errors},
          {"firstError", outcome.first_error},
          {"elapsedNs", outcome.elapsed_ns},
          {"clientCpuNs", outcome.client_cpu_ns},
          {"serverCpuNs", outcome.server_cpu_ns},
          {"machineBusyNs", outcome.machine_busy_ns},
          {"machineStealNs", outcome.machine_steal_ns}};
}

void from_json(const nlohmann::json& json, Outcome& outcome) {
  json.at("ops").get_to(outcome.ops);
  json.at("errors").get_to(outcome.errors);
  json.at("firstError").get_to(outcome.first_error);
  json.at("elapsedNs").get_to(outcome.elapsed_ns);
  json.at("clientCpuNs").get_to(outcome.client_cpu_ns);
  json.at("serverCpuNs").get_to(outcome.server_cpu_ns);
  json.at("machineBusyNs").get_to(outcome.machine_busy_ns);
  json.at("machineStealNs").get_to(outcome.machine_steal_ns);
}

int RunServer(bool tcp, bool v6, uint16_t port) {
  Fd fd(socket(v6 ? AF_INET6 : AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  const int on = 1;
  const SocketAddress any =
      lab::ParseSocketAddress((v6 ? "[::]:" : "0.0.0.0:") + std::to_string(port)).value();
  if (v6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (tcp) {
    // Connections inherit it from the listener.
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  } else if (v6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
  } else {
    setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
  }
  if (bind(fd.get(), any.get(), any.length) != 0 || (tcp && listen(fd.get(), 64) != 0)) {
    std::perror("path_bench: server: bind, listen");
    return 1;
  }
  TakePriority();
  std::cout << "ready" << std::endl;
  return tcp ? ServeTcp(fd.get()) : ServeUdp(fd.get());
}

int RunClient() {
  struct sigaction action {};
  action.sa_handler = [](int) {};  // without SA_RESTART: calls end with EINTR
  sigaction(SIGALRM, &action, nullptr);
  TakePriority();
  std::cout << "ready" << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    const Job job = nlohmann::json::parse(line).get<Job>();
    std::cout << nlohmann::json(Client(job).Run()).dump() << std::endl;
  }
  return 0;
}

}  // namespace waggle::bench
