// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_url.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace millrace::redis {

namespace {

constexpr uint32_t kDatabaseMax = 65'535;

template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    uint8_t byte = 0;
    const std::string_view hex = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), byte, 16);
    if (hex.size() != 2 || error != std::errc() || end != hex.data() + 2) {
      return std::nullopt;
    }
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

Status ParseUserInfo(std::string_view text, RedisUrl& url) {
  const size_t colon = text.find(':');
  const auto user = PercentDecode(text.substr(0, colon));
  const auto password =
      PercentDecode(colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1));
  if (!user || !password) {
    return InvalidArgument("the Redis URL has a broken percent encoding in user or password");
  }
  url.user = *user;
  url.password = *password;
  return Status::Ok();
}

Status ParseAuthority(std::string_view text, RedisUrl& url) {
  if (const size_t at = text.rfind('@'); at != std::string_view::npos) {
    MR_RETURN_IF_ERROR(ParseUserInfo(text.substr(0, at), url));
    text.remove_prefix(at + 1);
  }
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) {
      return InvalidArgument("the Redis URL has an IPv6 address without its closing bracket");
    }
    url.host = text.substr(1, bracket - 1);
    text.remove_prefix(bracket + 1);
    if (!text.empty() && !text.starts_with(':')) {
      return InvalidArgument("the Redis URL has something between the IPv6 address and the port");
    }
    port = text.empty() ? text : text.substr(1);
  } else {
    const size_t colon = text.find(':');
    url.host = text.substr(0, colon);
    port = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  }
  if (url.host.empty()) {
    return InvalidArgument("the Redis URL has no host");
  }
  if (!port.empty()) {
    const auto number = ParseNumber<uint16_t>(port);
    if (!number || *number == 0) {
      return InvalidArgument("the Redis URL has a port that is no number from 1 to 65535");
    }
    url.port = *number;
  }
  return Status::Ok();
}

}  // namespace

std::string RedisUrl::Address() const {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<RedisUrl> ParseRedisUrl(std::string_view text) {
  RedisUrl url;
  constexpr std::string_view kPlain = "redis://";
  constexpr std::string_view kTls = "rediss://";
  url.tls = text.starts_with(kTls);
  if (!url.tls && !text.starts_with(kPlain)) {
    return InvalidArgument("the Redis URL must begin with redis:// or rediss://");
  }
  text.remove_prefix(url.tls ? kTls.size() : kPlain.size());
  if (text.find_first_of("?#") != std::string_view::npos) {
    return InvalidArgument(
        "the Redis URL must end with the database number; write ? and # in a password as %3F "
        "and %23");
  }
  const size_t slash = text.find('/');
  MR_RETURN_IF_ERROR(ParseAuthority(text.substr(0, slash), url));
  if (slash != std::string_view::npos && slash + 1 != text.size()) {
    const auto database = ParseNumber<uint32_t>(text.substr(slash + 1));
    if (!database || *database > kDatabaseMax) {
      return InvalidArgument("the Redis URL has a database that is no number from 0 to 65535");
    }
    url.database = *database;
  }
  return url;
}

}  // namespace millrace::redis
