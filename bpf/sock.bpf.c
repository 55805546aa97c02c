// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/*
 * Translation at the socket: connect() and sendmsg() to a frontend become
 * connect() and sendmsg() to a backend before the kernel has chosen a route or a
 * source address, so both are those of the pod. recvmsg() and getpeername() show
 * the frontend again.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.bpf.h"
#include "udp_flow.bpf.h"

/* Set by the loader; defined here as the object of the socket programs owns it. */
const volatile struct waggle_config waggle_config SEC(".rodata.config") = {};

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define SOCK_STATE_CONNECTED 1 /* TCP_ESTABLISHED: what a connected UDP socket says too */

/* The values that a sock_addr program returns. */
enum verdict { REFUSE = 0, PROCEED = 1 };

static __always_inline struct endpoint destination4(const struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	__u32 addr_be = ctx->user_ip4;

	to.addr[10] = 0xff;
	to.addr[11] = 0xff;
	__builtin_memcpy(to.addr + 12, &addr_be, 4);
	to.port_be = (__be16)ctx->user_port;
	return to;
}

static __always_inline struct endpoint destination6(const struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	__u32 word;

	word = ctx->user_ip6[0];
	__builtin_memcpy(to.addr, &word, 4);
	word = ctx->user_ip6[1];
	__builtin_memcpy(to.addr + 4, &word, 4);
	word = ctx->user_ip6[2];
	__builtin_memcpy(to.addr + 8, &word, 4);
	word = ctx->user_ip6[3];
	__builtin_memcpy(to.addr + 12, &word, 4);
	to.port_be = (__be16)ctx->user_port;
	return to;
}

static __always_inline void rewrite4(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	__u32 addr_be;

	__builtin_memcpy(&addr_be, to->addr + 12, 4);
	ctx->user_ip4 = addr_be;
	ctx->user_port = to->port_be;
}

static __always_inline void rewrite6(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	__u32 word;

	__builtin_memcpy(&word, to->addr, 4);
	ctx->user_ip6[0] = word;
	__builtin_memcpy(&word, to->addr + 4, 4);
	ctx->user_ip6[1] = word;
	__builtin_memcpy(&word, to->addr + 8, 4);
	ctx->user_ip6[2] = word;
	__builtin_memcpy(&word, to->addr + 12, 4);
	ctx->user_ip6[3] = word;
	ctx->user_port = to->port_be;
}

static __always_inline int is_v4_mapped(const struct endpoint *at)
{
	__u64 high;
	__u32 middle;

	__builtin_memcpy(&high, at->addr, 8);
	__builtin_memcpy(&middle, at->addr + 8, 4);
	return high == 0 && middle == bpf_htonl(0xffff);
}

/* Is this the address that the socket is connected to? */
static __always_inline int is_peer(struct bpf_sock *sk, const struct endpoint *to)
{
	/* Read first and kept apart: the verifier allows no arithmetic on a socket's pointer. */
	volatile __u32 ip4 = sk->dst_ip4, ip6_0 = sk->dst_ip6[0], ip6_1 = sk->dst_ip6[1],
		       ip6_2 = sk->dst_ip6[2], ip6_3 = sk->dst_ip6[3];
	__u32 words[4];

	if (sk->dst_port != to->port_be)
		return 0;
	__builtin_memcpy(words, to->addr, 16);
	if (is_v4_mapped(to))
		return ip4 == words[3];
	return ip6_0 == words[0] && ip6_1 == words[1] && ip6_2 == words[2] && ip6_3 == words[3];
}

/* TCP and UDP in all their spellings; 0 for what is not ours. */
static __always_inline __u8 service_protocol(const struct bpf_sock_addr *ctx)
{
	switch (ctx->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_MPTCP:
		return IPPROTO_TCP;
	case IPPROTO_UDP:
		return IPPROTO_UDP;
	}
	return 0;
}

static __always_inline struct service service_at(const struct endpoint *at, __u8 protocol)
{
	struct waggle_frontend_key key = {};

	__builtin_memcpy(key.addr, at->addr, 16);
	key.port_be = at->port_be;
	key.protocol = protocol;
	key.scope = WAGGLE_SCOPE_INTERNAL;
	return find_service(&key);
}

/* Is it a socket of the node's own network namespace, and so of no pod's? */
static __always_inline int of_node(struct bpf_sock_addr *ctx)
{
	__u64 node_netns = waggle_config.node_netns;

	/* Before 5.14 the agent cannot learn the cookie; a real node is the first namespace. */
	if (!node_netns)
		node_netns = bpf_get_netns_cookie(NULL);
	return bpf_get_netns_cookie(ctx) == node_netns;
}

/* --socket-lb=host leaves pods to the packet path. */
static __always_inline int may_translate(struct bpf_sock_addr *ctx)
{
	return !waggle_config.host_only || of_node(ctx);
}

/*
 * Fails the call. With bpf_set_retval() the caller sees the exact errno; without
 * it (before 5.18) EPERM would be the wrong one, so the call goes to a closed
 * port of the loopback instead (*elsewhere is filled and PROCEED returned).
 */
static __always_inline enum verdict fail(const struct service *svc, struct endpoint *elsewhere)
{
	int drop = svc->fate == WAGGLE_FATE_DROP;

	count_reason(drop ? WAGGLE_REASON_NO_LOCAL_ENDPOINTS : WAGGLE_REASON_NO_ENDPOINTS);
	if (waggle_config.have_set_retval) {
		bpf_set_retval(drop ? -ETIMEDOUT : -ECONNREFUSED);
		return REFUSE;
	}
	if (is_v4_mapped(elsewhere)) {
		__u32 loopback_be = bpf_htonl(INADDR_LOOPBACK);

		__builtin_memcpy(elsewhere->addr + 12, &loopback_be, 4);
	} else {
		__builtin_memset(elsewhere->addr, 0, 16);
		elsewhere->addr[15] = 1;
	}
	elsewhere->port_be = bpf_htons(1);
	return PROCEED;
}

static __always_inline void fill_state(struct waggle_sock_state *state,
				       const struct endpoint *frontend,
				       const struct endpoint *backend, __u8 protocol,
				       __u32 service_id)
{
	if (!state) {
		count_reason(WAGGLE_REASON_SOCK_STATE_FULL);
		return;
	}
	__builtin_memcpy(state->frontend_addr, frontend->addr, 16);
	__builtin_memcpy(state->backend_addr, backend->addr, 16);
	state->frontend_port_be = frontend->port_be;
	state->backend_port_be = backend->port_be;
	state->service_id = service_id;
	state->protocol = protocol;
}

static __always_inline void record_connection(struct bpf_sock *sk, const struct endpoint *frontend,
					      const struct endpoint *backend, __u8 protocol,
					      __u32 service_id)
{
	struct mptcp_sock *mptcp;

	fill_state(bpf_sk_storage_get(&sock_state, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE), frontend,
		   backend, protocol, service_id);
	if (protocol != IPPROTO_TCP || !waggle_config.have_mptcp_sock)
		return;
	/* connect() of an MPTCP socket runs this on its first subflow, getpeername() on itself. */
	mptcp = bpf_skc_to_mptcp_sock(sk);
	if (mptcp)
		fill_state(
			bpf_sk_storage_get(&sock_state, mptcp, NULL, BPF_SK_STORAGE_GET_F_CREATE),
			frontend, backend, protocol, service_id);
}

/* A socket that connects elsewhere forgets the Service it was connected to. */
static __always_inline void forget_connection(struct bpf_sock *sk)
{
	struct waggle_sock_state *state = bpf_sk_storage_get(&sock_state, sk, NULL, 0);

	if (state)
		state->protocol = 0;
}

/* *to is the destination on entry and the backend on return; 1 when it changed. */
static __always_inline enum verdict on_connect(struct bpf_sock_addr *ctx, struct endpoint *to,
					       int *changed)
{
	__u8 protocol = service_protocol(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct waggle_backend *backend;
	struct endpoint frontend;
	struct service svc;

	if (!protocol || !sk)
		return PROCEED;
	svc = service_at(to, protocol);
	if (svc.fate == WAGGLE_FATE_NONE) {
		forget_connection(sk);
		return PROCEED;
	}
	if (!may_translate(ctx)) {
		count_reason(WAGGLE_REASON_OTHER_NETNS);
		forget_connection(sk);
		return PROCEED;
	}
	frontend = *to;
	if (svc.fate != WAGGLE_FATE_FORWARD) {
		if (protocol == IPPROTO_UDP && waggle_config.packet_path && !of_node(ctx)) {
			/* As with kube-proxy: connect() succeeds and the next call fails; endpoints
			 * that come later serve the same socket. The packet path sees to both. */
			count_reason(WAGGLE_REASON_UDP_CONNECT_LEFT);
			forget_connection(sk);
			return PROCEED;
		}
		*changed = 1;
		if (!waggle_config.have_set_retval)
			forget_connection(sk); /* it will be connected to the loopback */
		return fail(&svc, to);
	}
	backend = backend_at(&svc, random_index(&svc));
	if (!backend)
		return PROCEED; /* cannot be: the range lies inside the map */
	__builtin_memcpy(to->addr, backend->addr, 16);
	to->port_be = backend->port_be;
	*changed = 1;
	record_connection(sk, &frontend, to, protocol, svc.service_id);
	count_reason(WAGGLE_REASON_CONNECT_TRANSLATED);
	return PROCEED;
}

/*
 * Which backend gets this socket's datagram: the one that it used last, while
 * that is in the list and the flow is not idle; else a random one that the socket
 * does not reach by another address already (its answers could not be told
 * apart), as far as eight tries find one.
 */
static __always_inline int choose_for_datagram(const struct service *svc, __u64 cookie,
					       const struct endpoint *frontend, __u64 now_ns,
					       struct endpoint *chosen)
{
	struct waggle_udp_flow_key key = udp_flow_key(cookie, WAGGLE_UDP_FORWARD, frontend);
	struct endpoint candidate = {};
	__u64 last_ns;
	__u32 index;

	if (udp_flow_find(&key, chosen, &last_ns) == 0 && !udp_flow_idle(now_ns, last_ns) &&
	    list_holds(svc, chosen->addr, chosen->port_be)) {
		udp_flow_put(&key, chosen, now_ns);
		return 0;
	}
	index = random_index(svc);
	for (int attempt = 0; attempt < 8; attempt++) {
		struct waggle_backend *backend = backend_at(svc, index);

		if (!backend)
			return -1;
		__builtin_memcpy(candidate.addr, backend->addr, 16);
		candidate.port_be = backend->port_be;
		if (attempt == 0)
			*chosen = candidate;
		if (!udp_backend_taken(cookie, &candidate, frontend, now_ns)) {
			*chosen = candidate;
			udp_flow_put(&key, chosen, now_ns);
			return 0;
		}
		index = index + 1 < svc->count ? index + 1 : 0;
	}
	udp_flow_put(&key, chosen, now_ns);
	return 0;
}

/* A datagram that is not for a Service, from a socket that has used one. */
static __always_inline void on_direct_datagram(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct waggle_udp_flow_key key = udp_flow_key(cookie, WAGGLE_UDP_REVERSE, to);
	struct endpoint frontend;
	__u64 last_ns, now_ns = bpf_ktime_get_ns();

	if (udp_flow_find(&key, &frontend, &last_ns))
		return;
	/* The socket reached `to` through a Service before; the last way used decides. */
	if (udp_backend_taken(cookie, to, to, now_ns))
		count_reason(WAGGLE_REASON_UDP_REPLY_AMBIGUOUS);
	udp_flow_put(&key, to, now_ns);
}

static __always_inline enum verdict on_sendmsg(struct bpf_sock_addr *ctx, struct endpoint *to,
					       int *changed)
{
	struct bpf_sock *sk = ctx->sk;
	struct waggle_sock_state *state;
	struct waggle_udp_flow_key key;
	struct endpoint frontend;
	struct service svc;
	__u64 cookie, now_ns;

	if (service_protocol(ctx) != IPPROTO_UDP || !sk)
		return PROCEED;
	/*
	 * send() on a connected v4-mapped socket comes here with the address that it is
	 * connected to: a backend must not be translated a second time, and a socket that was
	 * connected to a Service before we came takes answers from that address only.
	 */
	if (sk->state == SOCK_STATE_CONNECTED && is_peer(sk, to))
		return PROCEED;
	state = bpf_sk_storage_get(&sock_state, sk, NULL, 0);
	if (state && state->protocol && sk->state == SOCK_STATE_CONNECTED) {
		/* The Service it is connected to, named again: only that backend's answer would
		 * be let in. */
		if (same_endpoint(to->addr, to->port_be, state->frontend_addr,
				  state->frontend_port_be)) {
			__builtin_memcpy(to->addr, state->backend_addr, 16);
			to->port_be = state->backend_port_be;
			*changed = 1;
			count_reason(WAGGLE_REASON_DATAGRAM_TRANSLATED);
			return PROCEED;
		}
	}
	svc = service_at(to, IPPROTO_UDP);
	if (svc.fate == WAGGLE_FATE_NONE) {
		if (state && (state->flags & WAGGLE_SOCK_UDP_FLOWS))
			on_direct_datagram(ctx, to);
		return PROCEED;
	}
	if (!may_translate(ctx)) {
		count_reason(WAGGLE_REASON_OTHER_NETNS);
		return PROCEED;
	}
	frontend = *to;
	if (svc.fate != WAGGLE_FATE_FORWARD) {
		*changed = 1;
		return fail(&svc, to);
	}
	if (!state)
		state = bpf_sk_storage_get(&sock_state, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (state)
		state->flags |= WAGGLE_SOCK_UDP_FLOWS;
	else
		count_reason(WAGGLE_REASON_SOCK_STATE_FULL);
	cookie = bpf_get_socket_cookie(ctx);
	now_ns = bpf_ktime_get_ns();
	/*
	 * A socket that was connected to this Service stays with its backend: a disconnected
	 * IPv6 socket goes on dropping what others send (the kernel leaves its peer set).
	 */
	if (state && state->protocol &&
	    same_endpoint(to->addr, to->port_be, state->frontend_addr, state->frontend_port_be) &&
	    list_holds(&svc, state->backend_addr, state->backend_port_be)) {
		__builtin_memcpy(to->addr, state->backend_addr, 16);
		to->port_be = state->backend_port_be;
	} else if (choose_for_datagram(&svc, cookie, &frontend, now_ns, to)) {
		return PROCEED; /* cannot be: the range lies inside the map */
	}
	*changed = 1;
	if (udp_backend_taken(cookie, to, &frontend, now_ns))
		count_reason(WAGGLE_REASON_UDP_REPLY_AMBIGUOUS);
	key = udp_flow_key(cookie, WAGGLE_UDP_REVERSE, to);
	udp_flow_put(&key, &frontend, now_ns);
	count_reason(WAGGLE_REASON_DATAGRAM_TRANSLATED);
	return PROCEED;
}

/* *from is the sender on entry; 1 when it is a backend and was replaced by its frontend. */
static __always_inline int on_recvmsg(struct bpf_sock_addr *ctx, struct endpoint *from)
{
	struct bpf_sock *sk = ctx->sk;
	struct waggle_sock_state *state;
	struct waggle_udp_flow_key key;
	struct endpoint frontend = {};
	__u64 last_ns, now_ns;

	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&sock_state, sk, NULL, 0);
	if (!state)
		return 0;
	if (sk->state == SOCK_STATE_CONNECTED) {
		/* Connected elsewhere than to a Service: whatever comes is from there. */
		if (!state->protocol || !same_endpoint(from->addr, from->port_be,
						       state->backend_addr, state->backend_port_be))
			return 0;
		__builtin_memcpy(from->addr, state->frontend_addr, 16);
		from->port_be = state->frontend_port_be;
		count_reason(WAGGLE_REASON_REPLY_TRANSLATED);
		return 1;
	}
	if (!(state->flags & WAGGLE_SOCK_UDP_FLOWS))
		return 0;
	key = udp_flow_key(bpf_get_socket_cookie(ctx), WAGGLE_UDP_REVERSE, from);
	if (udp_flow_find(&key, &frontend, &last_ns))
		return 0;
	if (same_endpoint(frontend.addr, frontend.port_be, from->addr, from->port_be))
		return 0; /* reached directly */
	/* Answers keep a conversation alive, as with conntrack; once a second is enough. */
	now_ns = bpf_ktime_get_ns();
	if ((__s64)(now_ns - last_ns) > (__s64)WAGGLE_UDP_STAMP_NS) {
		udp_flow_put(&key, &frontend, now_ns);
		key = udp_flow_key(key.cookie, WAGGLE_UDP_FORWARD, &frontend);
		udp_flow_put(&key, from, now_ns);
	}
	*from = frontend;
	count_reason(WAGGLE_REASON_REPLY_TRANSLATED);
	return 1;
}

static __always_inline int on_getpeername(struct bpf_sock_addr *ctx, struct endpoint *peer)
{
	struct bpf_sock *sk = ctx->sk;
	struct waggle_sock_state *state;

	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&sock_state, sk, NULL, 0);
	if (!state || !state->protocol ||
	    !same_endpoint(peer->addr, peer->port_be, state->backend_addr, state->backend_port_be))
		return 0;
	__builtin_memcpy(peer->addr, state->frontend_addr, 16);
	peer->port_be = state->frontend_port_be;
	return 1;
}

SEC("cgroup/connect4")
int waggle_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = destination4(ctx);
	int changed = 0;
	enum verdict verdict = on_connect(ctx, &to, &changed);

	if (changed && verdict == PROCEED)
		rewrite4(ctx, &to);
	return verdict;
}

SEC("cgroup/connect6")
int waggle_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = destination6(ctx);
	int changed = 0;
	enum verdict verdict = on_connect(ctx, &to, &changed);

	if (changed && verdict == PROCEED)
		rewrite6(ctx, &to);
	return verdict;
}

SEC("cgroup/sendmsg4")
int waggle_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = destination4(ctx);
	int changed = 0;
	enum verdict verdict = on_sendmsg(ctx, &to, &changed);

	if (changed && verdict == PROCEED)
		rewrite4(ctx, &to);
	return verdict;
}

SEC("cgroup/sendmsg6")
int waggle_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = destination6(ctx);
	int changed = 0;
	enum verdict verdict = on_sendmsg(ctx, &to, &changed);

	if (changed && verdict == PROCEED)
		rewrite6(ctx, &to);
	return verdict;
}

SEC("cgroup/recvmsg4")
int waggle_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint from = destination4(ctx);

	if (on_recvmsg(ctx, &from))
		rewrite4(ctx, &from);
	return PROCEED;
}

SEC("cgroup/recvmsg6")
int waggle_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint from = destination6(ctx);

	if (on_recvmsg(ctx, &from))
		rewrite6(ctx, &from);
	return PROCEED;
}

SEC("cgroup/getpeername4")
int waggle_getpeername4(struct bpf_sock_addr *ctx)
{
	struct endpoint peer = destination4(ctx);

	if (on_getpeername(ctx, &peer))
		rewrite4(ctx, &peer);
	return PROCEED;
}

SEC("cgroup/getpeername6")
int waggle_getpeername6(struct bpf_sock_addr *ctx)
{
	struct endpoint peer = destination6(ctx);

	if (on_getpeername(ctx, &peer))
		rewrite6(ctx, &peer);
	return PROCEED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
