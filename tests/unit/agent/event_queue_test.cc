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
