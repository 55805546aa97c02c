/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_REFUSE_BPF_H
#define WAGGLE_BPF_REFUSE_BPF_H
/*
 * Answers that are made from the packet itself and sent back to its sender: TCP resets and
 * ICMP errors.
 *
 * The packet may carry a partial checksum, which a device (or the receiver) finishes later
 * at a place that we cannot move, so it must come out right whether or not that happens.
 */
#include <linux/pkt_cls.h>

#include "rewrite.bpf.h"
#include "service.bpf.h"

/*
 * Does the L4 checksum at `at` wait to be finished? The helper leaves a field alone that does,
 * as ports are covered later. Destroys the field.
 */
static __always_inline int is_partial(struct __sk_buff *skb, __u32 at)
{
	__u16 sum = 0;

	if (bpf_skb_store_bytes(skb, at, &sum, 2, 0) || bpf_l4_csum_replace(skb, at, 0, 1, 2) ||
	    bpf_skb_load_bytes(skb, at, &sum, 2))
		return -1;
	return sum == 0;
}

/* Sum of the pseudo header of a packet from the receiver of *p to its sender. */
static __always_inline __u64 pseudo_sum(const struct packet *p, __u32 length, __u8 protocol)
{
	__be32 rest[2] = {bpf_htonl(length), bpf_htonl(protocol)};
	__be32 v4[2] = {unmap_v4(p->key.src), unmap_v4(p->key.dst)};
	__u64 sum = bpf_csum_diff(NULL, 0, rest, sizeof(rest), 0);

	if (is_v4(p))
		return bpf_csum_diff(NULL, 0, v4, sizeof(v4), sum);
	return bpf_csum_diff(NULL, 0, (__be32 *)p->key.src, 32, sum);
}

/* Options of the sender mean nothing in an answer: they become no-operations. */
static __always_inline int blank_options(struct __sk_buff *skb, const struct packet *p)
{
	__u32 at = p->l3 + sizeof(struct iphdr), length = p->l4 - at;
	__be32 was[10] = {}, is[10] = {};

	asm volatile("" : "+r"(length));
	length &= 0x3f;
	if (length == 0 || length > sizeof(was))
		return 0;
	if (bpf_skb_load_bytes(skb, at, was, length))
		return -1;
	for (__u32 i = 0; i < 10; i++)
		is[i] = i * 4 < length ? bpf_htonl(0x01010101) : 0;
	if (bpf_l3_csum_replace(skb, p->l3 + 10, 0, bpf_csum_diff(was, 40, is, 40, 0), 0))
		return -1;
	return bpf_skb_store_bytes(skb, at, is, length, 0);
}

/* The IP header turns round: addresses, length, hops. The length is from the IP header on. */
static __always_inline int turn_ip_header(struct __sk_buff *skb, const struct packet *p,
					  __u32 length)
{
	__u8 hops = 64;

	if (is_v4(p)) {
		__be32 turned[2] = {unmap_v4(p->key.dst), unmap_v4(p->key.src)};
		__be16 was, is = bpf_htons(length);

		if (bpf_skb_load_bytes(skb, p->l3 + 2, &was, 2) ||
		    bpf_l3_csum_replace(skb, p->l3 + 10, was, is, 2) ||
		    bpf_skb_store_bytes(skb, p->l3 + 2, &is, 2, 0) ||
		    bpf_l3_csum_replace(skb, p->l3 + 10, bpf_htons(p->ttl << 8 | p->protocol),
					bpf_htons(hops << 8 | p->protocol), 2) ||
		    bpf_skb_store_bytes(skb, p->l3 + 8, &hops, 1, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 12, turned, sizeof(turned), 0))
			return -1;
		return blank_options(skb, p);
	} else {
		__u8 turned[32];
		__be16 payload = bpf_htons(length - sizeof(struct ipv6hdr));

		__builtin_memcpy(turned, p->key.dst, 16);
		__builtin_memcpy(turned + 16, p->key.src, 16);
		if (bpf_skb_store_bytes(skb, p->l3 + 4, &payload, 2, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 7, &hops, 1, 0))
			return -1;
		return bpf_skb_store_bytes(skb, p->l3 + 8, turned, sizeof(turned), 0);
	}
}

static __always_inline int send_back(struct __sk_buff *skb, __u32 l2)
{
	if (swap_macs(skb, l2)) {
		count_reason(WAGGLE_REASON_REPLY_NOT_BUILT);
		return TC_ACT_SHOT;
	}
	return bpf_redirect(skb->ifindex, 0);
}

/* RFC 9293, 3.5.2: what a port without a listener says. */
static __always_inline int build_reset(struct __sk_buff *skb, const struct packet *p)
{
	__u32 payload = p->end - p->l3 - p->segment_headers;
	__u32 checksum = p->l4 + 16;
	struct tcphdr tcp = {};
	int partial;
	__u64 sum;

	/* Room for the 20 bytes is there: they were read. */
	partial = is_partial(skb, checksum);
	if (partial < 0 || bpf_skb_change_tail(skb, p->l4 + sizeof(tcp), 0))
		return -1;
	tcp.source = p->key.dst_port_be;
	tcp.dest = p->key.src_port_be;
	tcp.doff = 5;
	tcp.rst = 1;
	if (p->tcp_flags & TCP_ACK) {
		tcp.seq = bpf_htonl(p->ack);
	} else {
		tcp.ack = 1;
		tcp.ack_seq = bpf_htonl(p->seq + payload + !!(p->tcp_flags & TCP_SYN) +
					!!(p->tcp_flags & TCP_FIN));
	}
	sum = pseudo_sum(p, sizeof(tcp), IPPROTO_TCP);
	tcp.check =
		partial ? fold(sum)
			: (__u16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)&tcp, sizeof(tcp), sum));
	if (bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), 0))
		return -1;
	return turn_ip_header(skb, p, p->l4 - p->l3 + sizeof(tcp));
}

/* work->p becomes a reset to its sender. `l2`: bytes before the IP header, or 14. */
__noinline int waggle_refuse_tcp(struct __sk_buff *skb, __u32 l2)
{
	struct work *w = my_work();

	/* Never for a reset; nor for a fragment: the answer would be one, too, and the
	 * length of the whole segment is not known. */
	if (!w || w->p.tcp_flags & TCP_RST || w->p.fragment)
		return TC_ACT_SHOT;
	if (build_reset(skb, &w->p)) {
		count_reason(WAGGLE_REASON_REPLY_NOT_BUILT);
		return TC_ACT_SHOT;
	}
	return send_back(skb, l2);
}

#define TOKEN_NS (1000ULL * 1000 * 1000 / WAGGLE_ICMP_PER_S)

/* As the kernel limits its own errors; a token bucket for each CPU. */
static __always_inline int may_send_error(__u64 now_ns)
{
	__u32 zero = 0;
	struct waggle_icmp_budget *budget = bpf_map_lookup_elem(&icmp_budget, &zero);
	__u64 due = 0;

	if (!budget)
		return 0;
	/* Filled later than now: by programs before these, with a finer clock. */
	if (now_ns > budget->filled_ns)
		due = (now_ns - budget->filled_ns) / TOKEN_NS;
	if (due) {
		budget->tokens += due;
		budget->filled_ns += due * TOKEN_NS;
		if (budget->tokens > WAGGLE_ICMP_BURST) {
			budget->tokens = WAGGLE_ICMP_BURST;
			budget->filled_ns = now_ns;
		}
	}
	if (!budget->tokens)
		return 0;
	budget->tokens--;
	return 1;
}

/* The head of an error, in both families. */
struct icmp_head {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 rest_be; /* IPv4: MTU in the low half; IPv6: MTU */
};

/* What an ICMP error says. */
struct complaint {
	__u8 type;
	__u8 code;
	__u16 mtu; /* with the two errors that say one */
};

enum complaint_kind { PORT_UNREACHABLE, PACKET_TOO_BIG };

static __always_inline int outer_header(struct __sk_buff *skb, const struct packet *p, __u32 quoted)
{
	if (is_v4(p)) {
		struct iphdr ip = {};

		ip.version = 4;
		ip.ihl = 5;
		ip.tos = 0xc0; /* internetwork control, RFC 1812 4.3.2.5 */
		ip.tot_len = bpf_htons(sizeof(ip) + 8 + quoted);
		ip.ttl = 64;
		ip.protocol = IPPROTO_ICMP;
		ip.saddr = unmap_v4(p->key.dst);
		ip.daddr = unmap_v4(p->key.src);
		ip.check = (__u16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
		return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), 0);
	} else {
		struct ipv6hdr ip = {};

		ip.version = 6;
		ip.payload_len = bpf_htons(8 + quoted);
		ip.nexthdr = IPPROTO_ICMPV6;
		ip.hop_limit = 64;
		__builtin_memcpy(&ip.saddr, p->key.dst, 16);
		__builtin_memcpy(&ip.daddr, p->key.src, 16);
		return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), 0);
	}
}

/*
 * If the device finishes the quoted partial sum it must not spoil the sum of the error. The
 * finished field is F' = -(S + F), S the sum of the rest that it covers; with F = -S / 2
 * (modulo 65535, where one half is 32768) the field stays what it is.
 */
static __always_inline __u16 steady_sum(__u16 rest)
{
	__u32 negative = 65535 - rest;

	return (__u16)(negative & 1 ? (negative + 65535) / 2 : negative / 2);
}

static __always_inline int build_error(struct __sk_buff *skb, struct work *w,
				       const struct complaint *c)
{
	const struct packet *p = &w->p;
	__u32 header = is_v4(p) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 l4_quoted = p->protocol == IPPROTO_TCP ? 20 : 8;
	__u32 checksum = p->l4 + (p->protocol == IPPROTO_TCP ? 16 : 6);
	__u32 ip_quoted = p->l4 - p->l3, quoted = ip_quoted + l4_quoted;
	__u16 sum_was, sum_is;
	struct icmp_head icmp = {};
	int partial;
	__u64 sum;

	if (quoted < 28 || quoted > MAX_QUOTE)
		return -1;
	if (bpf_skb_load_bytes(skb, checksum, &sum_was, 2))
		return -1;
	partial = is_partial(skb, checksum);
	if (partial < 0 || bpf_skb_change_tail(skb, p->l3 + quoted, 0))
		return -1;
	sum_is = sum_was;
	if (partial) {
		/* The field is 0 since is_partial(). */
		__builtin_memset(w->quote, 0, sizeof(w->quote));
		if (p->protocol == IPPROTO_TCP ? bpf_skb_load_bytes(skb, p->l4, w->quote, 20)
					       : bpf_skb_load_bytes(skb, p->l4, w->quote, 8))
			return -1;
		sum_is = steady_sum(fold(bpf_csum_diff(NULL, 0, (__be32 *)w->quote, 20, 0)));
	}
	if (bpf_skb_store_bytes(skb, checksum, &sum_is, 2, 0))
		return -1;
	/* Once more for the verifier, which has forgotten it. */
	asm volatile("" : "+r"(quoted));
	quoted &= 0xff;
	if (quoted < 28 || quoted > MAX_QUOTE)
		return -1;
	__builtin_memset(w->quote, 0, sizeof(w->quote));
	if (bpf_skb_load_bytes(skb, p->l3, w->quote, quoted))
		return -1;
	if (bpf_skb_adjust_room(skb, header + 8, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	icmp.type = c->type;
	icmp.code = c->code;
	icmp.rest_be = bpf_htonl(c->mtu);
	sum = is_v4(p) ? 0 : pseudo_sum(p, 8 + quoted, IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&icmp, sizeof(icmp), sum);
	/* Zeros behind the quoted bytes change no sum. */
	icmp.checksum =
		(__u16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)w->quote, sizeof(w->quote), sum));
	if (bpf_skb_store_bytes(skb, p->l3 + header, &icmp, sizeof(icmp), 0))
		return -1;
	return outer_header(skb, p, quoted);
}

/*
 * work->p becomes an error to its sender, from the address that it was sent to. `kind`: enum
 * complaint_kind.
 */
__noinline int waggle_complain(struct __sk_buff *skb, __u32 l2, __u32 kind, __u32 mtu)
{
	struct work *w = my_work();
	struct complaint c = {};

	if (!w || w->p.fragment == FRAGMENT_LATER)
		return TC_ACT_SHOT; /* RFC 1122, 3.2.2: the first one is answered */
	if (!may_send_error(w->now_ns)) {
		count_reason(WAGGLE_REASON_ICMP_RATE_LIMITED);
		return TC_ACT_SHOT;
	}
	if (kind == PORT_UNREACHABLE) {
		c.type = w->p.v6 ? 1 : 3;
		c.code = w->p.v6 ? 4 : 3;
	} else {
		c.type = w->p.v6 ? 2 : 3;
		c.code = w->p.v6 ? 0 : 4;
		c.mtu = (__u16)mtu;
	}
	if (build_error(skb, w, &c)) {
		count_reason(WAGGLE_REASON_REPLY_NOT_BUILT);
		return TC_ACT_SHOT;
	}
	return send_back(skb, l2);
}

#endif
