// An apiserver as a Source: Services, EndpointSlices and this Node, each followed by a reflector
// with a thread and a connection of its own.
#ifndef WAGGLE_K8S_WATCH_API_SOURCE_H_
#define WAGGLE_K8S_WATCH_API_SOURCE_H_

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/reflector.h"
#include "k8s-watch/source.h"

namespace waggle::k8s {

struct ApiSourceOptions {
  std::string node_name;
  std::string user_agent = "waggle";
  // Lists as the beginning of a watch, where the server has that; else by pages.
  bool streaming_list = true;
  // Said when the only endpoint, the cluster address of the Service `kubernetes`, cannot be
  // reached (ClientConfig::service_address).
  std::string service_address_advice;
};

class ApiSource final : public Source {
 public:
  // What was asked for, and how the API calls it.
  static constexpr std::array<std::string_view, 3> kResources = {"services", "endpointslices",
                                                                 "nodes"};

  ApiSource(ClientConfig config, ApiSourceOptions options,
            ClientSurroundings surroundings = RealSurroundings());
  ~ApiSource() override;

  // InvalidArgument or NotFound when certificates or keys are no good. Whether there is an
  // apiserver shows later, as a problem. The sink is called by several threads, never by two at
  // once. OnSynced() comes when all three lists have.
  absl::Status Start(EventSink* sink) override;
  void Stop() override;

  // In the order of kResources; since the start. From any thread.
  const std::array<Reflector::Counts, kResources.size()>& counts() const { return counts_; }

 private:
  class Workers;

  const ClientConfig config_;
  const ApiSourceOptions options_;
  const ClientSurroundings surroundings_;
  std::array<Reflector::Counts, kResources.size()> counts_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace waggle::k8s

#endif
