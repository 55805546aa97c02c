// The loaded programs in a network namespace of their own, with devices and routes but no
// traffic: each packet is run by BPF_PROG_TEST_RUN, and its fate is compared with the model's.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_FIXTURE_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "tests/datapath/packet_builder.h"
#include "tests/datapath/packet_model.h"
#include "userspace/os/unique_fd.h"

namespace waggle::packet {

// Prints the message and ends the test process: a test on half a host proves nothing.
[[noreturn]] void Fail(const std::string& message);

// The host: devices, routes, neighbours. One for each process, which enters its namespace;
// pods live in others. As `ip route` would show it:
//
//   10.244.1.11 dev pod1, .12 dev pod2          routed pods
//   10.244.1.15 dev pod5 (mtu 1300)             a routed pod with a small device
//   10.245.1.0/24 dev br0                       bridge of pod3 (.13) and pod4 (.14)
//   192.168.7.0/24 dev eth0, own address .10    uplink; default via .1
//   10.244.2.0/24 via 192.168.7.20 dev eth0     another node's pods
//   10.244.4.0/24 via 192.168.7.30 mtu 1400     the same, smaller
//   10.244.8.0/24 via 192.168.7.1               where strangers go, too
//   10.244.3.0/24 via 10.244.3.1 dev vx0        a tunnel, mtu 1450
//   10.244.5.0/24 dev other0                    a device that nobody covers
//   unreachable 10.244.6.0/24
//
// and the same in IPv6 below fd00:244::/32, fd00:245:1::/64 and fd00:7::/64.
class Host {
 public:
  static Host& Get();

  uint32_t pod1, pod2, pod3, pod4, pod5, br0, eth0, vx0, other0;
  std::map<uint32_t, waggle_device> devices;
  std::vector<Route> routes;

  // Network namespaces of the pods, by their host's device. A pod's own device is eth0; the
  // last bytes of MACs are the last of its address: 02:00:00:00:00:11 is that of pod1,
  // 02:00:00:01:00:11 its peer's.
  int NetnsOf(uint32_t ifindex) const { return netns_.at(ifindex).get(); }
  // Lines for `ip -batch`; must succeed.
  void Ip(const std::string& lines) const;
  // Runs `body` in the namespace of the pod behind the device.
  void InPod(uint32_t ifindex, const std::function<void()>& body) const;

 private:
  Host();
  uint32_t AddPod(const std::string& device, const std::string& address4,
                  const std::string& address6, int netns_id, uint32_t bridge);
  void Covers(uint32_t ifindex, uint32_t role);
  void Routes4And6();

  os::UniqueFd home_;
  std::map<uint32_t, os::UniqueFd> netns_;
};

// Addresses by family, so that tables need not be written twice.
struct Family {
  const char* name;
  bool v6;

  // "1.11" is 10.244.1.11 or fd00:244:1::11.
  net::Address Pod(int net, int host) const;
  net::Address Bridged(int host) const;  // 10.245.1.13 or fd00:245:1::13
  net::Address Service(int host) const;  // 10.96.0.7 or fd00:96::7
  net::Address NodeNet(int host) const;  // 192.168.7.10 or fd00:7::10
  net::Address Stranger() const;         // 198.51.100.9 or 2001:db8:9::9
};
extern const Family kFamilies[2];
// "IPv4 TCP stack": what a table's row is about.
std::string Kind(const Family& family, uint8_t protocol);
std::string Kind(const Family& family, uint8_t protocol, uint32_t forwarding);

// A conversation of a client with a frontend, as packets.
struct Talk {
  uint8_t protocol = kTcp;
  net::Endpoint client, frontend, backend;
  net::Endpoint seen;  // the client as the backend sees it

  static constexpr uint32_t kClientIsn = 1000, kServerIsn = 5000;

  // The client's packet to the frontend, as it leaves the pod.
  Packet Ask(uint8_t flags = kAck | kPsh) const;
  // The same as the backend gets it.
  Packet Asked(uint8_t flags = kAck | kPsh) const;
  // The backend's packet to the client, as it leaves the pod.
  Packet Answer(uint8_t flags = kAck | kPsh) const;
  // The same as the client gets it.
  Packet Answered(uint8_t flags = kAck | kPsh) const;
  Tuple Forward() const { return {client, frontend, protocol}; }
  Tuple Reply() const { return {backend, seen, protocol}; }
};

struct Result {
  int verdict = 0;
  Bytes bytes;
  uint32_t gso_segments = 0;
};

// Backend list of a frontend.
struct ServiceSpec {
  net::Endpoint frontend;
  uint8_t protocol = kTcp;
  uint8_t fate = WAGGLE_FATE_FORWARD;
  std::vector<net::Endpoint> backends = {};
};

// How many entries the flow tables hold, for tests that fill them.
struct TableSizes {
  uint32_t flows = 16384;
  uint32_t half_open = 131072;
  bool skip_neigh = true;  // the kernel feature of that name is used
};

// The programs and their maps. Loading them takes a moment, so that tests share them.
class Datapath {
 public:
  explicit Datapath(const TableSizes& sizes);
  ~Datapath();

  // BPF_PROG_TEST_RUN refuses frames whose ethertype is IP and which have no whole IP header.
  // The same with a VLAN tag in the frame may be run.
  static bool CanRun(const Bytes& frame);
  // Runs a program on a frame. With arrival.tagged the tag stands beside the frame.
  Result Run(const Arrival& arrival, const Bytes& frame) const;
  int Map(const char* name) const;
  void ForgetEnded() const;  // which flows ended last
  int ProgramFd(const char* name) const;
  std::map<uint32_t, uint64_t> Reasons() const;  // those that are not 0
  const TableSizes& sizes() const { return sizes_; }

 private:
  struct Programs;
  TableSizes sizes_;
  std::unique_ptr<Programs> programs_;
};

waggle_flow_key KeyOf(const Tuple& tuple);
Tuple TupleOf(const waggle_flow_key& key);

class PacketTest : public ::testing::Test {
 protected:
  PacketTest();

  // Empties maps and model, and begins with these sizes.
  void Start(uint32_t forwarding, const TableSizes& sizes = {});

  // Adds a frontend, in the maps and in the model. Returns its slot.
  uint32_t AddService(const ServiceSpec& spec);
  // Another fate or other backends for the slot.
  void SetList(uint32_t slot, uint8_t fate, const std::vector<net::Endpoint>& backends);
  void RemoveFrontend(const net::Endpoint& frontend, uint8_t protocol);
  // True: TCP packets of unknown flows pass, false: they are refused.
  void SetLostFlowsPass(bool pass);
  // The same by the field itself: CLOCK_MONOTONIC, 0: for ever.
  void SetLostFlowsPassUntil(uint64_t ns);
  void SetDevice(uint32_t ifindex, const waggle_device& device);
  void RemoveDevice(uint32_t ifindex);
  // Every flow's last packet was so much longer ago. Only this makes flows old: the time that
  // the test itself took since the last call is taken back.
  void Age(double seconds);
  // A connecting TCP socket of the pod behind the device, until the test ends. Its SYN
  // goes nowhere.
  void OpenSocket(uint32_t ifindex, const net::Endpoint& from, const net::Endpoint& to);
  void CloseSockets();
  // A frontend with one backend, and a client that talks to it.
  Talk AddTalk(const Family& family, uint8_t protocol, const net::Endpoint& client,
               const net::Endpoint& backend, int service = 1);

  // Runs the program and the model; every difference is a failure. Returns what the program
  // did.
  Result Send(Program program, uint32_t ifindex, const Bytes& frame, uint32_t gso_size = 0);
  Result Send(const Arrival& arrival, const Bytes& frame);
  // The same, and the verdict is this one; `reasons` are all that were counted.
  Result Expect(int verdict, const std::vector<uint32_t>& reasons, const Arrival& arrival,
                const Bytes& frame);
  // The tables in the kernel and in the model are the same.
  void ExpectSameTables();

  // What is known of IPv6 clients on bridges is so much older.
  void AgeNeighbors(double seconds);

  // A flow's entry in either map.
  std::optional<waggle_flow> Entry(const Tuple& tuple) const;
  bool Established(const Tuple& tuple) const;
  void PutEntry(const char* map, const Tuple& tuple, const waggle_flow& flow);
  // Into half_open and into the model, as if a program had made it.
  void PutFlow(const Tuple& tuple, const Flow& flow);
  void RemoveEntry(const Tuple& tuple);
  // Makes the tags of all rows of the map `fragments` wrong.
  void SpoilFragments();
  // As if it had been filled so long ago.
  void FillIcmpBudget(uint64_t tokens, uint64_t ago_ns = 0);

  const Host& host() const { return Host::Get(); }
  const Datapath& datapath() const { return *datapath_; }

  Model model_;
  // Compare reasons and tables after each packet. Tests with very many turn it off.
  bool thorough_ = true;

 private:
  void Clear(const char* map) const;

  Datapath* datapath_ = nullptr;
  uint32_t next_slot_ = 1;
  uint32_t next_backend_ = 1;
  uint64_t aged_ns_ = 0;  // CLOCK_MONOTONIC of the last Age()
  std::map<std::pair<uint32_t, Tuple>, os::UniqueFd> sockets_;
};

}  // namespace waggle::packet

#endif
