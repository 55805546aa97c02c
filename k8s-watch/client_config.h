// Where the apiserver is, and with what to prove who asks: kubeconfig files, the service
// account of a pod, and flags, as one typed value. Pure over the contents of files.
#ifndef WAGGLE_K8S_WATCH_CLIENT_CONFIG_H_
#define WAGGLE_K8S_WATCH_CLIENT_CONFIG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waggle::k8s {

struct ApiEndpoint {
  bool tls = true;
  std::string host;    // a name, or an address without brackets
  uint16_t port = 0;   // host order
  std::string prefix;  // of each path; empty or "/clusters/one", without '/' at its end

  // "https://[fd00::1]:6443/clusters/one".
  std::string ToString() const;
  friend bool operator==(const ApiEndpoint&, const ApiEndpoint&) = default;
};

// "https://HOST[:PORT][/PREFIX]", also with http; without a scheme https is meant.
// InvalidArgument with a text that goes behind the name of a flag or field.
absl::StatusOr<ApiEndpoint> ParseEndpoint(std::string_view url);

// Something that stands in the configuration itself or in a file; what stands in a file is
// read again each time it is needed, as others renew it.
struct Credential {
  std::string data;
  std::string path;
  std::string origin;  // "FILE: users[0].user.token", for messages

  bool given() const { return !data.empty() || !path.empty(); }
  friend bool operator==(const Credential&, const Credential&) = default;
};

struct ClientConfig {
  std::vector<ApiEndpoint> endpoints;  // at least one; the first is the preferred one
  std::string tls_server_name;         // what certificates must name; empty: the endpoint's host
  Credential ca;                       // PEM; not given: what the system trusts
  Credential client_certificate;       // PEM, with its chain; given together with the key
  Credential client_key;
  Credential token;
  // The only endpoint is what a pod's environment names: the cluster address of the Service
  // `kubernetes`, which works only where a service proxy does.
  bool service_address = false;
};

struct ClientFlags {
  std::string kubeconfig;               // PATH[:PATH...]
  std::string master;                   // URL
  std::vector<std::string> apiservers;  // URLs
};

// What is read besides the flags.
struct ClientSurroundings {
  std::function<absl::StatusOr<std::string>(const std::string& path)> read_file;
  std::function<std::optional<std::string>(const std::string& name)> environment;
};
// Files and environment of this process.
ClientSurroundings RealSurroundings();

// As client-go: a kubeconfig where one is given, else the pod's service account; --master,
// and the list of --apiserver behind it, in place of the server found there. Every file that
// is named must be readable now. InvalidArgument names the file and the field, or the flag.
absl::StatusOr<ClientConfig> ResolveClientConfig(const ClientFlags& flags,
                                                 const ClientSurroundings& surroundings);

// What `credential` holds now. NotFound or what the system says, with its origin.
absl::StatusOr<std::string> ReadCredential(const Credential& credential,
                                           const ClientSurroundings& surroundings);
// The same for a token: without the space around it; InvalidArgument where it cannot stand in
// a header.
absl::StatusOr<std::string> ReadToken(const Credential& token,
                                      const ClientSurroundings& surroundings);

}  // namespace waggle::k8s

#endif
