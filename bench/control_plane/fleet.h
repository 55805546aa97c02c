// Thousands of Services with hand-made EndpointSlices on a real apiserver, written over many
// connections at once.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_FLEET_H_
#define WAGGLE_BENCH_CONTROL_PLANE_FLEET_H_

#include <functional>
#include <string>
#include <vector>

#include "tests/cluster/api.h"
#include "tests/cluster/control_plane.h"

namespace waggle::bench {

// Services svc-0 … of one family and one port, none with a selector; each has one slice, shaped
// as the controller writes it, whose endpoints are on other nodes and answer nobody.
class Fleet {
 public:
  Fleet(cluster::ControlPlane& control, int endpoints);

  // Adds Services until there are `services`.
  void GrowTo(int services);
  int size() const { return size_; }

  // One write: the first endpoint of a Service's slice gets another address.
  void ChangeOne(cluster::Api& api, int service);
  // `count` of them, to one Service after the other, over several connections.
  void ChangeMany(int count);

  // A Service whose only endpoint is the address; its cluster address.
  std::string CreateProbe(const std::string& address);
  // One write: it is another one now.
  static void PointProbe(cluster::Api& api, const std::string& address);

 private:
  cluster::Json SliceOf(int service) const;
  // Calls `work` with 0 … count - 1, over several connections.
  void InParallel(int from, int to, const std::function<void(cluster::Api&, int)>& work) const;

  cluster::ControlPlane& control_;
  const int endpoints_;
  int size_ = 0;
  std::vector<int> changes_;  // of each slice
};

}  // namespace waggle::bench

#endif
