// Asking an HTTP server as a probe does: one request, from a place, by an address of either family.
#ifndef WAGGLE_TESTS_CLUSTER_HTTP_H_
#define WAGGLE_TESTS_CLUSTER_HTTP_H_

#include <cstdint>
#include <map>
#include <string>

#include "tests/lab/lab.h"

namespace waggle::cluster {

struct HttpAnswer {
  int status = 0;  // 0: no connection
  std::map<std::string, std::string> headers;
  std::string body;
};

HttpAnswer AskHttp(const lab::Place& from, const std::string& address, uint16_t port,
                   const std::string& path);

// The value of a sample as `name` or `name{labels}` spells it; -1: there is none.
double MetricOf(const std::string& metrics, const std::string& sample);

}  // namespace waggle::cluster

#endif
