#include "tests/datapath/packet_model.h"

#include <algorithm>

#include "tests/datapath/packet_edit.h"

namespace waggle::packet {
namespace {

// An error quotes no more than this; what would be longer is dropped.
constexpr size_t kMaxQuote = 128;
// More extension headers than any sender has use for.
constexpr int kMaxExtensions = 6;
constexpr uint64_t kSecond = 1'000'000'000;

bool IsIcmpError(const View& view, uint8_t type) {
  if (view.protocol == kIcmp) return type == 3 || type == 11 || type == 12;
  return view.protocol == kIcmpv6 && type >= 1 && type <= 4;
}

}  // namespace

std::string_view ProgramName(Program program) {
  switch (program) {
    case Program::kPodIn:
      return "pod_in";
    case Program::kPodOut:
      return "pod_out";
    case Program::kNetIn:
      return "net_in";
  }
  return "";
}

std::string Tuple::ToString() const {
  return std::string(protocol == kTcp ? "TCP " : "UDP ") + src.ToString() + " > " + dst.ToString();
}

// One packet on its way through a program.
class Model::Job {
 public:
  Job(Model& model, const Arrival& arrival, const Bytes& frame, const Oracle& oracle)
      : model_(model),
        program_(arrival.program),
        ifindex_(arrival.ifindex),
        gso_size_(arrival.gso_size),
        tagged_(arrival.tagged),
        oracle_(oracle),
        here_(model.devices.at(arrival.ifindex)) {
    out_.bytes = frame;
  }

  Outcome Run() {
    const auto view = Parse(out_.bytes, gso_size_ != 0);
    if (!view || view->extensions > kMaxExtensions) return out_;
    view_ = *view;
    // Of a VLAN on this device: they come again there.
    if (program_ == Program::kNetIn && (view_.tags != 0 || tagged_)) return out_;
    if (view_.protocol == (view_.v6 ? kIcmpv6 : kIcmp)) {
      if (!view_.fragment) IcmpMessage();
      return out_;
    }
    const auto tuple = ReadTuple();
    if (!tuple) return out_;
    tuple_ = *tuple;
    if (program_ == Program::kPodIn) {
      PodIn();
    } else {
      Return();
    }
    return out_;
  }

 private:
  std::optional<Tuple> ReadTuple() {
    if (view_.protocol != kTcp && view_.protocol != kUdp) return std::nullopt;
    Tuple tuple{{view_.src, 0}, {view_.dst, 0}, view_.protocol};
    const std::tuple fragment = NameOfFragment();
    if (view_.later_fragment) {
      const auto known = model_.fragments.find(fragment);
      if (known == model_.fragments.end()) {
        if (program_ == Program::kPodIn) Count(WAGGLE_REASON_FRAGMENT_UNKNOWN);
        return std::nullopt;
      }
      tuple.src.port = known->second.src_port;
      tuple.dst.port = known->second.dst_port;
      by_stack_ = known->second.by_stack;
      return tuple;
    }
    const size_t header = view_.protocol == kTcp ? 20 : 8;
    if (view_.l4 + header > view_.end) return std::nullopt;
    if (view_.protocol == kTcp) {
      const size_t stated = TcpHeaderLength(out_.bytes, view_);
      if (stated < header || view_.l4 + stated > view_.end) return std::nullopt;
      tcp_flags_ = out_.bytes[view_.l4 + 13];
      seq_ = Get32(out_.bytes, view_.l4 + 4);
      ack_ = Get32(out_.bytes, view_.l4 + 8);
    }
    tuple.src.port = Get16(out_.bytes, view_.l4);
    tuple.dst.port = Get16(out_.bytes, view_.l4 + 2);
    // Later fragments of the datagram have to find its flow too.
    if (view_.fragment) model_.fragments[fragment] = {tuple.src.port, tuple.dst.port, false};
    return tuple;
  }

  std::tuple<net::Address, net::Address, uint32_t, uint8_t> NameOfFragment() const {
    return {view_.src, view_.dst, view_.fragment_id, view_.protocol};
  }
  // The pieces of a datagram, this one the first, go by the stack, all of them.
  void SendAllByStack() {
    if (view_.fragment && !view_.later_fragment) model_.fragments[NameOfFragment()].by_stack = true;
  }

  bool IsTcp() const { return view_.protocol == kTcp; }
  // Begins a connection.
  bool IsSyn() const { return IsTcp() && (tcp_flags_ & (kSyn | kAck)) == kSyn; }

  // ---- The programs.

  void PodIn() {
    if (Flow* flow = model_.Find(tuple_)) {
      if (flow->flags & WAGGLE_FLOW_REDIRECT && flow->idle_ns > kSecond) NoteSender(ifindex_);
      if (!flow->forward) {
        // The question of a direct flow was not taken off the bridge.
        const bool lifted =
            flow->flags & WAGGLE_FLOW_REWRITE && !(flow->flags & WAGGLE_FLOW_DIRECT);
        if (!Return() && lifted) ToBridge();
        return;
      }
      const auto theirs = model_.devices.find(flow->ifindex);
      if (flow->ifindex != ifindex_ && theirs != model_.devices.end() &&
          !OwnsSource(theirs->first, theirs->second)) {
        // In another client's name: it changes nothing of his.
        if (!(flow->flags & WAGGLE_FLOW_HAIRPIN)) Leave(*flow);
        return;
      }
      if (IsFor(*flow)) {
        Track(*flow);
        Leave(*flow);
        return;
      }
      moved_ = !IsTcp() && flow->ifindex == ifindex_;
      Remove(tuple_);
    }
    const auto frontend = model_.frontends.find({tuple_.dst, tuple_.protocol});
    if (frontend != model_.frontends.end()) {
      if (ListAt(frontend->second).fate != WAGGLE_FATE_NONE) {
        ToFrontend(frontend->second);
        return;
      }
      Count(WAGGLE_REASON_DANGLING_SLOT);
    }
    Direct();
  }

  // Does who begins here speak from where the routes expect him, and not behind `ifindex`?
  bool OwnsSource(uint32_t ifindex, const waggle_device& device) const {
    if (IsTcp() && !IsSyn()) return false;
    const uint32_t here = here_.bridge ? here_.bridge : ifindex_;
    return here != (device.bridge ? device.bridge : ifindex) && SourceFits();
  }

  // A packet from a backend to a client. False: this is no place for it.
  bool Return() {
    Flow* flow = model_.Find(tuple_);
    if (!flow || flow->forward) return false;
    if (program_ == Program::kPodOut) {
      Track(*flow);
      if (flow->flags & WAGGLE_FLOW_REWRITE) Change(flow->new_src, flow->new_dst);
      return true;
    }
    // In stack forwarding it is undone where it leaves for the client (TRAPS: rp_filter).
    if (!(flow->flags & WAGGLE_FLOW_REDIRECT) || !IsGenuine(*flow)) return false;
    // The stack makes fragments of it, and those are undone there, too.
    if ((by_stack_ || TooBig(*flow)) && !view_.df) {
      SendAllByStack();
      return false;
    }
    Track(*flow);
    Leave(*flow);
    return true;
  }

  // Does the packet come from where the flow's packets go? Past the stack nobody else looks.
  bool IsGenuine(Flow& flow) {
    if (flow.flags & WAGGLE_FLOW_HAIRPIN) return flow.ifindex == ifindex_;
    if (view_.tags != 0 || tagged_) return false;
    if (flow.answered_by == ifindex_) return true;
    const auto forward = model_.entries.find(Partner(tuple_, flow));
    if (forward == model_.entries.end()) return false;
    Way& way = forward->second.way;
    bool genuine = way.how == WAGGLE_WAY_PEER && way.device == ifindex_;
    if (program_ == Program::kNetIn) {
      const auto there = model_.devices.find(way.device);
      genuine = way.how == WAGGLE_WAY_NEIGH && there != model_.devices.end() &&
                there->second.role == here_.role;
    } else if (way.how == WAGGLE_WAY_NEIGH && here_.bridge == way.device) {
      genuine = true;
      if (here_.netns_id >= 0) {
        // Its packets need not ask the bridge any more where the backend is.
        way.how = WAGGLE_WAY_PEER;
        way.device = ifindex_;
      }
    }
    if (!genuine) return false;
    flow.answered_by = ifindex_;
    if (program_ == Program::kPodIn) NoteSender(ifindex_);
    return true;
  }

  // Is the forward entry still the one for its packet? Removed otherwise.
  bool IsFor(const Flow& flow) const {
    if (IsSyn()) {
      const auto partner = model_.entries.find(Partner(tuple_, flow));
      const bool whole = partner != model_.entries.end();
      // What was closed since begins anew, with the same first number too.
      if (flow.isn != seq_ || !whole || IsClosed(flow.state | partner->second.state)) return false;
    }
    if (!IsTcp() && !(flow.flags & (WAGGLE_FLOW_DIRECT | WAGGLE_FLOW_SOCKET)) && !Serves(flow)) {
      return false;
    }
    return flow.ifindex == ifindex_;
  }

  // May a UDP flow stay with its backend?
  bool Serves(const Flow& flow) const {
    if (!flow.established && !PartnerOf(tuple_, flow)) return false;
    const List& list = ListAt(flow.slot);
    if (list.service_id != flow.service_id || list.fate != WAGGLE_FATE_FORWARD) return false;
    if (flow.idle_ns > kSecond) {
      const auto frontend = model_.frontends.find({tuple_.dst, tuple_.protocol});
      if (frontend == model_.frontends.end() ||
          ListAt(frontend->second).service_id != flow.service_id) {
        return false;
      }
    }
    return std::find(list.backends.begin(), list.backends.end(), flow.new_dst) !=
           list.backends.end();
  }

  // Rewrites the packet and lets it go the flow's way.
  void Leave(const Flow& flow) {
    Way way;
    if (flow.flags & WAGGLE_FLOW_HAIRPIN) {
      way = {WAGGLE_WAY_PEER, flow.ifindex, 0};
    } else if (flow.flags & WAGGLE_FLOW_REDIRECT && (!flow.forward || flow.ifindex == ifindex_)) {
      way = flow.way;
      if (!by_stack_ && TooBig(flow)) {
        if (view_.df) {
          Count(WAGGLE_REASON_PACKET_TOO_BIG);
          SendError(Refusal::kTooBig, way.mtu);
          return;
        }
        way = {};  // the stack makes fragments of it
        SendAllByStack();
      }
      // The stack says that its time is over.
      if (way.how == WAGGLE_WAY_NEIGH && view_.ttl <= 1) way = {};
    }
    if (by_stack_) way = {};
    if (flow.flags & WAGGLE_FLOW_REWRITE) Change(flow.new_src, flow.new_dst);
    if (way.how == WAGGLE_WAY_STACK) return;
    out_.verdict = kRedirect;
    if (flow.flags & WAGGLE_FLOW_HAIRPIN) {
      SwapMacs();
    } else if (way.how == WAGGLE_WAY_PEER) {
      AddressTo(way.device, flow.flags & WAGGLE_FLOW_REWRITE ? flow.new_dst.address : view_.dst);
    }
    if (way.how == WAGGLE_WAY_NEIGH) DecrementTtl(out_.bytes, view_);
  }

  // A packet to a frontend that belongs to no flow.
  void ToFrontend(uint32_t slot) {
    const List& list = ListAt(slot);
    if (IsTcp() && !IsSyn()) {
      if (model_.lost_flows_pass) {
        Count(WAGGLE_REASON_LOST_FLOW_PASSED);
        return;
      }
      if (!(tcp_flags_ & kRst)) Count(WAGGLE_REASON_LOST_FLOW_REFUSED);
      Refuse();
      return;
    }
    if (list.fate == WAGGLE_FATE_DROP) {
      Drop(WAGGLE_REASON_PACKET_NO_LOCAL);
      return;
    }
    if (list.fate == WAGGLE_FATE_REFUSE || list.backends.empty()) {
      Count(WAGGLE_REASON_PACKET_REFUSED);
      Refuse();
      return;
    }
    Flow flow;
    flow.flags = WAGGLE_FLOW_REWRITE;
    flow.service_id = list.service_id;
    flow.slot = slot;
    flow.new_dst = PickBackend(list);
    flow.new_src = tuple_.src;
    if (flow.new_dst.address == tuple_.src.address) {
      flow.flags |= WAGGLE_FLOW_HAIRPIN | WAGGLE_FLOW_REDIRECT;
      flow.new_src.address = tuple_.dst.address;
    } else if (model_.forwarding == WAGGLE_FORWARDING_REDIRECT) {
      if (view_.tags == 0 && !tagged_ && here_.netns_id >= 0 && SourceFits())
        flow.way = model_.WayTo(flow.new_dst.address);
      if (flow.way.how == WAGGLE_WAY_STACK) {
        Count(WAGGLE_REASON_NO_SHORT_WAY);
      } else {
        flow.flags |= WAGGLE_FLOW_REDIRECT;
        if (view_.v6 && here_.bridge != 0) NoteSender(here_.bridge);
        NoteSender(ifindex_);
      }
    }
    // The client's kernel may use this very pair of ends for a connection of its own.
    if (!PickSource(flow, HasSocket(flow))) return;
    Count(moved_ ? WAGGLE_REASON_UDP_FLOW_MOVED : WAGGLE_REASON_FLOW_TRANSLATED);
    Leave(Create(flow));
  }

  // A packet to somebody else. Its answers must not look like those of a Service's flow.
  void Direct() {
    if (IsTcp() && !IsSyn()) return;
    const Tuple reverse = tuple_.Reversed();
    Flow* other = model_.Find(reverse);
    if (!other || other->forward || !(other->flags & WAGGLE_FLOW_REWRITE)) return;
    if (!OwnerLives(reverse, *other)) {
      Remove(reverse);
      return;
    }
    Flow flow;
    flow.flags = WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_DIRECT;
    flow.new_src = tuple_.src;
    flow.new_dst = tuple_.dst;
    if (!PickSource(flow, true)) return;
    Leave(Create(flow));
  }

  // ---- Parts of a new flow.

  // Who sent the packet, as he is known on the device: a bridge, or his own.
  void NoteSender(uint32_t device) {
    std::copy_n(out_.bytes.begin() + 6, 6, model_.neighbors[{device, view_.src}].begin());
  }

  // Would an answer to the client go back to where its packet came from?
  bool SourceFits() const {
    const Route* back = model_.RouteTo(tuple_.src.address);
    return back && !back->local && back->device == (here_.bridge ? here_.bridge : ifindex_);
  }

  net::Endpoint PickBackend(const List& list) {
    if (list.backends.size() == 1) return list.backends[0];
    const auto choice = oracle_(tuple_);
    if (choice && std::find(list.backends.begin(), list.backends.end(), choice->new_dst) !=
                      list.backends.end()) {
      return choice->new_dst;
    }
    out_.fault = choice ? "chose " + choice->new_dst.ToString() + ", which is not in the list"
                        : "made no flow";
    return list.backends[0];
  }

  bool HasSocket(const Flow& flow) const {
    return IsTcp() && !(flow.flags & WAGGLE_FLOW_HAIRPIN) &&
           model_.socket_there(ifindex_, {flow.new_src, flow.new_dst, kTcp}).value_or(false);
  }

  // Sets the source port. False: the packet was dropped, as none is free.
  bool PickSource(Flow& flow, bool must_change) {
    const Tuple reply = Partner(tuple_, flow);
    if (!must_change) {
      const Flow* other = model_.Find(reply);
      if (!other) return true;
      if (!OwnerLives(reply, *other)) {
        Remove(reply);
        return true;
      }
    }
    const auto choice = oracle_(tuple_);
    if (!choice) {
      // Eight tries: possible only where few ports are left.
      if (SpareTaken(flow) < 2000) out_.fault = "made no flow";
      Drop(WAGGLE_REASON_NO_FREE_PORT);
      return false;
    }
    flow.new_src.port = choice->new_src.port;
    if (choice->new_src.port < 61000) out_.fault = "took a source port that is not spare";
    if (choice->new_src.address != flow.new_src.address) out_.fault = "took another source";
    if (HasSocket(flow)) out_.fault = "took a source port that the client uses";
    const Tuple wanted = Partner(tuple_, flow);
    if (const Flow* other = model_.Find(wanted)) {
      if (OwnerLives(wanted, *other)) out_.fault = "took a source port that is not free";
      Remove(wanted);
    }
    Count(WAGGLE_REASON_PORT_CHANGED);
    return true;
  }

  size_t SpareTaken(const Flow& flow) const {
    Tuple reply = Partner(tuple_, flow);
    size_t taken = 0;
    for (uint32_t port = 61000; port <= 65535; ++port) {
      reply.dst.port = static_cast<uint16_t>(port);
      taken += model_.entries.count(reply);
    }
    return taken;
  }

  Flow& Create(Flow forward) {
    forward.forward = true;
    forward.ifindex = ifindex_;
    if (IsSyn()) forward.isn = seq_;
    Flow reply = forward;
    reply.forward = false;
    reply.isn.reset();
    reply.new_src = tuple_.dst;
    reply.new_dst = tuple_.src;
    reply.way = {};
    if (reply.flags & WAGGLE_FLOW_REDIRECT) {
      // To where the client's packets come from, whatever the routes say; its MTU is theirs.
      const Way back = model_.WayTo(tuple_.src.address);
      reply.way = {WAGGLE_WAY_PEER, ifindex_, back.how == WAGGLE_WAY_STACK ? 0 : back.mtu};
    }
    model_.entries[Partner(tuple_, forward)] = reply;
    return model_.entries[tuple_] = forward;
  }

  void Remove(const Tuple& tuple) {
    const auto entry = model_.entries.find(tuple);
    if (entry == model_.entries.end()) return;
    const Tuple partner = Partner(tuple, entry->second);
    model_.entries.erase(entry);
    model_.entries.erase(partner);
  }

  // `flow` is an entry whose key another flow needs. Only a client's own kernel knows that a
  // connection is gone.
  bool OwnerLives(const Tuple& tuple, const Flow& flow) const {
    if (flow.ifindex != ifindex_ && model_.devices.count(flow.ifindex) != 0) return true;
    if (tuple.protocol != kTcp) return true;
    uint8_t state = flow.state;
    if (const Flow* partner = PartnerOf(tuple, flow)) state |= partner->state;
    if (IsClosed(state)) return false;
    // BPF_PROG_TEST_RUN's packets have no connecting socket, so no flow of theirs is OWNED and
    // nobody's table is asked; the lab's port clashes are for that.
    return true;
  }

  Flow* PartnerOf(const Tuple& tuple, const Flow& flow) const {
    const auto found = model_.entries.find(Partner(tuple, flow));
    return found == model_.entries.end() ? nullptr : &found->second;
  }

  const List& ListAt(uint32_t slot) const {
    static const List none;
    const auto found = model_.lists.find(slot);
    return found == model_.lists.end() ? none : found->second;
  }

  // ---- States.

  void Track(Flow& flow) {
    const bool due = flow.idle_ns > kSecond;
    flow.idle_ns = 0;
    if (view_.later_fragment) return;
    Flow* partner = PartnerOf(tuple_, flow);
    const uint8_t others = partner ? partner->state : 0;
    // Who goes on speaking was not reset.
    if (!(tcp_flags_ & kRst) && !(flow.forward && tcp_flags_ & kSyn)) {
      flow.state &= static_cast<uint8_t>(~WAGGLE_STATE_RESET);
    }
    const uint8_t before = flow.state;
    if (!flow.forward) {
      if ((tcp_flags_ & (kSyn | kAck)) == (kSyn | kAck)) flow.isn = seq_;
      if (!(tcp_flags_ & kRst)) flow.state |= WAGGLE_STATE_REPLIED;
    } else if (!partner || IsClosed(before | others)) {
      // Nothing to promote.
    } else if (before & WAGGLE_STATE_ASSURED) {
      // There was no room a second ago.
      if (due && !(before & WAGGLE_STATE_CLIENT_FIN)) Promote(flow, *partner);
    } else if (others & WAGGLE_STATE_REPLIED && !(tcp_flags_ & (kSyn | kRst)) &&
               (!IsTcp() || AnswersTo(*partner))) {
      flow.state |= WAGGLE_STATE_ASSURED;
      Promote(flow, *partner);
    }
    Close(flow, partner);
  }

  void Close(Flow& flow, Flow* partner) {
    if (tcp_flags_ & kRst) {
      if (!(flow.state & WAGGLE_STATE_RESET) && flow.established) {
        flow.established = false;
        if (partner) partner->established = false;
      }
      flow.state |= WAGGLE_STATE_RESET;
      return;
    }
    if (tcp_flags_ & kFin) {
      flow.state |= flow.forward ? WAGGLE_STATE_CLIENT_FIN : WAGGLE_STATE_SERVER_FIN;
      if (partner) {
        partner->closing = true;
        partner->isn =
            seq_ +
            static_cast<uint32_t>(view_.end - view_.l4 - TcpHeaderLength(out_.bytes, view_)) + 1;
      }
    }
    if (!flow.closing || flow.state & WAGGLE_STATE_ACKED_FIN || !(tcp_flags_ & kAck)) return;
    if (static_cast<int32_t>(ack_ - flow.isn.value_or(0)) < 0) return;
    flow.state |= WAGGLE_STATE_ACKED_FIN;
    if (partner && partner->state & WAGGLE_STATE_ACKED_FIN) model_.End(tuple_);
  }

  // An acknowledgement of what the backend may have sent in its first moments.
  bool AnswersTo(const Flow& reply) const {
    return tcp_flags_ & kAck && ack_ - reply.isn.value_or(0) - 1 < 1u << 20;
  }

  // Established flows stand where no flood can evict them.
  void Promote(Flow& flow, Flow& partner) {
    if (flow.established) return;
    size_t count = 0;
    if (model_.max_established < model_.entries.size()) {
      for (const auto& [tuple, entry] : model_.entries)
        count += entry.established ? 1 : 0;
    }
    if (count + 2 > model_.max_established) {
      Count(WAGGLE_REASON_FLOWS_FULL);
      return;
    }
    flow.established = partner.established = true;
  }

  // ---- ICMP.

  void IcmpMessage() {
    if (view_.l4 + 8 > view_.end) return;
    const uint8_t type = out_.bytes[view_.l4];
    if (IsIcmpError(view_, type)) IcmpError();
    if (view_.v6 && type == 135 && program_ == Program::kPodIn) Solicitation();
  }

  // RFC 4861. On a bridge with br_netfilter a FORWARD policy of DROP keeps pods from finding
  // each other; in redirect forwarding they shall.
  void Solicitation() {
    const size_t icmp = view_.l4;
    if (model_.forwarding != WAGGLE_FORWARDING_REDIRECT || here_.bridge == 0) return;
    if (view_.tags != 0 || tagged_ || view_.extensions != 0 || view_.ttl != 255) return;
    // To all who may have the address, from somebody who has one.
    if (view_.dst.bytes()[0] != 0xff || view_.src == net::Address()) return;
    if (icmp + 24 > view_.end || out_.bytes[icmp + 1] != 0) return;
    const net::Address target = GetAddress(out_.bytes, icmp + 8, true);
    const auto known = model_.neighbors.find({here_.bridge, target});
    Mac own;
    std::copy_n(out_.bytes.begin() + 6, 6, own.begin());
    if (known == model_.neighbors.end() || known->second == own) return;
    out_.bytes = AdvertisementFor(out_.bytes, view_, target, known->second);
    out_.verdict = kRedirect;
  }

  void IcmpError() {
    const size_t icmp = view_.l4;
    // What is quoted does not reach behind the message.
    Bytes message(out_.bytes.begin(), out_.bytes.begin() + static_cast<ptrdiff_t>(view_.end));
    const auto quoted = ParseIp(message, icmp + 8, view_.v6, true);
    if (!quoted || quoted->later_fragment || quoted->extensions > kMaxExtensions) return;
    if (quoted->protocol != kTcp && quoted->protocol != kUdp) return;
    if (quoted->l4 + 8 > std::min(quoted->end, view_.end) || quoted->src != view_.dst) return;
    // The packets that go where this message goes have the ends of the quoted one swapped.
    tuple_ = {{quoted->dst, Get16(message, quoted->l4 + 2)},
              {quoted->src, Get16(message, quoted->l4)},
              quoted->protocol};
    const Flow* flow = model_.Find(tuple_);
    if (!flow || (flow->forward && program_ != Program::kPodIn)) return;
    if (flow->flags & WAGGLE_FLOW_HAIRPIN && flow->ifindex != ifindex_) return;
    Way way;
    if (program_ != Program::kPodOut && flow->flags & WAGGLE_FLOW_REDIRECT) {
      way = flow->way;
      if (flow->forward && flow->ifindex != ifindex_) way = {};
      if (flow->flags & WAGGLE_FLOW_HAIRPIN) way = {WAGGLE_WAY_PEER, flow->ifindex, 0};
      if (way.how == WAGGLE_WAY_NEIGH && view_.ttl <= 1) way = {};
    } else if (program_ != Program::kPodOut && !flow->forward) {
      return;
    }
    Count(WAGGLE_REASON_ICMP_TRANSLATED);
    if (flow->flags & WAGGLE_FLOW_REWRITE) {
      // The quoted packet went the other way: its source is this direction's destination.
      Rewrite(message, *quoted, flow->new_dst, flow->new_src, icmp);
      const net::Address src = view_.src == tuple_.src.address ? flow->new_src.address : view_.src;
      Rewrite(message, view_, {src, 0}, {flow->new_dst.address, 0});
      std::copy(message.begin(), message.end(), out_.bytes.begin());
    }
    if (way.how != WAGGLE_WAY_STACK) {
      out_.verdict = kRedirect;
      if (flow->flags & WAGGLE_FLOW_HAIRPIN) {
        SwapMacs();
      } else if (way.how == WAGGLE_WAY_PEER) {
        AddressTo(way.device,
                  flow->flags & WAGGLE_FLOW_REWRITE ? flow->new_dst.address : view_.dst);
      }
    }
    if (way.how == WAGGLE_WAY_NEIGH) DecrementTtl(out_.bytes, view_);
  }

  // ---- What happens to bytes.

  void Change(const net::Endpoint& src, const net::Endpoint& dst) {
    Rewrite(out_.bytes, view_, src, dst);
  }

  // Straight to a pod: it may look at the MAC.
  void AddressTo(uint32_t device, const net::Address& address) {
    const auto known = model_.neighbors.find({device, address});
    if (known != model_.neighbors.end())
      std::copy(known->second.begin(), known->second.end(), out_.bytes.begin());
  }

  void SwapMacs() { std::swap_ranges(&out_.bytes[0], &out_.bytes[6], &out_.bytes[6]); }

  // To the bridge itself instead of the port where the destination is: the stack sees it.
  void ToBridge() {
    if (program_ == Program::kPodIn && here_.bridge != 0) {
      std::copy_n(here_.bridge_mac, 6, out_.bytes.begin());
    }
  }

  // For the short way.
  bool TooBig(const Flow& flow) const {
    return flow.way.how != WAGGLE_WAY_STACK && flow.way.mtu != 0 &&
           !(flow.flags & WAGGLE_FLOW_HAIRPIN) && SizeOnWire() > flow.way.mtu;
  }

  size_t SizeOnWire() const {
    if (gso_size_ == 0) return view_.length();
    const size_t header = view_.later_fragment ? 0
                          : IsTcp()            ? TcpHeaderLength(out_.bytes, view_)
                                               : 8;
    return view_.l4 - view_.l3 + header + gso_size_;
  }

  void Refuse() {
    if (!IsTcp()) {
      SendError(Refusal::kUnreachable, 0);
    } else if (tcp_flags_ & kRst || view_.fragment) {
      out_.verdict = kShot;  // never a reset for a reset, and none that stands in fragments
    } else {
      out_.bytes = RefusalOf(out_.bytes, view_, Refusal::kReset);
      out_.verdict = kRedirect;
    }
  }

  void SendError(Refusal refusal, uint32_t mtu) {
    const size_t quoted = view_.l4 - view_.l3 + (IsTcp() ? 20 : 8);
    if (view_.later_fragment) {
      out_.verdict = kShot;  // RFC 1122, 3.2.2
    } else if (!model_.icmp_allowed) {
      Drop(WAGGLE_REASON_ICMP_RATE_LIMITED);
    } else if (view_.tags != 0 || quoted > kMaxQuote) {
      Drop(WAGGLE_REASON_REPLY_NOT_BUILT);
    } else {
      out_.bytes = RefusalOf(out_.bytes, view_, refusal, mtu);
      out_.verdict = kRedirect;
    }
  }

  void Drop(uint32_t reason) {
    Count(reason);
    out_.verdict = kShot;
  }

  void Count(uint32_t reason) { ++out_.reasons[reason]; }

  Model& model_;
  const Program program_;
  const uint32_t ifindex_;
  const uint32_t gso_size_;
  const bool tagged_;
  const Oracle& oracle_;
  const waggle_device& here_;
  View view_;
  Tuple tuple_;
  uint8_t tcp_flags_ = 0;
  uint32_t seq_ = 0, ack_ = 0;
  bool moved_ = false;
  bool by_stack_ = false;  // a later fragment, whose first one went so
  Outcome out_;
};

Outcome Model::Run(const Arrival& arrival, const Bytes& frame, const Oracle& oracle) {
  return Job(*this, arrival, frame, oracle).Run();
}

}  // namespace waggle::packet
