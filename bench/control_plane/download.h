// What it takes to download the two lists that an agent starts with, whoever does it: curl.
#ifndef WAGGLE_BENCH_CONTROL_PLANE_DOWNLOAD_H_
#define WAGGLE_BENCH_CONTROL_PLANE_DOWNLOAD_H_

#include <string>

#include "tests/cluster/api.h"
#include "tests/lab/lab.h"

namespace waggle::bench {

struct Download {
  double seconds = 0;
  double bytes = 0;        // of both bodies, as they came
  double cpu_seconds = 0;  // of curl
};

// As the agent asks for them but for streaming, on one connection, one after the other.
// `compressed`: with gzip, which curl unpacks.
Download DownloadLists(const lab::Place& from, const cluster::ApiAccess& access, bool compressed);

// While this lives, what leaves by a device of this process's network namespace is no faster than
// `rate`, as tc spells it ("100mbit").
class SlowLink {
 public:
  SlowLink(const std::string& device, const std::string& rate);
  ~SlowLink();
  SlowLink(const SlowLink&) = delete;
  SlowLink& operator=(const SlowLink&) = delete;

 private:
  const std::string device_;
};

}  // namespace waggle::bench

#endif
