/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_FRAGMENT_BPF_H
#define WAGGLE_BPF_FRAGMENT_BPF_H
/*
 * Fragments: only the first one has ports, and all of a datagram go one way.
 */
#include "work.bpf.h"

/* The lowest bit of the tag says that the datagram goes by the stack. */
#define FRAGMENT_BY_STACK 1U

static __always_inline void name_fragment(struct work *w)
{
	__builtin_memset(&w->fragment, 0, sizeof(w->fragment));
	__builtin_memcpy(w->fragment.src, w->p.key.src, 32);
	w->fragment.id = w->p.id;
	w->fragment.protocol = w->p.protocol;
}

/* Learns the ports of a first fragment, and gives them to a later one. -1: not known. */
static __always_inline int track_fragment(struct work *w)
{
	struct waggle_fragment ports = {}, *known;
	struct packet *p = &w->p;
	__u32 tag;

	name_fragment(w);
	tag = waggle_fragment_tag(&w->fragment) & ~FRAGMENT_BY_STACK;
	if (p->fragment == FRAGMENT_FIRST) {
		ports.src_port_be = p->key.src_port_be;
		ports.dst_port_be = p->key.dst_port_be;
		ports.tag = tag;
		bpf_map_update_elem(&fragments, &w->fragment, &ports, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &w->fragment);
	if (!known)
		return -1;
	*(__u64 *)&ports = *(volatile __u64 *)known;
	if ((ports.tag & ~FRAGMENT_BY_STACK) != tag)
		return -1;
	p->key.src_port_be = ports.src_port_be;
	p->key.dst_port_be = ports.dst_port_be;
	p->by_stack = ports.tag & FRAGMENT_BY_STACK;
	return 0;
}

/* A datagram that the stack puts together again must reach it whole, small last piece too. */
static __always_inline void send_all_by_stack(struct work *w)
{
	struct waggle_fragment *known;

	if (w->p.fragment != FRAGMENT_FIRST)
		return;
	name_fragment(w);
	known = bpf_map_lookup_elem(&fragments, &w->fragment);
	if (known)
		*(volatile __u32 *)&known->tag = known->tag | FRAGMENT_BY_STACK;
}

#endif
