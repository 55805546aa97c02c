#include "k8s-watch/event_recorder.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "k8s-watch/dial.h"
#include "k8s-watch/quote.h"
#include "k8s-watch/stream_decoder.h"

namespace waggle::k8s {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kGroup = "events.k8s.io";
constexpr const char* kController = "waggle";
constexpr const char* kAction = "ProgramService";
// What the API takes.
constexpr size_t kMaxNote = 1024;
constexpr size_t kMaxInstance = 128;
constexpr size_t kMaxNamePart = 200;
constexpr size_t kMaxBody = size_t{64} << 10;
constexpr size_t kMaxMessage = 300;
constexpr seconds kAnswerTime{10};
constexpr int kMaxRetryAfterS = 60;

struct Kind {
  std::string_view name;
  const char* api_version;
  const char* group_path;  // before "/namespaces"
  const char* resource;
};
constexpr Kind kKinds[] = {
    {"Service", "v1", "/api/v1", "services"},
    {"EndpointSlice", "discovery.k8s.io/v1", "/apis/discovery.k8s.io/v1", "endpointslices"},
    {"Node", "v1", "/api/v1", "nodes"},
};

const Kind* KindOf(const ObjectRef& object) {
  if (object.name.empty()) return nullptr;
  for (const Kind& kind : kKinds) {
    if (kind.name == object.kind) return &kind;
  }
  return nullptr;
}

const char* ReasonOf(ProblemReason reason) {
  switch (reason) {
    case ProblemReason::kInvalid:
      return "InvalidField";
    case ProblemReason::kUnreadable:
      return "Unreadable";
    case ProblemReason::kConflict:
      return "Conflict";
    case ProblemReason::kUnsupported:
      return "Unsupported";
    case ProblemReason::kFull:
      return "NoRoom";
    case ProblemReason::kRefused:
      return "RefusedByKernel";
  }
  return "Problem";
}

// What one node has is not what another has.
bool OfTheNode(ProblemReason reason) {
  return reason == ProblemReason::kFull || reason == ProblemReason::kRefused;
}

std::string Note(const Problem& problem) {
  std::string note =
      problem.field.empty() ? problem.text : absl::StrCat(problem.field, ": ", problem.text);
  if (note.size() <= kMaxNote) return note;
  size_t end = kMaxNote - 3;
  // Not within a character.
  while (end > 0 && (static_cast<unsigned char>(note[end]) & 0xc0) == 0x80)
    --end;
  return note.substr(0, end) + "...";
}

// FNV-1a: the same on every node and in every version.
uint64_t Hash(std::string_view text, uint64_t hash = 0xcbf29ce484222325) {
  for (const char c : text)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::string NamespaceOf(const ObjectRef& object) {
  return object.ns.empty() ? "default" : object.ns;
}

// Microseconds, as the API has it for Events.
std::string MicroTime(std::chrono::system_clock::time_point time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromChrono(time), absl::UTCTimeZone());
}

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string EventsPath(const ObjectRef& object) {
  return absl::StrCat("/apis/", kGroup, "/v1/namespaces/", UrlEncode(NamespaceOf(object)),
                      "/events");
}

// Of what is remembered.
std::string KeyOf(const ObjectRef& object, const std::string& name) {
  return absl::StrCat(NamespaceOf(object), "/", name);
}

class WholeAnswer final : public ResponseReader {
 public:
  absl::Status OnHead(const ResponseHead& head) override {
    status = head.status;
    int after = 0;
    if (absl::SimpleAtoi(head.retry_after, &after)) {
      retry_after_s = std::clamp(after, 0, kMaxRetryAfterS);
    }
    return absl::OkStatus();
  }
  absl::Status OnData(std::string_view bytes) override {
    body.append(bytes.substr(0, kMaxBody - std::min(kMaxBody, body.size())));
    return CheckTime();
  }
  void OnPause() override {}
  absl::Status OnWait() override { return CheckTime(); }

  int status = 0;
  int retry_after_s = 0;
  std::string body;

 private:
  absl::Status CheckTime() const {
    if (std::chrono::steady_clock::now() - began_ < kAnswerTime) return absl::OkStatus();
    return absl::UnavailableError("no answer from there");
  }
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

bool TokenBucket::Take(Time now) {
  const double passed = std::chrono::duration<double>(now - filled_).count();
  if (passed > 0) {
    tokens_ = std::min(burst_, tokens_ + passed * per_second_);
    filled_ = now;
  }
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

std::string EventName(const Problem& problem, const std::string& uid, const std::string& node) {
  uint64_t hash = Hash(problem.object.kind);
  for (const std::string_view part :
       {std::string_view(problem.object.ns), std::string_view(problem.object.name),
        std::string_view(uid), ProblemReasonName(problem.reason), std::string_view(problem.field),
        std::string_view(problem.text),
        OfTheNode(problem.reason) ? std::string_view(node) : std::string_view()}) {
    hash = Hash(part, Hash("\n", hash));
  }
  std::string name = problem.object.name.substr(0, kMaxNamePart);
  name.resize(name.find_last_not_of("-.") + 1);
  return absl::StrCat(name, ".", absl::Hex(hash, absl::kZeroPad16));
}

std::string EventBody(const Problem& problem, const std::string& uid, const std::string& node,
                      std::chrono::system_clock::time_point now) {
  const Kind* kind = KindOf(problem.object);
  json regarding = {{"kind", problem.object.kind},
                    {"name", problem.object.name},
                    {"apiVersion", kind == nullptr ? "v1" : kind->api_version}};
  if (!problem.object.ns.empty()) regarding["namespace"] = problem.object.ns;
  if (!uid.empty()) regarding["uid"] = uid;
  return Dump(
      {{"apiVersion", absl::StrCat(kGroup, "/v1")},
       {"kind", "Event"},
       {"metadata",
        {{"name", EventName(problem, uid, node)}, {"namespace", NamespaceOf(problem.object)}}},
       {"eventTime", MicroTime(now)},
       {"reportingController", kController},
       {"reportingInstance", node.substr(0, kMaxInstance)},
       {"action", kAction},
       {"reason", ReasonOf(problem.reason)},
       {"regarding", regarding},
       {"note", Note(problem)},
       {"type", "Warning"}});
}

EventRecorder::EventRecorder(Options options, ApiClient* client, EventCounts* counts, int stop_fd)
    : options_(std::move(options)),
      client_(client),
      counts_(*counts),
      stop_fd_(stop_fd),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      tokens_(kBurst, kPerSecond, options_.now()) {}

void EventRecorder::Report(const std::vector<Problem>& appeared) {
  bool any = false;
  {
    const std::lock_guard lock(mutex_);
    for (const Problem& problem : appeared) {
      if (KindOf(problem.object) == nullptr) continue;
      if (queue_.size() >= kMaxQueue) {
        ++counts_.queue_full;
        continue;
      }
      queue_.push_back(problem);
      any = true;
    }
  }
  if (!any) return;
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake anyway.
  [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof(one));
}

void EventRecorder::Run() {
  while (true) {
    std::optional<Problem> next;
    {
      const std::lock_guard lock(mutex_);
      if (!queue_.empty()) {
        next = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    if (next) {
      Send(*next);
      // Without waiting: is it time to stop?
      if (absl::IsCancelled(WaitFor(-1, 0, stop_fd_, std::chrono::steady_clock::now()))) return;
      continue;
    }
    const absl::Status woken =
        WaitFor(wake_.get(), POLLIN, stop_fd_, std::chrono::steady_clock::now() + seconds(3600));
    if (absl::IsCancelled(woken)) return;
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t ignored = read(wake_.get(), &count, sizeof(count));
  }
}

void EventRecorder::Send(const Problem& problem) {
  const Time now = options_.now();
  if (forbidden_until_ && now < *forbidden_until_) {
    ++counts_.forbidden;
    return;
  }
  forbidden_until_.reset();
  if (!TakeToken(problem.object, now)) {
    ++counts_.rate_limited;
    return;
  }
  const absl::StatusOr<std::string> uid = FindUid(problem.object);
  if (absl::IsNotFound(uid.status())) {
    ++counts_.gone;
    return;
  }
  if (!uid.ok()) {
    ++counts_.failed;
    return;
  }
  const std::string name = EventName(problem, *uid, options_.node_name);
  const auto found = events_.find(KeyOf(problem.object, name));
  if (found != events_.end() && now - found->second.last < kSeries) {
    if (!found->second.ours) {
      ++counts_.known;
      return;
    }
    if (Repeat(problem, name, &found->second, now)) return;
  }
  Create(problem, name, *uid, now);
}

bool EventRecorder::TakeToken(const ObjectRef& object, Time now) {
  const std::string key = object.ToString();
  auto found = objects_.find(key);
  if (found == objects_.end()) {
    if (objects_.size() >= kMaxKnown) {
      objects_.erase(object_uses_.front());
      object_uses_.pop_front();
    }
    object_uses_.push_back(key);
    found = objects_
                .emplace(key, std::pair(TokenBucket(kObjectBurst, kObjectPerSecond, now),
                                        std::prev(object_uses_.end())))
                .first;
  } else {
    object_uses_.splice(object_uses_.end(), object_uses_, found->second.second);
  }
  // One that talks too much does not use up what is there for all.
  return found->second.first.Take(now) && tokens_.Take(now);
}

void EventRecorder::Remember(const std::string& name, Known known) {
  Forget(name);
  if (events_.size() >= kMaxKnown) Forget(std::string(event_uses_.front()));
  event_uses_.push_back(name);
  known.use = std::prev(event_uses_.end());
  events_.emplace(name, std::move(known));
}

void EventRecorder::Forget(const std::string& name) {
  const auto found = events_.find(name);
  if (found == events_.end()) return;
  event_uses_.erase(found->second.use);
  events_.erase(found);
}

void EventRecorder::Create(const Problem& problem, const std::string& name, const std::string& uid,
                           Time now) {
  ApiRequest request;
  request.method = "POST";
  request.target = EventsPath(problem.object);
  request.content_type = "application/json";
  request.body = EventBody(problem, uid, options_.node_name, std::chrono::system_clock::now());
  const absl::StatusOr<Reply> reply = Do(request);
  if (!reply.ok()) {
    ++counts_.failed;
    return;
  }
  const bool made = reply->status >= 200 && reply->status < 300;
  if (!made && reply->status != 409) return Failed(*reply, "create");
  SetTrouble(std::nullopt);
  ++(made ? counts_.created : counts_.known);
  Known known;
  known.ours = made;
  known.last = now;
  Remember(KeyOf(problem.object, name), std::move(known));
}

bool EventRecorder::Repeat(const Problem& problem, const std::string& name, Known* known,
                           Time now) {
  ApiRequest request;
  request.method = "PATCH";
  request.target = absl::StrCat(EventsPath(problem.object), "/", UrlEncode(name));
  request.content_type = "application/merge-patch+json";
  request.body = Dump({{"series",
                        {{"count", known->count + 1},
                         {"lastObservedTime", MicroTime(std::chrono::system_clock::now())}}}});
  const absl::StatusOr<Reply> reply = Do(request);
  if (!reply.ok()) {
    ++counts_.failed;
    return true;
  }
  if (reply->status == 404) return false;
  if (reply->status < 200 || reply->status >= 300) {
    Failed(*reply, "patch");
    return true;
  }
  SetTrouble(std::nullopt);
  ++counts_.repeated;
  ++known->count;
  known->last = now;
  return true;
}

absl::StatusOr<std::string> EventRecorder::FindUid(const ObjectRef& object) {
  const Kind& kind = *KindOf(object);
  ApiRequest request;
  // By a list, which who watches may ask for; of what an object is only its metadata.
  request.target = absl::StrCat(
      kind.group_path, object.ns.empty() ? "" : absl::StrCat("/namespaces/", UrlEncode(object.ns)),
      "/", kind.resource, "?fieldSelector=metadata.name%3D", UrlEncode(object.name), "&limit=1");
  request.accept =
      "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=1,application/json";
  const absl::StatusOr<Reply> reply = Do(request);
  if (!reply.ok()) return reply.status();
  if (reply->status != 200) return std::string();
  const json list = json::parse(reply->body, nullptr, false);
  if (!list.is_object() || !list.contains("items")) return std::string();
  const json& items = list["items"];
  if (items.is_null() || (items.is_array() && items.empty())) {
    return absl::NotFoundError("no such object");
  }
  if (!items.is_array() || !items[0].is_object()) return std::string();
  const json metadata = items[0].value("metadata", json::object());
  const auto uid = metadata.is_object() ? metadata.find("uid") : metadata.end();
  return uid != metadata.end() && uid->is_string() ? uid->get<std::string>() : std::string();
}

absl::StatusOr<EventRecorder::Reply> EventRecorder::Do(const ApiRequest& request) {
  absl::Status last;
  auto wait = options_.retry_after;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (attempt > 0) {
      const auto jittered =
          std::chrono::duration_cast<std::chrono::milliseconds>(wait * (1 + options_.random()));
      const absl::Status slept =
          WaitFor(-1, 0, stop_fd_, std::chrono::steady_clock::now() + jittered);
      if (absl::IsCancelled(slept)) return slept;
      wait = options_.retry_after * (1 << attempt);
    }
    WholeAnswer answer;
    last = client_->Send(request, &answer);
    if (absl::IsCancelled(last)) return last;
    if (last.ok() && answer.status != 429 && answer.status < 500) {
      return Reply{answer.status, std::move(answer.body)};
    }
    if (last.ok()) {
      last = absl::UnavailableError(absl::StrCat("HTTP ", answer.status));
      if (answer.retry_after_s > 0) wait = seconds(answer.retry_after_s);
    }
    if (answer.status != 429) client_->FailOver();
  }
  return last;
}

void EventRecorder::Failed(const Reply& reply, std::string_view verb) {
  const ApiStatus status = ParseApiStatus(reply.body);
  // A namespace that is being deleted takes nothing more, whoever asks.
  const bool ending = absl::StrContains(reply.body, "NamespaceTerminating") ||
                      absl::StrContains(status.message, "because it is being terminated");
  if (reply.status != 403 || ending) {
    ++counts_.failed;
    return;
  }
  ++counts_.forbidden;
  forbidden_until_ = options_.now() + kForbidden;
  std::string text = absl::StrCat(
      "cannot ", std::string(verb), " events: HTTP 403: the ClusterRole needs the verb \"",
      std::string(verb), "\" on the resource \"events\" of the API group \"", kGroup,
      "\"; problems of objects are told in the log only");
  if (!status.message.empty()) {
    absl::StrAppend(&text, ": ", Printable(status.message, kMaxMessage));
  }
  SetTrouble(std::move(text));
}

void EventRecorder::SetTrouble(std::optional<std::string> text) {
  if (!text && !trouble_) return;
  // Said once, whatever the next object's name is.
  if (text && trouble_) return;
  trouble_ = text.has_value();
  std::vector<Problem> problems;
  if (text) {
    problems.push_back({{"apiserver", "", client_->endpoint()},
                        "",
                        "",
                        ProblemReason::kUnreadable,
                        *std::move(text)});
  }
  options_.on_trouble(std::move(problems));
}

}  // namespace waggle::k8s
