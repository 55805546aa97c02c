#include "userspace/agent/reconciler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "maps/reader.h"
#include "maps/render.h"
#include "tests/unit/maps/fake_map_store.h"
#include "userspace/cli/plan.h"

namespace waggle::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

net::Address Ip(const std::string& text) {
  return *net::Address::Parse(text);
}

k8s::ObjectChange ServiceChange(const std::string& name, const std::vector<std::string>& ips,
                                uint16_t port = 80, int64_t created_s = 0) {
  auto service = std::make_shared<k8s::Service>();
  service->name = {"default", name};
  service->created_s = created_s;
  for (const std::string& ip : ips)
    service->cluster_ips.push_back(Ip(ip));
  service->ports = {{"http", net::Protocol::kTcp, port, 0}};
  return {{k8s::ObjectKind::kService, service->name}, k8s::Object(std::move(service))};
}

k8s::ObjectChange SliceChange(const std::string& service, const std::vector<std::string>& ips,
                              const std::string& suffix = "1") {
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {"default", service + "-" + suffix};
  slice->service = service;
  slice->ports = {{"http", net::Protocol::kTcp, 8080}};
  for (const std::string& ip : ips) {
    slice->family = Ip(ip).family();
    k8s::Endpoint endpoint;
    endpoint.address = Ip(ip);
    slice->endpoints.push_back(endpoint);
  }
  return {{k8s::ObjectKind::kEndpointSlice, slice->name}, k8s::Object(std::move(slice))};
}

k8s::ObjectChange Gone(k8s::ObjectKind kind, const std::string& name) {
  return {{kind, {"default", name}}, k8s::Deleted{}};
}

EventQueue::Batch Batch(std::vector<k8s::ObjectChange> changes,
                        std::optional<bool> synced = std::nullopt) {
  EventQueue::Batch batch;
  batch.changes = std::move(changes);
  batch.synced = synced;
  return batch;
}

maps::Sizes Small() {
  return {.frontends = 64, .services = 64, .backends = 256, .udp_flows = 16};
}

// A kernel in memory and agents that come and go.
class Node {
 public:
  explicit Node(maps::Sizes sizes = Small()) : sizes_(sizes), kernel(sizes) { Restart(); }

  void Restart() {
    *kernel.agent() = waggle_agent{};
    reconciler = std::make_unique<Reconciler>(
        "n1", sizes_, &kernel, GraceHooks{[this] { return ++epoch; }, [](uint64_t) {}});
    EXPECT_TRUE(reconciler->Adopt().ok());
  }

  void Handle(EventQueue::Batch batch) {
    const absl::Status status = reconciler->Handle(std::move(batch));
    EXPECT_TRUE(status.ok()) << status;
  }
  void EndGrace() { EXPECT_TRUE(reconciler->GraceOver(epoch).ok()); }

  // What is in force, one line a frontend: "web 10.96.0.1:80 forward 10.1.0.1:8080".
  std::vector<std::string> InForce() {
    const maps::CheckedTables checked = maps::CheckTables(*kernel.Read(), kernel.arrays());
    EXPECT_THAT(checked.problems, IsEmpty());
    std::vector<std::string> lines;
    for (const ResolvedService& service : maps::Decompile(checked.tables, kernel.arrays())) {
      for (const ResolvedPort& port : service.ports) {
        for (const BackendList& list : port.lists) {
          for (const Frontend& frontend : list.frontends) {
            std::string line = service.name.name + " " + frontend.endpoint.ToString() + " " +
                               std::string(FateName(list.fate));
            for (const Backend& backend : list.backends)
              line += " " + backend.endpoint.ToString();
            lines.push_back(line);
          }
        }
      }
    }
    return lines;
  }

  // Map operations since the last call.
  struct Work {
    uint64_t syscalls, list_stores, backend_stores, resolved;
    friend bool operator==(const Work&, const Work&) = default;
  };
  Work TakeWork() {
    const waggle_agent& row = *kernel.agent();
    const Work total{row.hash_inserts + row.hash_deletes, row.list_stores, row.backend_stores,
                     row.services_resolved};
    const Work since{total.syscalls - seen_.syscalls, total.list_stores - seen_.list_stores,
                     total.backend_stores - seen_.backend_stores, total.resolved - seen_.resolved};
    seen_ = total;
    return since;
  }

 private:
  maps::Sizes sizes_;
  Work seen_{};

 public:
  maps::FakeMapStore kernel;
  uint64_t epoch = 0;
  std::unique_ptr<Reconciler> reconciler;
};

TEST(Reconciler, WritesNothingBeforeTheFirstListsAreThere) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"})}));
  EXPECT_EQ(node.kernel.calls, 0);
  EXPECT_FALSE(node.reconciler->ready());
  node.Handle(Batch({SliceChange("web", {"10.1.0.1"})}, true));
  EXPECT_TRUE(node.reconciler->ready());
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 forward 10.1.0.1:8080"));
}

TEST(Reconciler, ChangeOfEndpointsIsOneStoreAndNoSystemCall) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
  node.TakeWork();
  node.Handle(Batch({SliceChange("web", {"10.1.0.1", "10.1.0.2"})}));
  EXPECT_EQ(node.TakeWork(), (Node::Work{0, 1, 2, 1}));
  node.Handle(Batch({SliceChange("web", {"10.1.0.1", "10.1.0.2"})}));
  EXPECT_EQ(node.TakeWork(), (Node::Work{0, 0, 0, 1}));
}

// More than is planned at a time, again after a restart in which addresses change hands between
// what would be the first part and the last, and once more in the same run.
TEST(Reconciler, ManyAtOnce) {
  constexpr int kCount = 1500;
  const auto ip = [](int i) {
    return "10.96." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
  };
  // Service i has address (i + shift) mod kCount.
  const auto world = [&](int shift) {
    std::vector<k8s::ObjectChange> all;
    for (int i = 0; i < kCount; ++i) {
      const std::string name = "s" + std::to_string(i);
      all.push_back(ServiceChange(name, {ip((i + shift) % kCount)}));
      all.push_back(SliceChange(name, {"10.1.0." + std::to_string(i % 250 + 1)}));
    }
    return all;
  };
  const auto expected = [&](int shift) {
    std::vector<std::string> lines;
    for (int i = 0; i < kCount; ++i) {
      lines.push_back("s" + std::to_string(i) + " " + ip((i + shift) % kCount) +
                      ":80 forward 10.1.0." + std::to_string(i % 250 + 1) + ":8080");
    }
    return lines;
  };
  Node node({.frontends = kCount, .services = 4096, .backends = 8192, .udp_flows = 16});
  node.Handle(Batch(world(0), true));
  EXPECT_THAT(node.InForce(), testing::UnorderedElementsAreArray(expected(0)));

  node.Restart();
  node.Handle(Batch(world(700), true));
  EXPECT_THAT(node.InForce(), testing::UnorderedElementsAreArray(expected(700)));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());

  node.EndGrace();
  node.Handle(Batch(world(1), true));
  node.EndGrace();
  EXPECT_THAT(node.InForce(), testing::UnorderedElementsAreArray(expected(1)));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());

  node.Restart();
  node.TakeWork();
  node.Handle(Batch(world(1), true));
  EXPECT_EQ(node.TakeWork(), (Node::Work{0, 0, 0, kCount}));
}

TEST(Reconciler, CostOfOneChangeDoesNotDependOnTheNumberOfServices) {
  std::vector<Node::Work> work;
  for (const int count : {1, 10, 1000}) {
    Node node({.frontends = 4096, .services = 4096, .backends = 8192, .udp_flows = 16});
    std::vector<k8s::ObjectChange> all;
    for (int i = 0; i < count; ++i) {
      const std::string name = "s" + std::to_string(i);
      const std::string tail = std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
      all.push_back(ServiceChange(name, {"10.96." + tail}));
      all.push_back(SliceChange(name, {"10.1." + tail}));
    }
    node.Handle(Batch(std::move(all), true));
    node.TakeWork();
    node.Handle(Batch({SliceChange("s0", {"10.2.0.1", "10.2.0.2"})}));
    node.Handle(Batch({ServiceChange("new", {"10.97.0.1"})}));
    node.Handle(Batch({Gone(k8s::ObjectKind::kService, "new")}));
    work.push_back(node.TakeWork());
  }
  EXPECT_EQ(work[0], work[1]);
  EXPECT_EQ(work[0], work[2]);
}

TEST(Reconciler, RestartWithNothingChangedWritesNothing) {
  Node node;
  const auto world = [] {
    return Batch({ServiceChange("web", {"10.96.0.1", "fd00:96::1"}),
                  SliceChange("web", {"10.1.0.1", "10.1.0.2"}),
                  SliceChange("web", {"fd00::1"}, "2"), ServiceChange("none", {"10.96.0.2"})},
                 true);
  };
  node.Handle(world());
  const auto before = node.InForce();
  node.Restart();
  node.TakeWork();
  const int calls = node.kernel.calls;
  node.Handle(world());
  EXPECT_EQ(node.kernel.calls, calls);
  EXPECT_EQ(node.kernel.agent()->plans_applied, 0u);
  EXPECT_EQ(node.InForce(), before);
}

TEST(Reconciler, ServiceDeletedWhileAwayGoesWithTheFirstCompleteList) {
  Node node;
  node.Handle(
      Batch({ServiceChange("web", {"10.96.0.1"}), ServiceChange("old", {"10.96.0.2"})}, true));
  node.Restart();
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"})}));
  EXPECT_THAT(node.InForce(), SizeIs(2));
  node.Handle(Batch({}, false));  // part of the manifests cannot be read
  EXPECT_THAT(node.InForce(), SizeIs(2));
  EXPECT_FALSE(node.reconciler->complete());
  node.Handle(Batch({}, true));
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 refuse"));
}

TEST(Reconciler, IncompleteListAddsAndNeverTakesAway) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
  node.Restart();
  // The slices of web are in the file that cannot be read; a new one is not.
  node.Handle(
      Batch({ServiceChange("web", {"10.96.0.1"}), ServiceChange("new", {"10.96.0.2"})}, false));
  EXPECT_THAT(node.InForce(),
              ElementsAre("new 10.96.0.2:80 refuse", "web 10.96.0.1:80 forward 10.1.0.1:8080"));
  node.Handle(Batch({SliceChange("web", {"10.1.0.9"})}));
  EXPECT_THAT(node.InForce(), ElementsAre("new 10.96.0.2:80 refuse",
                                          "web 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.9:8080"));
  node.Handle(Batch({}, true));
  EXPECT_THAT(node.InForce(),
              ElementsAre("new 10.96.0.2:80 refuse", "web 10.96.0.1:80 forward 10.1.0.9:8080"));
}

// While part of the input is unknown, what this agent has itself seen come and go goes.
TEST(Reconciler, IncompleteListLetsGoOfWhatWasSeenInThisRun) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
  node.Restart();
  node.Handle(
      Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.2"})}, false));
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.2:8080"));
  for (const char* ip : {"10.1.0.3", "10.1.0.4"}) {
    node.Handle(Batch({SliceChange("web", {ip}), ServiceChange("new", {"10.96.0.2"})}));
  }
  EXPECT_THAT(node.InForce(), ElementsAre("new 10.96.0.2:80 refuse",
                                          "web 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.4:8080"));
  node.Handle(Batch({Gone(k8s::ObjectKind::kService, "new")}));
  EXPECT_THAT(node.InForce(), SizeIs(1));
}

// A Service that is kept for an unreadable file holds its address against a new claimant,
// until its own source has spoken; nothing else waits for that.
TEST(Reconciler, KeptServiceAndNewClaimantOfItsAddress) {
  for (const int others : {0, 10}) {  // below and above the size of a batch
    Node node;
    node.Handle(
        Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
    node.Restart();
    std::vector<k8s::ObjectChange> changes = {ServiceChange("web2", {"10.96.0.1"}, 80, 5)};
    for (int i = 0; i < others; ++i) {
      changes.push_back(ServiceChange("s" + std::to_string(i), {"10.96.1." + std::to_string(i)}));
    }
    node.Handle(Batch(std::move(changes), false));
    EXPECT_TRUE(node.reconciler->ready());
    EXPECT_THAT(node.InForce(), SizeIs(static_cast<size_t>(others) + 1));
    EXPECT_THAT(node.InForce().back(), "web 10.96.0.1:80 forward 10.1.0.1:8080");
    ASSERT_THAT(node.reconciler->problems(), SizeIs(1));
    EXPECT_THAT(node.reconciler->problems()[0].ToString(), HasSubstr("Service default/web2"));
    node.Handle(Batch({}, true));
    EXPECT_THAT(node.InForce().back(), "web2 10.96.0.1:80 refuse");
    EXPECT_THAT(node.reconciler->problems(), IsEmpty());
  }
}

TEST(Reconciler, RetriesUntilTheKernelTakesIt) {
  Node node;
  node.kernel.fail_in = 1;
  EXPECT_FALSE(node.reconciler->Handle(Batch({ServiceChange("web", {"10.96.0.1"})}, true)).ok());
  EXPECT_TRUE(node.reconciler->must_retry());
  for (int i = 0; i < 3; ++i) {
    node.kernel.fail_in = 1;
    EXPECT_FALSE(node.reconciler->Retry().ok());
    // A grace period that ends in between changes nothing about that.
    EXPECT_TRUE(node.reconciler->GraceOver(node.epoch).ok());
    EXPECT_TRUE(node.reconciler->must_retry());
  }
  EXPECT_TRUE(node.reconciler->Retry().ok());
  EXPECT_FALSE(node.reconciler->must_retry());
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 refuse"));
}

TEST(Reconciler, ServiceThatTheKernelRefusesDoesNotStopTheOthers) {
  Node node;
  node.kernel.fail_in = 1;
  EXPECT_FALSE(
      node.reconciler
          ->Handle(Batch({ServiceChange("a", {"10.96.0.1"}), ServiceChange("b", {"10.96.0.2"}),
                          ServiceChange("c", {"10.96.0.3"})},
                         true))
          .ok());
  node.kernel.fail_in = 1;  // of the first Service of the next try
  EXPECT_FALSE(node.reconciler->Retry().ok());
  EXPECT_TRUE(node.reconciler->ready());
  EXPECT_THAT(node.InForce(), ElementsAre("b 10.96.0.2:80 refuse", "c 10.96.0.3:80 refuse"));
  ASSERT_THAT(node.reconciler->problems(), SizeIs(1));
  EXPECT_THAT(node.reconciler->problems()[0].ToString(),
              HasSubstr("Service default/a: refused: put: told to fail"));
  EXPECT_TRUE(node.reconciler->Retry().ok());
  EXPECT_THAT(node.InForce(), SizeIs(3));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());
}

TEST(Reconciler, SaysWhatItChangedAndRemoved) {
  Node node;
  node.Handle(Batch({ServiceChange("a", {"10.96.0.1"}), ServiceChange("b", {"10.96.0.2"})}, true));
  EXPECT_THAT(node.reconciler->TakeWritten().changed, SizeIs(2));
  node.Handle(Batch({Gone(k8s::ObjectKind::kService, "a"), ServiceChange("b", {"10.96.0.2"})}));
  const Reconciler::Written written = node.reconciler->TakeWritten();
  EXPECT_THAT(written.changed, IsEmpty());
  EXPECT_THAT(written.removed, ElementsAre(ServiceName{"default", "a"}));
}

TEST(Reconciler, EndpointThatLeftIsNotServedThoughTheMapIsFull) {
  Node node({.frontends = 8, .services = 8, .backends = 4, .udp_flows = 16});
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}),
                     SliceChange("web", {"10.1.0.1", "10.1.0.2", "10.1.0.3"})},
                    true));
  node.Handle(Batch({SliceChange("web", {"10.1.0.1", "10.1.0.2"})}));
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.2:8080"));
  node.Handle(Batch({SliceChange("web", {"10.1.0.7", "10.1.0.8", "10.1.0.1"})}));
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 forward 10.1.0.1:8080"));
  EXPECT_THAT(node.reconciler->problems(), SizeIs(1));
  node.EndGrace();  // the ranges that were cut off are free now
  EXPECT_THAT(node.InForce(),
              ElementsAre("web 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.7:8080 10.1.0.8:8080"));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());
}

TEST(Reconciler, UnreadableSliceProtectsItsServiceOnly) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"}),
                     ServiceChange("api", {"10.96.0.2"}), SliceChange("api", {"10.1.0.2"})},
                    true));
  node.Restart();
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"}),
                     {{k8s::ObjectKind::kEndpointSlice, {"default", "web-1"}},
                      k8s::Unreadable{{"default", "web"}}},
                     ServiceChange("api", {"10.96.0.2"})},
                    true));
  EXPECT_THAT(node.InForce(),
              ElementsAre("api 10.96.0.2:80 refuse", "web 10.96.0.1:80 forward 10.1.0.1:8080"));
  node.Handle(Batch({SliceChange("web", {"10.1.0.3"})}));
  EXPECT_THAT(node.InForce(),
              ElementsAre("api 10.96.0.2:80 refuse", "web 10.96.0.1:80 forward 10.1.0.3:8080"));
}

TEST(Reconciler, EveryFailedWriteIsMadeGoodByARetry) {
  const auto step = [](Node& node, int number) {
    switch (number) {
      case 0:
        return node.reconciler->Handle(
            Batch({ServiceChange("web", {"10.96.0.1", "fd00:96::1"}),
                   SliceChange("web", {"10.1.0.1"}), ServiceChange("old", {"10.96.0.9"})},
                  true));
      case 1:
        return node.reconciler->Handle(
            Batch({Gone(k8s::ObjectKind::kService, "old"), ServiceChange("new", {"10.96.0.9"}),
                   SliceChange("new", {"10.1.0.7"}), ServiceChange("web", {"10.96.0.1"})}));
      default:
        return node.reconciler->Handle(Batch({Gone(k8s::ObjectKind::kService, "web")}));
    }
  };
  for (int failing_step = 0; failing_step < 3; ++failing_step) {
    bool failed = true;
    for (int call = 1; failed; ++call) {
      SCOPED_TRACE("step " + std::to_string(failing_step) + " call " + std::to_string(call));
      Node node;
      failed = false;
      for (int number = 0; number < 3; ++number) {
        if (number == failing_step) node.kernel.fail_in = call;
        const absl::Status status = step(node, number);
        if (number == failing_step) {
          failed = !status.ok();
          node.kernel.fail_in.reset();
          if (failed) {
            const absl::Status retried = node.reconciler->Retry();
            ASSERT_TRUE(retried.ok()) << retried;
          }
        } else {
          ASSERT_TRUE(status.ok()) << status;
        }
      }
      EXPECT_THAT(node.InForce(), ElementsAre("new 10.96.0.9:80 forward 10.1.0.7:8080"));
      node.EndGrace();
      ASSERT_LT(call, 100);
    }
  }
}

TEST(Reconciler, FrontendOfTwoServicesGoesToTheOlderAndThenToTheOther) {
  Node node;
  node.Handle(Batch({ServiceChange("a", {"10.96.0.1"}, 80, 200), SliceChange("a", {"10.1.0.1"}),
                     ServiceChange("b", {"10.96.0.1"}, 80, 100), SliceChange("b", {"10.1.0.2"})},
                    true));
  EXPECT_THAT(node.InForce(), ElementsAre("b 10.96.0.1:80 forward 10.1.0.2:8080"));
  ProblemChanges changes = node.reconciler->TakeProblemChanges();
  ASSERT_THAT(changes.appeared, SizeIs(1));
  EXPECT_THAT(changes.appeared[0].ToString(), HasSubstr("Service default/a"));
  EXPECT_THAT(changes.appeared[0].ToString(), HasSubstr("default/b"));

  node.Handle(Batch({Gone(k8s::ObjectKind::kService, "b")}));
  EXPECT_THAT(node.InForce(), ElementsAre("a 10.96.0.1:80 forward 10.1.0.1:8080"));
  changes = node.reconciler->TakeProblemChanges();
  EXPECT_THAT(changes.appeared, IsEmpty());
  EXPECT_THAT(changes.cleared, SizeIs(1));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());
}

TEST(Reconciler, FullMapLeavesOneServiceOutAndTakesItBackByItself) {
  Node node({.frontends = 2, .services = 8, .backends = 16, .udp_flows = 16});
  node.Handle(Batch({ServiceChange("a", {"10.96.0.1"}), ServiceChange("b", {"10.96.0.2"}),
                     ServiceChange("c", {"10.96.0.3"}), SliceChange("c", {"10.1.0.3"})},
                    true));
  EXPECT_THAT(node.InForce(), ElementsAre("a 10.96.0.1:80 refuse", "b 10.96.0.2:80 refuse"));
  ASSERT_THAT(node.reconciler->problems(), SizeIs(1));
  const std::string text = node.reconciler->problems()[0].ToString();
  EXPECT_THAT(text, HasSubstr("Service default/c"));
  EXPECT_THAT(text, HasSubstr("map frontends is full"));
  EXPECT_THAT(text, HasSubstr("--max-frontends"));
  EXPECT_EQ(node.kernel.agent()->services_left_out, 1u);

  node.Handle(Batch({Gone(k8s::ObjectKind::kService, "a")}));
  EXPECT_THAT(node.InForce(),
              ElementsAre("b 10.96.0.2:80 refuse", "c 10.96.0.3:80 forward 10.1.0.3:8080"));
  EXPECT_THAT(node.reconciler->problems(), IsEmpty());
}

TEST(Reconciler, RangesComeBackAfterTheirGracePeriodAndWithThemTheService) {
  Node node({.frontends = 8, .services = 8, .backends = 3, .udp_flows = 16});
  node.Handle(Batch({ServiceChange("a", {"10.96.0.1"}), SliceChange("a", {"10.1.0.1", "10.1.0.2"}),
                     ServiceChange("b", {"10.96.0.2"}), SliceChange("b", {"10.1.0.3", "10.1.0.4"})},
                    true));
  EXPECT_THAT(node.InForce(), ElementsAre("a 10.96.0.1:80 forward 10.1.0.1:8080 10.1.0.2:8080"));
  node.Handle(Batch({Gone(k8s::ObjectKind::kService, "a")}));
  EXPECT_THAT(node.InForce(), IsEmpty());  // the range may still be read
  node.EndGrace();
  EXPECT_THAT(node.InForce(), ElementsAre("b 10.96.0.2:80 forward 10.1.0.3:8080 10.1.0.4:8080"));
}

TEST(Reconciler, ServiceWithoutRoomGivesUpWhatAnotherWants) {
  Node node({.frontends = 2, .services = 8, .backends = 2, .udp_flows = 16});
  node.Handle(Batch({ServiceChange("a", {"10.96.0.1"}), SliceChange("a", {"10.1.0.1"})}, true));
  // a moves to another address and to more backends than there is room for; b takes the
  // address that a leaves.
  node.Handle(Batch({ServiceChange("a", {"10.96.0.5"}),
                     SliceChange("a", {"10.1.0.1", "10.1.0.2", "10.1.0.3"}),
                     ServiceChange("b", {"10.96.0.1"})}));
  EXPECT_THAT(node.InForce(), ElementsAre("b 10.96.0.1:80 refuse"));
  ASSERT_THAT(node.reconciler->problems(), SizeIs(1));
  EXPECT_THAT(node.reconciler->problems()[0].ToString(), HasSubstr("map backends is full"));
}

TEST(Reconciler, StraysInThePinsAreReportedAndRemoved) {
  Node node;
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"})}, true));
  waggle_frontend damaged = node.kernel.frontends().begin()->second;
  waggle_frontend_key key = node.kernel.frontends().begin()->first;
  key.addr[15] = 77;  // the tag does not fit any more
  node.kernel.frontends().emplace(key, damaged);
  node.Restart();
  EXPECT_THAT(node.reconciler->TakeProblemChanges().appeared, SizeIs(1));
  node.Handle(Batch({ServiceChange("web", {"10.96.0.1"})}, true));
  EXPECT_THAT(node.InForce(), ElementsAre("web 10.96.0.1:80 refuse"));
  EXPECT_THAT(node.reconciler->TakeProblemChanges().cleared, SizeIs(1));
}

TEST(Reconciler, CarriedOverServicesAreInForceBeforeAnySource) {
  Node small;
  small.Handle(
      Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
  const maps::CheckedTables checked =
      maps::CheckTables(*small.kernel.Read(), small.kernel.arrays());
  const auto services = maps::Decompile(checked.tables, small.kernel.arrays());

  Node large({.frontends = 1024, .services = 1024, .backends = 1024, .udp_flows = 16});
  ASSERT_TRUE(large.reconciler->CarryOver(services).ok());
  EXPECT_EQ(large.InForce(), small.InForce());
  large.TakeWork();
  large.Handle(
      Batch({ServiceChange("web", {"10.96.0.1"}), SliceChange("web", {"10.1.0.1"})}, true));
  EXPECT_EQ(large.TakeWork(), (Node::Work{0, 0, 0, 1}));

  Node tiny({.frontends = 1, .services = 1, .backends = 0 + 1, .udp_flows = 16});
  std::vector<ResolvedService> two = services;
  two.push_back(services[0]);
  two[1].name.name = "web2";
  two[1].ports[0].lists[0].frontends[0].endpoint.port = 81;
  EXPECT_EQ(tiny.reconciler->CarryOver(two).code(), absl::StatusCode::kResourceExhausted);
}

// Whatever the order of events, restarts and grace periods: the kernel holds what
// `waggle plan` prints for the same objects.
TEST(Reconciler, KernelAlwaysEndsEqualToThePlan) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto pick = [&](unsigned count) { return static_cast<unsigned>(random() % count); };
    Node node;
    std::map<k8s::ObjectKey, k8s::ObjectChange> world;
    const auto put = [&](k8s::ObjectChange change) {
      world.insert_or_assign(change.key, change);
      return change;
    };
    bool synced = false;
    for (int round = 0; round < 40; ++round) {
      std::vector<k8s::ObjectChange> changes;
      for (unsigned i = 0; i < 1 + pick(4); ++i) {
        const std::string name = "s" + std::to_string(pick(6));
        switch (pick(4)) {
          case 0: {
            std::vector<std::string> ips = {"10.96.0." + std::to_string(1 + pick(5))};
            if (pick(2) == 0) ips.push_back("fd00:96::" + std::to_string(1 + pick(5)));
            changes.push_back(put(ServiceChange(name, ips, static_cast<uint16_t>(80 + pick(2)),
                                                static_cast<int64_t>(pick(3)))));
            break;
          }
          case 1:
          case 2: {
            std::vector<std::string> ips;
            const bool v6 = pick(2) == 0;
            for (unsigned k = pick(4); k > 0; --k) {
              ips.push_back((v6 ? "fd00::" : "10.1.0.") + std::to_string(1 + pick(9)));
            }
            changes.push_back(put(SliceChange(name, ips, v6 ? "6" : "4")));
            break;
          }
          default: {
            const auto key =
                pick(2) == 0
                    ? k8s::ObjectKey{k8s::ObjectKind::kService, {"default", name}}
                    : k8s::ObjectKey{k8s::ObjectKind::kEndpointSlice, {"default", name + "-4"}};
            world.erase(key);
            changes.push_back({key, k8s::Deleted{}});
          }
        }
      }
      if (pick(10) == 0) {  // the agent dies and comes back to the whole world
        node.Restart();
        changes.clear();
        for (const auto& [key, change] : world)
          changes.push_back(change);
        synced = false;
      }
      node.Handle(Batch(std::move(changes), synced ? std::nullopt : std::optional(true)));
      synced = true;
      if (pick(3) == 0) node.EndGrace();

      std::vector<k8s::ObjectChange> objects;
      for (const auto& [key, change] : world)
        objects.push_back(change);
      const maps::CheckedTables checked =
          maps::CheckTables(*node.kernel.Read(), node.kernel.arrays());
      ASSERT_THAT(checked.problems, IsEmpty());
      ASSERT_EQ(maps::RenderServicesJson(maps::Decompile(checked.tables, node.kernel.arrays())),
                maps::RenderServicesJson(cli::MakePlan(objects, "n1").services));
    }
  }
}

}  // namespace
}  // namespace waggle::agent
