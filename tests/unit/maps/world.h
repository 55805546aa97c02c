// Random clusters for the planner: Services that gain and lose frontends, take them
// from each other, regroup them into lists and ports, and change backends and fates.
#ifndef WAGGLE_TESTS_UNIT_MAPS_WORLD_H_
#define WAGGLE_TESTS_UNIT_MAPS_WORLD_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "maps/desired.h"
#include "tests/unit/maps/fake_map_store.h"
#include "tests/unit/maps/testing.h"

namespace waggle::maps {

class World {
 public:
  static constexpr int kServices = 3;
  static constexpr int kPorts = 3;
  static constexpr int kLists = 2;
  static constexpr int kKeys = 14;

  explicit World(uint32_t seed);

  // A few random changes.
  void Change();
  // Every Service by name; one without ports is gone.
  std::map<ServiceName, ResolvedService> Services() const;

 private:
  struct Place {
    int service = -1;  // -1: nobody has the frontend
    int port = 0;
    int list = 0;
  };
  struct List {
    Fate fate = Fate::kForward;
    Policy policy = Policy::kCluster;
    uint32_t affinity_s = 0;
    std::vector<Backend> backends;
  };

  void Reassign(int key);
  void Randomize(List& list);
  Frontend FrontendOf(int key) const;

  Random random_;
  std::array<Place, kKeys> places_;
  std::array<FrontendKind, kKeys> kinds_{};
  std::array<std::array<int, kPorts>, kServices> port_names_{};
  List lists_[kServices][kPorts][kLists];
};

// Where one frontend stands in a set of Services, for the rules below.
struct Standing {
  ServiceName service;
  std::string port;  // first frontend of the port, as text
  std::string list;  // first frontend of the list, as text
  FrontendKind kind;
  Outcome outcome;
};
using Standings = std::map<waggle_frontend_key, Standing, KeyLess>;
Standings StandingsOf(const std::map<ServiceName, ResolvedService>& services);

// May a reader miss this frontend for a moment while `before` becomes `after`? Only if
// it is new or gone, or its immutable row must be another: other Service, other kind,
// or its list or port was split or joined.
bool GapAllowed(const waggle_frontend_key& key, const Standings& before, const Standings& after);

}  // namespace waggle::maps

#endif
