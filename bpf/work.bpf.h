/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_WORK_BPF_H
#define WAGGLE_BPF_WORK_BPF_H
/*
 * What the functions of the packet path hand to each other while they work on one packet.
 *
 * The larger of them are global functions, which the verifier checks once and not for
 * each way that leads to them. Those may take nothing but the context and numbers on
 * kernels before 5.12, so the rest stands here, in a row for each CPU: a program at tc
 * is not interrupted by another one on its CPU.
 */
#include "packet.bpf.h"
#include "service.bpf.h"

/* A flow to be recorded, and what became of it. */
struct newcomer {
	struct waggle_flow flow; /* of the client's direction; tag and times are filled in */
	__u64 now_ns;
	__s32 netns_id;      /* of the client's network namespace; -1: not known */
	__u8 state_of_reply; /* REPLIED for a connection that is under way already */
	__u8 keep_port;      /* no other source port will do */
	__u8 reserved[2];
};

/* What a route look-up wants to know beside the packet, and what it says. */
struct journey {
	struct addresses as; /* the packet when it leaves */
	__u32 from;          /* device it is routed from: the bridge, where it came by a port */
	__u32 learned;       /* bridge port that the backend answered by; 0: none */
};

/* As much of a packet as an ICMP error of ours quotes: its headers, with extensions. */
#define MAX_QUOTE 128

struct work {
	struct packet p;
	struct packet quoted; /* in an ICMP error */
	struct newcomer n;
	struct waggle_flow reply;
	struct waggle_flow_key key;
	struct waggle_fragment_key fragment;
	struct addresses to; /* what the packet becomes */
	struct addresses tried;
	struct addresses quoted_to;
	struct journey j;
	struct service svc;
	struct waggle_way way;
	__u8 quote[MAX_QUOTE];
	__u64 now_ns;
	__u32 slot; /* of `svc` */
	__u8 flags; /* of the packet's flow */
	__u8 moved; /* a datagram that had another backend before */
	__u8 reserved[2];
};

/* Not pinned: it holds nothing from one packet to the next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} work SEC(".maps");

static __always_inline struct work *my_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&work, &zero);
}

#endif
