/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_TESTS_DATAPATH_HAMMER_H
#define WAGGLE_TESTS_DATAPATH_HAMMER_H
/* What the hammer's program and its test agree on. */
#include <linux/types.h>

/* Services 0 … PERMANENT-1 are always there; the others come and go. */
#define HAMMER_SERVICES 64
#define HAMMER_PERMANENT 16
/* One lookup in so many waits between the list and its backends, for about 100 µs: time
 * for several changes, and for the range to be used again if nothing forbids it. */
#define HAMMER_SLOW_ONE_IN 1024
#define HAMMER_SLOW_STEPS 20000

/* A backend's address: whose it is, of which of its lists, at which place. The port
 * (waggle_backend.port_be, but in host order) is the length of that list. */
struct hammer_address {
  __u32 family;     /* 0xfd: not a v4-mapped address */
  __u32 generation; /* from 1 */
  __u32 service;
  __u32 ordinal;
};

struct hammer_counts {
  __u64 lookups;
  __u64 forwarded;
  __u64 refused;
  __u64 absent; /* a Service that comes and goes was away */
  /* Never: */
  __u64 missed;  /* a permanent Service was away */
  __u64 foreign; /* a backend of another Service */
  __u64 mixed;   /* two lists in one */
  __u64 outside; /* a range outside of the map */
};

#endif
