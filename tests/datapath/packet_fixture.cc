#include "tests/datapath/packet_fixture.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <sstream>

#include "packet_tagged.skel.h"
#include "tests/datapath/kernel_maps.h"
#include "waggle_bpf.skel.h"

namespace waggle::packet {
namespace {

constexpr const char* kReasonLabels[] = {
#define WAGGLE_REASON(identifier, label, class_, text) label,
#include "bpf/reasons.def"
#undef WAGGLE_REASON
};

std::string ReasonText(const std::map<uint32_t, uint64_t>& reasons) {
  std::string text;
  for (const auto& [reason, count] : reasons)
    text += std::string(kReasonLabels[reason]) + " " + std::to_string(count) + ", ";
  return text.empty() ? "nothing" : text;
}

uint64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void Must(int error, const char* what) {
  if (error != 0) Fail(std::string(what) + ": " + std::strerror(errno));
}

template <typename Value, typename Key = waggle_flow_key, typename Function>
void ForEach(int map, const Function& function) {
  Key key{}, next{};
  bool more = bpf_map_get_next_key(map, nullptr, &next) == 0;
  while (more) {
    key = next;
    more = bpf_map_get_next_key(map, &key, &next) == 0;
    Value value{};
    if (bpf_map_lookup_elem(map, &key, &value) == 0) function(key, value);
  }
}

void CopyAddress(uint8_t (&to)[16], const net::Address& address) {
  std::memcpy(to, address.bytes().data(), 16);
}

net::Endpoint EndpointOf(const uint8_t (&address)[16], uint16_t port_be) {
  std::array<uint8_t, 16> bytes;
  std::memcpy(bytes.data(), address, 16);
  return {net::Address(bytes), ntohs(port_be)};
}

std::string WayText(const Way& way) {
  static const char* const names[] = {"stack", "peer", "neigh"};
  return std::string(names[way.how % 3]) + " " + std::to_string(way.device) + " mtu " +
         std::to_string(way.mtu);
}

std::string FlowText(const Flow& flow) {
  std::ostringstream text;
  text << (flow.forward ? "forward" : "reply") << (flow.established ? " established" : "")
       << " flags " << int{flow.flags} << " state " << int{flow.state} << " to "
       << flow.new_src.ToString() << " > " << flow.new_dst.ToString() << " service "
       << flow.service_id << " slot " << flow.slot << " ifindex " << flow.ifindex;
  if (flow.flags & WAGGLE_FLOW_REDIRECT && !(flow.flags & WAGGLE_FLOW_HAIRPIN)) {
    text << " " << WayText(flow.way);
  }
  if (flow.isn) text << " isn " << *flow.isn;
  return text.str();
}

}  // namespace

waggle_flow_key KeyOf(const Tuple& tuple) {
  waggle_flow_key key{};
  CopyAddress(key.src, tuple.src.address);
  CopyAddress(key.dst, tuple.dst.address);
  key.src_port_be = htons(tuple.src.port);
  key.dst_port_be = htons(tuple.dst.port);
  key.protocol = tuple.protocol;
  return key;
}

Tuple TupleOf(const waggle_flow_key& key) {
  return {EndpointOf(key.src, key.src_port_be), EndpointOf(key.dst, key.dst_port_be), key.protocol};
}

// ---- The programs.

struct Datapath::Programs {
  waggle_bpf* waggle = nullptr;
  packet_tagged* tagged = nullptr;

  ~Programs() {
    packet_tagged__destroy(tagged);
    waggle_bpf__destroy(waggle);
  }
};

Datapath::Datapath(const TableSizes& sizes)
    : sizes_(sizes), programs_(std::make_unique<Programs>()) {
  waggle_bpf* const skeleton = programs_->waggle = waggle_bpf__open();
  if (!skeleton) Fail("cannot open the programs");
  maps::SetSizes(skeleton->obj, {.frontends = 1024,
                                 .services = 256,
                                 .backends = 4096,
                                 .udp_flows = 64,
                                 .flows = sizes.flows,
                                 .half_open = sizes.half_open});
  const std::set<std::string> wanted = {"waggle_pod_in", "waggle_pod_out", "waggle_net_in",
                                        "waggle_net_l3"};
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj) {
    bpf_program__set_autoload(program, wanted.count(bpf_program__name(program)) != 0);
  }
  waggle_config& config = const_cast<waggle_config&>(skeleton->rodata_config->waggle_config);
  config.have_skip_neigh = sizes.skip_neigh;
  config.have_coarse_clock = sizes.skip_neigh;  // old kernels have neither
  config.packet_path = 1;
  Must(waggle_bpf__load(skeleton), "cannot load the programs");

  programs_->tagged = packet_tagged__open_and_load();
  if (!programs_->tagged) Fail("cannot load the program that tags packets");
  const int targets = bpf_map__fd(programs_->tagged->maps.packet_targets);
  const std::pair<Program, bpf_program*> programs[] = {
      {Program::kPodIn, skeleton->progs.waggle_pod_in},
      {Program::kPodOut, skeleton->progs.waggle_pod_out},
      {Program::kNetIn, skeleton->progs.waggle_net_in}};
  for (const auto& [number, target] : programs) {
    const auto index = static_cast<uint32_t>(number);
    const int fd = bpf_program__fd(target);
    Must(bpf_map_update_elem(targets, &index, &fd, BPF_ANY), "cannot chain programs");
  }
}

Datapath::~Datapath() = default;

int Datapath::Map(const char* name) const {
  const int fd = bpf_object__find_map_fd_by_name(programs_->waggle->obj, name);
  if (fd < 0) Fail(std::string("no map ") + name);
  return fd;
}

void Datapath::ForgetEnded() const {
  const int map = Map("ended");
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  Must(bpf_obj_get_info_by_fd(map, &info, &size), "ended");
  const std::vector<char> zeros(size_t{info.value_size} *
                                static_cast<size_t>(libbpf_num_possible_cpus()));
  const uint32_t zero = 0;
  Must(bpf_map_update_elem(map, &zero, zeros.data(), BPF_ANY), "ended");
}

int Datapath::ProgramFd(const char* name) const {
  return bpf_program__fd(bpf_object__find_program_by_name(programs_->waggle->obj, name));
}

bool Datapath::CanRun(const Bytes& frame) {
  const uint16_t type = Get16(frame, 12);
  return frame.size() >= kEthernetLength + (type == 0x0800 ? 20 : type == 0x86dd ? 40 : 0);
}

Result Datapath::Run(const Arrival& arrival, const Bytes& frame) const {
  const auto& programs = programs_->waggle->progs;
  const bpf_program* program = arrival.tagged ? programs_->tagged->progs.tag_and_go_on
                               : arrival.program == Program::kPodIn  ? programs.waggle_pod_in
                               : arrival.program == Program::kPodOut ? programs.waggle_pod_out
                                                                     : programs.waggle_net_in;
  __sk_buff context{};
  context.ifindex = arrival.ifindex;
  context.mark = static_cast<uint32_t>(arrival.program);
  if (arrival.gso_size != 0) {
    context.gso_size = arrival.gso_size;
    context.gso_segs = static_cast<uint32_t>(frame.size() / arrival.gso_size + 1);
  }
  Result result;
  result.bytes.resize(frame.size() + 256);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = result.bytes.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(result.bytes.size()), .ctx_in = &context,
              .ctx_out = &context, .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(context));
  Must(bpf_prog_test_run_opts(bpf_program__fd(program), &options), "BPF_PROG_TEST_RUN");
  result.verdict = static_cast<int>(options.retval);
  result.bytes.resize(options.data_size_out);
  result.gso_segments = context.gso_segs;
  return result;
}

std::map<uint32_t, uint64_t> Datapath::Reasons() const {
  std::map<uint32_t, uint64_t> all;
  for (uint32_t reason = 0; reason < WAGGLE_REASON_COUNT; ++reason) {
    const uint64_t count = maps::StatOf(programs_->waggle->obj, reason);
    if (count != 0) all[reason] = count;
  }
  return all;
}

// ---- Conversations.

namespace {

Packet Between(const Talk& talk, const net::Endpoint& src, const net::Endpoint& dst, uint8_t flags,
               bool from_client) {
  Packet packet;
  packet.protocol = talk.protocol;
  packet.src = src.address;
  packet.src_port = src.port;
  packet.dst = dst.address;
  packet.dst_port = dst.port;
  packet.flags = flags;
  const uint32_t own = from_client ? Talk::kClientIsn : Talk::kServerIsn;
  const uint32_t other = from_client ? Talk::kServerIsn : Talk::kClientIsn;
  packet.seq = own + (flags & kSyn ? 0 : 1);
  packet.ack = flags & kAck ? other + 1 : 0;
  if (!(flags & kSyn) || talk.protocol == kUdp) packet.payload = Text("bees dance");
  return packet;
}

}  // namespace

Packet Talk::Ask(uint8_t flags) const {
  return Between(*this, client, frontend, flags, true);
}
Packet Talk::Asked(uint8_t flags) const {
  return Between(*this, seen, backend, flags, true);
}
Packet Talk::Answer(uint8_t flags) const {
  return Between(*this, backend, seen, flags, false);
}
Packet Talk::Answered(uint8_t flags) const {
  return Between(*this, frontend, client, flags, false);
}

// ---- The fixture.

PacketTest::PacketTest() {
  Start(WAGGLE_FORWARDING_STACK);
}

void PacketTest::Clear(const char* name) const {
  const int map = datapath_->Map(name);
  std::array<char, 256> key{};
  while (bpf_map_get_next_key(map, nullptr, key.data()) == 0)
    Must(bpf_map_delete_elem(map, key.data()), name);
}

void PacketTest::Start(uint32_t forwarding, const TableSizes& sizes) {
  Host::Get();
  // Each CPU has a budget of errors of its own, and its own memory of ended flows.
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(sched_getcpu(), &here);
  Must(sched_setaffinity(0, sizeof(here), &here), "cannot stay on one CPU");
  static std::vector<std::unique_ptr<Datapath>> loaded;
  datapath_ = nullptr;
  for (const auto& each : loaded) {
    if (each->sizes().flows == sizes.flows && each->sizes().half_open == sizes.half_open &&
        each->sizes().skip_neigh == sizes.skip_neigh) {
      datapath_ = each.get();
    }
  }
  if (!datapath_) datapath_ = loaded.emplace_back(std::make_unique<Datapath>(sizes)).get();
  for (const char* name : {"frontends", "flows", "half_open", "fragments", "devices", "neighbors"})
    Clear(name);
  datapath_->ForgetEnded();
  const waggle_list none{};
  for (uint32_t slot = 0; slot < 1024; ++slot)
    Must(bpf_map_update_elem(datapath_->Map("lists"), &slot, &none, BPF_ANY), "lists");
  next_slot_ = next_backend_ = 1;
  aged_ns_ = NowNs();
  sockets_.clear();
  model_ = Model();
  model_.socket_there = [this](uint32_t ifindex, const Tuple& ends) -> std::optional<bool> {
    const auto device = model_.devices.find(ifindex);
    if (device == model_.devices.end() || device->second.netns_id < 0) return std::nullopt;
    return sockets_.count({ifindex, ends}) != 0;
  };
  model_.max_established = sizes.flows;
  model_.forwarding = forwarding;
  model_.routes = host().routes;
  for (const auto& [ifindex, device] : host().devices)
    SetDevice(ifindex, device);
  SetLostFlowsPass(true);
  FillIcmpBudget(WAGGLE_ICMP_BURST);
}

void PacketTest::SetLostFlowsPass(bool pass) {
  model_.lost_flows_pass = pass;
  SetLostFlowsPassUntil(pass ? NowNs() + 3'600'000'000'000 : 1);
}

void PacketTest::SetLostFlowsPassUntil(uint64_t ns) {
  waggle_settings settings{};
  settings.forwarding = model_.forwarding;
  settings.lost_flows_pass_until_ns = ns;
  const uint32_t zero = 0;
  Must(bpf_map_update_elem(datapath_->Map("settings"), &zero, &settings, BPF_ANY), "settings");
}

void PacketTest::SetDevice(uint32_t ifindex, const waggle_device& device) {
  model_.devices[ifindex] = device;
  Must(bpf_map_update_elem(datapath_->Map("devices"), &ifindex, &device, BPF_ANY), "devices");
}

void PacketTest::RemoveDevice(uint32_t ifindex) {
  model_.devices.erase(ifindex);
  Must(bpf_map_delete_elem(datapath_->Map("devices"), &ifindex), "devices");
}

void PacketTest::FillIcmpBudget(uint64_t tokens, uint64_t ago_ns) {
  waggle_icmp_budget budget{};
  budget.filled_ns = NowNs() - ago_ns;
  budget.tokens = tokens;
  const std::vector<waggle_icmp_budget> all(static_cast<size_t>(libbpf_num_possible_cpus()),
                                            budget);
  const uint32_t zero = 0;
  Must(bpf_map_update_elem(datapath_->Map("icmp_budget"), &zero, all.data(), BPF_ANY),
       "icmp_budget");
}

uint32_t PacketTest::AddService(const ServiceSpec& spec) {
  const uint32_t slot = next_slot_++;
  model_.lists[slot].service_id = 1000 + slot;
  model_.frontends[{spec.frontend, spec.protocol}] = slot;
  SetList(slot, spec.fate, spec.backends);
  waggle_frontend_key key{};
  CopyAddress(key.addr, spec.frontend.address);
  key.port_be = htons(spec.frontend.port);
  key.protocol = spec.protocol;
  key.scope = WAGGLE_SCOPE_INTERNAL;
  waggle_frontend row{};
  row.slot = slot;
  row.service_id = 1000 + slot;
  row.tag = waggle_frontend_tag(&key, row.slot, row.service_id, row.kind);
  Must(bpf_map_update_elem(datapath_->Map("frontends"), &key, &row, BPF_NOEXIST), "frontends");
  return slot;
}

void PacketTest::SetList(uint32_t slot, uint8_t fate, const std::vector<net::Endpoint>& backends) {
  List& list = model_.lists.at(slot);
  list.fate = fate;
  list.backends = backends;
  std::sort(list.backends.begin(), list.backends.end());
  waggle_list row{};
  row.base = next_backend_;
  row.count = static_cast<uint16_t>(backends.size());
  row.fate = fate;
  row.service_id = list.service_id;
  for (const net::Endpoint& endpoint : list.backends) {
    waggle_backend backend{};
    CopyAddress(backend.addr, endpoint.address);
    backend.port_be = htons(endpoint.port);
    backend.service_id = list.service_id;
    Must(bpf_map_update_elem(datapath_->Map("backends"), &next_backend_, &backend, BPF_ANY),
         "backends");
    ++next_backend_;
  }
  Must(bpf_map_update_elem(datapath_->Map("lists"), &slot, &row, BPF_ANY), "lists");
}

void PacketTest::RemoveFrontend(const net::Endpoint& frontend, uint8_t protocol) {
  model_.frontends.erase({frontend, protocol});
  waggle_frontend_key key{};
  CopyAddress(key.addr, frontend.address);
  key.port_be = htons(frontend.port);
  key.protocol = protocol;
  Must(bpf_map_delete_elem(datapath_->Map("frontends"), &key), "frontends");
}

namespace {

// For bind() and connect().
struct SocketAddress {
  explicit SocketAddress(const net::Endpoint& endpoint) {
    if (endpoint.address.family() == net::Family::kIpv4) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(endpoint.port);
      std::memcpy(&v4.sin_addr, endpoint.address.bytes().data() + 12, 4);
      length = sizeof(v4);
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(endpoint.port);
      std::memcpy(&v6.sin6_addr, endpoint.address.bytes().data(), 16);
      length = sizeof(v6);
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }

  sockaddr_storage storage{};
  socklen_t length = 0;
};

}  // namespace

void PacketTest::OpenSocket(uint32_t ifindex, const net::Endpoint& from, const net::Endpoint& to) {
  const SocketAddress own(from), peer(to);
  os::UniqueFd fd;
  host().InPod(ifindex, [&] {
    fd.Reset(socket(own.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  });
  const int yes = 1;
  Must(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), "SO_REUSEADDR");
  Must(bind(fd.get(), own.get(), own.length), "bind");
  if (connect(fd.get(), peer.get(), peer.length) == 0 || errno != EINPROGRESS) Must(1, "connect");
  sockets_[{ifindex, {from, to, kTcp}}] = std::move(fd);
}

void PacketTest::CloseSockets() {
  sockets_.clear();
}

Talk PacketTest::AddTalk(const Family& family, uint8_t protocol, const net::Endpoint& client,
                         const net::Endpoint& backend, int service) {
  const net::Endpoint frontend{family.Service(service), 80};
  AddService({.frontend = frontend, .protocol = protocol, .backends = {backend}});
  return {protocol, client, frontend, backend, client};
}

void PacketTest::Age(double seconds) {
  const auto ns = static_cast<uint64_t>(seconds * 1e9);
  for (auto& [tuple, flow] : model_.entries)
    flow.idle_ns += ns;
  const uint64_t now = NowNs(), spent = now - aged_ns_;
  aged_ns_ = now;
  for (const char* name : {"flows", "half_open"}) {
    const int map = datapath_->Map(name);
    std::vector<std::pair<waggle_flow_key, waggle_flow>> all;
    ForEach<waggle_flow>(map, [&](const auto& key, const auto& flow) {
      all.push_back({key, flow});
    });
    for (auto& [key, flow] : all) {
      // What was used meanwhile is no older than now.
      const auto moved = [&](uint64_t then) {
        const auto age = static_cast<int64_t>(now - then) - static_cast<int64_t>(spent);
        return now - static_cast<uint64_t>(std::max<int64_t>(age, 0)) - ns;
      };
      flow.last_ns = moved(flow.last_ns);
      if (flow.routed_ns != 0) flow.routed_ns = moved(flow.routed_ns);
      flow.created_ns -= ns;
      Must(bpf_map_update_elem(map, &key, &flow, BPF_EXIST), name);
    }
  }
}

void PacketTest::AgeNeighbors(double seconds) {
  // The map is the programs' own and no part of the ABI: the time comes first.
  struct Key {
    uint8_t bytes[24];
  };
  struct Value {
    uint64_t seen_ns;
    uint8_t rest[8];
  };
  const int map = datapath_->Map("neighbors");
  std::vector<std::pair<Key, Value>> all;
  ForEach<Value, Key>(map, [&](const Key& key, const Value& value) {
    all.push_back({key, value});
  });
  for (auto& [key, value] : all) {
    value.seen_ns -= static_cast<uint64_t>(seconds * 1e9);
    Must(bpf_map_update_elem(map, &key, &value, BPF_EXIST), "neighbors");
  }
}

std::optional<waggle_flow> PacketTest::Entry(const Tuple& tuple) const {
  const waggle_flow_key key = KeyOf(tuple);
  waggle_flow flow{};
  if (bpf_map_lookup_elem(datapath_->Map("flows"), &key, &flow) == 0) return flow;
  if (bpf_map_lookup_elem(datapath_->Map("half_open"), &key, &flow) == 0) return flow;
  return std::nullopt;
}

bool PacketTest::Established(const Tuple& tuple) const {
  const waggle_flow_key key = KeyOf(tuple);
  waggle_flow flow{};
  return bpf_map_lookup_elem(datapath_->Map("flows"), &key, &flow) == 0;
}

void PacketTest::PutEntry(const char* map, const Tuple& tuple, const waggle_flow& flow) {
  const waggle_flow_key key = KeyOf(tuple);
  Must(bpf_map_update_elem(datapath_->Map(map), &key, &flow, BPF_ANY), map);
}

void PacketTest::PutFlow(const Tuple& tuple, const Flow& flow) {
  model_.entries[tuple] = flow;
  const waggle_flow_key key = KeyOf(tuple);
  waggle_flow entry{};
  entry.last_ns = entry.created_ns = entry.routed_ns = NowNs();
  CopyAddress(entry.new_src, flow.new_src.address);
  CopyAddress(entry.new_dst, flow.new_dst.address);
  entry.new_src_port_be = htons(flow.new_src.port);
  entry.new_dst_port_be = htons(flow.new_dst.port);
  entry.kind = flow.forward ? WAGGLE_FLOW_FORWARD : WAGGLE_FLOW_REPLY;
  entry.flags = flow.flags;
  entry.state = flow.state;
  entry.service_id = flow.service_id;
  entry.slot = flow.slot;
  entry.ifindex = flow.ifindex;
  entry.isn = flow.isn.value_or(0);
  entry.way.how = flow.way.how;
  entry.way.device = flow.way.device;
  entry.way.mtu = static_cast<uint16_t>(flow.way.mtu);
  entry.tag = waggle_flow_tag(&key, &entry);
  PutEntry("half_open", tuple, entry);
}

void PacketTest::RemoveEntry(const Tuple& tuple) {
  const waggle_flow_key key = KeyOf(tuple);
  for (const char* map : {"flows", "half_open"})
    bpf_map_delete_elem(datapath_->Map(map), &key);
}

void PacketTest::SpoilFragments() {
  const int map = datapath_->Map("fragments");
  std::vector<std::pair<waggle_fragment_key, waggle_fragment>> all;
  ForEach<waggle_fragment, waggle_fragment_key>(map, [&](const auto& key, const auto& fragment) {
    all.push_back({key, fragment});
  });
  EXPECT_FALSE(all.empty());
  for (auto& [key, fragment] : all) {
    fragment.tag ^= 2;
    Must(bpf_map_update_elem(map, &key, &fragment, BPF_EXIST), "fragments");
  }
}

Result PacketTest::Send(Program program, uint32_t ifindex, const Bytes& frame, uint32_t gso_size) {
  return Send(Arrival{program, ifindex, gso_size, false}, frame);
}

Result PacketTest::Send(const Arrival& arrival, const Bytes& frame) {
  std::map<uint32_t, uint64_t> before;
  if (thorough_) {
    before = datapath_->Reasons();
    Age(0);  // on a busy machine the test itself may have taken a second
  }
  const Result got = datapath_->Run(arrival, frame);
  const Oracle oracle = [this](const Tuple& tuple) -> std::optional<Choice> {
    const auto entry = Entry(tuple);
    if (!entry) return std::nullopt;
    return Choice{EndpointOf(entry->new_src, entry->new_src_port_be),
                  EndpointOf(entry->new_dst, entry->new_dst_port_be)};
  };
  const Outcome expected = model_.Run(arrival, frame, oracle);
  const auto packet = [&] {
    return std::string(ProgramName(arrival.program)) + " at " + std::to_string(arrival.ifindex) +
           (arrival.gso_size ? " gso " + std::to_string(arrival.gso_size) : "") +
           "\npacket: " + Describe(frame) + "\n" + Hex(frame);
  };
  if (expected.verdict != got.verdict) {
    ADD_FAILURE() << packet() << "\nexpected verdict " << expected.verdict << ", got "
                  << got.verdict << "\nexpected: " << Describe(expected.bytes)
                  << "\ngot: " << Describe(got.bytes);
  } else if (got.verdict != kShot && expected.bytes != got.bytes) {
    ADD_FAILURE() << packet() << "\n" << Difference(expected.bytes, got.bytes);
  }
  if (!expected.fault.empty()) ADD_FAILURE() << packet() << "\nthe program " << expected.fault;
  if (thorough_) {
    std::map<uint32_t, uint64_t> counted;
    for (const auto& [reason, count] : datapath_->Reasons()) {
      if (count != before[reason]) counted[reason] = count - before[reason];
    }
    EXPECT_EQ(ReasonText(counted), ReasonText(expected.reasons)) << packet();
    ExpectSameTables();
  }
  return got;
}

Result PacketTest::Expect(int verdict, const std::vector<uint32_t>& reasons, const Arrival& arrival,
                          const Bytes& frame) {
  const auto before = datapath_->Reasons();
  const Result result = Send(arrival, frame);
  EXPECT_EQ(result.verdict, verdict) << Describe(frame);
  std::map<uint32_t, uint64_t> wanted = before;
  for (const uint32_t reason : reasons)
    ++wanted[reason];
  EXPECT_EQ(ReasonText(datapath_->Reasons()), ReasonText(wanted)) << Describe(frame);
  return result;
}

void PacketTest::ExpectSameTables() {
  std::map<Tuple, std::string> expected, got;
  std::map<Tuple, waggle_flow> entries;
  for (const auto& [tuple, flow] : model_.entries)
    expected[tuple] = FlowText(flow);
  for (const char* name : {"flows", "half_open"}) {
    ForEach<waggle_flow>(
        datapath_->Map(name), [&](const waggle_flow_key& key, const waggle_flow& entry) {
          const Tuple tuple = TupleOf(key);
          Flow flow;
          flow.forward = entry.kind == WAGGLE_FLOW_FORWARD;
          flow.established = name == std::string("flows");
          flow.flags = entry.flags;
          flow.state = entry.state;
          flow.new_src = EndpointOf(entry.new_src, entry.new_src_port_be);
          flow.new_dst = EndpointOf(entry.new_dst, entry.new_dst_port_be);
          flow.service_id = entry.service_id;
          flow.slot = entry.slot;
          flow.ifindex = entry.ifindex;
          flow.way = {entry.way.how, entry.way.device, entry.way.mtu};
          const auto model = model_.entries.find(tuple);
          // A way back is looked up with the first answer.
          if (entry.routed_ns == 0 && model != model_.entries.end() && !flow.forward) {
            flow.way = model->second.way;
          }
          if (model != model_.entries.end() && model->second.isn) flow.isn = entry.isn;
          std::string text = FlowText(flow);
          if (entry.tag != waggle_flow_tag(&key, &entry)) text += " with a wrong tag";
          if (got.count(tuple)) text += " in both maps";
          if (entry.kind != WAGGLE_FLOW_FORWARD && entry.kind != WAGGLE_FLOW_REPLY)
            text += " kind?";
          if (key.reserved[0] | key.reserved[1] | key.reserved[2] | (entry.closing > 1) |
              entry.way.reserved) {
            text += " with padding";
          }
          const uint64_t now = NowNs();
          if (static_cast<int64_t>(now - entry.last_ns) < 0 ||
              static_cast<int64_t>(now - entry.created_ns) < 0) {
            text += " from the future";
          }
          got[tuple] = text;
          entries[tuple] = entry;
        });
  }
  for (const auto& [tuple, text] : expected) {
    const auto there = got.find(tuple);
    if (there == got.end() && model_.IsOver(tuple, model_.entries.at(tuple))) continue;
    EXPECT_EQ(there == got.end() ? "no entry" : there->second, text) << tuple.ToString();
  }
  // What is over is removed by whoever looks at it next.
  const auto is_over = [&](const Tuple& tuple, const waggle_flow& entry) {
    const auto idle = [](const waggle_flow& flow) {
      return static_cast<int64_t>(NowNs() - flow.last_ns);
    };
    const waggle_flow_key key = KeyOf(tuple);
    waggle_flow_key partner_key;
    waggle_flow_partner(&key, &entry, &partner_key);
    const auto partner = entries.find(TupleOf(partner_key));
    int64_t idle_ns = idle(entry);
    uint8_t state = entry.state;
    if (partner != entries.end()) {
      idle_ns = std::min(idle_ns, idle(partner->second));
      state |= partner->second.state;
    }
    return idle_ns > static_cast<int64_t>(waggle_flow_lifetime_ns(key.protocol, state));
  };
  for (const auto& [tuple, text] : got) {
    EXPECT_TRUE(expected.count(tuple) || is_over(tuple, entries.at(tuple)))
        << "unexpected entry " << tuple.ToString() << ": " << text;
  }
}

}  // namespace waggle::packet
