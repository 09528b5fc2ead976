// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/common/result.h"

namespace millrace::admin {

// `127.0.0.1:7070`, `[::1]:7070`, `localhost:7070`.
struct ListenAddress {
  std::string host;  // without brackets
  uint16_t port = 0;

  // In the form above.
  std::string ToString() const;
  // An address that only this machine reaches, or `localhost`.
  bool is_loopback() const;
  // 0.0.0.0 or [::].
  bool is_any() const;
};

// kInvalidArgument if `text` is not `host:port`. Port 0 lets the system choose.
Result<ListenAddress> ParseListenAddress(std::string_view text);

// An IPv4 or IPv6 address without brackets and port.
bool IsIpAddress(const std::string& host);

// The host of an HTTP Host header or of an address: port and brackets taken off.
std::string_view HostWithoutPort(std::string_view host);

}  // namespace millrace::admin
