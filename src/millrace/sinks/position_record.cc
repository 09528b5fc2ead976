// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/position_record.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/model/lsn.h"

namespace millrace::sinks {

namespace {

constexpr uint64_t kVersion = 1;

std::optional<uint64_t> UnsignedMember(const nlohmann::json& object, const char* name) {
  const auto at = object.find(name);
  if (at == object.end() || !at->is_number_unsigned()) {
    return std::nullopt;
  }
  return at->get<uint64_t>();
}

std::optional<std::string> StringMember(const nlohmann::json& object, const char* name) {
  const auto at = object.find(name);
  if (at == object.end() || !at->is_string()) {
    return std::nullopt;
  }
  return at->get<std::string>();
}

}  // namespace

PositionRecord PositionAfter(const DeliveryBatch& batch, std::string_view instance_id) {
  return {.instance_id = std::string(instance_id),
          .source = batch.position,
          .first = batch.first,
          .end = batch.end};
}

std::string FormatPositionRecord(const PositionRecord& record) {
  return fmt::format(
      R"({{"version":{},"instance_id":{},"epoch":{},"end_lsn":"{}","first":{},"end":{}}})",
      kVersion, nlohmann::json(record.instance_id).dump(), record.source.epoch.value(),
      FormatLsn(record.source.end_lsn), record.first.value(), record.end.value());
}

Result<PositionRecord> ParsePositionRecord(std::string_view text) {
  const nlohmann::json object =
      nlohmann::json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return Corruption("the position is not a JSON object");
  }
  const auto version = UnsignedMember(object, "version");
  if (version.has_value() && *version > kVersion) {
    return Unsupported(fmt::format("the position has version {}, this program reads up to {}",
                                   *version, kVersion));
  }
  const auto instance_id = StringMember(object, "instance_id");
  const auto epoch = UnsignedMember(object, "epoch");
  const auto end_lsn = StringMember(object, "end_lsn");
  const auto first = UnsignedMember(object, "first");
  const auto end = UnsignedMember(object, "end");
  if (!version || !instance_id || !epoch || *epoch > 127 || !end_lsn || !first || !end) {
    return Corruption("the position lacks a member or has one of the wrong type");
  }
  MR_ASSIGN_OR_RETURN(const Lsn lsn, ParseLsn(*end_lsn));
  return PositionRecord{.instance_id = *instance_id,
                        .source = {Epoch(static_cast<uint8_t>(*epoch)), lsn},
                        .first = Offset(*first),
                        .end = Offset(*end)};
}

Result<PositionRecord> ReadOwnPosition(std::string_view text, std::string_view instance_id,
                                       std::string_view place) {
  Result<PositionRecord> record = ParsePositionRecord(text);
  if (!record.ok()) {
    return record.status().WithContext(fmt::format("read the position in {}", place));
  }
  if (record->instance_id != instance_id) {
    return FailedPrecondition(fmt::format(
        "the position in {} was written from another data_dir: run with that data_dir, restore its "
        "backup, or give the pipeline or the sink another name; to deliver everything again from "
        "this data_dir, delete the data and the position there first",
        place));
  }
  return record;
}

}  // namespace millrace::sinks
