/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_FLOW_BPF_H
#define WAGGLE_BPF_FLOW_BPF_H
/*
 * The life of a flow. It begins in `half_open`, an LRU hash that a flood may sweep; moves to
 * `flows`, which never evicts, when its client has shown that it is there; and leaves a
 * while after both sides have closed it. One that was reset goes back to `half_open`: a reset
 * may be anybody's, and its ends go on if they do not believe it.
 *
 * An entry that moves stands in both maps for a moment, in the new one first.
 */
#include <linux/errno.h>

#include "service.bpf.h"
#include "work.bpf.h"

/* No state of any protocol lives for less. */
#define ENDED_FLOWS 128
#define SHORTEST_LIFE_NS (WAGGLE_TCP_CLOSED_S * 1000ULL * 1000 * 1000)

static __always_inline struct waggle_flow *lookup_in(void *map, const struct waggle_flow_key *key)
{
	struct waggle_flow *flow = bpf_map_lookup_elem(map, key);

	if (flow && flow->tag != waggle_flow_tag(key, flow))
		return NULL; /* deleted, and another flow's by now */
	return flow;
}

/* The entry in either map, alive or not. One that moved from `half_open` to `flows` between the
 * two look-ups is found by the third. */
static __noinline struct waggle_flow *lookup_flow(const struct waggle_flow_key *key)
{
	struct waggle_flow *flow = lookup_in(&flows, key);

	if (!flow)
		flow = lookup_in(&half_open, key);
	if (!flow)
		flow = lookup_in(&flows, key);
	return flow;
}

static __always_inline int device_lives(__u32 ifindex)
{
	return bpf_map_lookup_elem(&devices, &ifindex) != NULL;
}

static __always_inline struct waggle_flow *partner_of(const struct waggle_flow_key *key,
						      const struct waggle_flow *flow)
{
	struct waggle_flow_key partner;

	waggle_flow_partner(key, flow, &partner);
	return lookup_flow(&partner);
}

/* Signed: another CPU may have stamped the flow after `now_ns` was read. */
static __always_inline __s64 idle_ns(const struct waggle_flow *flow, __u64 now_ns)
{
	return (__s64)(now_ns - *(volatile __u64 *)&flow->last_ns);
}

/* Has neither direction had a packet for the time that its state gives it? */
static __noinline int is_over(const struct waggle_flow_key *key, const struct waggle_flow *flow,
			      __u64 now_ns)
{
	struct waggle_flow *partner;
	__s64 idle = idle_ns(flow, now_ns);
	__u8 state = flow->state;

	if (idle < (__s64)SHORTEST_LIFE_NS)
		return 0;
	partner = partner_of(key, flow);
	if (partner) {
		__s64 other = idle_ns(partner, now_ns);

		state |= partner->state;
		if (other < idle)
			idle = other;
	}
	return idle > (__s64)waggle_flow_lifetime_ns(key->protocol, state);
}

/* An entry that is being promoted stands in both maps for a moment: who promotes it deletes it
 * in `half_open`. */
static __always_inline void delete_entry(const struct waggle_flow_key *key)
{
	if (bpf_map_delete_elem(&flows, key))
		bpf_map_delete_elem(&half_open, key);
}

static __always_inline void delete_flow(const struct waggle_flow_key *key,
					const struct waggle_flow *flow)
{
	struct waggle_flow_key partner;

	waggle_flow_partner(key, flow, &partner);
	delete_entry(key);
	delete_entry(&partner);
}

/* The living flow of this packet; NULL: none. One that is over is deleted. */
static __always_inline struct waggle_flow *find_flow(const struct waggle_flow_key *key,
						     __u64 now_ns)
{
	struct waggle_flow *flow = lookup_flow(key);

	if (flow && idle_ns(flow, now_ns) > (__s64)SHORTEST_LIFE_NS && is_over(key, flow, now_ns)) {
		delete_flow(key, flow);
		return NULL;
	}
	return flow;
}

static __always_inline void stamp(struct waggle_flow *flow, __u64 now_ns)
{
	if (idle_ns(flow, now_ns) > (__s64)WAGGLE_FLOW_STAMP_NS)
		*(volatile __u64 *)&flow->last_ns = now_ns;
}

static __always_inline void add_state(struct waggle_flow *flow, __u8 bits)
{
	if ((flow->state & bits) != bits)
		*(volatile __u8 *)&flow->state = flow->state | bits;
}

static __always_inline void take_state(struct waggle_flow *flow, __u8 bits)
{
	if (flow->state & bits)
		*(volatile __u8 *)&flow->state = flow->state & ~bits;
}

/* Of the state of both entries together: may another connection with these ends begin? */
static __always_inline int is_closed(__u8 state)
{
	const __u8 fins = WAGGLE_STATE_CLIENT_FIN | WAGGLE_STATE_SERVER_FIN;

	return (state & fins) == fins || state & WAGGLE_STATE_RESET;
}

/* 0: it stands in `flows`, through us or another CPU. An element of an LRU is reused at once, so it
 * is copied before it is believed. */
static __always_inline int copy_to_flows(struct work *w, const struct waggle_flow_key *key,
					 const struct waggle_flow *flow)
{
	int result;

	w->reply = *flow;
	if (w->reply.tag != waggle_flow_tag(key, &w->reply))
		return -ENOENT;
	result = bpf_map_update_elem(&flows, key, &w->reply, BPF_NOEXIST);
	return result == -EEXIST ? 0 : result;
}

/* What another CPU wrote into the old entry while it was copied. */
static __always_inline void leave_half_open(const struct waggle_flow_key *key,
					    const struct waggle_flow *old)
{
	struct waggle_flow *flow = lookup_in(&flows, key);

	if (flow && old->tag == flow->tag)
		add_state(flow, old->state);
	bpf_map_delete_elem(&half_open, key);
}

/*
 * The client has shown that it is there: out of a flood's reach. When `flows` is full the
 * flow stays where it is, and works. One that is closed stays, too.
 */
static __always_inline void promote_flow(struct work *w, const struct waggle_flow_key *key,
					 struct waggle_flow *flow)
{
	struct waggle_flow_key partner_key;
	struct waggle_flow *partner;
	int result;

	waggle_flow_partner(key, flow, &partner_key);
	partner = lookup_in(&half_open, &partner_key);
	if (partner && is_closed(flow->state | partner->state))
		return;
	add_state(flow, WAGGLE_STATE_ASSURED);
	if (!partner)
		return; /* both are in `flows` already, or evicted */
	result = copy_to_flows(w, &partner_key, partner);
	if (!result) {
		result = copy_to_flows(w, key, flow);
		if (result)
			bpf_map_delete_elem(&flows, &partner_key);
	}
	if (result) {
		if (result != -ENOENT)
			count_reason(WAGGLE_REASON_FLOWS_FULL);
		return;
	}
	leave_half_open(key, flow);
	leave_half_open(&partner_key, partner);
}

/* Reset: no flood's business any more, and whatever it may still become, it leaves no trace. */
static __always_inline void demote_flow(const struct waggle_flow_key *key, struct waggle_flow *flow)
{
	struct waggle_flow_key partner_key;
	struct waggle_flow *partner;

	waggle_flow_partner(key, flow, &partner_key);
	if (lookup_in(&flows, key) != flow)
		return; /* it is in half_open */
	if (bpf_map_update_elem(&half_open, key, flow, BPF_ANY))
		return; /* the agent collects it */
	partner = lookup_in(&flows, &partner_key);
	if (partner)
		bpf_map_update_elem(&half_open, &partner_key, partner, BPF_ANY);
	bpf_map_delete_elem(&flows, key);
	bpf_map_delete_elem(&flows, &partner_key);
}

/*
 * The flows of this CPU that ended last: both sides have closed and know it of each other. What
 * may still come (the last FIN again, if its acknowledgement was lost) finds them as they were;
 * the oldest leaves when another one ends, so that `flows` holds living ones. Not pinned: what
 * it forgets is collected when it was idle for long enough.
 */
struct ended_flows {
	__u32 next;
	__u32 reserved;
	struct waggle_flow_key keys[ENDED_FLOWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ended_flows);
} ended SEC(".maps");

static __always_inline void remember_ended(struct work *w)
{
	__u32 zero = 0, place;
	struct ended_flows *ring = bpf_map_lookup_elem(&ended, &zero);
	struct waggle_flow *flow, *partner;

	if (!ring)
		return;
	place = ring->next++ % ENDED_FLOWS;
	w->key = ring->keys[place];
	ring->keys[place] = w->p.key;
	if (!w->key.protocol)
		return; /* the ring is not full yet */
	flow = lookup_flow(&w->key);
	if (!flow)
		return;
	partner = partner_of(&w->key, flow);
	/* Another connection may have the same ends by now. */
	if (partner && is_closed(flow->state | partner->state))
		delete_flow(&w->key, flow);
}

/* The flow of work->p. */
__noinline int waggle_delete(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct waggle_flow *flow;

	if (!w || !skb)
		return -1;
	flow = lookup_flow(&w->p.key);
	if (flow)
		delete_flow(&w->p.key, flow);
	return 0;
}

__noinline int waggle_promote(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct waggle_flow *flow;

	if (!w || !skb)
		return -1;
	flow = lookup_flow(&w->p.key);
	if (flow)
		promote_flow(w, &w->p.key, flow);
	return 0;
}

/* The packet has FIN or RST, or may acknowledge the other side's FIN. */
__noinline int waggle_close(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct waggle_flow *flow, *partner;
	struct packet *p;

	if (!w || !skb)
		return -1;
	p = &w->p;
	flow = lookup_flow(&p->key);
	if (!flow)
		return 0;
	if (p->tcp_flags & TCP_RST) {
		if (!(flow->state & WAGGLE_STATE_RESET)) {
			add_state(flow, WAGGLE_STATE_RESET);
			demote_flow(&p->key, flow);
		}
		return 0;
	}
	partner = partner_of(&p->key, flow);
	if (p->tcp_flags & TCP_FIN) {
		add_state(flow, flow->kind == WAGGLE_FLOW_FORWARD ? WAGGLE_STATE_CLIENT_FIN
								  : WAGGLE_STATE_SERVER_FIN);
		if (partner) {
			*(volatile __u32 *)&partner->isn =
				p->seq + (p->end - p->l3 - p->segment_headers) + 1;
			*(volatile __u8 *)&partner->closing = 1;
		}
	}
	if (flow->closing && !(flow->state & WAGGLE_STATE_ACKED_FIN) && p->tcp_flags & TCP_ACK &&
	    (__s32)(p->ack - flow->isn) >= 0) {
		add_state(flow, WAGGLE_STATE_ACKED_FIN);
		if (partner && partner->state & WAGGLE_STATE_ACKED_FIN)
			remember_ended(w);
	}
	return 0;
}

/* Has waggle_close() to look at a packet without RST? */
static __always_inline int may_close(const struct packet *p, const struct waggle_flow *flow)
{
	return p->tcp_flags & TCP_FIN || (flow->closing && !(flow->state & WAGGLE_STATE_ACKED_FIN));
}

#endif
