/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_CREATE_FLOW_BPF_H
#define WAGGLE_BPF_CREATE_FLOW_BPF_H
/*
 * Recording a new flow. Behind a translation two connections of one client may look alike
 * to the backend (the client's kernel gives one source port to two destinations, and
 * often does); the newer one then gets another source port.
 */
#include "flow.bpf.h"
#include "work.bpf.h"

/*
 * Has the client a TCP socket that talks from `client` to `peer`? Sees TIME-WAIT as well.
 * Its table knows connections that no program has seen.
 */
static __always_inline int client_talks(struct __sk_buff *skb, const struct addresses *from_client,
					__s32 netns_id, int v6)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	int talks;

	if (netns_id < 0)
		return 0;
	if (!v6) {
		tuple.ipv4.saddr = unmap_v4(from_client->dst);
		tuple.ipv4.daddr = unmap_v4(from_client->src);
		tuple.ipv4.sport = from_client->dst_port_be;
		tuple.ipv4.dport = from_client->src_port_be;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), netns_id, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, from_client->dst, 16);
		__builtin_memcpy(tuple.ipv6.daddr, from_client->src, 16);
		tuple.ipv6.sport = from_client->dst_port_be;
		tuple.ipv6.dport = from_client->src_port_be;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), netns_id, 0);
	}
	if (!sk)
		return 0;
	talks = sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return talks;
}

/* Is the packet a socket's that is about to connect? One that a pod forwards has none. */
static __always_inline int is_connecting(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk && sk->state == BPF_TCP_SYN_SENT;
}

/*
 * May the flow whose reply entry is in the way be forgotten? When it is over or closed, or
 * its client has no socket for it any more.
 */
static __always_inline int is_dead(struct __sk_buff *skb, const struct waggle_flow_key *key,
				   const struct waggle_flow *flow, const struct newcomer *n, int v6)
{
	struct waggle_flow *partner;
	struct addresses owner;
	__u8 state = flow->state;

	if (is_over(key, flow, n->now_ns))
		return 1;
	/* Who speaks in the name of a client on another device shall not end what is his. */
	if (flow->ifindex != n->flow.ifindex && device_lives(flow->ifindex))
		return 0;
	partner = partner_of(key, flow);
	if (partner)
		state |= partner->state;
	if (key->protocol != IPPROTO_TCP)
		return 0;
	if (is_closed(state))
		return 1;
	/* Of a machine behind the pod no table of ours tells. */
	if (flow->kind != WAGGLE_FLOW_REPLY || n->netns_id < 0 ||
	    !(flow->flags & WAGGLE_FLOW_OWNED))
		return 0;
	__builtin_memcpy(owner.src, flow->new_dst, 16);
	__builtin_memcpy(owner.dst, flow->new_src, 16);
	owner.src_port_be = flow->new_dst_port_be;
	owner.dst_port_be = flow->new_src_port_be;
	return !client_talks(skb, &owner, n->netns_id, v6);
}

enum claim { CLAIMED, TAKEN, REFUSED };

/* Inserts work->reply under work->key unless that is another flow's. */
static __always_inline int claim_reply(struct work *w)
{
	int result = bpf_map_update_elem(&half_open, &w->key, &w->reply, BPF_NOEXIST);

	if (result == -EEXIST)
		return TAKEN;
	if (result)
		return REFUSED;
	if (lookup_in(&flows, &w->key)) {
		/* Promoted between our look-up and our insertion. */
		bpf_map_delete_elem(&half_open, &w->key);
		return TAKEN;
	}
	return CLAIMED;
}

static __always_inline void name_reply(struct work *w)
{
	struct newcomer *n = &w->n;

	w->reply.flags = n->flow.flags;
	waggle_flow_partner(&w->p.key, &n->flow, &w->key);
	w->reply.tag = waggle_flow_tag(&w->key, &w->reply);
	__builtin_memcpy(w->tried.src, n->flow.new_src, 32);
	w->tried.src_port_be = n->flow.new_src_port_be;
	w->tried.dst_port_be = n->flow.new_dst_port_be;
}

/*
 * A connection of the client to the backend itself, which the packet would hit? A packet
 * that keeps its addresses and ports is of that very connection.
 */
static __always_inline int hits_direct(struct __sk_buff *skb, struct work *w)
{
	struct newcomer *n = &w->n;

	return w->p.protocol == IPPROTO_TCP && (n->flow.flags & WAGGLE_FLOW_REWRITE) &&
	       !(n->flow.flags & WAGGLE_FLOW_HAIRPIN) &&
	       client_talks(skb, &w->tried, n->netns_id, w->p.v6);
}

/* The client's own source port: who has it may be gone, or be ourselves. */
__noinline int waggle_claim_first(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct waggle_flow *other;

	if (!w)
		return REFUSED;
	name_reply(w);
	if (hits_direct(skb, w))
		return TAKEN;
	other = lookup_flow(&w->key);
	if (other) {
		/* Ours, of a try before: the entry of the other direction was evicted. */
		if (other->tag != w->reply.tag && !is_dead(skb, &w->key, other, &w->n, w->p.v6))
			return TAKEN;
		delete_flow(&w->key, other);
	}
	return claim_reply(w);
}

/* Another one, from a range that pods do not choose from by themselves. */
__noinline int waggle_claim_spare(struct __sk_buff *skb)
{
	__u32 range = WAGGLE_SPARE_PORT_LAST - WAGGLE_SPARE_PORT_FIRST + 1;
	struct work *w = my_work();

	if (!w)
		return REFUSED;
	w->n.flow.new_src_port_be =
		bpf_htons(WAGGLE_SPARE_PORT_FIRST + bpf_get_prandom_u32() % range);
	w->n.flow.flags |= WAGGLE_FLOW_REWRITE;
	name_reply(w);
	if (hits_direct(skb, w))
		return TAKEN;
	return claim_reply(w);
}

/*
 * Records the flow of work->p in half_open, both directions. work->n.flow says what the packet
 * becomes, and is changed where the source port had to be. 0, or the reason why it was not
 * recorded.
 */
__noinline int waggle_create(struct __sk_buff *skb)
{
	struct work *w = my_work();
	struct packet *p;
	struct newcomer *n;
	int claim;

	if (!w)
		return WAGGLE_REASON_HALF_OPEN_FULL;
	p = &w->p;
	n = &w->n;
	n->flow.kind = WAGGLE_FLOW_FORWARD;
	if (p->protocol == IPPROTO_TCP && is_connecting(skb))
		n->flow.flags |= WAGGLE_FLOW_OWNED;
	n->flow.created_ns = n->now_ns;
	n->flow.last_ns = n->now_ns;
	n->flow.isn = p->tcp_flags & TCP_SYN ? p->seq : 0;
	w->reply = n->flow;
	w->reply.kind = WAGGLE_FLOW_REPLY;
	w->reply.state = n->state_of_reply;
	w->reply.isn = 0;
	w->reply.place = 0;
	w->reply.routed_ns = 0;
	__builtin_memset(&w->reply.way, 0, sizeof(w->reply.way));
	__builtin_memcpy(w->reply.new_src, p->key.dst, 16);
	__builtin_memcpy(w->reply.new_dst, p->key.src, 16);
	w->reply.new_src_port_be = p->key.dst_port_be;
	w->reply.new_dst_port_be = p->key.src_port_be;

	claim = waggle_claim_first(skb);
	if (claim == TAKEN && !n->keep_port) {
		for (int attempt = 0; attempt < 8 && claim == TAKEN; attempt++)
			claim = waggle_claim_spare(skb);
		if (claim == CLAIMED)
			count_reason(WAGGLE_REASON_PORT_CHANGED);
	}
	if (claim == TAKEN)
		return WAGGLE_REASON_NO_FREE_PORT;
	if (claim != CLAIMED)
		return WAGGLE_REASON_HALF_OPEN_FULL;
	n->flow.tag = waggle_flow_tag(&p->key, &n->flow);
	bpf_map_delete_elem(&flows, &p->key);
	if (bpf_map_update_elem(&half_open, &p->key, &n->flow, BPF_ANY)) {
		bpf_map_delete_elem(&half_open, &w->key);
		return WAGGLE_REASON_HALF_OPEN_FULL;
	}
	return 0;
}

#endif
