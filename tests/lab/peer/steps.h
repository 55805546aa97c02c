// A client that does one socket call at a time, as told, and reports each as a
// JSON object, so that a failing test says which call failed and how.
#ifndef WAGGLE_TESTS_LAB_PEER_STEPS_H_
#define WAGGLE_TESTS_LAB_PEER_STEPS_H_

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/peer/sockets.h"

namespace waggle::lab {

// One socket and the steps done on it. No step blocks longer than the timeout.
//
//   socket KIND [v6only] [reuse]   closes the old socket; KIND as ParseSocketKind() takes
//                          it; reuse: SO_REUSEADDR, so that two sockets may share a port
//   bind ADDR              connect ADDR         disconnect (connect to AF_UNSPEC)
//   connect-nb ADDR        non-blocking; "immediate" is what connect() itself said
//   fastopen ADDR TEXT     sendto with MSG_FASTOPEN
//   fastopen-connect       TCP_FASTOPEN_CONNECT for the next connect
//   getpeername  getsockname  tcpinfo  close  shutdown
//   send TEXT    sendto ADDR TEXT   sendmsg ADDR TEXT
//   recv  read  recvfrom  recvmsg
//   ask TEXT               send, recv        query ADDR TEXT   sendto, recvfrom
//   send-bytes N           a datagram (or line) of N bytes
//   ask-bytes N   query-bytes ADDR N         send, receive, and compare
//   transfer N             N bytes to an echo server (after its first line) and back, both
//                          ways at once, compared; the timeout is for standing still
//   dont-fragment          from now on; the kernel is not to fragment either
//   may-fragment           IPv4, from now on: anybody may
//   mtu                    what the kernel believes of the path of a connected socket
//   timeout MILLISECONDS   of the steps to come
//
// Result: {"step","ok","errno","ms"}, and where they apply: "timeout":true,
// "immediate", "address" (of a name), "from", "bytes", "text", "reply" (the
// server's answer, decoded), "synData", "mptcp", "mss", "mtu", "problem" (what is wrong
// with the bytes that came back).
class StepClient {
 public:
  nlohmann::json Do(const std::string& step);

 private:
  using Words = std::vector<std::string>;

  nlohmann::json Perform(const std::string& verb, const Words& words);
  nlohmann::json Open(const Words& words);
  nlohmann::json ConnectNonBlocking(const SocketAddress& to);
  nlohmann::json Name(const std::string& verb);
  nlohmann::json Send(const SocketAddress* to, const std::string& text, int flags, bool as_message);
  nlohmann::json Receive(const std::string& verb);
  nlohmann::json Option(int level, int name, int value);
  nlohmann::json TcpInfo();
  nlohmann::json AskBytes(const SocketAddress* to, size_t bytes);
  nlohmann::json Transfer(size_t bytes);
  nlohmann::json DontFragment();
  nlohmann::json Mtu();
  std::string NextText(size_t bytes);
  bool stream() const { return kind_.type == SOCK_STREAM; }

  std::chrono::milliseconds timeout_{2000};
  uint32_t seed_ = 1;  // no two texts are the same
  SocketKind kind_;
  Fd fd_;
};

// Reads steps line by line from stdin and prints a result line for each, until
// end of file.
int RunSteps();

}  // namespace waggle::lab

#endif
