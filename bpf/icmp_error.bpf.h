/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_ICMP_ERROR_BPF_H
#define WAGGLE_BPF_ICMP_ERROR_BPF_H
/*
 * ICMP errors about packets of translated flows.
 */
#include "forward.bpf.h"

/*
 * The quoted L4 checksum, as far as it is there, becomes that of the packet which its sender
 * sent (RFC 5508, 4.2): some know their packets by it. Adds to *diff what the message's
 * sum changes by. 0 or an errno.
 */
static __always_inline int rewrite_quoted_sum(struct __sk_buff *skb, const struct packet *p,
					      const struct packet *quoted,
					      const struct addresses *inner, __s64 *diff)
{
	__u32 at = quoted->l4 + (quoted->protocol == IPPROTO_TCP ? 16 : 6);
	__u32 ports_were, ports_are;
	__u16 was[2] = {}, is[2] = {};
	__u64 sum;

	if (at + 2 > p->end || at + 2 > quoted->end || bpf_skb_load_bytes(skb, at, was, 2))
		return 0;
	if (!was[0] && quoted->protocol == IPPROTO_UDP)
		return 0;
	__builtin_memcpy(&ports_were, &quoted->key.src_port_be, 4);
	__builtin_memcpy(&ports_are, &inner->src_port_be, 4);
	sum = (__u64)(__u16)~was[0] + difference(&ports_were, &ports_are, 1);
	if (is_v4(p)) {
		__u32 v4_was[2] = {unmap_v4(quoted->key.src), unmap_v4(quoted->key.dst)};
		__u32 v4_is[2] = {unmap_v4(inner->src), unmap_v4(inner->dst)};

		sum += difference(v4_was, v4_is, 2);
	} else {
		sum += difference((const __u32 *)quoted->key.src, (const __u32 *)inner->src, 8);
	}
	is[0] = (__u16)~fold(sum);
	if (!is[0] && quoted->protocol == IPPROTO_UDP)
		is[0] = 0xffff;
	*diff = bpf_csum_diff((__be32 *)was, 4, (__be32 *)is, 4, *diff);
	return bpf_skb_store_bytes(skb, at, is, 2, 0);
}

/* Is it an error about a packet of a flow of ours? Then both headers are translated. */
__noinline int waggle_on_icmp_error(struct __sk_buff *skb, __u32 hook)
{
	struct work *w = my_work();
	struct addresses *inner, *outer;
	struct packet *p, *quoted;
	struct waggle_flow *flow;
	__u32 checksum;
	__be16 was[2], is[2];
	__s64 diff = 0;

	if (!w)
		return TC_ACT_UNSPEC;
	p = &w->p;
	quoted = &w->quoted;
	inner = &w->quoted_to;
	outer = &w->to;
	checksum = p->l4 + 2;
	__builtin_memset(quoted, 0, sizeof(*quoted));
	quoted->v6 = p->v6;
	quoted->l3 = p->l4 + 8;
	if (parse_ip(skb, quoted, PARSE_QUOTED) || quoted->l4 + 8 > p->end)
		return TC_ACT_UNSPEC;
	/* About a packet that its receiver has not sent: conntrack does not believe it either. */
	if (!same_endpoint(p->key.dst, 0, quoted->key.src, 0))
		return TC_ACT_UNSPEC;
	/* A packet of the other direction than the one that is complained about. */
	turn_key(&quoted->key, &w->key);
	flow = find_flow(&w->key, w->now_ns);
	if (!flow || !is_for(hook, flow) ||
	    (flow->flags & WAGGLE_FLOW_HAIRPIN && flow->ifindex != skb->ifindex))
		return TC_ACT_UNSPEC;
	take_flow(skb, w, flow);
	if (hook == HOOK_POD_OUT || (w->way.how == WAGGLE_WAY_NEIGH && p->ttl <= 1))
		w->way.how = WAGGLE_WAY_STACK;
	if (!(w->flags & WAGGLE_FLOW_REWRITE))
		goto send;

	/* As the receiver of the error sent it. */
	__builtin_memcpy(inner->src, flow->new_dst, 16);
	__builtin_memcpy(inner->dst, flow->new_src, 16);
	inner->src_port_be = flow->new_dst_port_be;
	inner->dst_port_be = flow->new_src_port_be;
	__builtin_memcpy(outer->src, p->key.src, 16);
	if (same_endpoint(p->key.src, 0, quoted->key.dst, 0))
		__builtin_memcpy(outer->src, inner->dst, 16); /* from the other side itself */
	__builtin_memcpy(outer->dst, inner->src, 16);

	/*
	 * The quoted header: what its own checksum takes back is no change to the sum of
	 * the error, and what that sum takes back none to the whole packet's.
	 */
	was[0] = quoted->key.src_port_be;
	was[1] = quoted->key.dst_port_be;
	is[0] = inner->src_port_be;
	is[1] = inner->dst_port_be;
	diff = bpf_csum_diff((__be32 *)was, 4, (__be32 *)is, 4, 0);
	if (p->v6)
		diff = bpf_csum_diff((__be32 *)quoted->key.src, 32, (__be32 *)inner->src, 32, diff);
	if (rewrite_quoted_sum(skb, p, quoted, inner, &diff) ||
	    (p->v6 ? bpf_skb_store_bytes(skb, quoted->l3 + 8, inner->src, 32, 0)
		   : rewrite_addresses(skb, quoted, inner, 0, 0)) ||
	    bpf_skb_store_bytes(skb, quoted->l4, is, 4, 0) ||
	    bpf_l4_csum_replace(skb, checksum, 0, diff, 0) ||
	    rewrite_addresses(skb, p, outer, p->v6 ? checksum : 0, 0))
		return drop(WAGGLE_REASON_REWRITE_FAILED);
send:
	count_reason(WAGGLE_REASON_ICMP_TRANSLATED);
	if (w->way.how == WAGGLE_WAY_STACK)
		return TC_ACT_UNSPEC;
	return redirect(skb, w);
}

#endif
