#include "bench/control_plane/download.h"

#include <sys/resource.h>

#include <chrono>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace waggle::bench {
namespace {

constexpr std::chrono::minutes kPatience{5};

// Of the programs that this process has waited for.
double CpuSecondsOfChildren() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  double seconds = 0;
  for (const timeval& time : {usage.ru_utime, usage.ru_stime})
    seconds += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  return seconds;
}

}  // namespace

Download DownloadLists(const lab::Place& from, const cluster::ApiAccess& access, bool compressed) {
  const std::string labels =
      "labelSelector=%21service.kubernetes.io/headless,"
      "%21service.kubernetes.io/service-proxy-name";
  lab::Argv argv = {
      "curl",
      "-sS",
      "--fail",
      "--noproxy",
      "*",
      "--cacert",
      access.ca,
      "-H",
      "Authorization: Bearer " + access.token,
      "-A",
      "bench",  // for "curl" the apiserver would indent its answers
      "-w",
      "%{time_total} %{size_download}\\n",
      "-o",
      "/dev/null",
      "-o",
      "/dev/null",
      absl::StrCat(access.Url(), "/api/v1/services?resourceVersion=0&", labels,
                   "&fieldSelector=spec.clusterIP%21%3DNone"),
      absl::StrCat(access.Url(), "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0&",
                   labels)};
  if (compressed) argv.push_back("--compressed");
  const double before = CpuSecondsOfChildren();
  const lab::RunResult got = lab::RunProgram(from.surroundings(), argv, kPatience);
  Download download{.cpu_seconds = CpuSecondsOfChildren() - before};
  if (!got.ok()) lab::Fail("curl: " + got.ToString());
  for (const absl::string_view line : absl::StrSplit(got.out, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(line, ' ');
    double seconds = 0, bytes = 0;
    if (parts.size() != 2 || !absl::SimpleAtod(parts[0], &seconds) ||
        !absl::SimpleAtod(parts[1], &bytes)) {
      lab::Fail("curl: " + got.ToString());
    }
    download.seconds += seconds;
    download.bytes += bytes;
  }
  return download;
}

SlowLink::SlowLink(const std::string& device, const std::string& rate) : device_(device) {
  // A burst of a millisecond at 1 Gbit/s, and the queue of a switch.
  const lab::RunResult result =
      lab::RunProgram({}, {"tc", "qdisc", "replace", "dev", device_, "root", "tbf", "rate", rate,
                           "burst", "128kb", "limit", "1mb"});
  if (!result.ok()) lab::Fail(absl::StrCat("tc: ", device_, ", ", rate, ": ", result.ToString()));
}

SlowLink::~SlowLink() {
  lab::RunProgram({}, {"tc", "qdisc", "del", "dev", device_, "root"});
}

}  // namespace waggle::bench
