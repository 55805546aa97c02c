#include "userspace/agent/event_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "userspace/agent/turn.h"

namespace waggle::agent {
namespace {

using testing::ElementsAre;

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

TEST(EventQueue, WhatRestsIsDealtWithAtThePauseOnTheSourcesThread) {
  std::vector<uint16_t> handled;
  EventQueue queue([&] {
    for (const k8s::ObjectChange& change : queue.Drain().changes)
      handled.push_back(PortOf(change));
    return true;
  });
  queue.OnPause();
  EXPECT_THAT(handled, ElementsAre());
  queue.OnChange(ServiceOn("a", 1));
  queue.OnChange(ServiceOn("b", 2));
  EXPECT_THAT(handled, ElementsAre());
  queue.OnPause();
  queue.OnPause();
  EXPECT_THAT(handled, ElementsAre(1, 2));
  EXPECT_FALSE(Readable(queue.event_fd()));
  // The reader was faster.
  queue.OnChange(ServiceOn("c", 3));
  EXPECT_EQ(queue.Drain().changes.size(), 1u);
  queue.OnPause();
  EXPECT_THAT(handled, ElementsAre(1, 2));
  EXPECT_FALSE(Readable(queue.event_fd()));
}

TEST(EventQueue, TheReaderHasWhatTheSourceCannotDealWith) {
  int asked = 0;
  EventQueue queue([&] {
    ++asked;
    return false;
  });
  queue.OnChange(ServiceOn("a", 1));
  EXPECT_FALSE(Readable(queue.event_fd()));
  queue.OnPause();
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(Readable(queue.event_fd()));
  EXPECT_EQ(queue.Drain().changes.size(), 1u);
  // What is no change does not rest.
  queue.OnProblems({});
  EXPECT_TRUE(Readable(queue.event_fd()));
  queue.OnPause();
  EXPECT_EQ(asked, 1);
}

TEST(EventQueue, TheReaderHasManyWhileTheSourceReadsOn) {
  EventQueue queue([] {
    ADD_FAILURE() << "asked";
    return true;
  });
  for (size_t i = 0; i < EventQueue::kMany; ++i) {
    EXPECT_FALSE(Readable(queue.event_fd())) << i;
    queue.OnChange(ServiceOn(std::to_string(i), 1));
  }
  EXPECT_TRUE(Readable(queue.event_fd()));
  // One more, which may have come too late for the reader.
  queue.OnChange(ServiceOn("last", 1));
  queue.OnPause();
  EXPECT_TRUE(Readable(queue.event_fd()));
  EXPECT_EQ(queue.Drain().changes.size(), EventQueue::kMany + 1);
}

TEST(EventQueue, AfterWhatIsNoChangeNothingRests) {
  EventQueue queue([] {
    ADD_FAILURE() << "asked";
    return true;
  });
  queue.OnChange(ServiceOn("a", 1));
  queue.OnSynced(true);
  queue.OnPause();
  EXPECT_TRUE(Readable(queue.event_fd()));
  EXPECT_EQ(queue.Drain().changes.size(), 1u);
  queue.OnChange(ServiceOn("a", 2));
  queue.OnProblems({});
  queue.OnPause();
  EXPECT_TRUE(Readable(queue.event_fd()));
}

// Whether the reader or a source deals with a change: somebody does, with the last one last.
TEST(EventQueue, NothingIsLostBetweenThreads) {
  const std::array<std::string, 2> names = {"a", "b"};
  constexpr uint16_t kLast = 20000;
  Turn turn;
  std::array<std::atomic<uint16_t>, 2> seen{};
  const auto take = [&](EventQueue& queue) {
    for (const k8s::ObjectChange& change : queue.Drain().changes) {
      std::atomic<uint16_t>& last = seen[change.key.name.name == "b" ? 1 : 0];
      EXPECT_GT(PortOf(change), last);
      last = PortOf(change);
    }
  };
  EventQueue queue([&] {
    const std::unique_lock lock(turn, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    take(queue);
    return true;
  });
  // Threads of a real source queue one at a time, and pause whenever they like.
  std::mutex one_at_a_time;
  const auto tell = [&](const std::string& name) {
    for (uint16_t port = 1; port <= kLast; ++port) {
      {
        const std::lock_guard lock(one_at_a_time);
        queue.OnChange(ServiceOn(name, port));
      }
      if (port % 3 == 0 || port == kLast) queue.OnPause();
    }
  };
  std::thread first(tell, names[0]);
  std::thread second(tell, names[1]);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while ((seen[0] != kLast || seen[1] != kLast) && std::chrono::steady_clock::now() < deadline) {
    pollfd entry{queue.event_fd(), POLLIN, 0};
    if (poll(&entry, 1, 10) == 0) continue;
    const std::lock_guard lock(turn);
    take(queue);
  }
  first.join();
  second.join();
  EXPECT_EQ(seen[0], kLast);
  EXPECT_EQ(seen[1], kLast);
}

}  // namespace
}  // namespace waggle::agent
