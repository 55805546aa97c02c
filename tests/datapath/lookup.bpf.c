// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * The functions that every hook shares, each as a program of its own, so that tests and
 * benchmarks call them with BPF_PROG_TEST_RUN and look at what they return.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/in.h>

#include "tests/datapath/lookup.h"
#include "udp_flow.bpf.h"

#define UNUSED __attribute__((unused))

struct lookup_io io = {};

static __always_inline struct service service_of_io(void) {
  struct service svc = {};

  svc.base = io.service.base;
  svc.count = io.service.count;
  svc.service_id = io.service.service_id;
  svc.fate = io.service.fate;
  svc.policy = io.service.policy;
  return svc;
}

static __always_inline struct endpoint endpoint_of(const struct lookup_endpoint* from) {
  struct endpoint to = {};

  __builtin_memcpy(to.addr, from->addr, 16);
  to.port_be = from->port_be;
  return to;
}

SEC("tc")
int run_find_service(struct __sk_buff* skb UNUSED) {
  struct waggle_frontend_key key = io.key;
  struct service svc = find_service(&key);

  io.service.base = svc.base;
  io.service.count = svc.count;
  io.service.service_id = svc.service_id;
  io.service.fate = svc.fate;
  io.service.policy = svc.policy;
  return 0;
}

SEC("tc")
int run_list_holds(struct __sk_buff* skb UNUSED) {
  struct service svc = service_of_io();
  struct endpoint at = endpoint_of(&io.endpoint);

  io.result = list_holds(&svc, at.addr, at.port_be);
  return 0;
}

static long draw(__u32 iteration UNUSED, void* context UNUSED) {
  struct service svc = service_of_io();
  __u32 index = random_index(&svc);

  if (index < LOOKUP_HISTOGRAM && index < svc.count)
    io.histogram[index]++;
  else
    io.outside++;
  return 0;
}

SEC("tc")
int run_random_index(struct __sk_buff* skb UNUSED) {
  bpf_loop(io.draws, draw, NULL, 0);
  return 0;
}

static long compare(__u32 at, void* context UNUSED) {
  struct lookup_pair* pair;

  if (at >= LOOKUP_PAIRS) return 1;
  pair = &io.pairs[at];
  pair->order =
      compare_endpoint(pair->left.addr, pair->left.port_be, pair->right.addr, pair->right.port_be);
  pair->same =
      same_endpoint(pair->left.addr, pair->left.port_be, pair->right.addr, pair->right.port_be);
  return 0;
}

SEC("tc")
int run_compare(struct __sk_buff* skb UNUSED) {
  bpf_loop(LOOKUP_PAIRS, compare, NULL, 0);
  return 0;
}

SEC("tc")
int run_udp_flow_key(struct __sk_buff* skb UNUSED) {
  struct endpoint from = endpoint_of(&io.endpoint);

  io.flow_key = udp_flow_key(io.cookie, io.flow_key.direction, &from);
  return 0;
}

SEC("tc")
int run_udp_flow_find(struct __sk_buff* skb UNUSED) {
  struct waggle_udp_flow_key key = io.flow_key;
  struct endpoint to = {};
  __u64 last_ns = 0;

  io.result = udp_flow_find(&key, &to, &last_ns);
  __builtin_memcpy(io.endpoint.addr, to.addr, 16);
  io.endpoint.port_be = to.port_be;
  io.last_ns = last_ns;
  return 0;
}

SEC("tc")
int run_udp_flow_put(struct __sk_buff* skb UNUSED) {
  struct waggle_udp_flow_key key = io.flow_key;
  struct endpoint to = endpoint_of(&io.endpoint);

  udp_flow_put(&key, &to, io.now_ns);
  return 0;
}

SEC("tc")
int run_udp_backend_taken(struct __sk_buff* skb UNUSED) {
  struct endpoint backend = endpoint_of(&io.endpoint);
  struct endpoint frontend = endpoint_of(&io.other);

  io.result = udp_backend_taken(io.cookie, &backend, &frontend, io.now_ns);
  return 0;
}

/* A random key among io.service.count. */
static __always_inline struct waggle_frontend_key random_key(void) {
  struct waggle_frontend_key key = {};
  struct service all = service_of_io();
  __u32 number_be = bpf_htonl(random_index(&all));

  key.addr[10] = 0xff;
  key.addr[11] = 0xff;
  __builtin_memcpy(key.addr + 12, &number_be, 4);
  key.port_be = bpf_htons(80);
  key.protocol = IPPROTO_TCP;
  return key;
}

/* For the benchmark: io.draws lookups of random keys. */
static long bench_one(__u32 iteration UNUSED, void* context UNUSED) {
  struct waggle_frontend_key key = random_key();

  if (find_service(&key).fate == WAGGLE_FATE_NONE) io.outside++;
  return 0;
}

SEC("tc")
int bench_find_service(struct __sk_buff* skb UNUSED) {
  bpf_loop(io.draws, bench_one, NULL, 0);
  return 0;
}

/* The same without the lookup, to subtract. */
static long bench_nothing(__u32 iteration UNUSED, void* context UNUSED) {
  struct waggle_frontend_key key = random_key();

  __builtin_memcpy(&io.key, &key, sizeof(key));
  return 0;
}

SEC("tc")
int bench_baseline(struct __sk_buff* skb UNUSED) {
  bpf_loop(io.draws, bench_nothing, NULL, 0);
  return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
