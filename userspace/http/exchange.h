// One request and its answer as bytes, by cpp-httplib.
#ifndef WAGGLE_USERSPACE_HTTP_EXCHANGE_H_
#define WAGGLE_USERSPACE_HTTP_EXCHANGE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "userspace/http/server.h"

namespace waggle::http {

// How many bytes of `received` are the request's line and headers; 0: they have not ended.
size_t HeadSize(std::string_view received);

// The answer to a request whose head is whole; says that the connection ends.
std::string Answer(std::string_view head, const net::Endpoint& at, const Handler& handler);

// An answer without asking anybody.
std::string Refusal(int status, std::string_view reason);

}  // namespace waggle::http

#endif
