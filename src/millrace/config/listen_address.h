// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace millrace::config {

// `host:port` or `[host]:port`, the host without brackets; nothing if it is neither. An empty host
// is every address, port 0 one that the system chooses.
std::optional<std::pair<std::string, int>> ParseListenAddress(std::string_view text);

// The inverse.
std::string FormatListenAddress(std::string_view host, int port);

// True for `localhost` and for addresses that only this machine reaches.
bool IsLoopback(std::string_view host);

}  // namespace millrace::config
