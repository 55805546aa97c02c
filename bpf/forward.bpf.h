/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_FORWARD_BPF_H
#define WAGGLE_BPF_FORWARD_BPF_H
/*
 * A packet of a known flow: what it becomes, and the way that it takes.
 */
#include "flow.bpf.h"
#include "fragment.bpf.h"
#include "neighbor.bpf.h"
#include "refuse.bpf.h"
#include "route.bpf.h"

/* Where a program stands. Constants: each program is compiled for its own. */
enum hook {
	HOOK_POD_IN,  /* from a pod */
	HOOK_POD_OUT, /* to a pod, out of the host's stack */
	HOOK_NET_IN,  /* from another node */
};

static __always_inline struct waggle_settings *read_settings(void)
{
	__u32 zero = 0;
	struct waggle_settings *row = bpf_map_lookup_elem(&settings, &zero);

	if (!row)
		count_reason(WAGGLE_REASON_SETTINGS_MISSING);
	return row;
}

static __always_inline int drop(__u32 reason)
{
	count_reason(reason);
	return TC_ACT_SHOT;
}

static __always_inline void addresses_of(const struct waggle_flow *flow, struct addresses *to)
{
	__builtin_memcpy(to->src, flow->new_src, 32);
	to->src_port_be = flow->new_src_port_be;
	to->dst_port_be = flow->new_dst_port_be;
}

/* Where MACs are, if there are any. */
static __always_inline __u32 link_header(const struct packet *p)
{
	return p->l3 ? ETH_HLEN : 0;
}

/*
 * work->way becomes the way of packets of this flow's direction; looked up anew when the
 * last time was a second ago.
 */
static __always_inline void current_way(struct __sk_buff *skb, struct work *w,
					struct waggle_flow *flow)
{
	w->way = load_way(flow);
	if ((__s64)(w->now_ns - *(volatile __u64 *)&flow->routed_ns) <= (__s64)WAGGLE_FLOW_STAMP_NS)
		return;
	addresses_of(flow, &w->j.as);
	w->j.from = routed_from(skb->ifindex);
	w->j.learned = w->way.how == WAGGLE_WAY_PEER ? w->way.device : 0;
	waggle_route(skb);
	if (flow->kind == WAGGLE_FLOW_FORWARD)
		note_on_bridge(skb, w, w->j.from);
	if (flow->kind == WAGGLE_FLOW_REPLY) {
		/* The client is where its packets came from, whatever the routes say by now. */
		w->way.how = WAGGLE_WAY_PEER;
		w->way.device = flow->ifindex;
	}
	store_way(flow, w->way);
	*(volatile __u64 *)&flow->routed_ns = w->now_ns;
}

/* Fills work with what the flow says about the packet: what it becomes, and its way. */
static __always_inline void take_flow(struct __sk_buff *skb, struct work *w,
				      struct waggle_flow *flow)
{
	struct waggle_way stack = {};

	w->flags = flow->flags;
	if (flow->flags & WAGGLE_FLOW_REWRITE)
		addresses_of(flow, &w->to);
	if (flow->flags & WAGGLE_FLOW_HAIRPIN) {
		w->way = stack;
		w->way.how = WAGGLE_WAY_PEER;
		w->way.device = flow->ifindex;
	} else if (flow->flags & WAGGLE_FLOW_REDIRECT &&
		   (flow->kind == WAGGLE_FLOW_REPLY || flow->ifindex == skb->ifindex)) {
		current_way(skb, w, flow);
	} else {
		/* Also what comes from another device than the client's: the stack looks at
		 * its source. */
		w->way = stack;
	}
}

/* Past the stack, the way of `w`. */
static __always_inline int redirect(struct __sk_buff *skb, struct work *w)
{
	__u32 l2 = link_header(&w->p), device = w->way.device;

	if (w->flags & WAGGLE_FLOW_HAIRPIN) {
		/* Back out of the device that it came by, whatever that is. */
		if (swap_macs(skb, l2))
			return drop(WAGGLE_REASON_REWRITE_FAILED);
		return bpf_redirect(device, 0);
	}
	if (w->way.how == WAGGLE_WAY_PEER) {
		int known = l2 ? address_to_pod(skb, w) : 1;

		if (known < 0)
			return drop(WAGGLE_REASON_REWRITE_FAILED);
		/* Until the pod has answered once, the host knows best; not on a port of a bridge. */
		if (!known && routed_from(device) == device)
			return bpf_redirect_neigh(device, NULL, 0, 0);
		/* A bridge port may be handed frames for other MACs than the host's. */
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
		return bpf_redirect_peer(device, 0);
	}
	if (decrement_ttl(skb, &w->p))
		return drop(WAGGLE_REASON_REWRITE_FAILED);
	return bpf_redirect_neigh(device, NULL, 0, 0);
}

/* Rewrites work->p to what take_flow() read, and sends it on its way. */
__noinline int waggle_forward(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct packet *p;

	if (!w)
		return TC_ACT_UNSPEC;
	p = &w->p;
	if (p->by_stack)
		w->way.how = WAGGLE_WAY_STACK;
	if (w->way.how != WAGGLE_WAY_STACK) {
		if (too_big(skb, p, w->way)) {
			if (p->whole) {
				count_reason(WAGGLE_REASON_PACKET_TOO_BIG);
				return waggle_complain(skb, link_header(p), PACKET_TOO_BIG,
						       w->way.mtu);
			}
			w->way.how = WAGGLE_WAY_STACK; /* which makes fragments of it */
			send_all_by_stack(w);
		}
		if (w->way.how == WAGGLE_WAY_NEIGH && p->ttl <= 1)
			w->way.how = WAGGLE_WAY_STACK; /* which says that its time is over */
	}
	if (w->flags & WAGGLE_FLOW_REWRITE && waggle_rewrite(skb))
		return drop(WAGGLE_REASON_REWRITE_FAILED);
	if (w->way.how == WAGGLE_WAY_STACK)
		return TC_ACT_UNSPEC;
	return redirect(skb, w);
}

/* May this hook undo or forward packets of the flow? Else it leaves them to another one. */
static __always_inline int is_for(enum hook hook, const struct waggle_flow *flow)
{
	if (hook == HOOK_POD_OUT)
		return flow->kind == WAGGLE_FLOW_REPLY;
	if (flow->kind == WAGGLE_FLOW_FORWARD)
		return hook == HOOK_POD_IN;
	/* In stack forwarding an answer is undone where it leaves for the client: undone
	 * here it would have come by the wrong device (rp_filter), and conntrack would not
	 * know it. */
	return !!(flow->flags & WAGGLE_FLOW_REDIRECT);
}

#endif
