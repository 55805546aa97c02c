// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * Translation of packets at tc: of those that no socket hook has seen, and the short way
 * past the host's stack for all that belong to a Service.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "config.bpf.h"
#include "maps.bpf.h"

/* From a pod: ingress of the host's side of its veth. */
SEC("tc")
int waggle_pod_in(struct __sk_buff *skb)
{
	return waggle_config.packet_path && skb->len == 0 ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* To a pod: egress of the host's side of its veth. */
SEC("tc")
int waggle_pod_out(struct __sk_buff *skb)
{
	return skb->len == 0 ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* From other nodes: ingress of an uplink or a tunnel with Ethernet headers. */
SEC("tc")
int waggle_net_in(struct __sk_buff *skb)
{
	return skb->len == 0 ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* The same on a device without Ethernet headers. */
SEC("tc")
int waggle_net_l3(struct __sk_buff *skb)
{
	return skb->len == 0 ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
