// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/listen_address.h"

#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace millrace::admin {

std::string ListenAddress::ToString() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool ListenAddress::is_loopback() const {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return ntohl(v4.s_addr) >> 24 == 127;
  }
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6);
  }
  return host == "localhost";
}

bool ListenAddress::is_any() const {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return v4.s_addr == INADDR_ANY;
  }
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

Result<ListenAddress> ParseListenAddress(std::string_view text) {
  const auto fail = [&] {
    return InvalidArgument(
        fmt::format("'{}' is not host:port, such as 127.0.0.1:7070 or [::1]:7070", text));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) {
    return fail();
  }
  ListenAddress address;
  const std::string_view digits = text.substr(colon + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return fail();
  }
  std::string_view host = text.substr(0, colon);
  const bool has_brackets = host.front() == '[';
  if (has_brackets) {
    if (host.back() != ']') {
      return fail();
    }
    host = host.substr(1, host.size() - 2);
  }
  address.host = host;
  in6_addr v6{};
  const bool is_v6 = inet_pton(AF_INET6, address.host.c_str(), &v6) == 1;
  if (host.empty() || has_brackets != is_v6 ||
      host.find_first_of(" /?#@\t\r\n") != std::string_view::npos) {
    return fail();
  }
  return address;
}

bool IsIpAddress(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  return inet_pton(AF_INET, host.c_str(), &v4) == 1 || inet_pton(AF_INET6, host.c_str(), &v6) == 1;
}

std::string_view HostWithoutPort(std::string_view host) {
  if (!host.empty() && host.front() == '[') {
    return host.substr(1, host.find(']') - 1);
  }
  return host.substr(0, host.rfind(':'));
}

}  // namespace millrace::admin
