// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/admin_config.h"

#include <fmt/format.h>

#include "millrace/admin/listen_address.h"

namespace millrace::admin {

using config::FieldType;

std::vector<config::FieldSpec> AdminFields() {
  return {
      {.name = "listen",
       .type = FieldType::kString,
       .description = "Address and port of the admin server: /metrics, /healthz, /readyz and the "
                      "status that `millrace status` shows.",
       .default_value = "127.0.0.1:7070"},
      {.name = "token",
       .type = FieldType::kString,
       .description = "What clients send as `Authorization: Bearer TOKEN`. Required when `listen` "
                      "is not loopback. /healthz, /readyz and /metrics are open without it.",
       .secret = true},
      {.name = "allowed_hosts",
       .type = FieldType::kStringList,
       .description = "Host names by which clients may address the admin server, besides IP "
                      "addresses, localhost and the host of `listen`. Others are refused, so that "
                      "a web page cannot reach it by pointing its own name here."},
  };
}

Status ValidateAdminOptions(const AdminOptions& options) {
  Result<ListenAddress> address = ParseListenAddress(options.listen);
  if (!address.ok()) {
    return address.status().WithContext("admin.listen");
  }
  if (!address->is_loopback() && options.token.empty()) {
    return InvalidArgument(
        fmt::format("admin.listen: {} is reached from other machines and admin.token is empty; set "
                    "admin.token, or listen on 127.0.0.1",
                    options.listen));
  }
  return Status::Ok();
}

}  // namespace millrace::admin
