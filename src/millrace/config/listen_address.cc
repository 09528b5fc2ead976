// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/listen_address.h"

#include <cstdint>

#include <fmt/format.h>

#include "millrace/config/scalar_text.h"

namespace millrace::config {

std::optional<std::pair<std::string, int>> ParseListenAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view host = text.substr(0, colon);
  const std::optional<int64_t> port = ParseInteger(text.substr(colon + 1));
  if (!port || *port < 0 || *port > 65535) {
    return std::nullopt;
  }
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[] /") != std::string_view::npos) {
    return std::nullopt;
  }
  return std::pair(std::string(host), static_cast<int>(*port));
}

std::string FormatListenAddress(std::string_view host, int port) {
  const bool is_v6 = host.find(':') != std::string_view::npos;
  return is_v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool IsLoopback(std::string_view host) {
  // Only numbers in dots: 127.example.com is another host.
  const bool is_ipv4 = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || host == "::1" || (is_ipv4 && host.starts_with("127."));
}

}  // namespace millrace::config
