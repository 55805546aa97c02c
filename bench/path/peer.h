// The two processes whose work is measured: a server that answers each byte with a
// byte, and a client that counts how often it gets one. Both are path_bench itself,
// started in a pod; all variants are measured with the same loops.
//
// Client and server are single-threaded, use blocking sockets, and are pinned, with
// real-time priority where the system allows it: other work on the machine shall disturb
// them little, and waits for the short time of a measurement.
#ifndef WAGGLE_BENCH_PATH_PEER_H_
#define WAGGLE_BENCH_PATH_PEER_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "userspace/net/address.h"

namespace waggle::bench {

// What one operation is. TCP_NODELAY is set where a connection carries more than one
// byte each way.
enum class Op {
  kTcpConnect,  // socket, connect, one byte each way, close (by the client first)
  kTcpOpen,     // one byte each way on a connection that is open
  kUdpNew,      // socket, connect, one datagram each way, close
  kUdpOpen,     // one datagram each way on a connected socket
};
inline constexpr Op kAllOps[] = {Op::kTcpConnect, Op::kTcpOpen, Op::kUdpNew, Op::kUdpOpen};

// "tcp-connect", "tcp-open", "udp-new", "udp-open".
const char* NameOf(Op op);
bool IsTcp(Op op);
bool MakesNew(Op op);  // a connection or socket for each operation

// Where client and server run.
enum class Cpus {
  kApart,     // on two CPUs: each byte wakes the other one, which is most of its time
  kTogether,  // on one, which they give to each other: the way itself shows more
};
// "apart", "together".
const char* NameOf(Cpus cpus);

// "v4", "v6".
const char* NameOf(net::Family family);

// What is measured alike on all ways.
struct Kind {
  Op op = Op::kTcpConnect;
  net::Family family = net::Family::kIpv4;
  Cpus cpus = Cpus::kApart;

  friend auto operator<=>(const Kind&, const Kind&) = default;
};
// "tcp-connect v4 apart".
std::string NameOf(const Kind& kind);

// What the client is told to do.
struct Job {
  Kind kind;
  // "10.0.0.1:80" or "[fd00::1]:80", all of one family; new sockets take them in turn.
  std::vector<std::string> targets;
  pid_t server = -1;  // is pinned, and its CPU time is counted
  int64_t slice_ns = 0;
  int64_t warmup_ns = 0;  // before the slice, not counted
  // Ends the slice early: more new connections than this would reuse ports.
  uint64_t max_ops = 0;
};

// What came of it, in the slice alone.
struct Outcome {
  uint64_t ops = 0;
  uint64_t errors = 0;      // in the warm-up as well
  std::string first_error;  // "connect: ECONNREFUSED"
  int64_t elapsed_ns = 0;
  // CPU time of the processes, with what the kernel did in their context: system calls
  // and the softirqs that these raise, which is the whole way of a packet between veths
  // unless ksoftirqd takes over.
  int64_t client_cpu_ns = 0;
  int64_t server_cpu_ns = 0;
  // All CPUs together, from /proc/stat: ours, others' and the hypervisor's.
  int64_t machine_busy_ns = 0;
  int64_t machine_steal_ns = 0;

  double per_second() const;
  double cpu_ns_per_op() const;
};

void to_json(nlohmann::json& json, const Job& job);
void from_json(const nlohmann::json& json, Job& job);
void to_json(nlohmann::json& json, const Outcome& outcome);
void from_json(const nlohmann::json& json, Outcome& outcome);

// Prints "ready" and then serves `port` on all addresses of the family until it is
// killed. Returns the exit status where it cannot.
int RunServer(bool tcp, bool v6, uint16_t port);

// Prints "ready", then an Outcome as a line of JSON for each Job that it reads as one.
int RunClient();

}  // namespace waggle::bench

#endif
