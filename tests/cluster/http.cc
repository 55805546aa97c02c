#include "tests/cluster/http.h"

#include <cstdlib>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace waggle::cluster {

HttpAnswer AskHttp(const lab::Place& from, const std::string& address, uint16_t port,
                   const std::string& path) {
  // The shell is a client that every place has.
  const lab::RunResult result =
      from.Run({"bash", "-c",
                absl::StrCat("exec 3<>/dev/tcp/", address, "/", port, " && printf 'GET ", path,
                             " HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3 && cat <&3")});
  HttpAnswer answer;
  std::istringstream lines(result.out);
  std::string line;
  if (!std::getline(lines, line) || !line.starts_with("HTTP/1.1 ")) return answer;
  answer.status = std::atoi(line.c_str() + 9);
  while (std::getline(lines, line) && line != "\r") {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) {
      answer.headers[line.substr(0, colon)] = line.substr(colon + 2, line.size() - colon - 3);
    }
  }
  const size_t head_end = result.out.find("\r\n\r\n");
  if (head_end != std::string::npos) answer.body = result.out.substr(head_end + 4);
  return answer;
}

double MetricOf(const std::string& metrics, const std::string& sample) {
  const size_t at = metrics.find("\n" + sample + " ");
  if (at == std::string::npos) return -1;
  return std::strtod(metrics.c_str() + at + sample.size() + 2, nullptr);
}

}  // namespace waggle::cluster
