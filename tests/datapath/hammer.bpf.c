// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * Looks frontends up as fast as it can while the agent's writer changes them, and
 * counts what must never be seen. Every backend says whose it is: see hammer.h.
 * A tc program, because test runs of that kind are ordinary RCU readers, as the
 * programs at the socket and at tc are.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/in.h>

#include "service.bpf.h"
#include "tests/datapath/hammer.h"

struct hammer_counts counts = {};
__u32 lookups_a_run = 1;

static __always_inline void check_backend(const struct service* svc, __u32 index, __u32 service,
                                          __u32* generation) {
  struct waggle_backend* backend = backend_at(svc, index);
  struct hammer_address at;

  if (!backend) {
    counts.outside++;
    return;
  }
  __builtin_memcpy(&at, backend->addr, sizeof(at));
  if (at.service != service || backend->service_id != svc->service_id) {
    counts.foreign++;
    return;
  }
  if (*generation == 0) *generation = at.generation;
  /* The port holds the length of the list, so that a base with another count shows. */
  if (at.generation != *generation || at.ordinal != index || backend->port_be != svc->count)
    counts.mixed++;
}

static long spin(__u32 iteration __attribute__((unused)), void* context __attribute__((unused))) {
  bpf_get_prandom_u32();
  return 0;
}

static long look_up_one(__u32 iteration __attribute__((unused)),
                        void* context __attribute__((unused))) {
  struct waggle_frontend_key key = {};
  __u32 service = bpf_get_prandom_u32() % HAMMER_SERVICES;
  __u32 service_be = bpf_htonl(service);
  __u32 generation = 0, random;
  struct service svc;

  key.addr[0] = 0xfd;
  __builtin_memcpy(key.addr + 12, &service_be, 4);
  key.port_be = bpf_htons(80);
  key.protocol = IPPROTO_TCP;
  svc = find_service(&key);
  counts.lookups++;
  if (svc.fate == WAGGLE_FATE_NONE) {
    if (service < HAMMER_PERMANENT)
      counts.missed++;
    else
      counts.absent++;
    return 0;
  }
  if (svc.fate != WAGGLE_FATE_FORWARD) {
    counts.refused++;
    return 0;
  }
  random = bpf_get_prandom_u32();
  /* A reader that is interrupted between the list and its backends. */
  if (random % HAMMER_SLOW_ONE_IN == 0) bpf_loop(HAMMER_SLOW_STEPS, spin, NULL, 0);
  check_backend(&svc, 0, service, &generation);
  check_backend(&svc, svc.count - 1, service, &generation);
  check_backend(&svc, random_index(&svc), service, &generation);
  counts.forwarded++;
  return 0;
}

SEC("tc")
int hammer(struct __sk_buff* skb __attribute__((unused))) {
  bpf_loop(lookups_a_run, look_up_one, NULL, 0);
  return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
