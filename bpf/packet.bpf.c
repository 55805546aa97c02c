// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * Translation of packets at tc: of those that no socket hook has seen, and the short way
 * past the host's stack for all that belong to a Service. What is not ours leaves as it
 * came, with TC_ACT_UNSPEC, so that other people's programs go on running.
 *
 * docs/life_of_a_packet.md tells it in order.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "config.bpf.h"
#include "create_flow.bpf.h"
#include "icmp_error.bpf.h"
#include "neighbor.bpf.h"
#include "refuse.bpf.h"
#include "route.bpf.h"
#include "udp_flow.bpf.h"

/* Acknowledges something that the other side may have sent since its first number? A flood
 * of blind acknowledgements shall not fill `flows`. */
static __always_inline int plausible_ack(const struct packet *p, const struct waggle_flow *reply)
{
	return (p->tcp_flags & TCP_ACK) && (__u32)(p->ack - reply->isn - 1) < (1U << 20);
}

/* Keeps the flow's state, on a packet of the client's. */
static __always_inline void follow_client(struct __sk_buff *skb, struct packet *p,
					  struct waggle_flow *flow, __u64 now_ns)
{
	const __u8 closed = WAGGLE_STATE_CLIENT_FIN | WAGGLE_STATE_RESET;
	const __u8 first_or_last = TCP_SYN | TCP_RST;
	int due = idle_ns(flow, now_ns) > (__s64)WAGGLE_FLOW_STAMP_NS;

	if (due)
		*(volatile __u64 *)&flow->last_ns = now_ns;
	if (p->fragment == FRAGMENT_LATER)
		return;
	if (!(p->tcp_flags & first_or_last))
		take_state(flow, WAGGLE_STATE_RESET);
	if (!(flow->state & WAGGLE_STATE_ASSURED) && !(p->tcp_flags & first_or_last)) {
		struct waggle_flow *reply = partner_of(&p->key, flow);

		if (reply && (reply->state & WAGGLE_STATE_REPLIED) &&
		    (p->protocol == IPPROTO_UDP || plausible_ack(p, reply)))
			waggle_promote(skb);
	} else if (due && !(flow->state & closed) && flow->state & WAGGLE_STATE_ASSURED &&
		   !lookup_in(&flows, &p->key)) {
		waggle_promote(
			skb); /* `flows` was full a second ago, or a reset was not believed */
	}
	if (p->tcp_flags & TCP_RST || may_close(p, flow))
		waggle_close(skb);
}

static __always_inline void follow_backend(struct __sk_buff *skb, struct packet *p,
					   struct waggle_flow *flow, __u64 now_ns)
{
	stamp(flow, now_ns);
	if (p->fragment == FRAGMENT_LATER)
		return;
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && flow->isn != p->seq)
		*(volatile __u32 *)&flow->isn = p->seq;
	if (!(p->tcp_flags & TCP_RST)) {
		take_state(flow, WAGGLE_STATE_RESET);
		add_state(flow, WAGGLE_STATE_REPLIED);
	}
	if (p->tcp_flags & TCP_RST || may_close(p, flow))
		waggle_close(skb);
}

static __always_inline struct waggle_frontend_key frontend_of(const struct packet *p)
{
	struct waggle_frontend_key key = {};

	__builtin_memcpy(key.addr, p->key.dst, 16);
	key.port_be = p->key.dst_port_be;
	key.protocol = p->protocol;
	key.scope = WAGGLE_SCOPE_INTERNAL;
	return key;
}

/*
 * May a datagram go where the ones before went? Not when that backend left the set, nor,
 * which is looked at once a second, when the frontend is gone.
 */
__noinline int waggle_udp_may_stay(struct __sk_buff *skb)
{
	struct waggle_backend *backend;
	struct work *w = my_work();
	struct waggle_flow *flow;
	struct service svc = {};
	__s64 place;

	if (!w || !skb)
		return 1;
	flow = lookup_in(&flows, &w->p.key);
	if (!flow) {
		/* Where entries are evicted one by one: without the other one answers are lost. */
		flow = lookup_flow(&w->p.key);
		if (!flow || !partner_of(&w->p.key, flow))
			return 0;
	}
	if (list_at(flow->slot, flow->service_id, &svc) || svc.fate != WAGGLE_FATE_FORWARD)
		return 0;
	if (idle_ns(flow, w->now_ns) > (__s64)WAGGLE_FLOW_STAMP_NS) {
		struct waggle_frontend_key key = frontend_of(&w->p);

		if (find_service(&key).service_id != flow->service_id)
			return 0;
	}
	if (flow->place < svc.count) {
		backend = backend_at(&svc, flow->place);
		if (backend && same_endpoint(backend->addr, backend->port_be, flow->new_dst,
					     flow->new_dst_port_be))
			return 1;
	}
	place = list_find(&svc, flow->new_dst, flow->new_dst_port_be);
	if (place < 0)
		return 0;
	*(volatile __u32 *)&flow->place = (__u32)place; /* the next one need not search */
	return 1;
}

/* How work->n goes, as far as the packet, the device and the routes tell. */
static __always_inline void choose_way(struct __sk_buff *skb, struct work *w)
{
	struct waggle_settings *row = read_settings();
	struct newcomer *n = &w->n;

	if (!row || row->forwarding != WAGGLE_FORWARDING_REDIRECT)
		return;
	/* A client without a namespace of its own (a machine's tap) has no peer to give answers to. */
	if (!w->p.tagged && n->netns_id >= 0) {
		addresses_of(&n->flow, &w->j.as);
		w->j.from = routed_from(skb->ifindex);
		w->j.learned = 0;
		waggle_route(skb);
		if (w->way.how != WAGGLE_WAY_STACK && waggle_source_fits(skb, w->j.from)) {
			n->flow.flags |= WAGGLE_FLOW_REDIRECT;
			n->flow.way = w->way;
			n->flow.routed_ns = n->now_ns;
			note_on_bridge(skb, w, w->j.from);
			note_neighbor(skb, w, skb->ifindex);
			return;
		}
	}
	count_reason(WAGGLE_REASON_NO_SHORT_WAY);
}

/* work->n: a flow of the packet, which keeps it as it is. */
static __always_inline void begin(struct __sk_buff *skb, struct work *w)
{
	__u32 ifindex = skb->ifindex;
	struct waggle_device *device = bpf_map_lookup_elem(&devices, &ifindex);
	struct newcomer *n = &w->n;

	__builtin_memset(n, 0, sizeof(*n));
	n->now_ns = w->now_ns;
	n->netns_id = device ? device->netns_id : -1;
	n->flow.ifindex = ifindex;
	__builtin_memcpy(n->flow.new_src, w->p.key.src, 32);
	n->flow.new_src_port_be = w->p.key.src_port_be;
	n->flow.new_dst_port_be = w->p.key.dst_port_be;
}

/* Sends the packet the way of work->n, the flow that was just recorded for it. */
static __always_inline int forward_new(struct __sk_buff *skb, struct work *w)
{
	take_flow(skb, w, &w->n.flow);
	return waggle_forward(skb);
}

/* The first packet of a connection to a frontend, or a datagram whose backend left. */
__noinline int waggle_begin_service_flow(struct __sk_buff *skb)
{
	struct waggle_backend *backend;
	struct work *w = my_work();
	struct newcomer *n;
	__u32 index;
	int reason;

	if (!w)
		return TC_ACT_UNSPEC;
	n = &w->n;
	index = random_index(&w->svc);
	backend = backend_at(&w->svc, index);
	if (!backend)
		return TC_ACT_UNSPEC; /* cannot be: the range lies inside the map */
	begin(skb, w);
	__builtin_memcpy(n->flow.new_dst, backend->addr, 16);
	n->flow.new_dst_port_be = backend->port_be;
	n->flow.flags = WAGGLE_FLOW_REWRITE;
	n->flow.service_id = w->svc.service_id;
	n->flow.slot = w->slot;
	n->flow.place = index;
	if (same_endpoint(n->flow.new_dst, 0, w->p.key.src, 0)) {
		/* The pod itself: it must not see its own address as the other side's. The
		 * Service's address is one that it sends to its gateway, in both families. */
		n->flow.flags |= WAGGLE_FLOW_HAIRPIN | WAGGLE_FLOW_REDIRECT;
		__builtin_memcpy(n->flow.new_src, w->p.key.dst, 16);
	} else {
		choose_way(skb, w);
	}
	reason = waggle_create(skb);
	if (reason)
		return drop(reason);
	count_reason(w->moved ? WAGGLE_REASON_UDP_FLOW_MOVED : WAGGLE_REASON_FLOW_TRANSLATED);
	return forward_new(skb, w);
}

/*
 * Is it a connection that was translated at its socket, which the packet still carries? Fills
 * the Service in.
 */
static __always_inline int is_translated(struct __sk_buff *skb, const struct packet *p,
					 __u32 *service_id)
{
	struct waggle_sock_state *state;
	struct waggle_udp_flow_key key;
	struct endpoint backend, frontend;
	struct bpf_sock *sk = skb->sk;
	__u64 last_ns;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&sock_state, sk, NULL, 0);
	if (!state)
		return 0;
	*service_id = state->service_id;
	if (state->protocol == p->protocol &&
	    same_endpoint(p->key.dst, p->key.dst_port_be, state->backend_addr,
			  state->backend_port_be))
		return 1;
	if (p->protocol != IPPROTO_UDP || !(state->flags & WAGGLE_SOCK_UDP_FLOWS))
		return 0;
	*service_id = ~0U; /* udp_flows does not say */
	__builtin_memcpy(backend.addr, p->key.dst, 16);
	backend.port_be = p->key.dst_port_be;
	key = udp_flow_key(bpf_get_socket_cookie(skb), WAGGLE_UDP_REVERSE, &backend);
	return !udp_flow_find(&key, &frontend, &last_ns) &&
	       !same_endpoint(frontend.addr, frontend.port_be, backend.addr, backend.port_be);
}

/* Records the flow of such a connection. 1 when it did. */
__noinline int waggle_learn(struct __sk_buff *skb)
{
	struct waggle_settings *row = read_settings();
	struct work *w = my_work();
	__u32 service_id = 0;
	int under_way;

	/* The stack needs no help: its own routing made the connection. */
	if (!row || row->forwarding != WAGGLE_FORWARDING_REDIRECT)
		return 0;
	if (!w || !is_translated(skb, &w->p, &service_id))
		return 0;
	begin(skb, w);
	w->n.flow.flags = WAGGLE_FLOW_SOCKET;
	w->n.flow.service_id = service_id;
	under_way = w->p.protocol == IPPROTO_TCP && !(w->p.tcp_flags & TCP_SYN);
	if (under_way) {
		/* The client's own socket vouches for it. */
		w->n.keep_port = 1;
		w->n.state_of_reply = WAGGLE_STATE_REPLIED;
	}
	choose_way(skb, w);
	if (waggle_create(skb))
		return 0;
	count_reason(WAGGLE_REASON_FLOW_LEARNED);
	if (under_way)
		waggle_promote(skb);
	return 1;
}

/*
 * Not a Service's packet, from a client that may have a translated flow to the very same
 * backend from the same port: its answers could not be told from that flow's.
 */
__noinline int waggle_step_aside(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct waggle_flow_key key;
	struct waggle_flow *other;
	int reason;

	if (!w)
		return TC_ACT_UNSPEC;
	turn_key(&w->p.key, &key);
	other = lookup_flow(&key);
	if (!other || other->kind != WAGGLE_FLOW_REPLY || !(other->flags & WAGGLE_FLOW_REWRITE))
		return TC_ACT_UNSPEC;
	begin(skb, w);
	if (is_dead(skb, &key, other, &w->n, w->p.v6)) {
		delete_flow(&key, other);
		return TC_ACT_UNSPEC;
	}
	w->n.flow.flags = WAGGLE_FLOW_DIRECT;
	reason = waggle_create(skb);
	if (reason)
		return drop(reason);
	return forward_new(skb, w);
}

/* To a frontend, and of no flow. */
static __always_inline int on_frontend(struct __sk_buff *skb, struct work *w)
{
	struct packet *p = &w->p;

	if (p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN) {
		struct waggle_settings *row = read_settings();
		__u64 until = row ? *(volatile __u64 *)&row->lost_flows_pass_until_ns : 0;

		if (!until || w->now_ns < until) {
			count_reason(WAGGLE_REASON_LOST_FLOW_PASSED);
			return TC_ACT_UNSPEC;
		}
		if (!(p->tcp_flags & TCP_RST))
			count_reason(WAGGLE_REASON_LOST_FLOW_REFUSED);
		return waggle_refuse_tcp(skb, link_header(p));
	}
	if (w->svc.fate == WAGGLE_FATE_DROP)
		return drop(WAGGLE_REASON_PACKET_NO_LOCAL);
	if (w->svc.fate == WAGGLE_FATE_REFUSE) {
		count_reason(WAGGLE_REASON_PACKET_REFUSED);
		if (p->protocol == IPPROTO_TCP)
			return waggle_refuse_tcp(skb, link_header(p));
		return waggle_complain(skb, link_header(p), PORT_UNREACHABLE, 0);
	}
	return waggle_begin_service_flow(skb);
}

/*
 * An answer in stack forwarding that its pod sends straight over the bridge: it takes the
 * host's stack, as the question did, so that conntrack sees both directions.
 */
static __always_inline int lift_to_stack(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct waggle_device *device = bpf_map_lookup_elem(&devices, &ifindex);
	__u8 mac[6], bridge_mac[6], none[6] = {};

	if (!device || !device->bridge)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(bridge_mac, device->bridge_mac, 6);
	if (bpf_skb_load_bytes(skb, 0, mac, 6))
		return TC_ACT_UNSPEC;
	if (same_mac(mac, bridge_mac) || same_mac(bridge_mac, none))
		return TC_ACT_UNSPEC;
	if (bpf_skb_store_bytes(skb, 0, bridge_mac, 6, 0))
		return drop(WAGGLE_REASON_REWRITE_FAILED);
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return TC_ACT_UNSPEC;
}

/*
 * Did this answer come from where the questions go? Past the stack nobody else looks at
 * the source: another pod, or the wire, could speak in the backend's name. A bridged backend
 * is reached behind the port that it answers by from then on. Asked again only when an
 * answer comes by another device than the last one.
 */
static __always_inline int is_genuine(struct __sk_buff *skb, struct work *w,
				      struct waggle_flow *flow, enum hook hook)
{
	struct packet *p = &w->p;
	__u32 ifindex = skb->ifindex;
	struct waggle_device *device;
	struct waggle_flow *partner;
	struct waggle_way way;

	if (flow->flags & WAGGLE_FLOW_HAIRPIN)
		return flow->ifindex == ifindex;
	/* Those of a VLAN on this device come again there, without their tag. */
	if (p->tagged)
		return 0;
	if (flow->place == ifindex)
		return 1;
	partner = partner_of(&p->key, flow);
	if (!partner)
		return 0;
	way = load_way(partner);
	device = bpf_map_lookup_elem(&devices, &ifindex);
	if (!device)
		return 0;
	if (hook == HOOK_NET_IN) {
		struct waggle_device *there = bpf_map_lookup_elem(&devices, &way.device);

		/* By another uplink than the questions is well; but not from the wire for a
		 * backend on a bridge of ours, nor past a tunnel. */
		if (way.how != WAGGLE_WAY_NEIGH || !there || there->role != device->role)
			return 0;
	} else if (way.how == WAGGLE_WAY_NEIGH && device->bridge == way.device) {
		if (device->netns_id >= 0) {
			way.how = WAGGLE_WAY_PEER;
			way.device = ifindex;
			store_way(partner, way);
		}
	} else if (way.how != WAGGLE_WAY_PEER || way.device != ifindex) {
		return 0;
	}
	*(volatile __u32 *)&flow->place = ifindex;
	if (hook == HOOK_POD_IN)
		note_neighbor(skb, w, ifindex);
	return 1;
}

/* Reads the frame into work->p. 0: TCP, UDP or an ICMP message. */
__noinline int waggle_parse(struct __sk_buff *skb, __u32 l2)
{
	struct work *w = my_work();

	if (!w)
		return -1;
	/* Constants, as the verifier wants to know where it reads. */
	if (l2 ? !parse_plain(skb, &w->p, ETH_HLEN) : !parse_plain(skb, &w->p, 0))
		return 0;
	__builtin_memset(&w->p, 0, sizeof(w->p));
	return parse_frame(skb, &w->p, l2);
}

/* A packet that no known flow claims, from a pod. */
static __always_inline int on_stranger(struct __sk_buff *skb, struct work *w)
{
	struct waggle_frontend_key key = frontend_of(&w->p);
	struct packet *p = &w->p;

	if (skb->sk && waggle_learn(skb))
		return forward_new(skb, w);
	w->svc = find_service_at(&key, &w->slot);
	if (w->svc.fate != WAGGLE_FATE_NONE)
		return on_frontend(skb, w);
	if (p->protocol == IPPROTO_UDP || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return waggle_step_aside(skb);
	return TC_ACT_UNSPEC;
}

/* An answer that is undone later, where it leaves for the client. */
static __always_inline int leave_to_stack(struct __sk_buff *skb, const struct waggle_flow *flow,
					  enum hook hook)
{
	const __u8 mask = WAGGLE_FLOW_REWRITE | WAGGLE_FLOW_DIRECT;

	/* The question of a direct flow stayed on the bridge, too. */
	return hook == HOOK_POD_IN && (flow->flags & mask) == WAGGLE_FLOW_REWRITE
		       ? lift_to_stack(skb)
		       : TC_ACT_UNSPEC;
}

static __always_inline int on_reply(struct __sk_buff *skb, struct work *w, struct waggle_flow *flow,
				    enum hook hook)
{
	if (!is_for(hook, flow) || (hook != HOOK_POD_OUT && !is_genuine(skb, w, flow, hook)))
		return leave_to_stack(skb, flow, hook);
	if (hook == HOOK_POD_OUT) {
		struct waggle_way stack = {};

		w->way = stack;
		w->flags = flow->flags;
		addresses_of(flow, &w->to);
	} else {
		take_flow(skb, w, flow);
	}
	/* The stack makes fragments of it; it would not take the Service's address from here. */
	if (hook != HOOK_POD_OUT && !w->p.whole && (w->p.by_stack || too_big(skb, &w->p, w->way))) {
		send_all_by_stack(w);
		return leave_to_stack(skb, flow, hook);
	}
	follow_backend(skb, &w->p, flow, w->now_ns);
	return waggle_forward(skb);
}

static __always_inline int on_solicitation(struct __sk_buff *skb)
{
	struct waggle_settings *row = read_settings();

	if (!row || row->forwarding != WAGGLE_FORWARDING_REDIRECT)
		return TC_ACT_UNSPEC;
	return waggle_answer_solicitation(skb);
}

/*
 * Is this SYN the one that began the flow? Not if the flow was closed since: a backend that still
 * has a connection from this port answers with what makes the client reset it, and the
 * SYN comes again.
 */
static __always_inline int is_sent_again(const struct packet *p, const struct waggle_flow *flow)
{
	struct waggle_flow *partner = partner_of(&p->key, flow);

	return partner && flow->isn == p->seq && !is_closed(flow->state | partner->state);
}

/*
 * Begins a connection whose ends somebody else took, from another device, in the name of who now
 * speaks from where the routes expect him? Then that one has no right to them.
 */
static __always_inline int owns_source(struct __sk_buff *skb, const struct packet *p,
				       const struct waggle_flow *flow)
{
	__u32 from = routed_from(skb->ifindex);

	if (p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return 0;
	return from != routed_from(flow->ifindex) && waggle_source_fits(skb, from);
}

/* To a tick, which is ten milliseconds at most: no lifetime here is that short. */
static __always_inline __u64 time_ns(void)
{
	return waggle_config.have_coarse_clock ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();
}

/* What every program does. `hook` and `l2` (bytes before the IP header) are constants. */
static __always_inline int on_packet(struct __sk_buff *skb, enum hook hook, __u32 l2)
{
	struct work *w = my_work();
	struct waggle_flow *flow;
	struct packet *p;
	int known = 1;

	if (!w || waggle_parse(skb, l2))
		return TC_ACT_UNSPEC;
	p = &w->p;
	/* Of a VLAN on this device: they come again there, without their tag. */
	if (hook == HOOK_NET_IN && p->tagged)
		return TC_ACT_UNSPEC;
	w->now_ns = time_ns();
	w->moved = 0;
	if (hook == HOOK_POD_IN && p->protocol == IPPROTO_ICMPV6 && p->icmp_type == ND_SOLICITATION)
		return on_solicitation(skb);
	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return is_icmp_error(p) ? waggle_on_icmp_error(skb, hook) : TC_ACT_UNSPEC;
	if (p->fragment && track_fragment(w)) {
		if (hook == HOOK_POD_IN)
			count_reason(WAGGLE_REASON_FRAGMENT_UNKNOWN);
		return TC_ACT_UNSPEC;
	}
	flow = find_flow(&p->key, w->now_ns);
	if (hook == HOOK_POD_IN && flow && flow->flags & WAGGLE_FLOW_REDIRECT &&
	    idle_ns(flow, w->now_ns) > (__s64)WAGGLE_FLOW_STAMP_NS)
		note_neighbor(skb, w, skb->ifindex);
	if (flow && flow->kind == WAGGLE_FLOW_REPLY)
		return on_reply(skb, w, flow, hook);
	if (hook != HOOK_POD_IN)
		return TC_ACT_UNSPEC;
	if (!flow)
		return on_stranger(skb, w);
	if (flow->ifindex != skb->ifindex && device_lives(flow->ifindex) &&
	    !owns_source(skb, p, flow)) {
		/* In the name of a client who is there, on another device: the stack looks at its
		 * source. It neither ends the connection nor takes its place. */
		if (flow->flags & WAGGLE_FLOW_HAIRPIN)
			return TC_ACT_UNSPEC;
		take_flow(skb, w, flow);
		return waggle_forward(skb);
	}
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		/* Sent again, or is it a new connection from an old port? */
		known = is_sent_again(p, flow);
	else if (p->protocol == IPPROTO_UDP &&
		 !(flow->flags & (WAGGLE_FLOW_SOCKET | WAGGLE_FLOW_DIRECT)))
		known = waggle_udp_may_stay(skb);
	if (flow->ifindex != skb->ifindex)
		known = 0; /* the client's device is gone */
	if (!known) {
		w->moved = p->protocol == IPPROTO_UDP && flow->ifindex == skb->ifindex;
		waggle_delete(skb);
		return on_stranger(skb, w);
	}
	take_flow(skb, w, flow);
	follow_client(skb, p, flow, w->now_ns);
	return waggle_forward(skb);
}

/* Ingress of the host's side of a pod's veth. */
SEC("tc")
int waggle_pod_in(struct __sk_buff *skb)
{
	return on_packet(skb, HOOK_POD_IN, ETH_HLEN);
}

/* Egress of the host's side of a pod's veth. */
SEC("tc")
int waggle_pod_out(struct __sk_buff *skb)
{
	return on_packet(skb, HOOK_POD_OUT, ETH_HLEN);
}

/* Ingress of an uplink or tunnel with Ethernet headers. */
SEC("tc")
int waggle_net_in(struct __sk_buff *skb)
{
	return on_packet(skb, HOOK_NET_IN, ETH_HLEN);
}

/* The same on a device without. */
SEC("tc")
int waggle_net_l3(struct __sk_buff *skb)
{
	return on_packet(skb, HOOK_NET_IN, 0);
}
