// Short words for Services, addresses and rows in the tests of maps/. Bad text aborts:
// it is a mistake in the test.
#ifndef WAGGLE_TESTS_UNIT_MAPS_TESTING_H_
#define WAGGLE_TESTS_UNIT_MAPS_TESTING_H_

#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "maps/compile.h"
#include "maps/desired.h"
#include "maps/tables.h"

namespace waggle::maps {

// The same numbers for the same seed on every machine.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  // 0 … count-1.
  uint32_t Below(uint32_t count) { return static_cast<uint32_t>(engine_() % count); }
  bool OneIn(uint32_t count) { return Below(count) == 0; }

 private:
  std::mt19937_64 engine_;
};

// "10.0.0.1:80" or "[fd00::1]:80".
inline net::Endpoint At(std::string_view text) {
  const size_t colon = text.rfind(':');
  std::string_view address = text.substr(0, colon);
  if (address.starts_with('[')) address = address.substr(1, address.size() - 2);
  const auto parsed = net::Address::Parse(address);
  if (colon == std::string_view::npos || !parsed) std::abort();
  return {*parsed, static_cast<uint16_t>(std::atoi(std::string(text.substr(colon + 1)).c_str()))};
}

inline Frontend ClusterIp(std::string_view text) {
  return {At(text)};
}

inline Backend BackendAt(std::string_view text, bool local = false, bool terminating = false) {
  return {At(text), local, terminating};
}

inline BackendList Forward(std::vector<std::string_view> frontends,
                           std::vector<std::string_view> backends) {
  BackendList list;
  list.fate = Fate::kForward;
  for (const auto text : frontends)
    list.frontends.push_back(ClusterIp(text));
  for (const auto text : backends)
    list.backends.push_back(BackendAt(text));
  std::sort(list.frontends.begin(), list.frontends.end());
  std::sort(list.backends.begin(), list.backends.end());
  return list;
}

inline BackendList Without(Fate fate, std::vector<std::string_view> frontends) {
  BackendList list = Forward(std::move(frontends), {});
  list.fate = fate;
  return list;
}

inline ResolvedPort Port(std::string name, std::vector<BackendList> lists,
                         net::Protocol protocol = net::Protocol::kTcp) {
  std::sort(lists.begin(), lists.end(), [](const BackendList& left, const BackendList& right) {
    return left.frontends < right.frontends;
  });
  return {std::move(name), protocol, std::move(lists)};
}

inline ResolvedService Service(std::string name, std::vector<ResolvedPort> ports) {
  std::sort(ports.begin(), ports.end());
  return {{"ns", std::move(name)}, std::move(ports)};
}

inline waggle_frontend_key KeyOf(const Frontend& frontend,
                                 net::Protocol protocol = net::Protocol::kTcp) {
  waggle_frontend_key key{};
  std::copy(frontend.endpoint.address.bytes().begin(), frontend.endpoint.address.bytes().end(),
            key.addr);
  key.port_be = htons(frontend.endpoint.port);
  key.protocol = static_cast<__u8>(protocol);
  key.scope = static_cast<__u8>(frontend.scope);
  return key;
}
inline waggle_frontend_key KeyOf(std::string_view frontend,
                                 net::Protocol protocol = net::Protocol::kTcp) {
  return KeyOf(ClusterIp(frontend), protocol);
}

// A row whose tag fits.
inline waggle_frontend RowOf(const waggle_frontend_key& key, uint32_t slot, uint32_t service_id,
                             uint8_t kind = WAGGLE_KIND_CLUSTER_IP) {
  waggle_frontend row{};
  row.slot = slot;
  row.service_id = service_id;
  row.kind = kind;
  row.tag = waggle_frontend_tag(&key, slot, service_id, kind);
  return row;
}

}  // namespace waggle::maps

#endif
