// The programs attached to devices: checksums that a device finishes later, super-packets,
// layer-3 devices. What arrives is compared with what the same packet would be, built anew.
#include <bpf/libbpf.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <set>

#include "tests/datapath/packet_fixture.h"
#include "tests/datapath/packet_wire.h"

namespace waggle::packet {
namespace {

constexpr Mac kUplinkMac = {2, 0, 0, 0, 0x0e, 1}, kBridgeMac = {2, 0, 0, 0, 0x0b, 1};
constexpr Mac kPod1Mac = {2, 0, 0, 0, 0, 0x11}, kPod1PeerMac = {2, 0, 0, 1, 0, 0x11};

struct Form {
  const char* name;
  bool partial;
  uint32_t gso_size;
  size_t payload;
};
constexpr Form kForms[] = {
    {"finished", false, 0, 100},       {"finished, odd", false, 0, 77},
    {"unfinished", true, 0, 100},      {"unfinished, odd", true, 0, 77},
    {"super-packet", true, 500, 1800}, {"large super-packet", true, 1200, 30000},
};

class PacketLive : public PacketTest {
 protected:
  PacketLive()
      : pod1_(InPod(host().pod1)),
        pod2_(InPod(host().pod2)),
        pod4_(InPod(host().pod4)),
        fabric_(Wire::OnDevice("fabric0")) {
    Neighbours("replace", true);
    Mute("delete", "");
  }
  ~PacketLive() override {
    Neighbours("delete", false);
    Mute("add", " nodad");
    Detach();
  }

  // Else somebody would have to answer ARP and ND.
  void Neighbours(const std::string& verb, bool with_mac) {
    for (const Family& family : kFamilies) {
      const struct {
        net::Address address;
        const char *mac, *device;
      } neighbours[] = {{family.Pod(1, 11), "02:00:00:01:00:11", "pod1"},
                        {family.Pod(1, 12), "02:00:00:01:00:12", "pod2"},
                        {family.Bridged(14), "02:00:00:01:00:14", "br0"},
                        {family.NodeNet(20), "02:00:00:00:77:20", "eth0"}};
      for (const auto& each : neighbours) {
        host().Ip("neighbour " + verb + " " + each.address.ToString() +
                  (with_mac ? std::string(" lladdr ") + each.mac : "") + " dev " + each.device +
                  "\n");
      }
    }
  }

  // Without addresses pods say nothing of their own.
  void Mute(const std::string& verb, const std::string& options) {
    const struct {
      uint32_t device;
      net::Address (*address)(const Family&);
    } pods[] = {{host().pod1, [](const Family& f) { return f.Pod(1, 11); }},
                {host().pod2, [](const Family& f) { return f.Pod(1, 12); }},
                {host().pod4, [](const Family& f) { return f.Bridged(14); }}};
    for (const auto& pod : pods) {
      host().InPod(pod.device, [&] {
        for (const Family& family : kFamilies) {
          host().Ip("address " + verb + " " + pod.address(family).ToString() +
                    (family.v6 ? "/128" : "/32") + " dev eth0" + (family.v6 ? options : "") + "\n");
        }
      });
    }
  }

  static Wire InPod(uint32_t ifindex) {
    std::optional<Wire> wire;
    Host::Get().InPod(ifindex, [&] { wire = Wire::OnDevice("eth0"); });
    return *std::move(wire);
  }

  // As the agent attaches them.
  void Attach(uint32_t forwarding) {
    Detach();
    Start(forwarding);
    for (const uint32_t pod : {host().pod1, host().pod2, host().pod4}) {
      AttachOne(pod, BPF_TC_INGRESS, "waggle_pod_in");
      AttachOne(pod, BPF_TC_EGRESS, "waggle_pod_out");
    }
    AttachOne(host().eth0, BPF_TC_INGRESS, "waggle_net_in");
  }
  void AttachOne(uint32_t ifindex, bpf_tc_attach_point where, const char* program) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex),
                .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    if (attached_.insert(ifindex).second && bpf_tc_hook_create(&hook) != 0) Fail("no clsact");
    hook.attach_point = where;
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = datapath().ProgramFd(program));
    if (bpf_tc_attach(&hook, &options) != 0) Fail("cannot attach " + std::string(program));
  }
  // The device goes, and its programs with it.
  void Detach(uint32_t ifindex) { attached_.erase(ifindex); }
  void Detach() {
    for (const uint32_t ifindex : attached_) {
      LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex),
                  .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
      bpf_tc_hook_destroy(&hook);
    }
    attached_.clear();
  }

  // Whether the device takes unfinished checksums, or has them finished before.
  static void SetChecksumming(const char* device, bool on) {
    ethtool_value value{ETHTOOL_STXCSUM, on};
    ifreq request{};
    std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    request.ifr_data = reinterpret_cast<char*>(&value);
    const os::UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (ioctl(any.get(), SIOCETHTOOL, &request) != 0) Fail("ETHTOOL_STXCSUM");
  }
  // To 10.244.2.5, in smaller packets than any form has.
  static std::string SmallRoute(const Family& family, const std::string& verb) {
    return "route " + verb + " " + family.Pod(2, 5).ToString() + (family.v6 ? "/128" : "/32") +
           " via " + family.NodeNet(20).ToString() + " dev eth0 mtu lock 600\n";
  }

  static Packet Formed(Packet packet, const Form& form) {
    packet.dst_mac = kPod1Mac;
    packet.src_mac = kPod1PeerMac;
    packet.payload = Filled(form.payload, 3);
    return packet;
  }
  static Bytes BytesOf(const Packet& packet, const Form& form) {
    return form.partial ? Unfinished(Build(packet)) : Build(packet);
  }
  // From the IP header on, as MACs are the stack's and the neighbours' business.
  static Bytes Layer3(const Bytes& frame) {
    Bytes bytes = frame;
    std::fill_n(bytes.begin(), 12, uint8_t{0});
    return bytes;
  }
  void ExpectArrives(const Wire& wire, const Packet& expected, const Form& form) {
    const auto caught = wire.Catch([&](const View& view) {
      return view.protocol == expected.protocol && view.dst == expected.dst;
    });
    ASSERT_TRUE(caught) << "nothing arrived";
    EXPECT_EQ(Difference(Layer3(BytesOf(expected, form)), Layer3(caught->frame)), "");
    EXPECT_EQ(caught->offload.partial, form.partial);
    EXPECT_EQ(caught->offload.gso_size, form.gso_size);
    if (form.gso_size == 0) {
      EXPECT_EQ(ChecksumFaults(Finished(*caught)), "");
    }
  }

  Wire pod1_, pod2_, pod4_, fabric_;

 private:
  std::set<uint32_t> attached_;
};

// Both directions of a flow, by each way.
TEST_F(PacketLive, ChecksumsAndSegmentsSurvive) {
  enum class Place { kPeer, kBridge, kUplink, kSelf };
  struct {
    const char* name;
    Place place;
    uint32_t forwarding;
  } const ways[] = {
      {"peer", Place::kPeer, WAGGLE_FORWARDING_REDIRECT},
      {"bridge", Place::kBridge, WAGGLE_FORWARDING_REDIRECT},
      {"uplink", Place::kUplink, WAGGLE_FORWARDING_REDIRECT},
      {"hairpin", Place::kSelf, WAGGLE_FORWARDING_REDIRECT},
      {"hairpin, stack", Place::kSelf, WAGGLE_FORWARDING_STACK},
      {"stack", Place::kPeer, WAGGLE_FORWARDING_STACK},
      {"stack, bridge", Place::kBridge, WAGGLE_FORWARDING_STACK},
      {"stack, uplink", Place::kUplink, WAGGLE_FORWARDING_STACK},
  };
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const auto& way : ways) {
        for (const Form& form : kForms) {
          SCOPED_TRACE(Kind(family, protocol) + " " + way.name + " " + form.name);
          Attach(way.forwarding);
          const net::Address backend = way.place == Place::kPeer     ? family.Pod(1, 12)
                                       : way.place == Place::kBridge ? family.Bridged(14)
                                       : way.place == Place::kUplink ? family.Pod(2, 5)
                                                                     : family.Pod(1, 11);
          Talk talk = AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {backend, 8080});
          if (way.place == Place::kSelf) talk.seen.address = talk.frontend.address;
          const Wire& there = way.place == Place::kPeer     ? pod2_
                              : way.place == Place::kBridge ? pod4_
                              : way.place == Place::kUplink ? fabric_
                                                            : pod1_;
          const bool hop =
              way.place != Place::kSelf &&
              (way.forwarding == WAGGLE_FORWARDING_STACK || way.place == Place::kUplink);
          // The first packet to a bridged backend goes by redirect_neigh, which counts as a hop.
          bool first = true;
          for (const uint8_t flags : {kSyn, kAck}) {
            for (const Wire* wire : {&pod1_, &pod2_, &pod4_, &fabric_})
              wire->Drain();
            pod1_.Send(BytesOf(Formed(talk.Ask(flags), form), form), {form.partial, form.gso_size});
            Packet asked = Formed(talk.Asked(flags), form);
            if (hop || (first && way.place == Place::kBridge)) --asked.ttl;
            ExpectArrives(there, asked, form);

            const auto back = static_cast<uint8_t>(flags | kAck);
            Packet answer = Formed(talk.Answer(back), form);
            answer.src_mac = {2, 0, 0, 1, 0, 0x55};
            // To the host's end of the device where it is sent.
            answer.dst_mac = way.place == Place::kPeer     ? Mac{2, 0, 0, 0, 0, 0x12}
                             : way.place == Place::kBridge ? kBridgeMac
                             : way.place == Place::kUplink ? kUplinkMac
                                                           : kPod1Mac;
            there.Send(BytesOf(answer, form), {form.partial, form.gso_size});
            Packet answered = Formed(talk.Answered(back), form);
            if (way.forwarding == WAGGLE_FORWARDING_STACK && way.place != Place::kSelf) {
              --answered.ttl;
            }
            ExpectArrives(pod1_, answered, form);
            first = false;
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// TRAPS 12: an answer that is made of an unfinished packet is right, whether or not a device
// finishes what it takes for the packet's checksum.
TEST_F(PacketLive, AnswersToUnfinishedPackets) {
  enum class Why { kNoEndpoints, kTooBig };
  for (const bool device_finishes : {false, true}) {
    SetChecksumming("pod1", !device_finishes);
    for (const Family& family : kFamilies) {
      for (const uint8_t protocol : {kTcp, kUdp}) {
        for (const Why why : {Why::kNoEndpoints, Why::kTooBig}) {
          for (const Form& form : kForms) {
            SCOPED_TRACE(Kind(family, protocol) +
                         (why == Why::kTooBig ? " too big " : " no endpoints ") + form.name +
                         (device_finishes ? ", finished by the device" : ""));
            // Of a super-packet each segment is too big; else the packet is.
            if (why == Why::kTooBig && form.gso_size == 500) continue;
            Attach(WAGGLE_FORWARDING_REDIRECT);
            const net::Endpoint frontend{family.Service(1), 80}, client{family.Pod(1, 11), 40000};
            const bool refuse = why == Why::kNoEndpoints;
            std::vector<net::Endpoint> backends;
            if (!refuse) backends.push_back({family.Pod(2, 5), 8080});
            AddService({.frontend = frontend,
                        .protocol = protocol,
                        .fate = refuse ? uint8_t{WAGGLE_FATE_REFUSE} : uint8_t{WAGGLE_FATE_FORWARD},
                        .backends = backends});
            const uint32_t mtu = refuse ? 0 : 600;
            if (!refuse) host().Ip(SmallRoute(family, "add"));
            const Talk talk{protocol, client, frontend, {}, client};
            Form larger = form;
            if (!refuse && form.gso_size == 0) larger.payload += 1000;
            const Packet packet = Formed(talk.Ask(kSyn), larger);
            pod1_.Drain();
            pod1_.Send(BytesOf(packet, form), {form.partial, form.gso_size});
            const bool reset = protocol == kTcp && refuse;
            const uint8_t expected = reset ? kTcp : family.v6 ? kIcmpv6 : kIcmp;
            const auto caught = pod1_.Catch([&](const View& view) {
              return view.protocol == expected && view.src == frontend.address;
            });
            if (!refuse) host().Ip(SmallRoute(family, "delete"));
            ASSERT_TRUE(caught) << "no answer";
            EXPECT_EQ(caught->offload.gso_size, 0u);
            EXPECT_EQ(caught->offload.partial, form.partial && !device_finishes);
            const View view = *Parse(caught->frame);
            EXPECT_EQ(view.dst, client.address);
            if (reset) {
              EXPECT_EQ(ChecksumFaults(Finished(*caught)), "");
              EXPECT_EQ(caught->frame[view.l4 + 13], kRst | kAck);
              EXPECT_EQ(Get32(caught->frame, view.l4 + 8), Talk::kClientIsn + 1 + larger.payload);
              continue;
            }
            // What stands in the quoted checksum nobody can say; all else is exact.
            for (Bytes frame : {caught->frame, Finished(*caught)}) {
              const size_t quoted = view.l4 + 8;
              const size_t checksum = quoted + (family.v6 ? 40 : 20) + (protocol == kTcp ? 16 : 6);
              Bytes message(frame.begin() + static_cast<ptrdiff_t>(view.l4),
                            frame.begin() + static_cast<ptrdiff_t>(view.end));
              const uint32_t pseudo =
                  family.v6 ? PseudoSum(view.src, view.dst, kIcmpv6, message.size()) : 0;
              EXPECT_EQ(Fold(Sum(message, 0, message.size(), pseudo)), 0xffff);
              Bytes original = Quote(Build(packet), view.end - quoted);
              Bytes about(frame.begin() + static_cast<ptrdiff_t>(quoted),
                          frame.begin() + static_cast<ptrdiff_t>(view.end));
              EXPECT_EQ(about.size(), original.size());
              if (form.partial) {
                Put16(about, checksum - quoted, 0);
                Put16(original, checksum - quoted, 0);
              }
              EXPECT_EQ(Hex(about), Hex(original));
              EXPECT_EQ(Get32(frame, view.l4 + 4), mtu);
            }
            if (HasFailure()) return;
          }
        }
      }
    }
  }
  SetChecksumming("pod1", true);
}

// A device without Ethernet headers, in both directions, and errors about it.
TEST_F(PacketLive, Layer3Device) {
  for (const Family& family : kFamilies) {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      for (const Form& form : kForms) {
        SCOPED_TRACE(Kind(family, protocol) + " " + form.name);
        Attach(WAGGLE_FORWARDING_REDIRECT);
        const Wire tun = Wire::NewTun("tun7");
        const uint32_t ifindex = if_nametoindex("tun7");
        waggle_device device{};
        device.role = WAGGLE_ROLE_TUNNEL;
        device.netns_id = -1;
        device.layer3 = 1;
        SetDevice(ifindex, device);
        AttachOne(ifindex, BPF_TC_INGRESS, "waggle_net_l3");
        host().Ip(std::string("route add ") + (family.v6 ? "fd00:244:7::/64" : "10.244.7.0/24") +
                  " dev tun7\n");
        const Talk talk =
            AddTalk(family, protocol, {family.Pod(1, 11), 40000}, {family.Pod(7, 5), 8080});
        for (const uint8_t flags : {kSyn, kAck}) {
          pod1_.Drain();
          pod1_.Send(BytesOf(Formed(talk.Ask(flags), form), form), {form.partial, form.gso_size});
          Packet asked = Formed(talk.Asked(flags), form);
          --asked.ttl;
          ExpectArrives(tun, asked, form);
          const auto back = static_cast<uint8_t>(flags | kAck);
          tun.Send(BytesOf(Formed(talk.Answer(back), form), form), {form.partial, form.gso_size});
          ExpectArrives(pod1_, Formed(talk.Answered(back), form), form);
        }
        // An error from behind the device.
        Packet error;
        error.protocol = family.v6 ? kIcmpv6 : kIcmp;
        error.icmp_type = family.v6 ? 1 : 3;
        error.src = family.Pod(7, 99);
        error.dst = talk.seen.address;
        Packet expected = error;
        error.payload = Quote(Build(talk.Asked()), 1000);
        expected.payload = Quote(Build(talk.Ask()), 1000);
        tun.Send(Build(error));
        ExpectArrives(pod1_, expected, kForms[0]);
        Detach(ifindex);
        RemoveDevice(ifindex);
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace waggle::packet
