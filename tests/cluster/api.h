// A client of the apiserver for tests: objects in and out as JSON, by a connection of its
// own that is kept open. Knows nothing of the product's client.
#ifndef WAGGLE_TESTS_CLUSTER_API_H_
#define WAGGLE_TESTS_CLUSTER_API_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace httplib {
class SSLClient;
}

namespace waggle::cluster {

using Json = nlohmann::json;

// Where an apiserver is and how to be let in.
struct ApiAccess {
  std::string host = {};
  uint16_t port = 0;
  std::string ca = {};     // file
  std::string token = {};  // empty: anonymous

  std::string Url() const;  // "https://192.168.50.5:6443"
};

struct ApiReply {
  int status = 0;  // 0: no answer; body holds why
  std::string body;

  bool ok() const { return status >= 200 && status < 300; }
  // Ends the test process when it is none.
  Json AsJson() const;
  std::string ToString() const;
};

// The path of an object, of a kind's list in a namespace (no name), or in all (no ns).
// Ends the test process for a kind that it does not know.
std::string PathOf(const std::string& kind, const std::string& ns, const std::string& name);

// One connection; for one thread at a time.
class Api {
 public:
  explicit Api(ApiAccess access);
  ~Api();
  Api(Api&&) noexcept;

  // What comes, good or bad. `path` with the query.
  ApiReply Get(const std::string& path);
  ApiReply Post(const std::string& path, const Json& body);
  ApiReply Put(const std::string& path, const Json& body);
  ApiReply Delete(const std::string& path, const Json& options = Json::object());
  // A merge patch: what is null is removed.
  ApiReply Patch(const std::string& path, const Json& body);

  // These end the test process when the apiserver says no. The path follows from kind,
  // metadata.namespace and metadata.name.
  Json Create(const Json& object);
  Json Read(const std::string& kind, const std::string& ns, const std::string& name);
  std::vector<Json> List(const std::string& kind, const std::string& ns = "");
  Json Change(const std::string& kind, const std::string& ns, const std::string& name,
              const Json& merge_patch);
  Json ChangeStatus(const std::string& kind, const std::string& ns, const std::string& name,
                    const Json& merge_patch);
  // At once, without grace.
  void Remove(const std::string& kind, const std::string& ns, const std::string& name);
  // Every object of a kind in a namespace; of a kind without namespaces: all.
  void RemoveAll(const std::string& kind, const std::string& ns);

  // Watches a path from a resourceVersion and hands each line of the stream to `line`
  // until it says false or the server ends the stream. Returns the HTTP status, and the
  // body where that is not 200.
  ApiReply Watch(const std::string& path, const std::string& resource_version,
                 const std::function<bool(const std::string& line)>& line);

  const ApiAccess& access() const { return access_; }

 private:
  // With a connection that is not about to be closed.
  httplib::SSLClient& Client();

  ApiAccess access_;
  std::unique_ptr<httplib::SSLClient> client_;
  std::chrono::steady_clock::time_point used_;
};

}  // namespace waggle::cluster

#endif
