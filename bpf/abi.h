/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_ABI_H
#define WAGGLE_BPF_ABI_H
/*
 * The one contract between the BPF programs and the C++ agent and CLI: keys,
 * values, flags and counters of every pinned map. Included by both compilers;
 * sizes and offsets are asserted below for both.
 *
 * Conventions
 *  - Addresses are 16 bytes in network order; IPv4 stands as ::ffff:a.b.c.d, so
 *    that one map serves both families and v4-mapped sockets in every mixture.
 *  - `_be` fields are in network byte order, all others in host order.
 *  - Padding is named and always zero: keys are compared as bytes.
 *  - "Owner" says who writes a field. Everything written by the agent is written
 *    in maps/ only.
 *
 * Any change of a size, an offset or a meaning raises WAGGLE_LAYOUT_VERSION.
 */
#include <linux/types.h>

#ifdef __cplusplus
#define WAGGLE_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define WAGGLE_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define WAGGLE_LAYOUT_VERSION 1

/* Lengths of names in bytes, the final NUL included (RFC 1123 label: 63). */
#define WAGGLE_LABEL_LEN 64
/* A node name is an RFC 1123 subdomain: 253 and NUL, rounded up. */
#define WAGGLE_NODE_LEN 256
#define WAGGLE_VERSION_LEN 32

/* Most backends that one list can hold (waggle_list.count is 16 bits). */
#define WAGGLE_MAX_LIST 65535

/* The view from which a frontend is reached. */
enum waggle_scope {
	WAGGLE_SCOPE_INTERNAL = 0, /* processes and pods of this node */
	WAGGLE_SCOPE_EXTERNAL = 1, /* packets that arrive from outside */
};

/* Which field of the Service made the frontend. */
enum waggle_kind {
	WAGGLE_KIND_CLUSTER_IP = 0,
	WAGGLE_KIND_NODE_PORT = 1,
	WAGGLE_KIND_LOAD_BALANCER_IP = 2,
	WAGGLE_KIND_EXTERNAL_IP = 3,
};

/* The traffic policy in effect for a list. */
enum waggle_policy {
	WAGGLE_POLICY_CLUSTER = 0,
	WAGGLE_POLICY_LOCAL = 1,
};

/* What happens to a new connection. NONE marks a slot that is not in force. */
enum waggle_fate {
	WAGGLE_FATE_NONE = 0,
	WAGGLE_FATE_FORWARD = 1,
	WAGGLE_FATE_REFUSE = 2,
	WAGGLE_FATE_DROP = 3,
};

/* waggle_backend.flags */
enum waggle_backend_flag {
	WAGGLE_BACKEND_LOCAL = 1 << 0,       /* runs on this node */
	WAGGLE_BACKEND_TERMINATING = 1 << 1, /* serving while terminating: used as no other is left */
};

/* frontends: hash. Key. 20 bytes. */
struct waggle_frontend_key {
	__u8 addr[16];  /* frontend address, network order, IPv4 as v4-mapped */
	__be16 port_be; /* frontend port */
	__u8 protocol;  /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 scope;     /* enum waggle_scope */
} __attribute__((aligned(4)));

/*
 * frontends: hash. Value. Rows are immutable: inserted and deleted, never
 * updated, because the kernel reuses an element at once and a reader would see
 * a mixture. `tag` covers key and value, so that a reader who still holds a
 * deleted element notices that it has become another row.
 */
struct waggle_frontend {
	__u32 slot;       /* index into `lists` */
	__u32 service_id; /* key into `services` */
	__u32 tag;        /* waggle_frontend_tag() */
	__u8 kind;        /* enum waggle_kind */
	__u8 reserved[3]; /* zero */
} __attribute__((aligned(8)));

/*
 * lists: mmapped array. The first eight bytes (base, count, fate, policy) are
 * the switch: stored by the agent and loaded by programs as one aligned u64.
 */
struct waggle_list {
	__u32 base;       /* index of the first backend in `backends` */
	__u16 count;      /* backends in the range; 0 unless fate is FORWARD */
	__u8 fate;        /* enum waggle_fate */
	__u8 policy;      /* enum waggle_policy */
	__u32 affinity_s; /* session affinity timeout in seconds; 0: none */
	__u32 service_id; /* owner of the slot; constant while the slot is in use */
} __attribute__((aligned(8)));

/*
 * backends: mmapped array. Ranges are written while no list names them, sorted
 * by (addr, port_be) as bytes, and never changed while a list names them.
 */
struct waggle_backend {
	__u8 addr[16];    /* backend address, network order, IPv4 as v4-mapped */
	__be16 port_be;   /* backend port */
	__u16 flags;      /* enum waggle_backend_flag */
	__u32 service_id; /* owner of the range */
} __attribute__((aligned(8)));

/* services: hash from __u32 service id. One row for each Service port. Names end in NUL. */
struct waggle_service {
	char ns[WAGGLE_LABEL_LEN];        /* namespace */
	char name[WAGGLE_LABEL_LEN];      /* Service name */
	char port_name[WAGGLE_LABEL_LEN]; /* name of the Service port; may be empty */
	__u8 protocol;                    /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 reserved[7];                 /* zero */
} __attribute__((aligned(8)));

/* waggle_sock_state.flags */
enum waggle_sock_flag {
	WAGGLE_SOCK_UDP_FLOWS = 1 << 0, /* has sent datagrams to frontends: look into udp_flows */
};

/*
 * sock_state: socket storage, written by connect4/6 and sendmsg4/6. The
 * translation of a connected socket; freed with the socket, never evicted. A
 * socket without it has nothing to do with Services, so that other traffic pays
 * for no map lookup.
 */
struct waggle_sock_state {
	__u8 frontend_addr[16];
	__u8 backend_addr[16];
	__be16 frontend_port_be;
	__be16 backend_port_be;
	__u8 protocol;    /* IPPROTO_TCP or IPPROTO_UDP; 0: not connected through a Service */
	__u8 flags;       /* enum waggle_sock_flag */
	__u8 reserved[2]; /* zero */
	__u32 service_id; /* key into `services` */
	__u32 reserved2;  /* zero */
} __attribute__((aligned(8)));

enum waggle_udp_direction {
	WAGGLE_UDP_FORWARD = 0, /* key holds the frontend, value the chosen backend */
	WAGGLE_UDP_REVERSE = 1, /* key holds the backend, value the frontend it was reached by */
};

/* udp_flows: LRU hash, written by sendmsg4/6 for unconnected sockets. Key. */
struct waggle_udp_flow_key {
	__u64 cookie;     /* socket cookie */
	__u8 addr[16];
	__be16 port_be;
	__u8 direction;   /* enum waggle_udp_direction */
	__u8 reserved[5]; /* zero */
} __attribute__((aligned(8)));

/* udp_flows: value. */
struct waggle_udp_flow {
	__u64 last_ns;     /* CLOCK_MONOTONIC of the last datagram, to a second; nanoseconds */
	__u8 addr[16];
	__be16 port_be;
	__u8 reserved[2];  /* zero */
	__u32 tag;         /* waggle_udp_flow_tag(): an LRU element is reused at once */
} __attribute__((aligned(8)));

/* A flow that was idle for this long is chosen anew, as conntrack's UDP stream timeout. */
#define WAGGLE_UDP_IDLE_NS (120ULL * 1000 * 1000 * 1000)

/* Answers stamp a flow when its last stamp is older than this. */
#define WAGGLE_UDP_STAMP_NS (1000ULL * 1000 * 1000)

/* stats: per-CPU array of __u64, indexed by enum waggle_reason. */
enum waggle_reason {
#define WAGGLE_REASON(identifier, label, class_, text) WAGGLE_REASON_##identifier,
#include "reasons.def"
#undef WAGGLE_REASON
	WAGGLE_REASON_COUNT
};

enum waggle_agent_state {
	WAGGLE_AGENT_NONE = 0,
	WAGGLE_AGENT_STARTING = 1, /* before the first complete list */
	WAGGLE_AGENT_READY = 2,    /* everything known is programmed */
	WAGGLE_AGENT_STOPPED = 3,  /* ended in good order; programs go on */
};

enum waggle_socket_lb {
	WAGGLE_SOCKET_LB_ALL = 0,
	WAGGLE_SOCKET_LB_HOST = 1,
	WAGGLE_SOCKET_LB_OFF = 2,
};

/* waggle_agent.features: what the kernel offers and the programs use. */
enum waggle_feature {
	WAGGLE_FEATURE_SET_RETVAL = 1 << 0, /* bpf_set_retval() (5.18): exact errno on refusal */
	WAGGLE_FEATURE_MPTCP_SOCK = 1 << 1, /* bpf_skc_to_mptcp_sock() (5.19): getpeername() of MPTCP */
};

/*
 * agent: mmapped array of one. What the agent says about itself, so that the
 * CLI works from pins alone. Times are CLOCK_BOOTTIME nanoseconds.
 */
struct waggle_agent {
	__u32 layout_version; /* WAGGLE_LAYOUT_VERSION; first field for ever */
	__u32 pid;            /* in the agent's own pid namespace */
	__u32 state;          /* enum waggle_agent_state */
	__u32 socket_lb;      /* enum waggle_socket_lb */
	__u32 features;       /* enum waggle_feature */
	__u32 services_left_out; /* Services that are not, or not wholly, programmed */
	__u32 problems;       /* problems in force, of every kind */
	__u32 sources_incomplete; /* 1: a source never gave a complete list; nothing is removed */
	__u64 started_ns;
	__u64 heartbeat_ns;   /* about once a second while the agent lives */
	__u64 ready_ns;       /* when everything known was first programmed */
	__u64 node_netns;     /* network namespace cookie of the node */
	__u64 cgroup_id;      /* cgroup that the programs are attached to */
	/* Work done since the agent started. */
	__u64 events;            /* object changes taken from sources */
	__u64 services_resolved; /* times that resolve() ran */
	__u64 plans_applied;     /* plans that had at least one step */
	__u64 hash_inserts;      /* elements put into frontends and services */
	__u64 hash_deletes;      /* elements removed from frontends and services */
	__u64 list_stores;       /* stores into lists */
	__u64 backend_stores;    /* rows stored into backends */
	__u64 write_errors;      /* steps that the kernel refused */
	char node[WAGGLE_NODE_LEN];
	char version[WAGGLE_VERSION_LEN];
	/*
	 * Kernel ids of the maps frontends, lists, backends, services, in this order; zero:
	 * not known. A reader or a new agent that finds other ids knows that a change of
	 * size was cut short.
	 */
	__u32 content_ids[4];
} __attribute__((aligned(8)));

/* Constants of one node, set by the loader before load (bpf/config.bpf.h). Not a map of ours. */
struct waggle_config {
	__u64 node_netns;     /* namespace cookie of the node; 0: that of the first one */
	__u8 host_only;       /* 1: only sockets of the node's own network namespace */
	__u8 have_set_retval; /* 1: bpf_set_retval() exists (5.18) */
	__u8 have_mptcp_sock; /* 1: bpf_skc_to_mptcp_sock() exists (5.19) */
	__u8 reserved[5];     /* zero */
} __attribute__((aligned(8)));

/*
 * A hash of a frontends row, key and value. Not a secret: it guards against
 * reuse of an element under a reader, nothing else.
 */
static inline __u32 waggle_frontend_tag(const struct waggle_frontend_key *key, __u32 slot,
					__u32 service_id, __u32 kind)
{
	__u64 hi, lo, h;
	__u32 rest;

	__builtin_memcpy(&hi, key->addr, 8);
	__builtin_memcpy(&lo, key->addr + 8, 8);
	__builtin_memcpy(&rest, &key->port_be, 4);
	h = (hi ^ ((__u64)rest << 32 | slot)) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 32) ^ lo) * 0xc2b2ae3d27d4eb4fULL;
	h = (h ^ (h >> 29) ^ ((__u64)service_id << 8 | kind)) * 0x165667b19e3779f9ULL;
	return (__u32)(h >> 32);
}

/* The same for a row of udp_flows; last_ns is left out, as it is written in place. */
static inline __u32 waggle_udp_flow_tag(const struct waggle_udp_flow_key *key,
					const __u8 addr[16], __be16 port_be)
{
	__u64 a, b, c, d, h;

	__builtin_memcpy(&a, key->addr, 8);
	__builtin_memcpy(&b, key->addr + 8, 8);
	__builtin_memcpy(&c, addr, 8);
	__builtin_memcpy(&d, addr + 8, 8);
	h = (key->cookie ^ a) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 32) ^ b) * 0xc2b2ae3d27d4eb4fULL;
	h = (h ^ (h >> 29) ^ c) * 0x165667b19e3779f9ULL;
	h = (h ^ (h >> 32) ^ d) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 29) ^ ((__u64)key->direction << 32 | (__u64)key->port_be << 16 | port_be)) *
	    0xc2b2ae3d27d4eb4fULL;
	return (__u32)(h >> 32);
}

#define WAGGLE_ASSERT_AT(type, field, at) \
	WAGGLE_STATIC_ASSERT(__builtin_offsetof(struct type, field) == (at), #type "." #field)
#define WAGGLE_ASSERT_SIZE(type, size) WAGGLE_STATIC_ASSERT(sizeof(struct type) == (size), #type)

WAGGLE_ASSERT_SIZE(waggle_frontend_key, 20);
WAGGLE_ASSERT_AT(waggle_frontend_key, port_be, 16);
WAGGLE_ASSERT_AT(waggle_frontend_key, protocol, 18);
WAGGLE_ASSERT_AT(waggle_frontend_key, scope, 19);
WAGGLE_ASSERT_SIZE(waggle_frontend, 16);
WAGGLE_ASSERT_AT(waggle_frontend, service_id, 4);
WAGGLE_ASSERT_AT(waggle_frontend, tag, 8);
WAGGLE_ASSERT_AT(waggle_frontend, kind, 12);
WAGGLE_ASSERT_SIZE(waggle_list, 16);
WAGGLE_ASSERT_AT(waggle_list, base, 0);
WAGGLE_ASSERT_AT(waggle_list, count, 4);
WAGGLE_ASSERT_AT(waggle_list, fate, 6);
WAGGLE_ASSERT_AT(waggle_list, policy, 7);
WAGGLE_ASSERT_AT(waggle_list, affinity_s, 8);
WAGGLE_ASSERT_AT(waggle_list, service_id, 12);
WAGGLE_ASSERT_SIZE(waggle_backend, 24); /* a multiple of 8: the stride of a mmapped array */
WAGGLE_ASSERT_AT(waggle_backend, port_be, 16);
WAGGLE_ASSERT_AT(waggle_backend, flags, 18);
WAGGLE_ASSERT_AT(waggle_backend, service_id, 20);
WAGGLE_ASSERT_SIZE(waggle_service, 200);
WAGGLE_ASSERT_AT(waggle_service, name, 64);
WAGGLE_ASSERT_AT(waggle_service, port_name, 128);
WAGGLE_ASSERT_AT(waggle_service, protocol, 192);
WAGGLE_ASSERT_SIZE(waggle_sock_state, 48);
WAGGLE_ASSERT_AT(waggle_sock_state, backend_addr, 16);
WAGGLE_ASSERT_AT(waggle_sock_state, frontend_port_be, 32);
WAGGLE_ASSERT_AT(waggle_sock_state, backend_port_be, 34);
WAGGLE_ASSERT_AT(waggle_sock_state, protocol, 36);
WAGGLE_ASSERT_AT(waggle_sock_state, flags, 37);
WAGGLE_ASSERT_AT(waggle_sock_state, service_id, 40);
WAGGLE_ASSERT_SIZE(waggle_udp_flow_key, 32);
WAGGLE_ASSERT_AT(waggle_udp_flow_key, addr, 8);
WAGGLE_ASSERT_AT(waggle_udp_flow_key, port_be, 24);
WAGGLE_ASSERT_AT(waggle_udp_flow_key, direction, 26);
WAGGLE_ASSERT_SIZE(waggle_udp_flow, 32);
WAGGLE_ASSERT_AT(waggle_udp_flow, addr, 8);
WAGGLE_ASSERT_AT(waggle_udp_flow, port_be, 24);
WAGGLE_ASSERT_AT(waggle_udp_flow, tag, 28);
WAGGLE_ASSERT_SIZE(waggle_config, 16);
WAGGLE_ASSERT_SIZE(waggle_agent, 440);
WAGGLE_ASSERT_AT(waggle_agent, layout_version, 0);
WAGGLE_ASSERT_AT(waggle_agent, started_ns, 32);
WAGGLE_ASSERT_AT(waggle_agent, events, 72);
WAGGLE_ASSERT_AT(waggle_agent, node, 136);
WAGGLE_ASSERT_AT(waggle_agent, version, 392);
WAGGLE_ASSERT_AT(waggle_agent, content_ids, 424);

#endif
