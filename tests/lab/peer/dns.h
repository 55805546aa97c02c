// DNS messages: one question, and the address in its answer.
#ifndef WAGGLE_TESTS_LAB_PEER_DNS_H_
#define WAGGLE_TESTS_LAB_PEER_DNS_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace waggle::lab {

// Asks for an A or, of family AF_INET6, an AAAA record of `name`. Empty when that is no name.
std::string DnsQuery(uint16_t id, const std::string& name, int family);

struct DnsAnswer {
  bool ours = false;    // it has the question's id
  std::string address;  // of the first record; empty where there is none
  std::string problem;  // "rcode 3", "no address", "unreadable"; empty where all is well
};
DnsAnswer ReadDnsAnswer(std::string_view message, uint16_t id);

}  // namespace waggle::lab

#endif
