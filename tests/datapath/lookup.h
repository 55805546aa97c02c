/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_TESTS_DATAPATH_LOOKUP_H
#define WAGGLE_TESTS_DATAPATH_LOOKUP_H
/* Arguments and results of the pure functions that lookup.bpf.c runs. */
#include <linux/types.h>

#include "bpf/abi.h"

#define LOOKUP_PAIRS 512
#define LOOKUP_HISTOGRAM 128

struct lookup_endpoint {
  __u8 addr[16];
  __be16 port_be;
  __u8 reserved[6];
};

struct lookup_service {
  __u32 base;
  __u32 count;
  __u32 service_id;
  __u8 fate;
  __u8 policy;
  __u8 reserved[2];
};

struct lookup_pair {
  struct lookup_endpoint left;
  struct lookup_endpoint right;
  __s32 order;
  __s32 same;
};

/* Everything in one structure: what a program does not use stays as it is. */
struct lookup_io {
  struct waggle_frontend_key key;
  __u32 reserved;
  struct lookup_service service;
  struct lookup_endpoint endpoint;
  struct lookup_endpoint other;
  struct waggle_udp_flow_key flow_key;
  __u64 cookie;
  __u64 now_ns;
  __u64 last_ns;
  __u64 draws;
  __s32 result;
  __u32 outside; /* draws that were no index of the list */
  __u64 histogram[LOOKUP_HISTOGRAM];
  struct lookup_pair pairs[LOOKUP_PAIRS];
};

#endif
