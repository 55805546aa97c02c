// Thousands of Services with hand-made EndpointSlices on a real apiserver.
//
// Two are created through it. All others are written into etcd as what it made of the first one,
// with names, addresses and uids of their own: through the apiserver 50,000 take most of an hour.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_FLEET_H_
#define WAGGLE_BENCH_CONTROL_PLANE_FLEET_H_

#include <functional>
#include <map>
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

  // Adds Services until there are `services`, and waits until the apiserver has seen them all and
  // has nothing left to do. Ends the process where it shows one otherwise than if it had created
  // it, or where its controllers want to repair one.
  void GrowTo(int services);
  int size() const { return size_; }
  // Waits until apiserver and etcd do next to nothing, so that what comes next does not pay for
  // what was before.
  void AwaitQuiet() const;

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
  void CreateByApi(int service) const;
  // What the apiserver would have made of this Service; of its slice; of its address.
  cluster::Json Like(const std::string& kind, int service) const;
  // Waits until apiserver and controller (`queue`; nullptr: none) have seen all of them.
  void WriteIntoEtcd(const std::string& kind, const char* queue, int from, int to) const;
  // What the apiserver shows is Like(), but for what is new in each.
  void MustBeLike(const std::string& kind, int service) const;
  // Waits until this queue of the apiserver's is empty and has got so many keys; how many.
  double AwaitQueue(const std::string& queue, double added) const;
  void MustNotBeRepaired() const;
  // Calls `work` with 0 … count - 1, over several connections.
  void InParallel(int count, const std::function<void(cluster::Api&, int)>& work) const;

  cluster::ControlPlane& control_;
  const int endpoints_;
  int size_ = 0;
  std::vector<int> changes_;                    // of each slice
  std::map<std::string, cluster::Json> first_;  // of each kind, as the apiserver made it
};

}  // namespace waggle::bench

#endif
