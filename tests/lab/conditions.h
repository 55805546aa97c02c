// What other software does to a node: rules and settings that Waggle has to live with.
#ifndef WAGGLE_TESTS_LAB_CONDITIONS_H_
#define WAGGLE_TESTS_LAB_CONDITIONS_H_

#include <string>

#include "tests/lab/lab.h"

namespace waggle::lab {

// The policy of the FORWARD chain is DROP in both families, as Docker sets it. Where the
// CNI has rules of its own, packets from and to the node's pods are accepted.
void DropForwarded(const Node& node, bool cni_accepts_its_pods);
void AcceptForwarded(const Node& node);  // undoes it

// Firewalls drop what connection tracking cannot place. Count(node, "invalid") says how
// many packets.
void DropInvalid(const Node& node);

// Counts TCP and UDP packets that the node's stack forwards, between ports of its bridge
// included (with SetBridgeNfCall(node, true)): Count(node, "forwarded").
void WatchForwarded(const Node& node);

// Whether packets between ports of a bridge pass the rules of iptables and ip6tables.
void SetBridgeNfCall(const Node& node, bool on);

// A named counter of nftables in this place.
uint64_t Count(const Place& place, const std::string& counter);

}  // namespace waggle::lab

#endif
