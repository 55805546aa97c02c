// Where the ways are measured: for each way a node of its own with a client pod and a
// server pod, all of the same shape. What one way needs (rules, conntrack, programs)
// is loaded in its node's network namespace only and stays there, so that it is never
// on another's way, and nothing is put in or taken out between measurements.
//
// Pods are routed, as Calico has them. The server pod has several addresses, each an
// endpoint of the Service; the client pod has several, which new connections use by turns. What
// cannot be built ends the process with a message.
#ifndef WAGGLE_BENCH_PATH_WORLD_H_
#define WAGGLE_BENCH_PATH_WORLD_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/path/peer.h"
#include "tests/lab/agent.h"
#include "tests/lab/lab.h"
#include "tests/lab/process.h"

namespace waggle::bench {

enum class Way { kDirect, kVeth, kIptables, kNftables, kWaggle };

// A way from the client to the server.
struct Variant {
  const char* name;
  const char* what;  // for people
  Way way;
  const char* forwarding;  // Waggle's --forwarding and --socket-lb
  const char* socket_lb;
  bool short_form;  // is measured in the short form as well
};

// What all ratios are to.
inline constexpr char kReference[] = "direct";
const std::vector<Variant>& AllVariants();

struct WorldOptions {
  std::vector<Variant> variants;
  int services = 1;              // in the rules and in Waggle; the one that is asked is the last
  int endpoints = 5;             // of each
  bool legacy_iptables = false;  // iptables-legacy in place of iptables-nft
  std::vector<std::string> agent_flags;  // more of them, for every agent
};

class World {
 public:
  explicit World(const WorldOptions& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  struct Slice {
    int64_t duration_ns = 0;
    int64_t warmup_ns = 0;
  };
  Outcome Measure(const Variant& variant, const Kind& kind, const Slice& slice);

  // Packets that the node's stack has forwarded so far. Tells whether a way is what
  // its name says.
  uint64_t Forwarded(const Variant& variant, net::Family family);

  const lab::Node& node(const Variant& variant) const;
  // The host's side of the client pod's veth, in the node.
  const std::string& client_device(const Variant& variant) const;

 private:
  struct Site;

  Site& At(const Variant& variant) { return *sites_.at(variant.name); }
  void Furnish(Site& site);
  void TakeSource(Site& site, net::Family family);
  void StartPeers(Site& site);
  void InstallRules(const Site& site) const;
  void StartAgent(Site& site);

  const WorldOptions options_;
  lab::Lab lab_;
  std::map<std::string, std::unique_ptr<Site>> sites_;
};

}  // namespace waggle::bench

#endif
