// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/delivery_plan.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/common/coding.h"

namespace millrace::sinks::clickhouse {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kPlanVersion = 1;

uint64_t Mix(uint64_t a, uint64_t b) {
  const UInt128 product = static_cast<UInt128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A member that must be there and of its type; `ok` turns false otherwise.
uint64_t Number(const Json& json, const char* name, bool& ok) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_unsigned()) {
    ok = false;
    return 0;
  }
  return found->get<uint64_t>();
}

std::string Text(const Json& json, const char* name, bool& ok) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_string()) {
    ok = false;
    return {};
  }
  return found->get<std::string>();
}

TablePlan ParseTable(const Json& json, bool& ok) {
  TablePlan table;
  if (!json.is_object()) {
    ok = false;
    return table;
  }
  table.database = Text(json, "database", ok);
  table.table = Text(json, "table", ok);
  table.stream_id = static_cast<uint32_t>(Number(json, "stream", ok));
  table.schema_version = static_cast<uint32_t>(Number(json, "schema_version", ok));
  table.row_count = Number(json, "rows", ok);
  table.byte_count = Number(json, "bytes", ok);
  table.layout = Number(json, "layout", ok);
  table.checksum = Number(json, "checksum", ok);
  table.token = Text(json, "token", ok);
  return table;
}

}  // namespace

uint64_t Checksum(std::span<const std::string_view> pieces) {
  constexpr uint64_t kA = 0x9e3779b97f4a7c15;
  constexpr uint64_t kB = 0xd6e8feb86659fd93;
  constexpr size_t kStep = 16;
  size_t size = 0;
  for (const std::string_view piece : pieces) {
    size += piece.size();
  }
  uint64_t hash = kA ^ size;
  const auto step = [&hash](const char* at) {
    uint64_t words[2];
    std::memcpy(words, at, kStep);
    hash = Mix(hash ^ words[0] ^ kB, words[1] ^ kA) + words[0];
  };
  std::string between;  // the end of one piece and the beginning of the next
  for (std::string_view piece : pieces) {
    if (!between.empty()) {
      const size_t n = std::min(kStep - between.size(), piece.size());
      between.append(piece.substr(0, n));
      piece.remove_prefix(n);
      if (between.size() < kStep) {
        continue;
      }
      step(between.data());
      between.clear();
    }
    for (; piece.size() >= kStep; piece.remove_prefix(kStep)) {
      step(piece.data());
    }
    between = piece;
  }
  between.resize(kStep);
  step(between.data());
  return Mix(hash ^ kA, kB);
}

std::string DeliveryPlan::Format() const {
  Json json = {{"version", kPlanVersion},
               {"first", first.value()},
               {"end", end.value()},
               {"epoch", position.epoch.value()},
               {"lsn", position.end_lsn.value()},
               {"encoder", encoder_version},
               {"planned_at_ms", static_cast<uint64_t>(planned_at.wall_ms)},
               {"boot", planned_at.boot},
               {"boot_ms", static_cast<uint64_t>(planned_at.boot_ms)},
               {"tables", Json::array()}};
  for (const TablePlan& table : tables) {
    json["tables"].push_back({{"database", table.database},
                              {"table", table.table},
                              {"stream", table.stream_id},
                              {"schema_version", table.schema_version},
                              {"rows", table.row_count},
                              {"bytes", table.byte_count},
                              {"layout", table.layout},
                              {"checksum", table.checksum},
                              {"token", table.token}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<DeliveryPlan> DeliveryPlan::Parse(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Status corrupt = Corruption("the stored delivery plan of the sink cannot be read");
  bool ok = json.is_object();
  if (!ok) {
    return corrupt;
  }
  const uint64_t version = Number(json, "version", ok);
  if (ok && version != kPlanVersion) {
    return Unsupported(
        fmt::format("the stored delivery plan has version {}, this Millrace knows version {}; "
                    "finish the delivery "
                    "with the Millrace that wrote it",
                    version, kPlanVersion));
  }
  DeliveryPlan plan;
  plan.first = Offset(Number(json, "first", ok));
  plan.end = Offset(Number(json, "end", ok));
  plan.position.epoch = Epoch(static_cast<uint8_t>(Number(json, "epoch", ok)));
  plan.position.end_lsn = Lsn(Number(json, "lsn", ok));
  plan.encoder_version = static_cast<uint32_t>(Number(json, "encoder", ok));
  plan.planned_at.wall_ms = static_cast<int64_t>(Number(json, "planned_at_ms", ok));
  plan.planned_at.boot = Text(json, "boot", ok);
  plan.planned_at.boot_ms = static_cast<int64_t>(Number(json, "boot_ms", ok));
  const auto tables = json.find("tables");
  if (tables == json.end() || !tables->is_array()) {
    return corrupt;
  }
  for (const Json& table : *tables) {
    plan.tables.push_back(ParseTable(table, ok));
  }
  return ok && plan.first < plan.end ? Result<DeliveryPlan>(std::move(plan)) : corrupt;
}

Status CheckSamePlan(const DeliveryPlan& open, const DeliveryPlan& rebuilt) {
  if (open.first != rebuilt.first || open.end != rebuilt.end) {
    return Internal(fmt::format(
        "offsets [{}, {}) were offered while the outcome of [{}, {}) is unknown",
        rebuilt.first.value(), rebuilt.end.value(), open.first.value(), open.end.value()));
  }
  const std::string range = fmt::format("offsets [{}, {})", open.first.value(), open.end.value());
  const std::string remedy =
      "put the sink's configuration back as it was until this delivery is complete";
  if (open.tables.size() != rebuilt.tables.size()) {
    return FailedPrecondition(
        fmt::format("the delivery of {} was planned for {} tables and would go to {}; {}", range,
                    open.tables.size(), rebuilt.tables.size(), remedy));
  }
  for (size_t i = 0; i < open.tables.size(); ++i) {
    const TablePlan& was = open.tables[i];
    const TablePlan& is = rebuilt.tables[i];
    if (was.database != is.database || was.table != is.table || was.stream_id != is.stream_id) {
      return FailedPrecondition(
          fmt::format("the delivery of {} was planned for table {}.{} and would go to {}.{}; {}",
                      range, was.database, was.table, is.database, is.table, remedy));
    }
    // What another encoder makes of the same rows says nothing: their number must do.
    const bool same_encoder = open.encoder_version == rebuilt.encoder_version;
    if (same_encoder && was.layout != is.layout) {
      return FailedPrecondition(
          fmt::format("the delivery of {} to table {}.{} was planned with other columns; {}", range,
                      was.database, was.table, remedy));
    }
    if (was.row_count != is.row_count || was.schema_version != is.schema_version ||
        (same_encoder && (was.byte_count != is.byte_count || was.checksum != is.checksum))) {
      return Corruption(fmt::format(
          "the rows of {} for table {}.{} are not those that were planned ({} rows then, {} now): "
          "nothing was sent under the used token; restore data_dir from a backup, or rebuild "
          "what the sink holds in a new data_dir",
          range, was.database, was.table, was.row_count, is.row_count));
    }
  }
  return Status::Ok();
}

}  // namespace millrace::sinks::clickhouse
