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
	WAGGLE_BACKEND_LOCAL = 1 << 0, /* runs on this node */
	WAGGLE_BACKEND_TERMINATING = 1
				     << 1, /* serving while terminating: used as no other is left */
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
	__u64 cookie; /* socket cookie */
	__u8 addr[16];
	__be16 port_be;
	__u8 direction;   /* enum waggle_udp_direction */
	__u8 reserved[5]; /* zero */
} __attribute__((aligned(8)));

/* udp_flows: value. */
struct waggle_udp_flow {
	__u64 last_ns; /* CLOCK_MONOTONIC of the last datagram, to a second; nanoseconds */
	__u8 addr[16];
	__be16 port_be;
	__u8 reserved[2]; /* zero */
	__u32 tag;        /* waggle_udp_flow_tag(): an LRU element is reused at once */
} __attribute__((aligned(8)));

/* A flow that was idle for this long is chosen anew, as conntrack's UDP stream timeout. */
#define WAGGLE_UDP_IDLE_NS (120ULL * 1000 * 1000 * 1000)

/* Answers stamp a flow when its last stamp is older than this. */
#define WAGGLE_UDP_STAMP_NS (1000ULL * 1000 * 1000)

/*
 * flows (hash: established) and half_open (LRU hash: not yet, and reset). Key: a packet's
 * addresses and ports as it arrives. 40 bytes. A flow has two entries, one for each
 * direction; each can be made from the other (waggle_flow_partner()).
 */
struct waggle_flow_key {
	__u8 src[16];
	__u8 dst[16];
	__be16 src_port_be;
	__be16 dst_port_be;
	__u8 protocol;    /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 reserved[3]; /* zero */
} __attribute__((aligned(8)));

enum waggle_flow_kind {
	WAGGLE_FLOW_FORWARD = 1, /* client to backend */
	WAGGLE_FLOW_REPLY = 2,   /* backend to client */
};

/* waggle_flow.flags; the same in both entries of a flow, and constant. */
enum waggle_flow_flag {
	WAGGLE_FLOW_REWRITE = 1 << 0,  /* addresses or ports change */
	WAGGLE_FLOW_REDIRECT = 1 << 1, /* takes the short way past the host's stack */
	WAGGLE_FLOW_SOCKET = 1 << 2,   /* was translated at its socket and learned here */
	WAGGLE_FLOW_HAIRPIN = 1 << 3,  /* client and backend are one pod */
	WAGGLE_FLOW_DIRECT =
		1 << 4, /* no Service's: had to give its source port to a Service's flow */
	WAGGLE_FLOW_OWNED = 1 << 5, /* TCP: the client's socket is in the pod's own namespace */
};

/*
 * waggle_flow.state. Each entry holds what its own direction has shown, so that no two
 * CPUs write one byte; the state of the flow is both together.
 */
enum waggle_flow_state {
	WAGGLE_STATE_REPLIED = 1 << 0, /* REPLY: the backend answered */
	WAGGLE_STATE_ASSURED =
		1 << 1, /* FORWARD: TCP: handshake done; UDP: spoke again after an answer */
	WAGGLE_STATE_CLIENT_FIN = 1 << 2, /* FORWARD */
	WAGGLE_STATE_SERVER_FIN = 1 << 3, /* REPLY */
	WAGGLE_STATE_RESET = 1 << 4,      /* either; until its direction speaks again */
	WAGGLE_STATE_ACKED_FIN = 1 << 5,  /* either: has acknowledged the other side's FIN */
};

/* waggle_way.how */
enum waggle_way_how {
	WAGGLE_WAY_STACK = 0, /* the host's stack routes */
	WAGGLE_WAY_PEER = 1,  /* bpf_redirect_peer() to the pod behind `device` */
	WAGGLE_WAY_NEIGH = 2, /* bpf_redirect_neigh() out of `device` */
};

/* Where the packets of one direction leave; loaded and stored as one aligned u64. */
struct waggle_way {
	__u32 device;  /* ifindex; 0 with STACK */
	__u16 mtu;     /* of the route, bytes from the IP header on; 0: not known */
	__u8 how;      /* enum waggle_way_how */
	__u8 reserved; /* zero */
} __attribute__((aligned(8)));

/*
 * flows, half_open: value. Owner: the programs. Fields marked "in place" change while the
 * entry lives, each by one aligned store; all others are constant and covered by `tag`.
 */
struct waggle_flow {
	__u64 last_ns; /* CLOCK_MONOTONIC of this direction's last packet, to a second; in place */
	__u64 created_ns; /* CLOCK_MONOTONIC; not in the tag */
	__u8 new_src[16]; /* what the packet's addresses and ports become */
	__u8 new_dst[16];
	__be16 new_src_port_be;
	__be16 new_dst_port_be;
	__u8 kind;        /* enum waggle_flow_kind */
	__u8 flags;       /* enum waggle_flow_flag */
	__u8 state;       /* enum waggle_flow_state; in place */
	__u8 closing;     /* 1: the other direction sent its FIN, and wrote this and isn; in place */
	__u32 service_id; /* key into `services`; 0 with WAGGLE_FLOW_DIRECT */
	__u32 slot;       /* index into `lists` of the frontend used */
	__u32 ifindex;    /* device of the client */
	__u32 tag;        /* waggle_flow_tag(): elements are reused at once */
	__u32 isn;        /* TCP: this direction's first sequence number, 0 until seen; `closing`: what
			   * acknowledges the other direction's FIN; in place */
	__u32 place;      /* FORWARD: where in the list the backend was; REPLY: device that the last
			   * answer came by; in place */
	__u64 routed_ns;  /* CLOCK_MONOTONIC of the last route lookup; in place */
	struct waggle_way way; /* in place */
} __attribute__((aligned(8)));

/* A stamp of a flow, and a route, are renewed when they are older than this. */
#define WAGGLE_FLOW_STAMP_NS (1000ULL * 1000 * 1000)

/* How long a flow without packets lives: conntrack's defaults. */
#define WAGGLE_TCP_ESTABLISHED_S 432000
#define WAGGLE_TCP_SYN_SENT_S 120
#define WAGGLE_TCP_SYN_RECV_S 60
#define WAGGLE_TCP_FIN_S 120
#define WAGGLE_TCP_CLOSED_S 10
#define WAGGLE_UDP_S 30
#define WAGGLE_UDP_STREAM_S 120

/* Source ports that replace one which is taken: above what pods choose from by default
 * (net.ipv4.ip_local_port_range). */
#define WAGGLE_SPARE_PORT_FIRST 61000
#define WAGGLE_SPARE_PORT_LAST 65535

/* fragments: LRU hash. Which ports the later fragments of a datagram belong to. Key. */
struct waggle_fragment_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id; /* identification, as it stands in the packet */
	__u8 protocol;
	__u8 reserved[3]; /* zero */
} __attribute__((aligned(8)));

/* fragments: value, one u64, so that it is never read in half. */
struct waggle_fragment {
	__be16 src_port_be;
	__be16 dst_port_be;
	__u32 tag; /* waggle_fragment_tag(): elements are reused at once */
} __attribute__((aligned(8)));

enum waggle_role {
	WAGGLE_ROLE_NONE = 0,
	WAGGLE_ROLE_POD = 1,    /* the host's side of a pod's veth */
	WAGGLE_ROLE_BRIDGE = 2, /* a bridge with pods on it: no program, a way to local pods */
	WAGGLE_ROLE_UPLINK = 3, /* leads to other nodes by their own network */
	WAGGLE_ROLE_TUNNEL = 4, /* leads to other nodes' pods inside of packets of this node */
};

/* devices: hash from ifindex. What carries programs, and bridges. Owner: the agent. */
struct waggle_device {
	__u32 role;     /* enum waggle_role */
	__u32 bridge;   /* ifindex of the bridge that it is a port of; 0: none */
	__s32 netns_id; /* POD: id of the pod's network namespace (IFLA_LINK_NETNSID); -1: none */
	__u8 bridge_mac[6]; /* MAC of that bridge; zero: none */
	__u8 layer3;        /* 1: frames have no Ethernet header */
	__u8 reserved;      /* zero */
} __attribute__((aligned(4)));

enum waggle_forwarding {
	WAGGLE_FORWARDING_STACK = 0,
	WAGGLE_FORWARDING_REDIRECT = 1,
	WAGGLE_FORWARDING_AUTO = 2, /* asked for; never in force */
};

enum waggle_tc_attach {
	WAGGLE_TC_NONE = 0, /* no packet path */
	WAGGLE_TC_TCX = 1,
	WAGGLE_TC_CLSACT = 2,
};

#define WAGGLE_REASON_LEN 160

/* settings: mmapped array of one. What programs ask while they run, and why. Owner: the agent. */
struct waggle_settings {
	/* CLOCK_MONOTONIC. Until then TCP packets to a frontend that belong to no known flow pass
	 * untouched (they may be kube-proxy's); 0: for ever. */
	__u64 lost_flows_pass_until_ns;
	__u32 forwarding;       /* enum waggle_forwarding in force for new flows */
	__u32 forwarding_asked; /* enum waggle_forwarding */
	__u32 tc_attach;        /* enum waggle_tc_attach */
	__u32 reserved;         /* zero */
	char forwarding_reason[WAGGLE_REASON_LEN]; /* why `forwarding`; ends in NUL */
} __attribute__((aligned(8)));

/* icmp_budget: per-CPU array of one. Errors that may still be sent: a token bucket. */
struct waggle_icmp_budget {
	__u64 filled_ns; /* CLOCK_MONOTONIC */
	__u64 tokens;
};
#define WAGGLE_ICMP_BURST 1000
#define WAGGLE_ICMP_PER_S 1000

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
	WAGGLE_FEATURE_MPTCP_SOCK =
		1 << 1, /* bpf_skc_to_mptcp_sock() (5.19): getpeername() of MPTCP */
	WAGGLE_FEATURE_SKIP_NEIGH =
		1 << 2, /* BPF_FIB_LOOKUP_SKIP_NEIGH (6.2): the MTU of a route without neighbour */
	WAGGLE_FEATURE_TCX = 1 << 3, /* tcx links (6.6) */
	WAGGLE_FEATURE_COARSE_CLOCK =
		1 << 4, /* bpf_ktime_get_coarse_ns() (5.11): the time of the last tick */
};

/*
 * agent: mmapped array of one. What the agent says about itself, so that the
 * CLI works from pins alone. Times are CLOCK_BOOTTIME nanoseconds.
 */
struct waggle_agent {
	__u32 layout_version;     /* WAGGLE_LAYOUT_VERSION; first field for ever */
	__u32 pid;                /* in the agent's own pid namespace */
	__u32 state;              /* enum waggle_agent_state */
	__u32 socket_lb;          /* enum waggle_socket_lb */
	__u32 features;           /* enum waggle_feature */
	__u32 services_left_out;  /* Services that are not, or not wholly, programmed */
	__u32 problems;           /* problems in force, of every kind */
	__u32 sources_incomplete; /* 1: a source never gave a complete list; nothing is removed */
	__u64 started_ns;
	__u64 heartbeat_ns; /* about once a second while the agent lives */
	__u64 ready_ns;     /* when everything known was first programmed */
	__u64 node_netns;   /* network namespace cookie of the node */
	__u64 cgroup_id;    /* cgroup that the programs are attached to */
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
	__u8 have_skip_neigh; /* 1: bpf_fib_lookup() knows BPF_FIB_LOOKUP_SKIP_NEIGH (6.2) */
	__u8 packet_path;     /* 1: the programs at tc are attached as well */
	__u8 have_coarse_clock; /* 1: bpf_ktime_get_coarse_ns() exists (5.11) */
	__u8 reserved[2];     /* zero */
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
static inline __u32 waggle_udp_flow_tag(const struct waggle_udp_flow_key *key, const __u8 addr[16],
					__be16 port_be)
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

/* The same for an entry of flows or half_open: all that is constant. */
static inline __u32 waggle_flow_tag(const struct waggle_flow_key *key,
				    const struct waggle_flow *flow)
{
	__u64 a[4], b[4], ports, rest, h;

	__builtin_memcpy(a, key->src, 32);
	__builtin_memcpy(b, flow->new_src, 32);
	ports = (__u64)key->src_port_be << 48 | (__u64)key->dst_port_be << 32 |
		(__u64)flow->new_src_port_be << 16 | flow->new_dst_port_be;
	rest = (__u64)flow->service_id << 32 | (__u64)key->protocol << 24 |
	       (__u64)flow->kind << 16 | (__u64)flow->flags << 8;
	h = (a[0] ^ a[2] ^ ports) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 32) ^ a[1]) * 0xc2b2ae3d27d4eb4fULL;
	h = (h ^ (h >> 29) ^ a[3]) * 0x165667b19e3779f9ULL;
	h = (h ^ (h >> 32) ^ b[0] ^ b[2]) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 29) ^ b[1]) * 0xc2b2ae3d27d4eb4fULL;
	h = (h ^ (h >> 32) ^ b[3]) * 0x165667b19e3779f9ULL;
	h = (h ^ (h >> 29) ^ rest) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 32) ^ ((__u64)flow->slot << 32 | flow->ifindex)) * 0xc2b2ae3d27d4eb4fULL;
	return (__u32)(h >> 32);
}

static inline __u32 waggle_fragment_tag(const struct waggle_fragment_key *key)
{
	__u64 a[4], h;

	__builtin_memcpy(a, key->src, 32);
	h = (a[0] ^ a[2] ^ key->id) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 32) ^ a[1]) * 0xc2b2ae3d27d4eb4fULL;
	h = (h ^ (h >> 29) ^ a[3] ^ key->protocol) * 0x165667b19e3779f9ULL;
	return (__u32)(h >> 32);
}

/* The key of the entry for the other direction. */
static inline void waggle_flow_partner(const struct waggle_flow_key *key,
				       const struct waggle_flow *flow,
				       struct waggle_flow_key *partner)
{
	__builtin_memset(partner, 0, sizeof(*partner));
	__builtin_memcpy(partner->src, flow->new_dst, 16);
	__builtin_memcpy(partner->dst, flow->new_src, 16);
	partner->src_port_be = flow->new_dst_port_be;
	partner->dst_port_be = flow->new_src_port_be;
	partner->protocol = key->protocol;
}

/* How long a flow in this state lives without a packet in either direction. Nanoseconds. */
static inline __u64 waggle_flow_lifetime_ns(__u8 protocol, __u8 state)
{
	const __u8 closed = WAGGLE_STATE_CLIENT_FIN | WAGGLE_STATE_SERVER_FIN;
	__u64 seconds;

	if (protocol != 6 /* IPPROTO_TCP */)
		seconds = state & WAGGLE_STATE_ASSURED ? WAGGLE_UDP_STREAM_S : WAGGLE_UDP_S;
	else if ((state & (WAGGLE_STATE_RESET | WAGGLE_STATE_ASSURED)) == WAGGLE_STATE_RESET)
		seconds = WAGGLE_TCP_CLOSED_S; /* else anybody's reset would end it */
	else if (state & closed)
		seconds = WAGGLE_TCP_FIN_S;
	else if (state & WAGGLE_STATE_ASSURED)
		seconds = WAGGLE_TCP_ESTABLISHED_S;
	else
		seconds = state & WAGGLE_STATE_REPLIED ? WAGGLE_TCP_SYN_RECV_S
						       : WAGGLE_TCP_SYN_SENT_S;
	return seconds * 1000 * 1000 * 1000;
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
WAGGLE_ASSERT_SIZE(waggle_flow_key, 40);
WAGGLE_ASSERT_AT(waggle_flow_key, dst, 16);
WAGGLE_ASSERT_AT(waggle_flow_key, src_port_be, 32);
WAGGLE_ASSERT_AT(waggle_flow_key, protocol, 36);
WAGGLE_ASSERT_SIZE(waggle_way, 8);
WAGGLE_ASSERT_SIZE(waggle_flow, 96);
WAGGLE_ASSERT_AT(waggle_flow, new_src, 16);
WAGGLE_ASSERT_AT(waggle_flow, new_src_port_be, 48);
WAGGLE_ASSERT_AT(waggle_flow, kind, 52);
WAGGLE_ASSERT_AT(waggle_flow, service_id, 56);
WAGGLE_ASSERT_AT(waggle_flow, tag, 68);
WAGGLE_ASSERT_AT(waggle_flow, isn, 72);
WAGGLE_ASSERT_AT(waggle_flow, routed_ns, 80);
WAGGLE_ASSERT_AT(waggle_flow, way, 88);
WAGGLE_ASSERT_SIZE(waggle_fragment_key, 40);
WAGGLE_ASSERT_SIZE(waggle_fragment, 8);
WAGGLE_ASSERT_SIZE(waggle_device, 20);
WAGGLE_ASSERT_AT(waggle_device, bridge_mac, 12);
WAGGLE_ASSERT_SIZE(waggle_settings, 184);
WAGGLE_ASSERT_AT(waggle_settings, forwarding, 8);
WAGGLE_ASSERT_AT(waggle_settings, forwarding_reason, 24);
WAGGLE_ASSERT_SIZE(waggle_config, 16);
WAGGLE_ASSERT_SIZE(waggle_agent, 440);
WAGGLE_ASSERT_AT(waggle_agent, layout_version, 0);
WAGGLE_ASSERT_AT(waggle_agent, started_ns, 32);
WAGGLE_ASSERT_AT(waggle_agent, events, 72);
WAGGLE_ASSERT_AT(waggle_agent, node, 136);
WAGGLE_ASSERT_AT(waggle_agent, version, 392);
WAGGLE_ASSERT_AT(waggle_agent, content_ids, 424);

#endif
