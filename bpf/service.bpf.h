/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_SERVICE_BPF_H
#define WAGGLE_BPF_SERVICE_BPF_H
/*
 * Frontend lookup and choice of a backend. Shared by every hook; knows nothing
 * of sockets or packets.
 */
#include "maps.bpf.h"

/* A consistent reading of one frontend at one instant. */
struct service {
	__u32 base;
	__u32 count;
	__u32 service_id;
	__u8 fate;   /* enum waggle_fate; NONE: not a frontend */
	__u8 policy; /* enum waggle_policy */
};

static __always_inline void count_reason(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&stats, &reason);

	/* Atomic although per CPU: a task may be preempted here, and another count in between. */
	if (n)
		__sync_fetch_and_add(n, 1);
}

/*
 * Is this address a frontend, and which list is in force, at which slot? One hash lookup, one
 * array lookup. The list word is loaded once, so base and count belong together.
 */
static __always_inline struct service find_service_at(const struct waggle_frontend_key *key,
						      __u32 *slot_found)
{
	struct service none = {}, found = {};
	struct waggle_frontend *row = bpf_map_lookup_elem(&frontends, key);
	struct waggle_list *list;
	__u32 slot, service_id, kind, tag;
	__u64 word;

	if (!row)
		return none;
	slot = *(volatile __u32 *)&row->slot;
	service_id = *(volatile __u32 *)&row->service_id;
	kind = *(volatile __u8 *)&row->kind;
	tag = *(volatile __u32 *)&row->tag;
	if (tag != waggle_frontend_tag(key, slot, service_id, kind)) {
		/* The element was deleted and became another row: ours is gone. */
		count_reason(WAGGLE_REASON_STALE_ROW);
		return none;
	}
	*slot_found = slot;
	list = bpf_map_lookup_elem(&lists, &slot);
	if (!list) {
		count_reason(WAGGLE_REASON_DANGLING_SLOT);
		return none;
	}
	word = *(volatile __u64 *)list;
	found.base = (__u32)word;
	found.count = (__u16)(word >> 32);
	found.fate = (__u8)(word >> 48);
	found.policy = (__u8)(word >> 56);
	found.service_id = service_id;
	if (found.fate == WAGGLE_FATE_NONE)
		count_reason(WAGGLE_REASON_DANGLING_SLOT);
	else if (found.fate == WAGGLE_FATE_FORWARD && found.count == 0)
		found.fate = WAGGLE_FATE_REFUSE;
	return found;
}

static __always_inline struct service find_service(const struct waggle_frontend_key *key)
{
	__u32 slot;

	return find_service_at(key, &slot);
}

/* The list in force at a slot, if it is still that Service's. 0, or -1. */
static __always_inline int list_at(__u32 slot, __u32 service_id, struct service *svc)
{
	struct waggle_list *list = bpf_map_lookup_elem(&lists, &slot);
	__u64 word;

	if (!list || list->service_id != service_id)
		return -1;
	word = *(volatile __u64 *)list;
	svc->base = (__u32)word;
	svc->count = (__u16)(word >> 32);
	svc->fate = (__u8)(word >> 48);
	svc->policy = (__u8)(word >> 56);
	svc->service_id = service_id;
	return 0;
}

static __always_inline struct waggle_backend *backend_at(const struct service *svc, __u32 index)
{
	__u32 at = svc->base + index;

	return bpf_map_lookup_elem(&backends, &at);
}

/* Uniform over the list: a 32-bit random number scaled to count (bias below 2^-16). */
static __always_inline __u32 random_index(const struct service *svc)
{
	return ((__u64)bpf_get_prandom_u32() * svc->count) >> 32;
}

static __always_inline int compare_bytes_be(__u64 left, __u64 right)
{
	left = __builtin_bswap64(left);
	right = __builtin_bswap64(right);
	return left < right ? -1 : left > right;
}

/* Order of a list: address, then port, as bytes in network order. */
static __always_inline int compare_endpoint(const __u8 left[16], __be16 left_port_be,
					    const __u8 right[16], __be16 right_port_be)
{
	__u64 l, r;
	int order;

	__builtin_memcpy(&l, left, 8);
	__builtin_memcpy(&r, right, 8);
	order = compare_bytes_be(l, r);
	if (order)
		return order;
	__builtin_memcpy(&l, left + 8, 8);
	__builtin_memcpy(&r, right + 8, 8);
	order = compare_bytes_be(l, r);
	if (order)
		return order;
	return (int)__builtin_bswap16(left_port_be) - (int)__builtin_bswap16(right_port_be);
}

static __always_inline int same_endpoint(const __u8 left[16], __be16 left_port_be,
					 const __u8 right[16], __be16 right_port_be)
{
	__u64 l[2], r[2];

	__builtin_memcpy(l, left, 16);
	__builtin_memcpy(r, right, 16);
	return l[0] == r[0] && l[1] == r[1] && left_port_be == right_port_be;
}

/* Where in the list is this backend? Lists are sorted: 17 steps for 65,535. -1: nowhere. */
static __always_inline __s64 list_find(const struct service *svc, const __u8 addr[16],
				       __be16 port_be)
{
	__u32 low = 0, high = svc->count;

	for (int step = 0; step < 17; step++) {
		struct waggle_backend *backend;
		__u32 middle;
		int order;

		if (low >= high)
			return -1;
		middle = (low + high) / 2;
		backend = backend_at(svc, middle);
		if (!backend)
			return -1;
		order = compare_endpoint(addr, port_be, backend->addr, backend->port_be);
		if (order == 0)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

static __always_inline int list_holds(const struct service *svc, const __u8 addr[16],
				      __be16 port_be)
{
	return list_find(svc, addr, port_be) >= 0;
}

#endif
