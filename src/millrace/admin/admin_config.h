// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/config/section.h"

namespace millrace::admin {

// The section `admin` of the configuration file.
struct AdminOptions {
  std::string listen = "127.0.0.1:7070";
  std::string token;                       // empty: none asked for
  std::vector<std::string> allowed_hosts;  // names, besides addresses and localhost
  // A status older than this means that the pipeline no longer answers: not ready.
  std::chrono::milliseconds status_age_max{30'000};
};

// The fields of that section.
std::vector<config::FieldSpec> AdminFields();

// Reads a section that was made with AdminFields().
inline AdminOptions ReadAdminOptions(const config::Section& section) {
  return {.listen = section.GetString("listen"),
          .token = section.GetString("token"),
          .allowed_hosts = section.GetStringList("allowed_hosts")};
}

// kInvalidArgument if `listen` is no address, or reaches beyond this machine without a token. Pure;
// for lint too.
Status ValidateAdminOptions(const AdminOptions& options);

}  // namespace millrace::admin
