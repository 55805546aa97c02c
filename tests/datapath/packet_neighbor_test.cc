// Neighbour discovery between the pods of a bridge: answered for them in redirect forwarding,
// where a FORWARD policy of DROP would keep them from finding each other.
#include "tests/datapath/packet_fixture.h"

namespace waggle::packet {
namespace {

constexpr Mac kClient = {2, 0, 0, 1, 0, 0x13}, kAsker = {2, 0, 0, 1, 0, 0x14};
constexpr size_t kAnswerLength = 14 + 40 + 32;

class PacketNeighbor : public PacketTest {
 protected:
  const Family& v6_ = kFamilies[1];

  // Who has `target`? Asked by pod4.
  static Packet Question(const net::Address& asker, const net::Address& target) {
    Packet packet;
    packet.src_mac = kAsker;
    packet.dst_mac = {0x33, 0x33, 0xff, 0, 0, 0x13};
    packet.src = asker;
    packet.dst = Address("ff02::1:ff00:13");
    packet.ttl = 255;
    packet.protocol = kIcmpv6;
    packet.icmp_type = 135;
    packet.payload.assign(target.bytes().begin(), target.bytes().end());
    packet.payload.insert(packet.payload.end(), {1, 1});
    packet.payload.insert(packet.payload.end(), kAsker.begin(), kAsker.end());
    return packet;
  }
  Packet Question() const { return Question(v6_.Bridged(14), v6_.Bridged(13)); }
  static Packet AnswerTo(const Packet& question, const net::Address& target, const Mac& mac) {
    Packet packet = question;
    packet.dst_mac = question.src_mac;
    packet.src_mac = mac;
    packet.src = target;
    packet.dst = question.src;
    packet.icmp_type = 136;
    packet.icmp_rest = 0x60000000;
    packet.payload.assign(target.bytes().begin(), target.bytes().end());
    packet.payload.insert(packet.payload.end(), {2, 1});
    packet.payload.insert(packet.payload.end(), mac.begin(), mac.end());
    return packet;
  }

  // pod3 talks to pod4 through a Service.
  void Talk3To4(uint32_t forwarding) {
    Start(forwarding);
    const Talk talk = AddTalk(v6_, kTcp, {v6_.Bridged(13), 40000}, {v6_.Bridged(14), 8080});
    Packet syn = talk.Ask(kSyn);
    syn.src_mac = kClient;
    Send(Program::kPodIn, host().pod3, Build(syn));
    talk_ = talk;
  }
  void ExpectSilence(const Arrival& arrival, const Packet& question) {
    const Bytes frame = Build(question);
    EXPECT_EQ(Difference(frame, Expect(kUnspec, {}, arrival, frame).bytes), "");
  }

  Talk talk_;
};

TEST_F(PacketNeighbor, ClientsAreFound) {
  Talk3To4(WAGGLE_FORWARDING_REDIRECT);
  const Result got = Expect(kRedirect, {}, {Program::kPodIn, host().pod4}, Build(Question()));
  EXPECT_EQ(Difference(Build(AnswerTo(Question(), v6_.Bridged(13), kClient)), got.bytes), "");
  EXPECT_EQ(ChecksumFaults(got.bytes), "");
  EXPECT_EQ(got.bytes.size(), kAnswerLength);
  // Its option may be missing, or others may follow.
  for (const size_t length : {16u, 24u, 32u}) {
    Packet question = Question();
    question.payload.resize(length);
    question.padding = Filled(7);
    const Result other = Expect(kRedirect, {}, {Program::kPodIn, host().pod4}, Build(question));
    EXPECT_EQ(Difference(Build(AnswerTo(Question(), v6_.Bridged(13), kClient)), other.bytes), "");
  }
}

// The last MAC counts, and only for half a minute.
TEST_F(PacketNeighbor, ClientsThatChangeAndGo) {
  Talk3To4(WAGGLE_FORWARDING_REDIRECT);
  AgeNeighbors(27);
  const auto mac_of = [&] {
    const Result got = datapath().Run({Program::kPodIn, host().pod4}, Build(Question()));
    return got.verdict == kRedirect ? got.bytes[11] : -1;
  };
  EXPECT_EQ(mac_of(), kClient[5]);
  AgeNeighbors(4);
  EXPECT_EQ(mac_of(), -1);
  // A sign of life, from another MAC.
  Packet syn = talk_.Ask(kSyn);
  syn.src_mac = {2, 0, 0, 1, 0, 0x77};
  Age(1.5);
  Send(Program::kPodIn, host().pod3, Build(syn));
  EXPECT_EQ(mac_of(), 0x77);
  AgeNeighbors(27);
  Age(1.5);
  Send(Program::kPodIn, host().pod3, Build(syn));
  AgeNeighbors(4);
  EXPECT_EQ(mac_of(), 0x77) << "each second of a flow is a sign of life";
}

// Anybody whom the host knows; not itself, which answers.
TEST_F(PacketNeighbor, TheHostsNeighbours) {
  Start(WAGGLE_FORWARDING_REDIRECT);
  const net::Address other = v6_.Bridged(99);
  const Packet question = Question(v6_.Bridged(14), other);
  ExpectSilence({Program::kPodIn, host().pod4}, question);
  host().Ip("neighbour add " + other.ToString() + " lladdr 02:00:00:01:00:99 dev br0\n");
  const Mac mac = {2, 0, 0, 1, 0, 0x99};
  model_.neighbors[{host().br0, other}] = mac;
  const Result got = Expect(kRedirect, {}, {Program::kPodIn, host().pod4}, Build(question));
  EXPECT_EQ(Difference(Build(AnswerTo(question, other, mac)), got.bytes), "");
  host().Ip("neighbour delete " + other.ToString() + " dev br0\n");
  model_.neighbors.clear();
  ExpectSilence({Program::kPodIn, host().pod4}, question);
}

TEST_F(PacketNeighbor, OtherQuestionsAreLeftAlone) {
  const auto silent = [&](const char* name, const std::function<void(Packet&)>& change,
                          const Arrival& arrival) {
    SCOPED_TRACE(name);
    Packet question = Question();
    change(question);
    ExpectSilence(arrival, question);
  };
  Talk3To4(WAGGLE_FORWARDING_REDIRECT);
  const Arrival at4{Program::kPodIn, host().pod4};
  const auto nothing = [](Packet&) {};
  silent(
      "unicast", [&](Packet& p) { p.dst = v6_.Bridged(13); }, at4);
  silent(
      "from another link", [](Packet& p) { p.ttl = 254; }, at4);
  silent(
      "is it free?", [](Packet& p) { p.src = Address("::"); }, at4);
  silent(
      "another code", [](Packet& p) { p.icmp_code = 1; }, at4);
  silent(
      "cut off", [](Packet& p) { p.payload.resize(15); }, at4);
  silent(
      "an advertisement", [](Packet& p) { p.icmp_type = 136; }, at4);
  silent(
      "router solicitation", [](Packet& p) { p.icmp_type = 133; }, at4);
  silent(
      "extension headers", [](Packet& p) { p.extensions = {{.type = kHopByHop}}; }, at4);
  silent(
      "a tag", [](Packet& p) { p.tags = {5}; }, at4);
  silent("a tag beside the frame", nothing, {Program::kPodIn, host().pod4, 0, true});
  silent(
      "its own", [&](Packet& p) { p.src_mac = kClient; }, at4);
  silent(
      "an unknown one", [](Packet& p) { p.payload[15] = 0xee; }, at4);
  silent("at a routed device", nothing, {Program::kPodIn, host().pod2});
  silent("to a pod", nothing, {Program::kPodOut, host().pod4});
  silent("from the network", nothing, {Program::kNetIn, host().eth0});
  Talk3To4(WAGGLE_FORWARDING_STACK);
  silent("in stack forwarding", nothing, at4);
}

}  // namespace
}  // namespace waggle::packet
