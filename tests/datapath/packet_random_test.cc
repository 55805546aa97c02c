// Packets cut off at every length, and a million that chance has made: what the programs do
// is what the model does, and what they leave alone is bit-identical.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>

#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

class PacketRandom : public PacketTest {
 protected:
  PacketRandom() { thorough_ = false; }
};

// Every length of every kind of packet that the programs look into: with the frame cut off,
// and with headers that speak of no more than there is.
TEST_F(PacketRandom, CutOffAtEveryLength) {
  for (const uint32_t forwarding : {WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}) {
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        Start(forwarding);
        SetLostFlowsPass(false);
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(1, 12), 8080});
        AddService({.frontend = {family.Service(2), 80},
                    .protocol = protocol,
                    .fate = WAGGLE_FATE_REFUSE});
        Send(Program::kPodIn, host().pod1, Build(talk.Ask(kSyn)));

        std::vector<Packet> packets;
        for (const auto& change : std::vector<void (*)(Packet&)>{
                 [](Packet&) {},
                 [](Packet& p) {
                   p.options = Bytes(40, 1);
                   p.tcp_options = Bytes(40, 1);
                   p.extensions = {{.type = kHopByHop},
                                   {.type = kDestination, .words = 2},
                                   {.type = kRouting, .words = 1},
                                   {.type = kFragment}};
                 },
                 [](Packet& p) {
                   p.tags = {1, 2};
                 },
                 [](Packet& p) {
                   p.more = true;
                   p.extensions = {{.type = kFragment, .more = true, .id = 9}};
                 }}) {
          Packet ask = talk.Ask(kAck | kPsh), refused = talk.Ask(kSyn), answer = talk.Answer(),
                 direct = talk.Asked(kSyn);
          refused.dst = family.Service(2);
          for (Packet* packet : {&ask, &refused, &answer, &direct}) {
            change(*packet);
            packets.push_back(*packet);
            Packet error;
            error.protocol = family.v6 ? kIcmpv6 : kIcmp;
            error.icmp_type = family.v6 ? 1 : 3;
            error.src = packet->dst;
            error.dst = packet->src;
            Packet quoted = *packet;
            quoted.tags.clear();
            error.payload = Quote(Build(quoted), 10000);
            change(error);
            packets.push_back(error);
          }
        }
        size_t sent = 0;
        for (size_t i = 0; i < packets.size(); ++i) {
          const Bytes whole = Build(packets[i]);
          const View view = *Parse(whole);
          for (size_t length = kEthernetLength; length <= whole.size(); ++length) {
            SCOPED_TRACE(Kind(family, protocol, forwarding) + " packet " + std::to_string(i) +
                         " cut to " + std::to_string(length));
            Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
            if (!Datapath::CanRun(cut)) continue;
            FillIcmpBudget(WAGGLE_ICMP_BURST);
            for (const Arrival& arrival :
                 {Arrival{Program::kPodIn, host().pod1}, Arrival{Program::kPodIn, host().pod2},
                  Arrival{Program::kPodOut, host().pod1}, Arrival{Program::kNetIn, host().eth0}}) {
              sent += 2;
              const Result got = Send(arrival, cut);
              if (length < view.end) {
                EXPECT_EQ(got.verdict, kUnspec);
                EXPECT_EQ(Difference(cut, got.bytes), "");
              }
              Bytes shorter = cut;
              if (length >= view.l3 + (view.v6 ? 40 : 20)) {
                const size_t left = length - view.l3;
                Put16(shorter, view.l3 + (view.v6 ? 4 : 2),
                      static_cast<uint16_t>(left - (view.v6 ? 40 : 0)));
                FixChecksums(shorter);
              }
              Send(arrival, shorter);
            }
            if (HasFailure()) return;
          }
        }
        ExpectSameTables();
        EXPECT_GT(sent, 10000u);
      }
    }
  }
}

// ---- Chance.

// A small world, so that packets meet: few addresses, few ports, few numbers.
class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}

  uint32_t Below(uint32_t limit) {
    return static_cast<uint32_t>(random_() * static_cast<uint64_t>(limit) >> 32);
  }
  bool OneIn(uint32_t n) { return Below(n) == 0; }
  uint8_t Byte() { return static_cast<uint8_t>(random_()); }
  template <typename T>
  T Of(std::initializer_list<T> all) {
    return all.begin()[Below(static_cast<uint32_t>(all.size()))];
  }
  template <typename Container>
  const auto& From(const Container& all) {
    auto at = all.begin();
    std::advance(at, Below(static_cast<uint32_t>(all.size())));
    return *at;
  }

 private:
  std::mt19937 random_;  // 32 bits at a time
};

class PacketMillion : public PacketRandom {
 protected:
  static constexpr uint32_t kClientPorts = 6;

  void Populate(Chance& chance) {
    Start(chance.Of({WAGGLE_FORWARDING_STACK, WAGGLE_FORWARDING_REDIRECT}));
    SetLostFlowsPass(chance.OneIn(2));
    // Known namespaces have no sockets: owners of ports are dead. Unknown ones: alive.
    if (chance.OneIn(2)) {
      for (auto [ifindex, device] : host().devices) {
        device.netns_id = -1;
        SetDevice(ifindex, device);
      }
    }
    slots_.clear();
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (int service = 1; service <= 8; ++service) {
          const uint8_t fate = service == 6   ? WAGGLE_FATE_REFUSE
                               : service == 7 ? WAGGLE_FATE_DROP
                               : service == 8 ? WAGGLE_FATE_NONE
                                              : WAGGLE_FATE_FORWARD;
          slots_.push_back({AddService({.frontend = {family.Service(service), 80},
                                        .protocol = protocol,
                                        .fate = fate,
                                        .backends = Backends(chance, family, fate)}),
                            &family});
        }
      }
    }
  }

  static std::vector<net::Endpoint> Backends(Chance& chance, const Family& family, uint8_t fate) {
    std::vector<net::Endpoint> backends;
    if (fate != WAGGLE_FATE_FORWARD) return backends;
    const std::vector<net::Address> all = BackendAddresses(family);
    const uint32_t count = chance.OneIn(3) ? 1 + chance.Below(4) : 1;
    while (backends.size() < count) {
      const net::Endpoint one{chance.From(all), static_cast<uint16_t>(8080 + chance.Below(2))};
      if (std::find(backends.begin(), backends.end(), one) == backends.end()) {
        backends.push_back(one);
      }
    }
    return backends;
  }
  static std::vector<net::Address> BackendAddresses(const Family& f) {
    return {f.Pod(1, 11), f.Pod(1, 12), f.Pod(1, 15), f.Bridged(13), f.Bridged(14),
            f.Pod(2, 5),  f.Pod(4, 5),  f.Pod(3, 5),  f.NodeNet(10), f.NodeNet(20),
            f.Pod(8, 5),  f.Stranger(), f.Pod(5, 5),  f.Pod(6, 5)};
  }
  std::vector<std::pair<uint32_t, net::Address>> Pods(const Family& f) const {
    return {{host().pod1, f.Pod(1, 11)},
            {host().pod2, f.Pod(1, 12)},
            {host().pod5, f.Pod(1, 15)},
            {host().pod3, f.Bridged(13)},
            {host().pod4, f.Bridged(14)}};
  }
  uint32_t DeviceOf(Chance& chance, const Family& f, const net::Address& address) const {
    for (const auto& [ifindex, pod] : Pods(f)) {
      if (pod == address) return ifindex;
    }
    return chance.Of({host().eth0, host().vx0, host().pod2});
  }

  // A tuple that means something: to a frontend, of a flow, or directly to a backend.
  Tuple AnyTuple(Chance& chance) {
    if (!model_.entries.empty() && !chance.OneIn(3)) {
      // Not by number, which would walk over all of them.
      const Tuple from{{model_.entries.begin()->first.src}, {}, kTcp};
      Tuple probe = from;
      const Family& family = kFamilies[chance.Below(2)];
      probe.src.address = chance.OneIn(2) ? chance.From(Pods(family)).second
                                          : chance.From(BackendAddresses(family));
      probe.src.port = chance.OneIn(2) ? static_cast<uint16_t>(40000 + chance.Below(kClientPorts))
                                       : static_cast<uint16_t>(8080 + chance.Below(2));
      auto at = model_.entries.lower_bound(probe);
      for (uint32_t skip = chance.Below(8); skip > 0 && at != model_.entries.end(); --skip)
        ++at;
      if (at != model_.entries.end()) return at->first;
    }
    const Family& family = kFamilies[chance.Below(2)];
    Tuple tuple;
    tuple.protocol = chance.Of({kTcp, kUdp});
    tuple.src = {chance.From(Pods(family)).second,
                 static_cast<uint16_t>(40000 + chance.Below(kClientPorts))};
    if (chance.OneIn(3)) {
      tuple.dst = {chance.From(BackendAddresses(family)),
                   static_cast<uint16_t>(8080 + chance.Below(2))};
    } else {
      tuple.dst = {family.Service(static_cast<int>(1 + chance.Below(8))), 80};
    }
    return tuple;
  }

  static Packet PacketOf(Chance& chance, const Tuple& tuple) {
    Packet packet;
    packet.protocol = tuple.protocol;
    packet.src = tuple.src.address;
    packet.dst = tuple.dst.address;
    packet.src_port = tuple.src.port;
    packet.dst_port = tuple.dst.port;
    packet.flags =
        chance.Of<uint8_t>({kSyn, kSyn, kSyn | kAck, kSyn | kAck, kAck, kAck, kAck, kAck | kPsh,
                            kFin | kAck, kRst, kRst | kAck, 0, kSyn | kFin, kSyn | kRst, 0xff});
    packet.seq = 1000 + chance.Below(3);
    packet.ack = 1000 + chance.Below(4);
    packet.payload =
        Filled(chance.OneIn(20) ? 1200 + chance.Below(400) : chance.Below(40), chance.Byte());
    packet.df = !chance.OneIn(4);
    packet.ttl = chance.OneIn(8) ? static_cast<uint8_t>(chance.Below(3)) : uint8_t{64};
    if (chance.OneIn(8)) packet.options = Bytes(4 * (1 + chance.Below(10)), 1);
    if (chance.OneIn(8)) packet.tcp_options = Bytes(4 * (1 + chance.Below(10)), 1);
    if (chance.OneIn(16)) packet.padding = Filled(1 + chance.Below(40), chance.Byte());
    if (chance.OneIn(12)) packet.tags.assign(1 + chance.Below(3), 5);
    packet.no_checksum = chance.OneIn(8);
    packet.tos = chance.OneIn(8) ? chance.Byte() : uint8_t{0};
    if (chance.OneIn(8)) {
      const uint32_t count = 1 + chance.Below(chance.OneIn(10) ? 8 : 3);
      for (uint32_t i = 0; i < count; ++i) {
        packet.extensions.push_back(
            {.type = chance.Of({kHopByHop, kDestination, kDestination, kRouting, kFragment}),
             .words = static_cast<uint8_t>(chance.OneIn(10) ? chance.Below(14) : chance.Below(3)),
             .segments_left = static_cast<uint8_t>(chance.OneIn(4)),
             .offset = static_cast<uint16_t>(chance.OneIn(3) ? chance.Below(20) : 0),
             .more = chance.OneIn(2),
             .id = chance.Below(6)});
      }
    }
    if (chance.OneIn(16)) {
      packet.id = static_cast<uint16_t>(chance.Below(6));
      packet.more = chance.OneIn(2);
      packet.offset = static_cast<uint16_t>(chance.OneIn(2) ? chance.Below(20) : 0);
      packet.headless = packet.offset != 0;
    }
    return packet;
  }

  // An error that goes the way of the tuple's packets, about one that came the other way.
  static Packet ErrorAbout(Chance& chance, const Tuple& tuple) {
    const bool v6 = tuple.src.address.family() == net::Family::kIpv6;
    Packet quoted = PacketOf(chance, tuple.Reversed());
    quoted.tags.clear();
    Packet error = PacketOf(chance, tuple);
    error.protocol = v6 ? kIcmpv6 : kIcmp;
    error.headless = false;
    error.icmp_type = chance.OneIn(8) ? static_cast<uint8_t>(chance.Below(20))
                      : v6            ? chance.Of<uint8_t>({1, 2, 3, 4})
                                      : chance.Of<uint8_t>({3, 3, 11, 12});
    error.icmp_code = static_cast<uint8_t>(chance.Below(5));
    error.icmp_rest = chance.Below(2000);
    if (chance.OneIn(3)) error.src = Address(v6 ? "fd00:7::20" : "192.168.7.20");
    const Bytes frame = Build(quoted);
    if (Parse(frame)) {
      error.payload = Quote(frame, chance.OneIn(3) ? 20 + chance.Below(80) : 1000);
    }
    return error;
  }

  static void Spoil(Chance& chance, Bytes& frame) {
    for (uint32_t i = 1 + chance.Below(4); i > 0; --i) {
      const size_t at = chance.Below(static_cast<uint32_t>(std::min<size_t>(frame.size(), 120)));
      switch (chance.Below(4)) {
        case 0:
          frame[at] = chance.Byte();
          break;
        case 1:
          frame[at] ^= static_cast<uint8_t>(1 << chance.Below(8));
          break;
        case 2:
          frame[at] = chance.Of<uint8_t>({0, 1, 0x7f, 0x80, 0xff});
          break;
        default:
          frame[at] = static_cast<uint8_t>(frame[at] + chance.Of<uint8_t>({1, 0xff}));
      }
    }
    if (chance.OneIn(8)) {
      frame.resize(kEthernetLength +
                   chance.Below(static_cast<uint32_t>(frame.size() - kEthernetLength + 1)));
    }
    if (chance.OneIn(16)) frame.resize(frame.size() + chance.Below(60), chance.Byte());
  }

  Bytes AnyFrame(Chance& chance, const Tuple& tuple) {
    if (chance.OneIn(50)) {
      // Garbage, now and then behind a head that looks right.
      Bytes frame(kEthernetLength + chance.Below(120));
      for (uint8_t& byte : frame)
        byte = chance.Byte();
      if (!chance.OneIn(3)) Put16(frame, 12, chance.Of<uint16_t>({0x0800, 0x86dd, 0x8100, 0x88a8}));
      if (frame.size() > 14 && !chance.OneIn(3)) {
        frame[14] = static_cast<uint8_t>(frame[12] == 0x86 ? 0x60 : 0x40 + chance.Below(16));
      }
      return frame;
    }
    Bytes frame = Build(chance.OneIn(6) ? ErrorAbout(chance, tuple) : PacketOf(chance, tuple));
    if (chance.OneIn(4)) Spoil(chance, frame);
    return frame;
  }

  Arrival AnyArrival(Chance& chance, const Tuple& tuple) {
    Arrival arrival;
    const Family& family = kFamilies[tuple.src.address.family() == net::Family::kIpv6];
    const bool to_pod = chance.OneIn(4);
    const net::Address& end = to_pod ? tuple.dst.address : tuple.src.address;
    arrival.ifindex = DeviceOf(chance, family, end);
    while (chance.OneIn(20) || arrival.ifindex == host().br0)
      arrival.ifindex = chance.From(model_.devices).first;
    // As the programs are attached.
    const bool pod = model_.devices.at(arrival.ifindex).role == WAGGLE_ROLE_POD;
    arrival.program = !pod ? Program::kNetIn : to_pod ? Program::kPodOut : Program::kPodIn;
    arrival.tagged = chance.OneIn(40);
    if (chance.OneIn(30)) arrival.gso_size = 1 + chance.Below(1500);
    return arrival;
  }

  void ChangeTheWorld(Chance& chance) {
    switch (chance.Below(6)) {
      case 0:
        // So many that no lifetime ends in the moments until the next time.
        Age(22);
        break;
      case 1:
        SetLostFlowsPass(chance.OneIn(2));
        break;
      case 2:
        Age(0);
        break;
      default: {
        const auto& [slot, family] = chance.From(slots_);
        const uint8_t fate =
            chance.OneIn(4) ? static_cast<uint8_t>(chance.Below(4)) : uint8_t{WAGGLE_FATE_FORWARD};
        SetList(slot, fate, Backends(chance, *family, fate));
      }
    }
  }

  std::vector<std::pair<uint32_t, const Family*>> slots_;
};

// WAGGLE_SEED=… makes another million; WAGGLE_WORLD=… with it looks at one world of it closely,
// for the packet that made the first difference.
TEST_F(PacketMillion, DoAsTheModelDoes) {
  constexpr uint32_t kWorlds = 125, kPackets = 8000;
  const char* const given = std::getenv("WAGGLE_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : 4;
  const char* const only = std::getenv("WAGGLE_WORLD");
  thorough_ = only != nullptr;
  std::cout << "WAGGLE_SEED=" << seed << std::endl;
  const auto start = std::chrono::steady_clock::now();
  std::map<int, uint64_t> verdicts;
  uint64_t translated = 0, sent = 0;
  for (uint32_t world = 0; world < kWorlds; ++world) {
    if (only && std::strtoul(only, nullptr, 10) != world) continue;
    Chance chance(seed * 1000 + world);
    Populate(chance);
    for (uint32_t i = 0; i < kPackets; ++i) {
      if (i % 400 == 0) FillIcmpBudget(WAGGLE_ICMP_BURST);
      if (i % 250 == 249) ChangeTheWorld(chance);
      if (only && i % 10 == 0) Age(0);
      const Tuple tuple = AnyTuple(chance);
      Bytes frame = AnyFrame(chance, tuple);
      // A tag makes it one that may be run.
      if (!Datapath::CanRun(frame)) frame.insert(frame.begin() + 12, {0x81, 0x00, 0x00, 0x05});
      const Result got = Send(AnyArrival(chance, tuple), frame);
      ++sent;
      ++verdicts[got.verdict];
      translated += got.verdict == kUnspec && got.bytes != frame;
      if (i % 2000 == 1999) ExpectSameTables();
      ASSERT_FALSE(HasFailure()) << "seed " << seed << ", world " << world << ", packet " << i
                                 << " of " << tuple.ToString();
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << sent << " packets in " << seconds << " s: " << verdicts[kUnspec] << " to the stack ("
            << translated << " of them changed), " << verdicts[kRedirect] << " redirected, "
            << verdicts[kShot] << " dropped\n";
  if (only) return;
  // Else chance has missed what is tested.
  EXPECT_GE(sent, 1'000'000u);
  EXPECT_GE(verdicts[kRedirect], 50'000u);
  EXPECT_GE(verdicts[kShot], 10'000u);
  EXPECT_GE(translated, 50'000u);
}

}  // namespace
}  // namespace waggle::packet
