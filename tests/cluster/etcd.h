// etcd itself, behind the apiserver's back: through the JSON gateway that it has beside gRPC.
// Where it is, control_plane.cc says. What it refuses ends the test process.
#ifndef WAGGLE_TESTS_CLUSTER_ETCD_H_
#define WAGGLE_TESTS_CLUSTER_ETCD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cluster/api.h"

namespace waggle::cluster {

inline constexpr uint16_t kEtcdPort = 2379;  // on loopback

bool EtcdReady();

// "/v3/kv/range" and its like; keys and values in Base64.
Json AskEtcd(const std::string& path, const Json& body);

bool EtcdHolds(const std::string& key);

struct EtcdEntry {
  std::string key;
  std::string value;
};
// Puts all of them, in no order. Returns the greatest revision that one of them has got.
//
// Each is a transaction of its own, as the apiserver's writes are. Many in one would be faster, but
// have the same revision: a watch that is cut between two of them and goes on from there loses the
// others, and the apiserver's own watches are cut when so much comes at once.
int64_t PutIntoEtcd(const std::vector<EtcdEntry>& entries);

}  // namespace waggle::cluster

#endif
