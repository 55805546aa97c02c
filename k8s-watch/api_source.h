// An apiserver as a Source: Services, EndpointSlices and this Node, each followed by a reflector
// with a thread and a connection of its own; and one more for Events about them.
#ifndef WAGGLE_K8S_WATCH_API_SOURCE_H_
#define WAGGLE_K8S_WATCH_API_SOURCE_H_

#include <array>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "k8s-watch/client_config.h"
#include "k8s-watch/event_counts.h"
#include "k8s-watch/request_counts.h"
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
  ApiSource(ClientConfig config, ApiSourceOptions options,
            ClientSurroundings surroundings = RealSurroundings());
  ~ApiSource() override;

  // InvalidArgument or NotFound when certificates or keys are no good. Whether there is an
  // apiserver shows later, as a problem. The sink is called by several threads, never by two at
  // once. OnSynced() comes when all three lists have.
  absl::Status Start(EventSink* sink) override;
  void Stop() override;

  void Report(const std::vector<Problem>& appeared) override;
  const EventCounts* event_counts() const override { return &event_counts_; }
  std::span<const RequestCounts> counts() const override { return counts_; }

 private:
  class Workers;

  const ClientConfig config_;
  const ApiSourceOptions options_;
  const ClientSurroundings surroundings_;
  std::array<RequestCounts, 3> counts_;  // of Services, EndpointSlices and the Node
  EventCounts event_counts_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace waggle::k8s

#endif
