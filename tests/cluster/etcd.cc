#include "tests/cluster/etcd.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {
namespace {

constexpr int kPatienceSeconds = 60;
constexpr size_t kConnections = 8;

// 64-bit numbers are strings there.
int64_t RevisionOf(const Json& answer) {
  int64_t revision = 0;
  if (!absl::SimpleAtoi(answer["header"]["revision"].get<std::string>(), &revision)) {
    lab::Fail("etcd's answer has no revision: " + answer.dump());
  }
  return revision;
}

// As the gateway wants it.
Json Put(const EtcdEntry& entry) {
  return {{"key", absl::Base64Escape(entry.key)}, {"value", absl::Base64Escape(entry.value)}};
}

httplib::Client NewClient() {
  httplib::Client client("127.0.0.1", kEtcdPort);
  client.set_keep_alive(true);
  client.set_tcp_nodelay(true);
  client.set_read_timeout(kPatienceSeconds);
  return client;
}

Json Ask(httplib::Client& client, const std::string& path, const Json& body) {
  httplib::Result result = client.Post(path, body.dump(), "application/json");
  if (!result || result->status != 200) {
    lab::Fail(absl::StrCat("etcd refuses ", path, ": ",
                           result ? result->body : httplib::to_string(result.error())));
  }
  return Json::parse(result->body);
}

}  // namespace

bool EtcdReady() {
  httplib::Result result = NewClient().Get("/health");
  return result && result->status == 200 && result->body.find("true") != std::string::npos;
}

Json AskEtcd(const std::string& path, const Json& body) {
  httplib::Client client = NewClient();
  return Ask(client, path, body);
}

bool EtcdHolds(const std::string& key) {
  return AskEtcd("/v3/kv/range", {{"key", absl::Base64Escape(key)}, {"keys_only", true}})
      .contains("kvs");
}

int64_t PutIntoEtcd(const std::vector<EtcdEntry>& entries) {
  std::atomic<size_t> next = 0;
  std::vector<int64_t> revisions(kConnections, 0);
  std::vector<std::thread> threads;
  for (int64_t& revision : revisions) {
    threads.emplace_back([&] {
      httplib::Client client = NewClient();
      for (size_t i = next++; i < entries.size(); i = next++)
        revision = RevisionOf(Ask(client, "/v3/kv/put", Put(entries[i])));
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  return *std::max_element(revisions.begin(), revisions.end());
}

}  // namespace waggle::cluster
