/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_ROUTE_BPF_H
#define WAGGLE_BPF_ROUTE_BPF_H
/*
 * Which way a packet takes: through the host's stack, or past it.
 */
#include "config.bpf.h"
#include "rewrite.bpf.h"

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

#define LEAST_MTU 68 /* of IPv4: RFC 791 */
#define FIB_SKIP_NEIGH \
	(1U << 2) /* BPF_FIB_LOOKUP_SKIP_NEIGH, newer than the headers we build with */

static __always_inline int fib(struct __sk_buff *skb, const struct packet *p,
			       const struct addresses *as, __u32 from, struct bpf_fib_lookup *out)
{
	__u32 flags = waggle_config.have_skip_neigh ? FIB_SKIP_NEIGH : 0;

	__builtin_memset(out, 0, sizeof(*out));
	out->family = is_v4(p) ? AF_INET : AF_INET6;
	out->l4_protocol = p->protocol;
	out->sport = as->src_port_be;
	out->dport = as->dst_port_be;
	out->tot_len = 1; /* gives the route's MTU back */
	out->ifindex = from;
	if (is_v4(p)) {
		out->ipv4_src = unmap_v4(as->src);
		out->ipv4_dst = unmap_v4(as->dst);
	} else {
		__builtin_memcpy(out->ipv6_src, as->src, 32);
	}
	return bpf_fib_lookup(skb, out, sizeof(*out), flags);
}

static __always_inline int same_hop(const struct packet *p, const struct bpf_fib_lookup *one,
				    const struct bpf_fib_lookup *other)
{
	if (one->ifindex != other->ifindex || one->family != other->family)
		return 0;
	if (is_v4(p))
		return one->ipv4_dst == other->ipv4_dst;
	return one->ipv6_dst[0] == other->ipv6_dst[0] && one->ipv6_dst[1] == other->ipv6_dst[1] &&
	       one->ipv6_dst[2] == other->ipv6_dst[2] && one->ipv6_dst[3] == other->ipv6_dst[3];
}

/*
 * Does this route out of an uplink lead to a pod? A backend on the link itself is a node, as
 * far as can be told, and one that is reached as any stranger would be may be anything:
 * to those the pod network's owner may want to masquerade pods, in the stack.
 */
static __always_inline int leads_to_pods(struct __sk_buff *skb, const struct packet *p,
					 const struct journey *j,
					 const struct bpf_fib_lookup *found)
{
	struct bpf_fib_lookup stranger;
	struct addresses far = j->as;
	int result;

	if (is_v4(p) && found->family == AF_INET && found->ipv4_dst == unmap_v4(j->as.dst))
		return 0;
	if (!is_v4(p)) {
		__u32 dst[4];

		__builtin_memcpy(dst, j->as.dst, 16);
		if (found->ipv6_dst[0] == dst[0] && found->ipv6_dst[1] == dst[1] &&
		    found->ipv6_dst[2] == dst[2] && found->ipv6_dst[3] == dst[3])
			return 0;
	}
	/* Addresses of documentation: 192.0.2.1 (RFC 5737), 2001:db8::1 (RFC 3849). */
	if (is_v4(p)) {
		map_v4(far.dst, bpf_htonl(0xc0000201));
	} else {
		__u32 words[4] = {bpf_htonl(0x20010db8), 0, 0, bpf_htonl(1)};

		__builtin_memcpy(far.dst, words, 16);
	}
	result = fib(skb, p, &far, j->from, &stranger);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 1; /* nobody goes by a default route here */
	return !same_hop(p, found, &stranger);
}

static __always_inline int find_way(struct __sk_buff *skb, const struct packet *p,
				    const struct journey *j, struct waggle_way *out)
{
	struct bpf_fib_lookup found;
	struct waggle_device *device;
	struct waggle_way way = {};
	int result = fib(skb, p, &j->as, j->from, &found);

	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	/* Without SKIP_NEIGH an unknown neighbour hides the MTU, and before Linux 5.12 it does not
	 * come back at all, but our own 1: it is not checked then. */
	if (result == BPF_FIB_LKUP_RET_SUCCESS && found.mtu_result >= LEAST_MTU)
		way.mtu = found.mtu_result;
	way.device = found.ifindex;
	device = bpf_map_lookup_elem(&devices, &way.device);
	if (!device)
		return 0;
	switch (device->role) {
	case WAGGLE_ROLE_POD:
		if (device->netns_id < 0)
			return 0; /* no peer in another namespace: redirect_peer cannot go there */
		way.how = WAGGLE_WAY_PEER;
		break;
	case WAGGLE_ROLE_BRIDGE:
		way.how = WAGGLE_WAY_NEIGH;
		if (j->learned) {
			/* Still a port of that bridge, and not another device of that number? */
			struct waggle_device *port = bpf_map_lookup_elem(&devices, &j->learned);

			if (port && port->role == WAGGLE_ROLE_POD && port->netns_id >= 0 &&
			    port->bridge == way.device) {
				way.how = WAGGLE_WAY_PEER;
				way.device = j->learned;
			}
		}
		break;
	case WAGGLE_ROLE_TUNNEL:
		way.how = WAGGLE_WAY_NEIGH;
		break;
	case WAGGLE_ROLE_UPLINK:
		if (!leads_to_pods(skb, p, j, &found))
			return 0;
		way.how = WAGGLE_WAY_NEIGH;
		break;
	default:
		return 0;
	}
	*out = way;
	return 0;
}

/* work->way becomes the short way for work->p to work->j, or WAGGLE_WAY_STACK. */
__noinline int waggle_route(struct __sk_buff *skb)
{
	struct waggle_way none = {};
	struct work *w = my_work();

	if (!w)
		return -1;
	w->way = none;
	return find_way(skb, &w->p, &w->j, &w->way);
}

/*
 * Would an answer to the client's address go back to where its packet came from? Else the
 * stack shall look at it (rp_filter): past it a pod could speak in another one's name.
 */
__noinline int waggle_source_fits(struct __sk_buff *skb, __u32 from)
{
	struct bpf_fib_lookup found;
	struct work *w = my_work();
	struct addresses back;
	int result;

	if (!w)
		return 0;
	__builtin_memcpy(back.src, w->p.key.dst, 16);
	__builtin_memcpy(back.dst, w->p.key.src, 16);
	back.src_port_be = w->p.key.dst_port_be;
	back.dst_port_be = w->p.key.src_port_be;
	result = fib(skb, &w->p, &back, from, &found);
	return (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       found.ifindex == from;
}

static __always_inline struct waggle_way load_way(const struct waggle_flow *flow)
{
	struct waggle_way way;
	__u64 word = *(volatile __u64 *)&flow->way;

	__builtin_memcpy(&way, &word, sizeof(way));
	return way;
}

static __always_inline void store_way(struct waggle_flow *flow, struct waggle_way way)
{
	__u64 word;

	__builtin_memcpy(&word, &way, sizeof(word));
	*(volatile __u64 *)&flow->way = word;
}

/* The device that packets which came by this one are routed from. */
static __always_inline __u32 routed_from(__u32 ifindex)
{
	struct waggle_device *device = bpf_map_lookup_elem(&devices, &ifindex);

	return device && device->bridge ? device->bridge : ifindex;
}

/* Is the packet, or each segment of a super-packet, larger than the way takes? */
static __always_inline int too_big(const struct __sk_buff *skb, const struct packet *p,
				   struct waggle_way way)
{
	__u32 length = p->end - p->l3;

	if (!way.mtu)
		return 0;
	if (skb->gso_size)
		length = p->segment_headers + skb->gso_size;
	return length > way.mtu;
}

#endif
