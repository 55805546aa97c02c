/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_REWRITE_BPF_H
#define WAGGLE_BPF_REWRITE_BPF_H
/*
 * Changing addresses and ports with their checksums. Sums are changed by the helpers and
 * never computed anew, as a packet may carry a partial sum that a device will finish.
 */
#include "work.bpf.h"

/*
 * Addresses of the IP header at p->l3 become those of `to`; `checksum` is the offset of the
 * L4 checksum that covers them, 0 where there is none to change. 0 or an errno.
 */
static __always_inline int rewrite_addresses(struct __sk_buff *skb, const struct packet *p,
					     const struct addresses *to, __u32 checksum,
					     __u64 mangled_0)
{
	__s64 diff;

	if (is_v4(p)) {
		__be32 was[2] = {unmap_v4(p->key.src), unmap_v4(p->key.dst)};
		__be32 is[2] = {unmap_v4(to->src), unmap_v4(to->dst)};

		diff = bpf_csum_diff(was, sizeof(was), is, sizeof(is), 0);
		if (checksum &&
		    bpf_l4_csum_replace(skb, checksum, 0, diff, BPF_F_PSEUDO_HDR | mangled_0))
			return -1;
		if (bpf_l3_csum_replace(skb, p->l3 + 10, 0, diff, 0))
			return -1;
		return bpf_skb_store_bytes(skb, p->l3 + 12, is, sizeof(is), 0);
	}
	diff = bpf_csum_diff((__be32 *)p->key.src, 32, (__be32 *)to->src, 32, 0);
	if (checksum && bpf_l4_csum_replace(skb, checksum, 0, diff, BPF_F_PSEUDO_HDR | mangled_0))
		return -1;
	/*
	 * IPv6 has no header checksum that takes the change back, so that a sum which the
	 * device made over the whole packet stays as it is; the helper above took it for
	 * IPv4's. RECOMPUTE evens that out. Without an L4 checksum to change there is
	 * nothing to even out but the address itself, which the same flag does.
	 */
	return bpf_skb_store_bytes(skb, p->l3 + 8, to->src, 32, BPF_F_RECOMPUTE_CSUM);
}

/* What the change of `words` 32-bit words from *was to *is adds to a ones' complement sum. */
static __always_inline __u32 difference(const __u32 *was, const __u32 *is, int words)
{
	__u64 sum = 0;

	for (int i = 0; i < words; i++)
		sum += (__u64)is[i] + (__u32)~was[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)(sum + (sum >> 32));
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/*
 * The same as rewrite_packet() for a plain packet, which most are: with as few helpers as
 * can be, since they cost more than all else. Addresses and ports are neighbours there.
 */
static __always_inline int rewrite_plain(struct __sk_buff *skb, const struct packet *p,
					 const struct addresses *to)
{
	__u32 checksum = p->l4 + (p->protocol == IPPROTO_TCP ? 16 : 6);
	__u64 mangled_0 = p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 ports_were, ports_are, diff;

	__builtin_memcpy(&ports_were, &p->key.src_port_be, 4);
	__builtin_memcpy(&ports_are, &to->src_port_be, 4);
	if (is_v4(p)) {
		__u32 was[2] = {unmap_v4(p->key.src), unmap_v4(p->key.dst)};
		struct {
			__u8 ttl;
			__u8 protocol;
			__u16 checksum;
			__be32 src;
			__be32 dst;
			__u32 ports;
		} head = {p->ttl, p->protocol, 0, unmap_v4(to->src), unmap_v4(to->dst), ports_are};

		diff = difference(was, &head.src, 2);
		head.checksum = (__u16)~fold((__u64)(__u16)~p->ip_checksum + diff);
		if (bpf_l4_csum_replace(skb, checksum, 0, diff, BPF_F_PSEUDO_HDR | mangled_0))
			return -1;
		if (ports_were != ports_are &&
		    bpf_l4_csum_replace(skb, checksum, 0, difference(&ports_were, &ports_are, 1),
					mangled_0))
			return -1;
		return bpf_skb_store_bytes(skb, p->l3 + 8, &head, sizeof(head), 0);
	}
	diff = difference((const __u32 *)p->key.src, (const __u32 *)to->src, 8);
	if (bpf_l4_csum_replace(skb, checksum, 0, diff, BPF_F_PSEUDO_HDR | mangled_0) ||
	    bpf_skb_store_bytes(skb, p->l3 + 8, to->src, 32, BPF_F_RECOMPUTE_CSUM))
		return -1;
	if (ports_were == ports_are)
		return 0;
	if (bpf_l4_csum_replace(skb, checksum, 0, difference(&ports_were, &ports_are, 1),
				mangled_0))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, &ports_are, 4, 0);
}

/* The whole of a packet that is TCP or UDP becomes `to`. 0 or an errno. */
static __always_inline int rewrite_packet(struct __sk_buff *skb, const struct packet *p,
					  const struct addresses *to)
{
	__u32 checksum = p->l4 + (p->protocol == IPPROTO_TCP ? 16 : 6);
	/* UDP over IPv4 may go without. */
	__u64 mangled_0 = p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__be16 was[2] = {p->key.src_port_be, p->key.dst_port_be};
	__be16 is[2] = {to->src_port_be, to->dst_port_be};
	__s64 diff;

	if (p->fragment == FRAGMENT_LATER)
		return rewrite_addresses(skb, p, to, 0, 0);
	if (rewrite_addresses(skb, p, to, checksum, mangled_0))
		return -1;
	if (*(__u32 *)was == *(__u32 *)is)
		return 0;
	diff = bpf_csum_diff((__be32 *)was, 4, (__be32 *)is, 4, 0);
	if (bpf_l4_csum_replace(skb, checksum, 0, diff, mangled_0))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, is, 4, 0);
}

/* work->p becomes work->to. */
__noinline int waggle_rewrite(struct __sk_buff *skb)
{
	struct work *w = my_work();

	if (!w)
		return -1;
	return w->p.plain ? rewrite_plain(skb, &w->p, &w->to) : rewrite_packet(skb, &w->p, &w->to);
}

/* As a router does. 0 or an errno. */
static __always_inline int decrement_ttl(struct __sk_buff *skb, const struct packet *p)
{
	__u8 ttl = p->ttl - 1;

	if (!is_v4(p))
		return bpf_skb_store_bytes(skb, p->l3 + 7, &ttl, 1, BPF_F_RECOMPUTE_CSUM);
	if (bpf_l3_csum_replace(skb, p->l3 + 10, bpf_htons(p->ttl << 8 | p->protocol),
				bpf_htons(ttl << 8 | p->protocol), 2))
		return -1;
	return bpf_skb_store_bytes(skb, p->l3 + 8, &ttl, 1, 0);
}

/* Sends the frame back to where it came from: swaps the MACs, nothing on layer 3. */
static __always_inline int swap_macs(struct __sk_buff *skb, __u32 l2)
{
	__u8 macs[12], swapped[12];

	if (!l2)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

#endif
