/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef WAGGLE_BPF_CONFIG_BPF_H
#define WAGGLE_BPF_CONFIG_BPF_H
/*
 * Constants of one node, set by the loader before load. The verifier sees them
 * as constants and drops what they switch off, so a helper that an older kernel
 * lacks may stand behind one of them.
 */
#include "abi.h"

extern const volatile struct waggle_config waggle_config;

#endif
