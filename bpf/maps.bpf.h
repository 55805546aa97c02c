/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_MAPS_BPF_H
#define WAGGLE_BPF_MAPS_BPF_H
/*
 * Every map, declared once; what each holds is said in abi.h and in
 * docs/map-reference.md. The sizes here are defaults; the loader sets those of
 * the agent's flags (maps/layout.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Weak: each object that is linked into the skeleton defines them, the linker keeps one. */
#define WAGGLE_MAP __attribute__((weak)) SEC(".maps")

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct waggle_frontend_key);
	__type(value, struct waggle_frontend);
} frontends WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct waggle_list);
} lists WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct waggle_backend);
} backends WAGGLE_MAP;

/* Read by people and by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct waggle_service);
} services WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct waggle_sock_state);
} sock_state WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct waggle_udp_flow_key);
	__type(value, struct waggle_udp_flow);
} udp_flows WAGGLE_MAP;

/* Never evicts: a flood finds it full at worst, and stays in half_open. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct waggle_flow_key);
	__type(value, struct waggle_flow);
} flows WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct waggle_flow_key);
	__type(value, struct waggle_flow);
} half_open WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct waggle_fragment_key);
	__type(value, struct waggle_fragment);
} fragments WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct waggle_device);
} devices WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct waggle_settings);
} settings WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct waggle_icmp_budget);
} icmp_budget WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAGGLE_REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} stats WAGGLE_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct waggle_agent);
} agent WAGGLE_MAP;

#endif
