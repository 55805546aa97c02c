/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_CONFIG_BPF_H
#define WAGGLE_BPF_CONFIG_BPF_H
/*
 * Constants of one node, set by the loader before load. The verifier sees them
 * as constants and drops what they switch off, so a helper that an older kernel
 * lacks may stand behind one of them.
 */
#include <linux/types.h>

struct waggle_config {
	__u64 node_netns;     /* network namespace cookie of the node */
	__u8 host_only;       /* 1: only sockets of the node's own network namespace */
	__u8 have_set_retval; /* 1: bpf_set_retval() exists (5.18) */
	__u8 reserved[6];
};

extern const volatile struct waggle_config waggle_config;

#endif
