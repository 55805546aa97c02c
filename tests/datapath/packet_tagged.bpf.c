// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * Gives a packet a VLAN tag beside the frame, as devices hand it over and as
 * BPF_PROG_TEST_RUN cannot, and goes on with a program that is tested.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 3);
  __type(key, __u32);
  __type(value, __u32);
} packet_targets SEC(".maps");

/* skb->mark says which one. */
SEC("tc")
int tag_and_go_on(struct __sk_buff* skb) {
  if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 5)) return TC_ACT_STOLEN;
  bpf_tail_call(skb, &packet_targets, skb->mark);
  return TC_ACT_STOLEN;
}

char _license[] SEC("license") = "Dual BSD/GPL";
