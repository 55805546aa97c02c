#include "tests/lab/peer/dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>

namespace waggle::lab {

std::string DnsQuery(uint16_t id, const std::string& name, int family) {
  unsigned char buffer[NS_PACKETSZ];
  const int type = family == AF_INET ? ns_t_a : ns_t_aaaa;
  const int size = res_mkquery(ns_o_query, name.c_str(), ns_c_in, type, nullptr, 0, nullptr, buffer,
                               sizeof(buffer));
  if (size < 2) return "";
  buffer[0] = static_cast<unsigned char>(id >> 8);
  buffer[1] = static_cast<unsigned char>(id & 0xff);
  return std::string(reinterpret_cast<const char*>(buffer), static_cast<size_t>(size));
}

DnsAnswer ReadDnsAnswer(std::string_view message, uint16_t id) {
  ns_msg parsed;
  if (ns_initparse(reinterpret_cast<const unsigned char*>(message.data()),
                   static_cast<int>(message.size()), &parsed) != 0) {
    return {false, "", "unreadable"};
  }
  if (ns_msg_id(parsed) != id) return {false, "", "of another question"};
  const int code = ns_msg_getflag(parsed, ns_f_rcode);
  if (code != ns_r_noerror) return {true, "", "rcode " + std::to_string(code)};
  for (int i = 0; i < ns_msg_count(parsed, ns_s_an); ++i) {
    ns_rr record;
    if (ns_parserr(&parsed, ns_s_an, i, &record) != 0) return {true, "", "unreadable"};
    const auto type = ns_rr_type(record);
    if (type != ns_t_a && type != ns_t_aaaa) continue;
    char text[INET6_ADDRSTRLEN];
    inet_ntop(type == ns_t_a ? AF_INET : AF_INET6, ns_rr_rdata(record), text, sizeof(text));
    return {true, text, ""};
  }
  return {true, "", "no address"};
}

}  // namespace waggle::lab
