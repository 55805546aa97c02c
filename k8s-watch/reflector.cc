#include "k8s-watch/reflector.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "k8s-watch/quote.h"

namespace waggle::k8s {
namespace {

using std::chrono::duration_cast;
using std::chrono::seconds;

// Of an answer that is no success as much is kept.
constexpr size_t kMaxErrorBody = size_t{64} << 10;
constexpr size_t kMaxMessage = 300;
// Problems of objects are told so often while a watch goes on.
constexpr seconds kPublishApart{1};
constexpr seconds kMaxRetryAfter{300};
// So many bad watches in a row, and all is asked for again.
constexpr int kMaxBadStreams = 3;
// So many streaming lists that broke on something that is no event, and such things are left out;
// so many, and the list is asked for by pages.
constexpr int kBadListsUntilSkip = 2;
constexpr int kMaxBadLists = 4;

constexpr const char* kNotHeadless = "!service.kubernetes.io/headless";
constexpr const char* kNotOthers = "!service.kubernetes.io/service-proxy-name";

// Seconds; the other form of the header, a date, is of no use without the server's clock.
int RetryAfterSeconds(const std::string& header) {
  int value = 0;
  const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), value);
  return error == std::errc() && end == header.data() + header.size() && value > 0 ? value : 0;
}

}  // namespace

Resource Resource::Services() {
  return {ObjectKind::kService, "/api/v1/services", "services", "",
          absl::StrCat("labelSelector=", UrlEncode(absl::StrCat(kNotHeadless, ",", kNotOthers)),
                       "&fieldSelector=", UrlEncode("spec.clusterIP!=None"))};
}
Resource Resource::EndpointSlices() {
  return {ObjectKind::kEndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices", "endpointslices",
          "discovery.k8s.io",
          absl::StrCat("labelSelector=", UrlEncode(absl::StrCat(kNotHeadless, ",", kNotOthers)))};
}
Resource Resource::OneNode(const std::string& name) {
  return {ObjectKind::kNode, "/api/v1/nodes", "nodes", "",
          absl::StrCat("fieldSelector=", UrlEncode(absl::StrCat("metadata.name=", name)))};
}

// The answer to one request.
class Reflector::Reply final : public ResponseReader {
 public:
  explicit Reply(Reflector* owner)
      : owner_(owner),
        initial_(owner->state_ != State::kWatch),
        began_(owner->options_.now()),
        span_began_(began_),
        list_(owner->resource_.kind,
              [owner](StreamObject object) { owner->index_.Put(std::move(object)); }),
        watch_(owner->resource_.kind, owner->bad_lists_ >= kBadListsUntilSkip,
               [this](WatchEvent event) { return owner_->OnEvent(std::move(event), this); }) {}

  absl::Status OnHead(const ResponseHead& head) override {
    head_ = head;
    span_began_ = owner_->options_.now();
    owner_->counts_.HeadCame(
        head.status, static_cast<uint64_t>((span_began_ - began_) / std::chrono::nanoseconds(1)));
    if (head.status != 200) return absl::OkStatus();
    ok_ = true;
    owner_->counts_.connected = true;
    owner_->unauthorized_ = 0;
    if (owner_->state_ != State::kList) ++owner_->counts_.watches;
    return absl::OkStatus();
  }
  absl::Status OnData(std::string_view bytes) override {
    owner_->data_at_ = owner_->options_.now();
    owner_->counts_.bytes += bytes.size();
    if (!ok_) {
      body_.append(bytes.substr(0, kMaxErrorBody - std::min(kMaxErrorBody, body_.size())));
      // As much of it is enough.
      if (body_.size() == kMaxErrorBody) return absl::AbortedError("an error of great length");
      span_bytes_ += bytes.size();
      return CheckTime();
    }
    span_bytes_ += bytes.size();
    heard_ = owner_->options_.now();
    const bool was_inside = watch_.inside();
    const uint64_t before = owner_->counts_.events;
    const absl::Status status =
        owner_->state_ == State::kList ? list_.Feed(bytes) : watch_.Feed(bytes);
    if (!status.ok()) return status;
    const bool event = owner_->counts_.events != before;
    if (!was_inside || event) event_began_ = owner_->options_.now();
    if (event) Prove();
    owner_->PublishProblems(false);
    return CheckTime();
  }
  absl::Status OnWait() override {
    if (ok_ && Lasted()) Prove();
    owner_->PublishProblems(false);
    return CheckTime();
  }

  void OnPause() override { owner_->sink_->OnPause(); }

  // The initial events of a streaming list have come.
  void EndInitial() { initial_ = false; }

  bool ok() const { return ok_; }
  bool initial() const { return initial_; }
  const ResponseHead& head() const { return head_; }
  const std::string& body() const { return body_; }
  const ListDecoder& list() const { return list_; }
  const WatchDecoder& watch() const { return watch_; }
  bool proved() const { return proved_; }
  // Nearly as long as it was asked to.
  bool Waited() const {
    return owner_->options_.now() - began_ >= seconds(owner_->timeout_s_) - kSlowTime;
  }
  bool Lasted() const { return owner_->options_.now() - began_ >= kShortWatch; }
  absl::Status result;
  ApiStatus error;  // of an event ERROR; result is Aborted then

 private:
  // A watch does what it should. One that is only accepted may be of no use all the same.
  void Prove() {
    if (initial_ || std::exchange(proved_, true)) return;
    owner_->Succeeded();
    owner_->PublishProblems(true);
  }

  absl::Status CheckTime() {
    const Time now = owner_->options_.now();
    if (head_.status == 0) {
      if (now - began_ < kHeadTime) return absl::OkStatus();
      return absl::DeadlineExceededError(
          absl::StrCat("no answer within ", kHeadTime.count(), " s"));
    }
    if (!ok_ || initial_) {
      if (ok_ && owner_->state_ != State::kList &&
          now - began_ >= seconds(owner_->timeout_s_) + kGrace) {
        return absl::DeadlineExceededError("the list does not come to its end");
      }
      if (now - span_began_ < kSlowTime) return absl::OkStatus();
      if (span_bytes_ < kLeastBytes) {
        return absl::DeadlineExceededError(
            absl::StrCat("less than ", kLeastBytes >> 10, " KiB in ", kSlowTime.count(), " s"));
      }
      span_began_ = now;
      span_bytes_ = 0;
      return absl::OkStatus();
    }
    if (watch_.inside() && now - event_began_ >= kEventTime) {
      return absl::DeadlineExceededError(
          absl::StrCat("an event does not come to its end within ", kEventTime.count(), " s"));
    }
    if (owner_->bookmarks_ && now - heard_ >= kBookmarkTime) {
      return absl::DeadlineExceededError(
          absl::StrCat("neither an event nor a bookmark for ", kBookmarkTime.count(), " s"));
    }
    if (now - began_ >= seconds(owner_->timeout_s_) + kGrace) {
      return absl::DeadlineExceededError("the server does not end the watch in its time");
    }
    return absl::OkStatus();
  }

  Reflector* const owner_;
  bool initial_;
  bool ok_ = false;
  bool proved_ = false;
  const Time began_;
  Time span_began_;
  size_t span_bytes_ = 0;
  Time event_began_;
  Time heard_ = began_;
  ResponseHead head_;
  std::string body_;
  ListDecoder list_;
  WatchDecoder watch_;
};

Reflector::Reflector(Resource resource, Options options, Transport* transport, EventSink* sink)
    : resource_(std::move(resource)),
      options_(std::move(options)),
      transport_(transport),
      sink_(sink),
      index_(resource_.kind,
             [this](ObjectChange change) {
               change.read_at = data_at_;
               sink_->OnChange(std::move(change));
             }),
      counts_(options_.counts == nullptr ? own_counts_ : *options_.counts),
      state_(options_.streaming_list ? State::kStreamingList : State::kList),
      streaming_(options_.streaming_list) {}

std::string Reflector::Target() {
  std::string target = absl::StrCat(resource_.path, "?", resource_.query);
  if (state_ == State::kList) {
    // As client-go: the first list may be what the server has in its cache, a later one is not
    // older than what we know, and when that is no good the newest is read. Only the first and the
    // last are by pages: with a version a limit would mean exactly that version.
    const std::string version = version_lost_ ? "" : version_.value_or("0");
    if (version.empty() || version == "0" || !continue_.empty()) {
      absl::StrAppend(&target, "&limit=", kPageSize);
    }
    if (!continue_.empty()) {
      absl::StrAppend(&target, "&continue=", UrlEncode(continue_));
    } else if (!version.empty()) {
      absl::StrAppend(&target, "&resourceVersion=", UrlEncode(version));
    }
    return target;
  }
  timeout_s_ = 300 + static_cast<int>(300 * options_.random());
  absl::StrAppend(&target, "&watch=true&allowWatchBookmarks=true&timeoutSeconds=", timeout_s_);
  if (state_ == State::kStreamingList) {
    absl::StrAppend(&target, "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
  }
  if (version_ && !version_lost_) {
    absl::StrAppend(&target, "&resourceVersion=", UrlEncode(*version_));
  }
  return target;
}

std::string Reflector::Doing() const {
  return absl::StrCat(verb(), " ", resource_.name);
}

Reflector::Duration Reflector::Step() {
  if (state_ != State::kWatch && !in_list_) {
    in_list_ = true;
    index_.BeginList();
  }
  const std::string target = Target();
  Reply reply(this);
  reply.result = transport_->Get(target, &reply);
  if (absl::IsCancelled(reply.result)) return Duration(0);
  if (reply.head().status == 0) ++counts_.unanswered;
  if (!reply.ok() || !reply.result.ok()) counts_.connected = false;
  const bool answered = reply.result.ok() || absl::IsAborted(reply.result);
  const Duration wait = !reply.ok() && answered  ? OnHttpError(reply)
                        : state_ == State::kList ? AfterList(reply)
                                                 : AfterWatch(reply);
  PublishProblems(true);
  sink_->OnPause();
  return wait;
}

void Reflector::StartOver() {
  state_ = streaming_ ? State::kStreamingList : State::kList;
  continue_.clear();
  in_list_ = false;
}

Reflector::Duration Reflector::AfterList(const Reply& reply) {
  if (!reply.result.ok()) {
    // What has come of this page comes again; a list by pages goes on where it stopped.
    return OnLost(reply.result, false);
  }
  auto end = reply.list().Finish();
  if (!end.ok()) return OnLost(end.status(), false);
  Succeeded();
  continue_ = std::move(end->continue_token);
  if (!continue_.empty()) return Duration(0);
  Listed(end->resource_version);
  state_ = State::kWatch;
  return Duration(0);
}

void Reflector::Listed(const std::string& version) {
  in_list_ = false;
  version_ = version;
  version_lost_ = false;
  bad_lists_ = 0;
  ++counts_.lists;
  complete_ = index_.EndList();
  PublishProblems(true);
  sink_->OnSynced(complete_);
}

absl::Status Reflector::OnEvent(WatchEvent event, Reply* reply) {
  ++counts_.events;
  bad_streams_ = 0;
  switch (event.type) {
    case WatchEvent::Type::kError:
      reply->error = std::move(event.error);
      return absl::AbortedError("an error in the stream");
    case WatchEvent::Type::kPut:
      if (event.object.unidentified) complete_ = false;
      index_.Put(std::move(event.object));
      break;
    case WatchEvent::Type::kDeleted:
      if (event.object.name) index_.Remove(*event.object.name);
      break;
    case WatchEvent::Type::kBookmark:
      bookmarks_ = bookmarks_ || !event.initial_events_end;
      if (reply->initial() && event.initial_events_end) {
        if (event.resource_version.empty()) {
          return absl::InvalidArgumentError("a bookmark without resourceVersion");
        }
        reply->EndInitial();
        Succeeded();
        Listed(event.resource_version);
        return absl::OkStatus();
      }
      break;
  }
  // Half of a list is no state that a watch could go on from.
  if (!reply->initial() && !event.resource_version.empty()) version_ = event.resource_version;
  return absl::OkStatus();
}

Reflector::Duration Reflector::AfterWatch(const Reply& reply) {
  const bool initial = reply.initial();
  if (initial) {
    in_list_ = false;
  } else {
    state_ = State::kWatch;
  }
  if (absl::IsAborted(reply.result)) {
    if (initial && NoStreamingList(reply.error.code)) return Duration(0);
    return OnEventError(reply.error);
  }
  const absl::Status result = reply.result.ok() ? reply.watch().Finish() : reply.result;
  if (initial) {
    // Perhaps the server knows nothing of initial events, and waits for the first change until it
    // ends the watch in its time.
    const bool waited = absl::IsDeadlineExceeded(result) || (result.ok() && reply.Waited());
    const bool broken = result.ok() || absl::IsInvalidArgument(result);
    if (reply.ok() && (waited || (broken && ++bad_lists_ >= kMaxBadLists))) {
      streaming_ = false;
      bad_lists_ = 0;
      StartOver();
    }
    return OnLost(result.ok() ? absl::DataLossError("ended before all had come") : result, false);
  }
  if (absl::IsInvalidArgument(result) && ++bad_streams_ >= kMaxBadStreams) {
    bad_streams_ = 0;
    StartOver();
  }
  const bool worked = reply.ok() && (reply.Lasted() || reply.proved());
  // Something in the list could not be identified: perhaps it can be now.
  if (worked && !complete_) StartOver();
  // One that brought something and ended at once may do so again.
  const Duration pause = worked && !reply.Lasted() ? Duration(kShortWatch) : Duration(0);
  if (!result.ok()) return std::max(OnLost(result, worked), pause);
  return worked ? pause : Fail("the server ends the watch at once", true);
}

// `established`: it had worked, so that it may be tried again at once.
Reflector::Duration Reflector::OnLost(const absl::Status& status, bool established) {
  const std::string text(status.message());
  const bool elsewhere = !absl::IsFailedPrecondition(status);
  if (established && elsewhere) {
    ++counts_.failures;
    transport_->FailOver();
    return Duration(0);
  }
  return Fail(text, elsewhere);
}

Reflector::Duration Reflector::OnHttpError(const Reply& reply) {
  ApiStatus error = ParseApiStatus(reply.body());
  error.code = reply.head().status;
  error.retry_after_s = std::max(error.retry_after_s, RetryAfterSeconds(reply.head().retry_after));
  // One that asks to be left alone for a while is.
  if (state_ == State::kStreamingList && error.retry_after_s == 0 && NoStreamingList(error.code)) {
    return Duration(0);
  }
  return OnEventError(error);
}

// True: the server cannot give a list as a stream, and the other kind is asked for next. An
// apiserver on an etcd that cannot report progress (3.4) says 500, in the stream, and goes on doing
// so; in an outage the list will fail as well.
bool Reflector::NoStreamingList(int code) {
  const bool refused = code == 400 || code == 405 || code == 422 || code == 501;
  if (!refused && code < 500) return false;
  if (refused) streaming_ = false;
  StartOver();
  state_ = State::kList;
  return true;
}

Reflector::Duration Reflector::OnEventError(const ApiStatus& error) {
  if (error.code == 410 || error.reason == "Expired" || error.reason == "Gone") return Expired();
  const bool unauthorized = error.code == 401;
  unauthorized_ = unauthorized ? unauthorized_ + 1 : 0;
  // The token is read for each request, and may have been renewed since.
  if (unauthorized_ == 1) {
    ++counts_.failures;
    return Duration(0);
  }
  if (error.too_large_version && state_ != State::kWatch) version_lost_ = true;
  std::string text = absl::StrCat("cannot ", Doing(), ": HTTP ", error.code);
  if (error.code == 401) {
    text += ": the credentials are not accepted; they are read again for each request";
  } else if (error.code == 403) {
    absl::StrAppend(&text, ": the ClusterRole needs the verb \"", verb(), "\" on the resource \"",
                    resource_.name, "\" of the API group \"", resource_.group, "\"");
  } else if (error.code == 404) {
    absl::StrAppend(&text, ": the server has no ", resource_.path);
  }
  if (!error.message.empty()) absl::StrAppend(&text, ": ", Printable(error.message, kMaxMessage));
  // Another endpoint may know the token, have its rules, be less busy, or be an apiserver at all.
  return Fail(std::move(text), true,
              seconds(std::min<int>(error.retry_after_s, kMaxRetryAfter.count())));
}

// What is asked for is older than what the server still has.
Reflector::Duration Reflector::Expired() {
  const bool watching = state_ == State::kWatch;
  const std::string doing = Doing();
  // A list that is not older than what is known is asked for first; only when that is refused too
  // is its version no good.
  if (!watching) version_lost_ = true;
  StartOver();
  const Time now = options_.now();
  const bool often = relisted_ && now - *relisted_ < kRelistApart;
  relisted_ = now;
  if (!often) return Duration(0);
  return Fail(absl::StrCat("cannot ", doing, ": what is asked for has expired, again and again"),
              true);
}

void Reflector::Succeeded() {
  failure_.reset();
  tried_ = 0;
  unauthorized_ = 0;
}

Reflector::Duration Reflector::Fail(std::string text, bool fail_over, Duration at_least) {
  ++counts_.failures;
  Problem problem = {{"apiserver", "", transport_->endpoint()},
                     "",
                     "",
                     ProblemReason::kUnreadable,
                     absl::StrCat(text, "; what is known stays in force, and it is tried again")};
  failure_ = std::move(problem);
  if (fail_over) {
    least_wait_ = tried_ == 0 ? at_least : std::min(least_wait_, at_least);
    transport_->FailOver();
    if (++tried_ < transport_->endpoints()) return Duration(0);
    // All were asked: the first that wants to be asked again decides.
    at_least = least_wait_;
    tried_ = 0;
  }
  const Time now = options_.now();
  const double random = options_.random();
  if (at_least.count() == 0) return backoff_.Next(now, random);
  return at_least + duration_cast<Duration>(std::chrono::duration<double, std::milli>(
                        0.1 * random * static_cast<double>(at_least.count())));
}

void Reflector::PublishProblems(bool force) {
  unpublished_ = index_.TakeProblemsChanged() || unpublished_;
  if (!force && !unpublished_) return;
  const Time now = options_.now();
  if (!force && published_at_ && now - *published_at_ < kPublishApart) return;
  unpublished_ = false;
  published_at_ = now;
  std::vector<Problem> problems = index_.Problems();
  if (failure_) problems.push_back(*failure_);
  if (problems == published_) return;
  published_ = problems;
  sink_->OnProblems(std::move(problems));
}

}  // namespace waggle::k8s
