// Flows for tests: both entries as a program writes them.
#ifndef WAGGLE_TESTS_UNIT_MAPS_FLOW_TESTING_H_
#define WAGGLE_TESTS_UNIT_MAPS_FLOW_TESTING_H_

#include <arpa/inet.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "maps/flow_table.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {

inline constexpr uint64_t kSecondNs = 1'000'000'000;

struct FlowSpec {
  std::string_view client = "10.244.1.5:40000";
  std::string_view frontend = "10.96.0.10:80";
  std::string_view backend = "10.244.2.7:8080";
  std::string_view source = {};  // what the backend sees; empty: the client
  net::Protocol protocol = net::Protocol::kTcp;
  uint8_t flags = WAGGLE_FLOW_REWRITE;
  uint8_t forward_state = 0;
  uint8_t reply_state = 0;
  uint32_t service_id = 3;
  uint32_t ifindex = 12;
  uint64_t created_ns = 0;
  uint64_t forward_ns = 0;  // last packet
  uint64_t reply_ns = 0;
  waggle_way forward_way = {};
  waggle_way reply_way = {};
};

struct FlowPair {
  FlowEntry forward;
  FlowEntry reply;
};

inline void PutEndpoint(const net::Endpoint& endpoint, __u8 (&address)[16], __be16& port_be) {
  std::copy(endpoint.address.bytes().begin(), endpoint.address.bytes().end(), address);
  port_be = htons(endpoint.port);
}

inline void SetTag(FlowEntry& entry) {
  entry.value.tag = waggle_flow_tag(&entry.key, &entry.value);
}

inline FlowPair PairOf(const FlowSpec& spec) {
  const std::string_view source = spec.source.empty() ? spec.client : spec.source;
  FlowPair pair;
  waggle_flow_key& to = pair.forward.key;
  waggle_flow& forward = pair.forward.value;
  PutEndpoint(At(spec.client), to.src, to.src_port_be);
  PutEndpoint(At(spec.frontend), to.dst, to.dst_port_be);
  PutEndpoint(At(source), forward.new_src, forward.new_src_port_be);
  PutEndpoint(At(spec.backend), forward.new_dst, forward.new_dst_port_be);
  forward.kind = WAGGLE_FLOW_FORWARD;
  forward.last_ns = spec.forward_ns;
  forward.state = spec.forward_state;
  forward.way = spec.forward_way;

  waggle_flow_key& from = pair.reply.key;
  waggle_flow& reply = pair.reply.value;
  PutEndpoint(At(spec.backend), from.src, from.src_port_be);
  PutEndpoint(At(source), from.dst, from.dst_port_be);
  PutEndpoint(At(spec.frontend), reply.new_src, reply.new_src_port_be);
  PutEndpoint(At(spec.client), reply.new_dst, reply.new_dst_port_be);
  reply.kind = WAGGLE_FLOW_REPLY;
  reply.last_ns = spec.reply_ns;
  reply.state = spec.reply_state;
  reply.way = spec.reply_way;

  for (FlowEntry* entry : {&pair.forward, &pair.reply}) {
    entry->key.protocol = static_cast<uint8_t>(spec.protocol);
    entry->value.flags = spec.flags;
    entry->value.service_id = spec.service_id;
    entry->value.ifindex = spec.ifindex;
    entry->value.created_ns = spec.created_ns;
    SetTag(*entry);
  }
  return pair;
}

}  // namespace waggle::maps

#endif
