#include "userspace/agent/event_queue.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <string>
#include <thread>

namespace waggle::agent {
namespace {

k8s::ObjectChange ServiceOn(const std::string& name, uint16_t port) {
  auto service = std::make_shared<k8s::Service>();
  service->name = {"default", name};
  service->ports = {{"", net::Protocol::kTcp, port, 0}};
  return {{k8s::ObjectKind::kService, service->name}, k8s::Object(std::move(service))};
}

uint16_t PortOf(const k8s::ObjectChange& change) {
  const auto& object = std::get<k8s::Object>(change.state);
  return std::get<std::shared_ptr<const k8s::Service>>(object)->ports[0].port;
}

bool Readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, 0) == 1;
}

TEST(EventQueue, LatestChangeOfAnObjectWinsAtItsFirstPlace) {
  EventQueue queue;
  queue.OnChange(ServiceOn("a", 1));
  queue.OnChange(ServiceOn("b", 2));
  queue.OnChange(ServiceOn("a", 3));
  const EventQueue::Batch batch = queue.Drain();
  ASSERT_EQ(batch.changes.size(), 2u);
  EXPECT_EQ(PortOf(batch.changes[0]), 3);
  EXPECT_EQ(PortOf(batch.changes[1]), 2);
  EXPECT_FALSE(batch.synced.has_value());
  EXPECT_FALSE(batch.problems.has_value());
}

TEST(EventQueue, KnowsWhatWaitsAndSinceWhen) {
  EventQueue queue;
  EXPECT_EQ(queue.waiting().services, 0u);
  EXPECT_FALSE(queue.waiting().oldest[0]);
  const auto at = [](int s) { return health::Time(std::chrono::seconds(s)); };
  auto slice = std::make_shared<k8s::EndpointSlice>();
  slice->name = {"default", "s"};
  slice->family = net::Family::kIpv6;
  queue.OnChange({{k8s::ObjectKind::kEndpointSlice, slice->name}, k8s::Object(slice), at(5)});
  EXPECT_FALSE(queue.waiting().oldest[0]);
  EXPECT_EQ(queue.waiting().oldest[1], at(5));
  k8s::ObjectChange service = ServiceOn("a", 1);
  service.read_at = at(7);
  queue.OnChange(service);
  service.read_at = at(9);
  queue.OnChange(service);
  queue.OnChange({{k8s::ObjectKind::kNode, {"", "n"}}, k8s::Deleted{}, at(8)});
  const EventQueue::Waiting waiting = queue.waiting();
  EXPECT_EQ(waiting.services, 1u);
  EXPECT_EQ(waiting.slices, 1u);
  EXPECT_EQ(waiting.others, 1u);
  EXPECT_EQ(waiting.oldest[0], at(7));
  EXPECT_EQ(waiting.oldest[1], at(5));
  // A change is as late as the one whose place it took.
  EXPECT_EQ(queue.Drain().changes.at(1).read_at, at(7));
  EXPECT_FALSE(queue.waiting().oldest[1]);
  EXPECT_EQ(queue.waiting().slices, 0u);
  // Who does not say when came now.
  const health::Time before = std::chrono::steady_clock::now();
  queue.OnChange(ServiceOn("a", 1));
  EXPECT_GE(queue.Drain().changes.at(0).read_at, before);
}

TEST(EventQueue, DescriptorIsReadableExactlyWhileThereIsSomething) {
  EventQueue queue;
  EXPECT_FALSE(Readable(queue.event_fd()));
  queue.OnSynced(false);
  queue.OnSynced(true);
  EXPECT_TRUE(Readable(queue.event_fd()));
  EXPECT_EQ(queue.Drain().synced, true);
  EXPECT_FALSE(Readable(queue.event_fd()));
  EXPECT_FALSE(queue.Drain().synced.has_value());
}

TEST(EventQueue, ProblemsReplaceThoseBefore) {
  EventQueue queue;
  queue.OnProblems({Problem{}, Problem{}});
  queue.OnProblems({Problem{}});
  ASSERT_TRUE(queue.Drain().problems.has_value());
  queue.OnProblems({});
  EXPECT_TRUE(queue.Drain().problems->empty());
}

TEST(EventQueue, NothingIsLostBetweenThreads) {
  EventQueue queue;
  constexpr uint16_t kLast = 20000;
  std::thread source([&] {
    for (uint16_t port = 1; port <= kLast; ++port)
      queue.OnChange(ServiceOn("a", port));
  });
  uint16_t seen = 0;
  while (seen != kLast) {
    pollfd entry{queue.event_fd(), POLLIN, 0};
    ASSERT_EQ(poll(&entry, 1, 10000), 1);
    for (const k8s::ObjectChange& change : queue.Drain().changes) {
      EXPECT_GT(PortOf(change), seen);
      seen = PortOf(change);
    }
  }
  source.join();
}

}  // namespace
}  // namespace waggle::agent
