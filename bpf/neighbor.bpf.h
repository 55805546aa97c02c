/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_NEIGHBOR_BPF_H
#define WAGGLE_BPF_NEIGHBOR_BPF_H
/*
 * Neighbour discovery between pods of one bridge. With br_netfilter a FORWARD policy of DROP
 * drops IPv6 neighbour solicitations on the bridge (ARP it leaves alone): a backend cannot
 * find out where its client is, nor a client whose socket was translated where the
 * backend is, and their packets never get as far as to us. So in redirect forwarding we give
 * the answer that the other pod would have given, if we know it: a client's MAC from its own packets,
 * anybody's from the host's neighbour table.
 *
 * What goes straight to a pod gets the pod's MAC, from the pod's own packets: Linux does not look at
 * it any more, but gVisor does, and so does a bridge in the pod that has a machine on it.
 */
#include "route.bpf.h"
#include "refuse.bpf.h"

struct neighbor_key {
	__u8 addr[16];
	__u32 device; /* ifindex: the bridge, or the pod's own */
	__u32 reserved;
};

struct neighbor {
	__u64 seen_ns; /* CLOCK_MONOTONIC; in place */
	__u8 mac[6];
	__u8 reserved[2];
};

/* Not pinned: each living flow renews its client once a second. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct neighbor_key);
	__type(value, struct neighbor);
} neighbors SEC(".maps");

/* A client is answered for as long after its last sign of life: as the kernel's REACHABLE. */
#define NEIGHBOR_NS (30ULL * 1000 * 1000 * 1000)

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_LINK_ADDRESS_TARGET 2

/* A solicitation or advertisement with one option; RFC 4861, 4.3 and 4.4. */
struct nd_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags_be;
	__u8 target[16];
	__u8 option;
	__u8 option_length; /* 8 bytes each */
	__u8 mac[6];
};

/* The sender of work->p, as it is known on `device`. */
static __always_inline void note_neighbor(struct __sk_buff *skb, const struct work *w, __u32 device)
{
	struct neighbor_key key = {};
	struct neighbor fresh = {}, *known;

	if (bpf_skb_load_bytes(skb, 6, fresh.mac, 6))
		return;
	__builtin_memcpy(key.addr, w->p.key.src, 16);
	key.device = device;
	known = bpf_map_lookup_elem(&neighbors, &key);
	if (known && same_mac(known->mac, fresh.mac)) {
		*(volatile __u64 *)&known->seen_ns = w->now_ns;
		return;
	}
	fresh.seen_ns = w->now_ns;
	bpf_map_update_elem(&neighbors, &key, &fresh, BPF_ANY);
}

/* The client of work->p: for the pods that share its bridge. */
static __always_inline void note_on_bridge(struct __sk_buff *skb, const struct work *w,
					   __u32 bridge)
{
	if (w->p.v6 && bridge != skb->ifindex)
		note_neighbor(skb, w, bridge);
}

/* Gives the frame the MAC of the pod that it goes to. 1: it has it, 0: not known, or an errno. */
static __always_inline int address_to_pod(struct __sk_buff *skb, const struct work *w)
{
	struct neighbor_key key = {};
	struct neighbor *known;
	__u8 mac[6];

	__builtin_memcpy(key.addr, w->flags & WAGGLE_FLOW_REWRITE ? w->to.dst : w->p.key.dst, 16);
	key.device = w->way.device;
	known = bpf_map_lookup_elem(&neighbors, &key);
	if (!known)
		return 0;
	__builtin_memcpy(mac, known->mac, 6);
	return bpf_skb_store_bytes(skb, 0, mac, 6, 0) ?: 1;
}

/* The MAC of the pod with that address on the bridge. 0, or -1: not known. */
static __always_inline int find_mac(struct __sk_buff *skb, const struct work *w, __u32 bridge,
				    const __u8 target[16], __u8 mac[6])
{
	struct neighbor_key key = {};
	struct bpf_fib_lookup host = {};
	struct neighbor *known;

	__builtin_memcpy(key.addr, target, 16);
	key.device = bridge;
	known = bpf_map_lookup_elem(&neighbors, &key);
	if (known &&
	    (__s64)(w->now_ns - *(volatile __u64 *)&known->seen_ns) <= (__s64)NEIGHBOR_NS) {
		__builtin_memcpy(mac, known->mac, 6);
		return 0;
	}
	host.family = AF_INET6;
	host.ifindex = bridge;
	__builtin_memcpy(host.ipv6_src, w->p.key.src, 16);
	__builtin_memcpy(host.ipv6_dst, target, 16);
	if (bpf_fib_lookup(skb, &host, sizeof(host), 0) != BPF_FIB_LKUP_RET_SUCCESS ||
	    host.ifindex != bridge)
		return -1;
	__builtin_memcpy(mac, host.dmac, 6);
	return 0;
}

/* work->p is a neighbour solicitation from a pod. */
__noinline int waggle_answer_solicitation(struct __sk_buff *skb)
{
	__u8 own_mac[6], payload_be[2] = {0, sizeof(struct nd_message)};
	__u32 bridge = routed_from(skb->ifindex);
	struct work *w = my_work();
	struct nd_message message = {};
	struct packet *p;
	__u8 addresses[32];
	__u64 sum;

	if (!w || bridge == skb->ifindex || w->p.tagged)
		return TC_ACT_UNSPEC;
	p = &w->p;
	/* Not where the other one is asked itself whether it is still there; nor when nobody asks,
	 * which is how one finds out whether an address is free. */
	if (p->ttl != 255 || p->key.dst[0] != 0xff || p->l4 != p->l3 + sizeof(struct ipv6hdr) ||
	    (!*(__u64 *)p->key.src && !*(__u64 *)(p->key.src + 8)) ||
	    p->l4 + __builtin_offsetof(struct nd_message, option) > p->end ||
	    bpf_skb_load_bytes(skb, p->l4, &message,
			       __builtin_offsetof(struct nd_message, option)) ||
	    message.code || bpf_skb_load_bytes(skb, 6, own_mac, 6))
		return TC_ACT_UNSPEC;
	if (find_mac(skb, w, bridge, message.target, message.mac))
		return TC_ACT_UNSPEC;
	if (same_mac(own_mac, message.mac))
		return TC_ACT_UNSPEC;
	message.type = ND_ADVERTISEMENT;
	message.checksum = 0;
	message.flags_be = bpf_htonl(0x60000000); /* solicited, override */
	message.option = ND_LINK_ADDRESS_TARGET;
	message.option_length = 1;
	__builtin_memcpy(p->key.dst, message.target, 16);
	sum = pseudo_sum(p, sizeof(message), IPPROTO_ICMPV6);
	message.checksum =
		(__u16)~fold(bpf_csum_diff(NULL, 0, (__be32 *)&message, sizeof(message), sum));
	__builtin_memcpy(addresses, p->key.dst, 16);
	__builtin_memcpy(addresses + 16, p->key.src, 16);
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(message), 0) ||
	    bpf_skb_store_bytes(skb, 0, own_mac, 6, 0) ||
	    bpf_skb_store_bytes(skb, 6, message.mac, 6, 0) ||
	    bpf_skb_store_bytes(skb, p->l3 + 4, payload_be, 2, 0) ||
	    bpf_skb_store_bytes(skb, p->l3 + 8, addresses, 32, 0) ||
	    bpf_skb_store_bytes(skb, p->l4, &message, sizeof(message), 0)) {
		count_reason(WAGGLE_REASON_REPLY_NOT_BUILT);
		return TC_ACT_SHOT;
	}
	return bpf_redirect(skb->ifindex, 0);
}

#endif
