// Everything that goes wrong between an agent and an apiserver, on many nodes at once, each
// with its own fault again and again, while endpoints, Services and Nodes change and clients
// connect. No client may notice, no memory may be lost, and in the end each node must know
// what the apiserver knows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/cluster/fault_proxy.h"
#include "tests/cluster/kube_cluster.h"
#include "tests/lab/losses.h"

namespace waggle::cluster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Kind = Fault::Kind;

constexpr char kPatient[] = "10000";
constexpr char kAddress4[] = "192.168.50.5";
constexpr char kAddress6[] = "fd00:50::5";
// What an agent watches.
const std::set<std::string> kResources = {"services", "endpointslices", "nodes"};
// Longer than what makes a watch count as one that works.
constexpr milliseconds kSettled{1200};
// For how long faults are repeated, and how long one may take at most with its recovery: the
// pauses between attempts grow to half a minute.
constexpr seconds kTreatment{35};
constexpr seconds kCycle{75};
constexpr seconds kOutage{60};
constexpr seconds kHungNoticed{30};
constexpr seconds kDeadNoticed{10};
constexpr size_t kLeastRepeats = 3;
// What an agent may have more after all its faults than after the first one.
constexpr long kMemoryKib = 256;
// And one that never had a change before.
constexpr long kFirstMemoryKib = 1024;

// Pages of anonymous memory, in KiB.
long MemoryOf(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; status >> word;) {
    if (word != "RssAnon:") continue;
    long kib = 0;
    status >> kib;
    return kib;
  }
  lab::Fail(absl::StrCat("no RssAnon of process ", pid));
}

struct Row {
  std::string name;
  Fault fault;
  // The agent's log. None where the watch goes on at once and there is nothing to tell: that it was
  // hit, and came back, the proxy counts.
  std::optional<std::string> says;
  milliseconds lasts{0};
};

// A node of the cluster with an agent that knows the apiserver by a proxy, and a client.
struct Subject {
  lab::Node& node;
  lab::Pod& client;
  std::unique_ptr<FaultProxy> proxy;
  std::unique_ptr<lab::Agent> agent;
  std::optional<lab::Load> load;
  std::vector<long> memory;  // after each repeat
  std::string trouble;

  // One fault from its beginning to the recovery. False: not within its time.
  bool Suffer(const Row& row) {
    const bool before_requests = row.fault.kind == Kind::kCertificate;
    const Clock::time_point least = Clock::now() + row.lasts;
    proxy->Begin(row.fault);
    const bool met = lab::WaitFor(
        [&] {
          if (Clock::now() < least) return false;
          if (before_requests) return proxy->strikes() >= kResources.size();
          // And perhaps the question whether the server lives.
          const std::set<std::string> struck = proxy->struck();
          return std::includes(struck.begin(), struck.end(), kResources.begin(), kResources.end());
        },
        kCycle);
    proxy->End();
    if (!met) {
      trouble = absl::StrCat("met only ", proxy->strikes(),
                             " times: ", absl::StrJoin(proxy->struck(), ", "));
      return false;
    }
    if (!lab::WaitFor([&] { return proxy->Following(kSettled) == kResources; }, kCycle)) {
      trouble = "no recovery: " + absl::StrJoin(proxy->Following(kSettled), ", ");
      return false;
    }
    memory.push_back(MemoryOf(agent->pid()));
    return true;
  }
};

class FaultsCluster : public testing::Test {
 protected:
  explicit FaultsCluster(size_t nodes) {
    for (size_t i = 0; i < nodes; ++i)
      lab_.AddNode(lab::Cni::kRouted);
    lab_.Connect();
    for (size_t i = 1; i <= nodes; ++i) {
      lab::Node& node = lab_.node(static_cast<int>(i));
      subjects_.push_back({node, node.AddPod(absl::StrCat("client", i)), {}, {}, {}, {}, {}});
    }
    for (const char* name : {"b1", "b2", "b3"})
      pods_.push_back(&lab_.node(name[1] - '0').AddPod(name));
    control_.Join(lab_);
    lab_.Settle();
    for (const lab::Pod* pod : pods_)
      servers_.push_back(lab::ServeAll(*pod));
    for (const Subject& subject : subjects_)
      AddNode(api(), subject.node);
    for (size_t i = 0; i < pods_.size(); ++i)
      AddPod(api(), lab_.node(static_cast<int>(i) + 1), *pods_[i], "web");
    web_ = ClusterIpsOf(api().Create(ServiceObject("web")));
    AwaitEndpointsOf("web", {pods_.begin(), pods_.end()}, api());
  }
  ~FaultsCluster() override {
    for (Subject& subject : subjects_) {
      subject.load.reset();
      subject.agent.reset();
      subject.proxy.reset();
    }
    control_.Repair();
    control_.Clear();
    control_.Leave();
  }

  Api& api() { return control_.api(); }

  // Every other node speaks IPv6 to the apiserver.
  static std::string UrlOf(const Subject& subject, uint16_t port) {
    return "https://" + lab::At(subject.node.number() % 2 == 0 ? kAddress6 : kAddress4, port);
  }
  void StartAgent(Subject* subject, const std::vector<std::string>& urls) {
    lab::Argv flags = {"--max-flows", "4096", "--max-half-open", "4096", "--max-udp-flows", "4096"};
    for (const std::string& url : urls)
      flags.insert(flags.end(), {"--apiserver", url});
    subject->agent = StartAgentOn(subject->node, lab_, control_, flags);
    AwaitFollowedOn(subject->node, lab_, api());
  }
  // Each kind of traffic has its nodes.
  void StartLoad(Subject* subject) {
    const char* const modes[] = {"tcp", "udp-new", "udp-connected"};
    subject->load.emplace(
        subject->client,
        lab::Argv{"rate", "--mode", modes[subject->node.number() % 3], "--to", lab::At(web_.v4, 80),
                  "--to", lab::At(web_.v6, 80), "--per-second", "20", "--timeout-ms", kPatient});
  }
  void StartLoads() {
    std::vector<const lab::Place*> talkers(pods_.begin(), pods_.end());
    for (const Subject& subject : subjects_)
      talkers.push_back(&subject.client);
    losses_.emplace(talkers);
    for (Subject& subject : subjects_)
      StartLoad(&subject);
  }
  void ExpectNobodyNoticed() {
    for (Subject& subject : subjects_) {
      const lab::Tally tally = subject.load->Stop();
      EXPECT_TRUE(tally.AllOk()) << subject.node.name() << ": " << tally;
    }
    EXPECT_EQ(losses_->Losses(), "");
  }

  // One more change of everything that agents watch. A pod that is not ready serves on, so that
  // nobody may fail.
  void Churn() {
    const int turn = churned_++;
    SetReady(api(), *pods_[0], turn % 2 == 1);
    const Json mark = {{"metadata", {{"labels", {{"turn", std::to_string(turn)}}}}}};
    api().Change("Service", "default", "web", mark);
    for (const Subject& subject : subjects_)
      api().Change("Node", "", subject.node.name(), mark);
    const std::string more = absl::StrCat("more", turn / 4);
    if (turn % 4 == 0) api().Create(ServiceObject(more));
    if (turn % 4 == 2) api().Remove("Service", "default", more);
  }

  ControlPlane& control_ = ControlPlane::Shared();
  lab::Lab lab_;
  std::vector<lab::Pod*> pods_;
  std::vector<lab::Server> servers_;
  std::vector<Subject> subjects_;
  std::optional<lab::LossWatch> losses_;
  lab::Addresses web_;
  int churned_ = 0;
};

Certificate ServerCertificate(const Authority& authority, const std::string& name, int days = 2) {
  return authority.Issue(name, "/CN=kube-apiserver",
                         {absl::StrCat("IP:", kAddress4), absl::StrCat("IP:", kAddress6)}, days);
}

std::vector<Row> Rows(const ControlPlane& control, const std::string& folder) {
  std::filesystem::create_directory(folder);
  const Authority& ours = control.authority();
  const auto status = [](int code, int retry_after_s = 0) {
    return Fault{.kind = Kind::kStatus, .status = code, .retry_after_s = retry_after_s};
  };
  const auto shown = [](const Certificate& certificate) {
    return Fault{.kind = Kind::kCertificate, .certificate = certificate};
  };
  return {
      {"cut", {.kind = Kind::kCut}, std::nullopt},
      {"truncated chunk", {.kind = Kind::kTruncated}, std::nullopt},
      {"ends early", {.kind = Kind::kEndsEarly}, std::nullopt},
      {"garbage", {.kind = Kind::kGarbage}, "unreadable: not what was asked for"},
      {"slow", {.kind = Kind::kSlow}, std::nullopt, milliseconds(5000)},
      {"other authority", shown(ServerCertificate(Authority(folder, "another-ca"), "other")),
       "its certificate is not signed by the certificate-authority"},
      {"other name", shown(ours.Issue("misnamed", "/CN=kube-apiserver", {"DNS:elsewhere"})),
       "but for elsewhere"},
      {"expired", shown(ServerCertificate(ours, "expired", -1)),
       "its certificate is not valid now"},
      {"401", status(401), "HTTP 401"},
      {"403", status(403), "HTTP 403: the ClusterRole needs the verb"},
      {"429", status(429, 1), "HTTP 429"},
      {"500", status(500), "HTTP 500"},
      {"503", status(503), "HTTP 503"},
  };
}

// An apiserver that goes away. The agent that is there knows another one, `spare`.
struct Loss {
  std::string name;
  seconds noticed_within;
  std::string first;  // its URL
  std::function<void()> begin;
  std::function<void()> end = [] {};
  std::unique_ptr<FaultProxy> spare = nullptr;
};

class FaultsTest : public FaultsCluster {
 protected:
  static constexpr size_t kRows = 13;
  static constexpr size_t kLosses = 4;

  // The last one has an agent that knows no other apiserver.
  FaultsTest() : FaultsCluster(kRows + kLosses + 1) {}

  // With the firewall of the control plane's own network.
  static void DropPackets(uint16_t port) {
    const auto chain = [port](const char* hook, const char* field) {
      return absl::StrCat("  chain ", hook, " {\n    type filter hook ", hook,
                          " priority 0;\n    tcp ", field, " ", port, " drop\n  }\n");
    };
    lab::RunResult result =
        lab::RunProgram({.input = absl::StrCat("table inet faults {\n", chain("input", "dport"),
                                               chain("output", "sport"), "}\n")},
                        {"nft", "-f", "-"});
    if (!result.ok()) lab::Fail("nft: " + result.ToString());
  }
  static void DropNothing() { lab::RunProgram({}, {"nft", "delete", "table", "inet", "faults"}); }

  // An agent that is at `first` now. With which of two endpoints a node begins is its own
  // choice, but always the same.
  void StartAgent(Subject* subject, Loss* loss) {
    loss->spare = std::make_unique<FaultProxy>(certificate_, control_.access().port);
    std::vector<std::string> urls = {loss->first, UrlOf(*subject, loss->spare->port())};
    FaultsCluster::StartAgent(subject, urls);
    if (loss->spare->connections() == 0) return;
    std::swap(urls[0], urls[1]);
    subject->agent.reset();
    FaultsCluster::StartAgent(subject, urls);
    EXPECT_EQ(loss->spare->Following(milliseconds(0)).size(), 0u) << loss->name;
  }
  std::vector<Loss> StartLosses(Subject* subjects) {
    for (int number : {1, 2})
      control_.apiserver(number).Start();
    const auto url = [&](size_t i, uint16_t port) { return UrlOf(subjects[i], port); };
    FaultProxy* const silent = subjects[0].proxy.get();
    FaultProxy* const unreachable = subjects[1].proxy.get();
    std::vector<Loss> losses;
    losses.push_back({"silent", kHungNoticed, url(0, silent->port()),
                      [silent] { silent->Begin({.kind = Kind::kSilent}); },
                      [silent] { silent->End(); }});
    losses.push_back({"packets are lost", kHungNoticed, url(1, unreachable->port()),
                      [unreachable] { DropPackets(unreachable->port()); }, DropNothing});
    losses.push_back({"frozen", kHungNoticed, url(2, control_.access(kKubeProxy, 2).port),
                      [this] { control_.apiserver(2).Freeze(); },
                      [this] { control_.apiserver(2).Thaw(); }});
    losses.push_back({"killed", kDeadNoticed, url(3, control_.access(kKubeProxy, 1).port),
                      [this] { control_.apiserver(1).Kill(); }});
    for (size_t i = 0; i < kLosses; ++i)
      StartAgent(&subjects[i], &losses[i]);
    return losses;
  }

  const Certificate certificate_ = ServerCertificate(control_.authority(), "proxy");
};

TEST_F(FaultsTest, NobodyNoticesAndNothingIsLost) {
  const std::vector<Row> rows = Rows(control_, lab_.scratch() + "/other-ca");
  ASSERT_EQ(rows.size(), kRows);
  for (Subject& subject : subjects_)
    subject.proxy = std::make_unique<FaultProxy>(certificate_, control_.access().port);
  for (size_t i = 0; i < kRows; ++i)
    FaultsCluster::StartAgent(&subjects_[i], {UrlOf(subjects_[i], subjects_[i].proxy->port())});
  std::vector<Loss> losses = StartLosses(&subjects_[kRows]);
  Subject& alone = subjects_.back();
  FaultsCluster::StartAgent(&alone, {UrlOf(alone, control_.access(kKubeProxy, 1).port)});
  StartLoads();
  const lab::RunResult known = lab::ServiceList(alone.node);
  const long alone_before = MemoryOf(alone.agent->pid());

  const Clock::time_point began = Clock::now();
  for (const Loss& loss : losses)
    loss.begin();
  std::atomic<size_t> left = kRows;
  std::vector<std::thread> drivers;
  for (size_t i = 0; i < kRows; ++i) {
    drivers.emplace_back([&, i] {
      Subject& subject = subjects_[i];
      // However slow the machine is: enough of it to compare the memory.
      while ((Clock::now() < began + kTreatment || subject.memory.size() < kLeastRepeats) &&
             subject.Suffer(rows[i])) {
      }
      --left;
    });
  }
  while (Clock::now() < began + kOutage || left > 0) {
    Churn();
    std::this_thread::sleep_for(milliseconds(200));
  }
  for (std::thread& driver : drivers)
    driver.join();
  // Whoever asks late learns the same: since when it has followed.
  for (const Loss& loss : losses) {
    SCOPED_TRACE(loss.name);
    const auto since_deadline = Clock::now() - began - loss.noticed_within;
    EXPECT_EQ(loss.spare->Following(std::chrono::duration_cast<milliseconds>(since_deadline)),
              kResources);
  }
  EXPECT_EQ(lab::ServiceList(alone.node).out, known.out);
  control_.apiserver(1).Start();

  for (size_t i = 0; i < kRows; ++i) {
    SCOPED_TRACE(rows[i].name);
    const Subject& subject = subjects_[i];
    EXPECT_EQ(subject.trouble, "");
    AwaitFollowedOn(subject.node, lab_, api(), kCycle);
    if (rows[i].says) {
      EXPECT_THAT(subject.agent->Log(), HasSubstr(*rows[i].says));
    }
    if (subject.memory.empty()) continue;
    EXPECT_LE(subject.memory.back() - subject.memory.front(), kMemoryKib)
        << absl::StrJoin(subject.memory, " ");
  }
  for (size_t i = 0; i < kLosses; ++i) {
    SCOPED_TRACE(losses[i].name);
    AwaitFollowedOn(subjects_[kRows + i].node, lab_, api(), kCycle);
    losses[i].end();
  }
  AwaitFollowedOn(alone.node, lab_, api(), kCycle);
  EXPECT_LE(MemoryOf(alone.agent->pid()) - alone_before, kFirstMemoryKib);
  EXPECT_THAT(alone.agent->Log(), HasSubstr("connect: Connection refused"));
  ExpectNobodyNoticed();
}

}  // namespace
}  // namespace waggle::cluster
