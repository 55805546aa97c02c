#include "k8s-watch/client_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "k8s-watch/document.h"
#include "k8s-watch/fields.h"
#include "k8s-watch/file_text.h"
#include "k8s-watch/quote.h"
#include "userspace/net/address.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;

constexpr std::string_view kAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr std::string_view kThen = "no connection is made";

absl::Status Invalid(std::string_view where, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(where), ": ", std::string(what)));
}

bool IsHostName(std::string_view text) {
  return !text.empty() && text.size() <= 253 && text.front() != '.' && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
         });
}

bool IsPathText(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) ||
           std::string_view("-._~/%").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// Where a value stands: in which file, and where in it.
struct Place {
  std::string file;
  std::string path;

  std::string At(std::string_view key) const {
    return absl::StrCat(file, ": ", path, path.empty() ? "" : ".", std::string(key));
  }
};

// A mapping of a kubeconfig.
struct Section {
  const json* value = nullptr;
  Place place;
};

struct File {
  std::string path;
  json tree;
};

// A string member; absent is empty.
absl::StatusOr<std::string> Text(const Section& section, const char* key) {
  const json* member = Member(*section.value, key);
  if (member == nullptr) return std::string();
  if (!member->is_string()) {
    return Invalid(section.place.At(key),
                   absl::StrCat("is ", Describe(*member), ", expected a string"));
  }
  return member->get<std::string>();
}

absl::StatusOr<std::string> ReadNamedFile(const std::string& path, std::string_view origin,
                                          const ClientSurroundings& surroundings) {
  auto text = surroundings.read_file(path);
  if (text.ok()) return text;
  return absl::Status(text.status().code(),
                      absl::StrCat(std::string(origin), ": the file ", Quote(path, 256), " ",
                                   std::string(text.status().message())));
}

absl::StatusOr<File> ReadKubeconfig(const std::string& path, std::string text) {
  File file = {path, nullptr};
  absl::Status fault;
  size_t documents = 0;
  const absl::Status read = ForEachDocument(text, TextFormat::kAny, [&](Document document) {
    if (++documents > 1 || !fault.ok()) return;
    if (!document.value.ok()) {
      fault = document.value.status();
      return;
    }
    file.tree = *std::move(document.value);
  });
  if (!read.ok()) fault = read;
  if (!fault.ok()) return Invalid(path, std::string(fault.message()));
  if (documents == 0) file.tree = json::object();
  if (documents > 1) return Invalid(path, "holds several documents, expected one kubeconfig");
  if (!file.tree.is_object()) {
    return Invalid(path, absl::StrCat("is ", Describe(file.tree), ", expected a kubeconfig"));
  }
  const Section root = {&file.tree, {path, ""}};
  constexpr std::array<std::pair<const char*, std::string_view>, 2> kMeta = {
      {{"kind", "Config"}, {"apiVersion", "v1"}}};
  for (const auto& [key, expected] : kMeta) {
    const auto value = Text(root, key);
    if (!value.ok()) return value.status();
    if (!value->empty() && *value != expected) {
      return Invalid(root.place.At(key), absl::StrCat("is ", Quote(*value), ", expected \"",
                                                      std::string(expected), "\""));
    }
  }
  return file;
}

// The kubeconfig files as one: what comes first wins.
class Kubeconfig {
 public:
  explicit Kubeconfig(const ClientSurroundings& surroundings) : surroundings_(surroundings) {}

  absl::Status Load(const std::string& list) {
    const std::vector<std::string> paths = absl::StrSplit(list, ':', absl::SkipEmpty());
    if (paths.empty()) return Invalid("--kubeconfig", "names no file");
    absl::Status missing;
    for (const std::string& path : paths) {
      auto text = ReadNamedFile(path, "--kubeconfig", surroundings_);
      if (!text.ok()) {
        // Of several files some may be missing, as with kubectl.
        if (paths.size() > 1 && absl::IsNotFound(text.status())) {
          missing = text.status();
          continue;
        }
        return text.status();
      }
      auto file = ReadKubeconfig(path, *std::move(text));
      if (!file.ok()) return file.status();
      files_.push_back(*std::move(file));
    }
    return files_.empty() ? missing : absl::OkStatus();
  }

  // Fills everything but what flags override. `need_server`: no flag names one.
  absl::Status Fill(bool need_server, ClientConfig* config) const {
    std::string current;
    for (const File& file : files_) {
      auto value = Text({&file.tree, {file.path, ""}}, "current-context");
      if (!value.ok()) return value.status();
      current = *std::move(value);
      if (!current.empty()) break;
    }
    if (current.empty()) {
      return Invalid(files_.front().path, "current-context: is missing, so no cluster is chosen");
    }
    auto context = Find("contexts", "context", current, "current-context");
    if (!context.ok()) return context.status();
    auto cluster_name = Text(*context, "cluster");
    if (!cluster_name.ok()) return cluster_name.status();
    auto user_name = Text(*context, "user");
    if (!user_name.ok()) return user_name.status();
    if (cluster_name->empty()) return Invalid(context->place.At("cluster"), "is missing");
    auto cluster = Find("clusters", "cluster", *cluster_name, context->place.At("cluster"));
    if (!cluster.ok()) return cluster.status();
    if (auto status = FillCluster(*cluster, need_server, config); !status.ok()) return status;
    if (user_name->empty()) return absl::OkStatus();
    auto user = Find("users", "user", *user_name, context->place.At("user"));
    if (!user.ok()) return user.status();
    return FillUser(*user, config);
  }

 private:
  // The mapping `inner` of the entry called `name` in the list `list`.
  absl::StatusOr<Section> Find(const char* list, const char* inner, const std::string& name,
                               const std::string& wanted_by) const {
    for (const File& file : files_) {
      const json* entries = Member(file.tree, list);
      if (entries == nullptr) continue;
      if (!entries->is_array()) {
        return Invalid(absl::StrCat(file.path, ": ", list),
                       absl::StrCat("is ", Describe(*entries), ", expected a list"));
      }
      for (size_t i = 0; i < entries->size(); ++i) {
        const json& entry = (*entries)[i];
        if (!entry.is_object()) continue;  // not the one that is wanted
        const json* entry_name = Member(entry, "name");
        if (entry_name == nullptr || *entry_name != name) continue;
        Section section = {Member(entry, inner),
                           {file.path, absl::StrCat(list, "[", i, "].", inner)}};
        if (section.value == nullptr || !section.value->is_object()) {
          return Invalid(absl::StrCat(file.path, ": ", section.place.path),
                         "is missing or no mapping");
        }
        return section;
      }
    }
    const std::string& from = wanted_by;
    return Invalid(from == "current-context" ? absl::StrCat(files_.front().path, ": ", from) : from,
                   absl::StrCat("is ", Quote(name), ", but no entry of ", list, " has that name"));
  }

  absl::Status FillCluster(const Section& cluster, bool need_server, ClientConfig* config) const {
    const auto proxy = Text(cluster, "proxy-url");
    if (!proxy.ok()) return proxy.status();
    if (!proxy->empty()) {
      return Invalid(cluster.place.At("proxy-url"),
                     absl::StrCat("is ", Quote(*proxy),
                                  "; proxies are not supported, the node has to reach the "
                                  "apiserver itself"));
    }
    if (const json* insecure = Member(*cluster.value, "insecure-skip-tls-verify");
        insecure != nullptr && *insecure != false) {
      return Invalid(cluster.place.At("insecure-skip-tls-verify"),
                     "is set; the apiserver is always verified: name its certificate-authority, "
                     "and tls-server-name where the certificate has another name");
    }
    const auto server = Text(cluster, "server");
    if (!server.ok()) return server.status();
    if (need_server) {
      if (server->empty()) return Invalid(cluster.place.At("server"), "is missing");
      auto endpoint = ParseEndpoint(*server);
      if (!endpoint.ok()) {
        return Invalid(cluster.place.At("server"), std::string(endpoint.status().message()));
      }
      config->endpoints = {*std::move(endpoint)};
    }
    auto name = Text(cluster, "tls-server-name");
    if (!name.ok()) return name.status();
    if (!name->empty() && !IsHostName(*name) && !net::Address::Parse(*name)) {
      return Invalid(cluster.place.At("tls-server-name"),
                     absl::StrCat("is ", Quote(*name), ", expected a host name or an address"));
    }
    config->tls_server_name = *std::move(name);
    return FillPem(cluster, "certificate-authority", "certificate-authority-data", &config->ca);
  }

  absl::Status FillUser(const Section& user, ClientConfig* config) const {
    constexpr std::array<std::pair<const char*, const char*>, 8> kRefused = {{
        {"exec",
         "credentials from programs (exec) are not supported; use a service account's "
         "token, tokenFile or a client certificate"},
        {"auth-provider",
         "auth providers are not supported; use a token, tokenFile or a client "
         "certificate"},
        {"username", "basic authentication is not supported, by apiservers neither"},
        {"password", "basic authentication is not supported, by apiservers neither"},
        {"as", "impersonation is not supported"},
        {"as-uid", "impersonation is not supported"},
        {"as-groups", "impersonation is not supported"},
        {"as-user-extra", "impersonation is not supported"},
    }};
    for (const auto& [key, advice] : kRefused) {
      const json* member = Member(*user.value, key);
      // `as-groups: []` says nothing either.
      if (member == nullptr || *member == "" || member->empty()) continue;
      return Invalid(user.place.At(key), absl::StrCat("is set; ", advice));
    }
    for (const auto& [file, data, target] :
         {std::tuple{"client-certificate", "client-certificate-data", &config->client_certificate},
          std::tuple{"client-key", "client-key-data", &config->client_key}}) {
      if (auto status = FillPem(user, file, data, target); !status.ok()) return status;
    }
    if (config->client_certificate.given() != config->client_key.given()) {
      const bool key_missing = config->client_certificate.given();
      return Invalid(user.place.At(key_missing ? "client-key" : "client-certificate"),
                     key_missing ? "is missing, but there is a client-certificate"
                                 : "is missing, but there is a client-key");
    }
    auto token_file = Text(user, "tokenFile");
    if (!token_file.ok()) return token_file.status();
    auto token = Text(user, "token");
    if (!token.ok()) return token.status();
    const Credential by_text = {*token, "", user.place.At("token")};
    // A file takes precedence, as with client-go: it can be renewed. One that is not there does
    // not.
    if (!token_file->empty()) {
      config->token = {"", Absolute(user.place.file, *token_file), user.place.At("tokenFile")};
      absl::Status status = ReadToken(config->token, surroundings_).status();
      if (!absl::IsNotFound(status) || token->empty()) return status;
    }
    if (token->empty()) return absl::OkStatus();
    config->token = by_text;
    return ReadToken(config->token, surroundings_).status();
  }

  // `data_key` (base64) goes before `file_key`, as with client-go.
  absl::Status FillPem(const Section& section, const char* file_key, const char* data_key,
                       Credential* target) const {
    auto data = Text(section, data_key);
    if (!data.ok()) return data.status();
    auto path = Text(section, file_key);
    if (!path.ok()) return path.status();
    if (!data->empty()) {
      std::string decoded;
      if (!absl::Base64Unescape(*data, &decoded)) {
        return Invalid(section.place.At(data_key), "is not base64");
      }
      *target = {std::move(decoded), "", section.place.At(data_key)};
    } else if (!path->empty()) {
      *target = {"", Absolute(section.place.file, *path), section.place.At(file_key)};
    } else {
      return absl::OkStatus();
    }
    const auto text = ReadCredential(*target, surroundings_);
    if (!text.ok()) return text.status();
    if (!absl::StrContains(*text, "-----BEGIN ")) return Invalid(target->origin, "holds no PEM");
    return absl::OkStatus();
  }

  // Paths in a kubeconfig are relative to the folder that it is in.
  static std::string Absolute(const std::string& file, const std::string& path) {
    const size_t slash = file.rfind('/');
    if (path.front() == '/' || slash == std::string::npos) return path;
    return file.substr(0, slash + 1) + path;
  }

  const ClientSurroundings& surroundings_;
  std::vector<File> files_;
};

// The account of a pod. `need_server`: no flag names one.
absl::Status FillInCluster(bool need_server, const ClientSurroundings& surroundings,
                           ClientConfig* config) {
  if (need_server) {
    const auto host = surroundings.environment("KUBERNETES_SERVICE_HOST");
    const auto port = surroundings.environment("KUBERNETES_SERVICE_PORT");
    if (!host || !port || host->empty() || port->empty()) {
      return absl::InvalidArgumentError(
          "no apiserver is named: give --kubeconfig FILE, or --apiserver URL, or --manifests PATH; "
          "or run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set)");
    }
    const bool v6 = absl::StrContains(*host, ":");
    auto endpoint =
        ParseEndpoint(absl::StrCat("https://", v6 ? "[" : "", *host, v6 ? "]" : "", ":", *port));
    if (!endpoint.ok()) {
      return Invalid("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT",
                     std::string(endpoint.status().message()));
    }
    config->endpoints = {*std::move(endpoint)};
    config->service_address = true;
  }
  const auto path = [](const char* name) {
    return absl::StrCat(std::string(kAccountFolder), "/", name);
  };
  const Credential token = {"", path("token"), "the pod's service account"};
  const auto text = ReadToken(token, surroundings);
  // With an address by flag an apiserver may want no token, or none that we would have.
  if (!text.ok() && !need_server && absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  config->token = token;
  config->ca = {"", path("ca.crt"), "the pod's service account"};
  const auto ca = ReadCredential(config->ca, surroundings);
  return ca.status();
}

}  // namespace

std::string ApiEndpoint::ToString() const {
  const bool v6 = absl::StrContains(host, ":");
  return absl::StrCat(tls ? "https://" : "http://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port,
                      prefix);
}

absl::StatusOr<ApiEndpoint> ParseEndpoint(std::string_view url) {
  const auto bad = [url](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "is ", Quote(url, 256), ", expected a URL like https://10.0.0.1:6443: ", std::string(why)));
  };
  ApiEndpoint endpoint;
  std::string_view rest = url;
  if (const size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    const std::string name = absl::AsciiStrToLower(absl::string_view(rest.data(), scheme));
    if (name != "https" && name != "http") return bad("the scheme is neither https nor http");
    endpoint.tls = name == "https";
    rest.remove_prefix(scheme + 3);
  }
  if (rest.find_first_of("?#") != std::string_view::npos) return bad("it has a query or fragment");
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  std::string_view prefix = rest.substr(slash);
  while (!prefix.empty() && prefix.back() == '/')
    prefix.remove_suffix(1);
  if (!IsPathText(prefix)) return bad("its path has characters that do not belong there");
  endpoint.prefix = std::string(prefix);
  if (authority.find('@') != std::string_view::npos) return bad("it names a user");

  std::string_view port;
  bool has_port = false;
  if (!authority.empty() && authority.front() == '[') {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad("a bracket is not closed");
    endpoint.host = std::string(authority.substr(1, end - 1));
    const auto address = net::Address::Parse(endpoint.host);
    if (!address || endpoint.host.find(':') == std::string::npos) {
      return bad("what stands in brackets is no IPv6 address");
    }
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority.front() != ':') return bad("text follows the address");
    has_port = !authority.empty();
    if (has_port) port = authority.substr(1);
  } else {
    const size_t colon = authority.find(':');
    has_port = colon != std::string_view::npos;
    endpoint.host = std::string(authority.substr(0, colon));
    if (has_port) port = authority.substr(colon + 1);
    if (port.find(':') != std::string_view::npos) return bad("an IPv6 address needs brackets");
    if (!IsHostName(endpoint.host)) return bad("there is no host name or address in it");
  }
  endpoint.port = endpoint.tls ? 443 : 80;
  if (has_port) {
    const auto [end, error] =
        std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (error != std::errc() || end != port.data() + port.size() || endpoint.port == 0) {
      return bad("the port is no number from 1 to 65535");
    }
  }
  return endpoint;
}

ClientSurroundings RealSurroundings() {
  return {[](const std::string& path) {
            FileStamp stamp;
            return ReadFileText(path, &stamp);
          },
          [](const std::string& name) -> std::optional<std::string> {
            const char* value = std::getenv(name.c_str());
            if (value == nullptr) return std::nullopt;
            return value;
          }};
}

absl::StatusOr<ClientConfig> ResolveClientConfig(const ClientFlags& flags,
                                                 const ClientSurroundings& surroundings) {
  ClientConfig config;
  std::vector<ApiEndpoint> by_flags;
  const auto add = [&by_flags](const std::string& flag, const std::string& url) -> absl::Status {
    auto endpoint = ParseEndpoint(url);
    if (!endpoint.ok()) return Invalid(flag, std::string(endpoint.status().message()));
    if (std::find(by_flags.begin(), by_flags.end(), *endpoint) == by_flags.end()) {
      by_flags.push_back(*std::move(endpoint));
    }
    return absl::OkStatus();
  };
  if (!flags.master.empty()) {
    if (auto status = add("--master", flags.master); !status.ok()) return status;
  }
  for (const std::string& url : flags.apiservers) {
    if (auto status = add("--apiserver", url); !status.ok()) return status;
  }
  const bool need_server = by_flags.empty();
  if (!flags.kubeconfig.empty()) {
    Kubeconfig kubeconfig(surroundings);
    if (auto status = kubeconfig.Load(flags.kubeconfig); !status.ok()) return status;
    if (auto status = kubeconfig.Fill(need_server, &config); !status.ok()) return status;
  } else if (auto status = FillInCluster(need_server, surroundings, &config); !status.ok()) {
    return status;
  }
  if (!need_server) {
    config.endpoints = std::move(by_flags);
    // It was the name of another server.
    config.tls_server_name.clear();
  }
  return config;
}

absl::StatusOr<std::string> ReadCredential(const Credential& credential,
                                           const ClientSurroundings& surroundings) {
  if (credential.path.empty()) return credential.data;
  return ReadNamedFile(credential.path, credential.origin, surroundings);
}

absl::StatusOr<std::string> ReadToken(const Credential& token,
                                      const ClientSurroundings& surroundings) {
  auto text = ReadCredential(token, surroundings);
  if (!text.ok()) return text.status();
  absl::StripAsciiWhitespace(&*text);
  if (text->empty()) return Invalid(token.origin, "holds no token: it is empty");
  const bool clean = std::all_of(text->begin(), text->end(),
                                 [](unsigned char c) { return absl::ascii_isgraph(c); });
  if (!clean)
    return Invalid(token.origin, "holds no token: there is space or a control character in it");
  return text;
}

}  // namespace waggle::k8s
