/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_UDP_FLOW_BPF_H
#define WAGGLE_BPF_UDP_FLOW_BPF_H
/*
 * What unconnected UDP sockets are doing: which backend a socket uses for a
 * frontend (so that a conversation stays with one backend, as with conntrack),
 * and which frontend to show when that backend answers.
 *
 * One map for both directions and both families: a v4-mapped socket sends
 * through sendmsg4 and receives through recvmsg6.
 */
#include "service.bpf.h"

struct endpoint {
	__u8 addr[16];
	__be16 port_be;
} __attribute__((aligned(8)));

static __always_inline struct waggle_udp_flow_key udp_flow_key(__u64 cookie, __u8 direction,
							       const struct endpoint *from)
{
	struct waggle_udp_flow_key key = {};

	key.cookie = cookie;
	key.direction = direction;
	__builtin_memcpy(key.addr, from->addr, 16);
	key.port_be = from->port_be;
	return key;
}

/* Finds the flow. Returns 0 and fills *to and *last_ns, or -1. */
static __always_inline int udp_flow_find(const struct waggle_udp_flow_key *key, struct endpoint *to,
					 __u64 *last_ns)
{
	struct waggle_udp_flow *flow = bpf_map_lookup_elem(&udp_flows, key);

	if (!flow)
		return -1;
	__builtin_memcpy(to->addr, flow->addr, 16);
	to->port_be = flow->port_be;
	*last_ns = flow->last_ns;
	return flow->tag == waggle_udp_flow_tag(key, to->addr, to->port_be) ? 0 : -1;
}

/* Signed: another thread of the socket may have stamped the flow after `now_ns` was read. */
static __always_inline int udp_flow_idle(__u64 now_ns, __u64 last_ns)
{
	return (__s64)(now_ns - last_ns) > (__s64)WAGGLE_UDP_IDLE_NS;
}

/* Records or refreshes the flow; an unchanged one is only stamped, in place. */
static __always_inline void udp_flow_put(const struct waggle_udp_flow_key *key,
					 const struct endpoint *to, __u64 now_ns)
{
	struct waggle_udp_flow *flow = bpf_map_lookup_elem(&udp_flows, key);
	struct waggle_udp_flow fresh = {};
	__u32 tag = waggle_udp_flow_tag(key, to->addr, to->port_be);

	if (flow && flow->tag == tag &&
	    same_endpoint(flow->addr, flow->port_be, to->addr, to->port_be)) {
		*(volatile __u64 *)&flow->last_ns = now_ns;
		return;
	}
	fresh.last_ns = now_ns;
	__builtin_memcpy(fresh.addr, to->addr, 16);
	fresh.port_be = to->port_be;
	fresh.tag = tag;
	if (bpf_map_update_elem(&udp_flows, key, &fresh, BPF_ANY))
		count_reason(WAGGLE_REASON_UDP_FLOWS_FULL);
}

/* Is the socket talking to this backend by another address than `frontend`? */
static __always_inline int udp_backend_taken(__u64 cookie, const struct endpoint *backend,
					     const struct endpoint *frontend, __u64 now_ns)
{
	struct waggle_udp_flow_key key = udp_flow_key(cookie, WAGGLE_UDP_REVERSE, backend);
	struct endpoint other;
	__u64 last_ns;

	if (udp_flow_find(&key, &other, &last_ns))
		return 0;
	if (udp_flow_idle(now_ns, last_ns))
		return 0;
	return !same_endpoint(other.addr, other.port_be, frontend->addr, frontend->port_be);
}

#endif
