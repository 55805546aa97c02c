/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_PACKET_BPF_H
#define WAGGLE_BPF_PACKET_BPF_H
/*
 * A packet as the packet path sees it: where its headers are and what they say. Nothing
 * here changes a packet.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"

#ifndef IPPROTO_ICMPV6
#define IPPROTO_ICMPV6 58
#endif

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum fragment { FRAGMENT_NONE = 0, FRAGMENT_FIRST = 1, FRAGMENT_LATER = 2 };

struct packet {
	struct waggle_flow_key key; /* ports: TCP and UDP only, 0 in a later fragment */
	__u32 l3;                   /* offset of the IP header */
	__u32 l4;                   /* offset of the header behind it and its extensions */
	__u32 end;                  /* offset of the end of the IP packet */
	__u32 seq;                  /* TCP, host order */
	__u32 ack;
	__u32 id;              /* of a fragment, as it stands in the packet */
	__u16 segment_headers; /* bytes from the IP header to the payload */
	__u8 protocol;         /* what stands at l4 */
	__u8 tcp_flags;
	__u8 v6;
	__u8 ttl;      /* or hop limit */
	__u8 fragment; /* enum fragment */
	__u8 whole;    /* may not be fragmented by a router: DF, or IPv6 */
	__u8 icmp_type;
	__u8 plain; /* neither options nor extensions nor a fragment: L4 right behind the IP header */
	__u16 ip_checksum; /* IPv4, of a plain packet */
	__u8 by_stack;     /* a later fragment, whose first one went by the stack */
	__u8 tagged;       /* has a VLAN tag, wherever */
};

struct addresses {
	__u8 src[16];
	__u8 dst[16];
	__be16 src_port_be;
	__be16 dst_port_be;
} __attribute__((aligned(8)));

static __always_inline int is_v4(const struct packet *p)
{
	return !p->v6;
}

/* What a packet of the other direction has. */
static __always_inline void turn_key(const struct waggle_flow_key *key,
				     struct waggle_flow_key *turned)
{
	__builtin_memset(turned, 0, sizeof(*turned));
	__builtin_memcpy(turned->src, key->dst, 16);
	__builtin_memcpy(turned->dst, key->src, 16);
	turned->src_port_be = key->dst_port_be;
	turned->dst_port_be = key->src_port_be;
	turned->protocol = key->protocol;
}

static __always_inline int same_mac(const __u8 left[6], const __u8 right[6])
{
	__u16 l[3], r[3];

	__builtin_memcpy(l, left, 6);
	__builtin_memcpy(r, right, 6);
	return l[0] == r[0] && l[1] == r[1] && l[2] == r[2];
}

static __always_inline void map_v4(__u8 to[16], __be32 addr_be)
{
	__u32 words[4] = {0, 0, bpf_htonl(0xffff), addr_be};

	__builtin_memcpy(to, words, 16);
}

static __always_inline __be32 unmap_v4(const __u8 from[16])
{
	__u32 addr_be;

	__builtin_memcpy(&addr_be, from + 12, 4);
	return addr_be;
}

/* IPv4 addresses are kept so; in an IPv6 header they mean nothing. */
static __always_inline int is_mapped(const struct in6_addr *addr)
{
	const __u32 *words = addr->in6_u.u6_addr32;

	return words[2] == bpf_htonl(0xffff) && !words[1] && !words[0];
}

/* How much of a packet there must be: quoted ones end after 8 bytes of the L4 header. */
enum parse { PARSE_WHOLE, PARSE_QUOTED };

static __always_inline int parse_v4(struct __sk_buff *skb, struct packet *p, enum parse how)
{
	struct iphdr ip;
	__u32 header, total;
	__u16 fragment;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	header = ip.ihl * 4;
	if (ip.version != 4 || header < sizeof(ip))
		return -1;
	total = bpf_ntohs(ip.tot_len);
	/* A super-packet of more than 64 KiB says 0, also where it is quoted. */
	if (total == 0 && (skb->gso_size || how == PARSE_QUOTED))
		total = skb->len - p->l3;
	if (total < header)
		return -1;
	p->end = p->l3 + total;
	if (how == PARSE_WHOLE && p->end > skb->len)
		return -1;
	map_v4(p->key.src, ip.saddr);
	map_v4(p->key.dst, ip.daddr);
	p->l4 = p->l3 + header;
	p->protocol = ip.protocol;
	p->ttl = ip.ttl;
	fragment = bpf_ntohs(ip.frag_off);
	p->whole = !!(fragment & 0x4000);
	p->id = ip.id;
	if (fragment & 0x1fff)
		p->fragment = FRAGMENT_LATER;
	else if (fragment & 0x2000)
		p->fragment = FRAGMENT_FIRST;
	return 0;
}

/* Options of hosts and of the last hop of a route are walked over; more than six headers,
 * an authentication header (it covers the addresses) or a route that goes on are not ours. */
static __always_inline int parse_v6(struct __sk_buff *skb, struct packet *p, enum parse how)
{
	struct ipv6hdr ip;
	__u32 payload;
	__u8 next;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	if (ip.version != 6 || is_mapped(&ip.saddr) || is_mapped(&ip.daddr))
		return -1;
	payload = bpf_ntohs(ip.payload_len);
	if (payload == 0 && (skb->gso_size || how == PARSE_QUOTED))
		payload = skb->len - p->l3 - sizeof(ip);
	p->end = p->l3 + sizeof(ip) + payload;
	if (how == PARSE_WHOLE && p->end > skb->len)
		return -1;
	__builtin_memcpy(p->key.src, &ip.saddr, 16);
	__builtin_memcpy(p->key.dst, &ip.daddr, 16);
	p->l4 = p->l3 + sizeof(ip);
	p->ttl = ip.hop_limit;
	p->whole = 1;
	next = ip.nexthdr;
	for (int i = 0; i < 6; i++) {
		__u8 ext[8];

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			break;
		if (p->l4 + 8 > p->end || bpf_skb_load_bytes(skb, p->l4, ext, sizeof(ext)))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			__u16 fragment = (ext[2] << 8 | ext[3]);

			__builtin_memcpy(&p->id, ext + 4, 4);
			if (fragment & 0xfff8)
				p->fragment = FRAGMENT_LATER;
			else if (fragment & 1)
				p->fragment = FRAGMENT_FIRST;
			p->l4 += 8;
		} else {
			if (next == IPPROTO_ROUTING && ext[3] != 0)
				return -1;
			p->l4 += (ext[1] + 1) * 8;
		}
		next = ext[0];
		if (p->fragment == FRAGMENT_LATER)
			break;
	}
	p->protocol = next;
	return 0;
}

/*
 * Reads the headers from p->l3 on. 0: TCP, UDP or an ICMP message, whole as far as its
 * headers go; else not ours. `how` is a constant.
 */
static __always_inline int parse_ip(struct __sk_buff *skb, struct packet *p, enum parse how)
{
	if (p->v6 ? parse_v6(skb, p, how) : parse_v4(skb, p, how))
		return -1;
	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return p->protocol == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) &&
				       how == PARSE_WHOLE && !p->fragment && p->l4 + 8 <= p->end &&
				       !bpf_skb_load_bytes(skb, p->l4, &p->icmp_type, 1)
			       ? 0
			       : -1;
	p->key.protocol = p->protocol;
	p->segment_headers = p->l4 - p->l3;
	if (p->fragment == FRAGMENT_LATER)
		return how == PARSE_WHOLE ? 0 : -1;
	if (how == PARSE_QUOTED || p->protocol == IPPROTO_UDP) {
		__u32 words[2];

		if (p->l4 + 8 > p->end || bpf_skb_load_bytes(skb, p->l4, words, 8))
			return -1;
		p->key.src_port_be = (__be16)words[0];
		p->key.dst_port_be = (__be16)(words[0] >> 16);
		p->segment_headers += 8;
	} else {
		struct tcphdr tcp;

		if (p->l4 + sizeof(tcp) > p->end ||
		    bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)))
			return -1;
		if (tcp.doff < 5 || p->l4 + tcp.doff * 4 > p->end)
			return -1;
		p->key.src_port_be = tcp.source;
		p->key.dst_port_be = tcp.dest;
		p->seq = bpf_ntohl(tcp.seq);
		p->ack = bpf_ntohl(tcp.ack_seq);
		p->tcp_flags = ((__u8 *)&tcp)[13];
		p->segment_headers += tcp.doff * 4;
	}
	return 0;
}

/*
 * Most packets: no tag in the frame, no options, no extensions, no fragment, headers in linear
 * memory. 0: read; else parse_frame() looks closer.
 */
static __always_inline int parse_plain(struct __sk_buff *skb, struct packet *p, __u32 l2)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	__be16 type_be = (__be16)skb->protocol;
	struct tcphdr *tcp;
	__be16 *ports;

	p->l3 = l2;
	p->tagged = !!skb->vlan_present;
	p->fragment = FRAGMENT_NONE;
	p->by_stack = 0;
	p->tcp_flags = 0;
	p->plain = 1;
	*(__u32 *)&p->key.protocol = 0; /* and what is reserved */
	if (type_be == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + l2;

		if (data + l2 + sizeof(*ip) + 8 > data_end)
			return -1;
		if (*(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(0x3fff))
			return -1;
		p->v6 = 0;
		p->l4 = l2 + sizeof(*ip);
		p->end = l2 + bpf_ntohs(ip->tot_len);
		p->protocol = ip->protocol;
		p->ttl = ip->ttl;
		p->whole = !!(ip->frag_off & bpf_htons(0x4000));
		p->ip_checksum = ip->check;
		map_v4(p->key.src, ip->saddr);
		map_v4(p->key.dst, ip->daddr);
		tcp = (void *)(ip + 1);
	} else if (type_be == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + l2;

		if (data + l2 + sizeof(*ip) + 8 > data_end)
			return -1;
		if (ip->version != 6 || is_mapped(&ip->saddr) || is_mapped(&ip->daddr))
			return -1;
		p->v6 = 1;
		p->l4 = l2 + sizeof(*ip);
		p->end = p->l4 + bpf_ntohs(ip->payload_len);
		p->protocol = ip->nexthdr;
		p->ttl = ip->hop_limit;
		p->whole = 1;
		__builtin_memcpy(p->key.src, &ip->saddr, 16);
		__builtin_memcpy(p->key.dst, &ip->daddr, 16);
		tcp = (void *)(ip + 1);
	} else {
		return -1;
	}
	if (p->end > skb->len || p->l4 + 8 > p->end)
		return -1;
	ports = (void *)tcp;
	p->key.src_port_be = ports[0];
	p->key.dst_port_be = ports[1];
	p->key.protocol = p->protocol;
	p->segment_headers = p->l4 - l2 + 8;
	if (p->protocol == IPPROTO_UDP)
		return 0;
	if (p->protocol != IPPROTO_TCP || (void *)(tcp + 1) > data_end || tcp->doff < 5)
		return -1;
	p->segment_headers = p->l4 - l2 + tcp->doff * 4;
	if (l2 + p->segment_headers > p->end)
		return -1;
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->tcp_flags = ((__u8 *)tcp)[13];
	return 0;
}

/* From the start of the frame; `l2` is 14, or 0 on a layer-3 device. */
static __always_inline int parse_frame(struct __sk_buff *skb, struct packet *p, __u32 l2)
{
	__be16 type_be = (__be16)skb->protocol;

	p->l3 = l2;
	p->tagged = !!skb->vlan_present;
	for (int tags = 0; l2 && tags < 2; tags++) {
		if (type_be != bpf_htons(ETH_P_8021Q) && type_be != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, p->l3 + 2, &type_be, 2))
			return -1;
		p->l3 += 4;
		p->tagged = 1;
	}
	if (type_be == bpf_htons(ETH_P_IPV6))
		p->v6 = 1;
	else if (type_be != bpf_htons(ETH_P_IP))
		return -1;
	return parse_ip(skb, p, PARSE_WHOLE);
}

static __always_inline int is_icmp_error(const struct packet *p)
{
	if (p->v6)
		return p->protocol == IPPROTO_ICMPV6 && p->icmp_type >= 1 && p->icmp_type <= 4;
	return p->protocol == IPPROTO_ICMP &&
	       (p->icmp_type == 3 || p->icmp_type == 11 || p->icmp_type == 12);
}

#endif
