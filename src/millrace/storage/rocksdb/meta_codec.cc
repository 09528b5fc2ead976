// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/meta_codec.h"

#include <fmt/format.h>

#include "millrace/common/coding.h"

namespace millrace::storage {

namespace {

constexpr uint8_t kDeliveryFormat = 1;
constexpr uint8_t kDeliveryStarted = 1;

template <typename T>
void AppendLittleEndian(std::string& to, T v) {
  to.append(reinterpret_cast<const char*>(&v), sizeof(T));
}

template <typename T>
Result<T> AllRead(const ByteReader& reader, T value) {
  if (!reader.empty()) {
    return Corruption("a stored value has bytes behind its end");
  }
  return value;
}

void AppendLogPoint(std::string& to, const LogPoint& point) {
  AppendLittleEndian(to, point.offset.value());
  AppendLittleEndian(to, point.bytes);
}

Result<LogPoint> ReadLogPoint(ByteReader& reader) {
  LogPoint point;
  MR_ASSIGN_OR_RETURN(const uint64_t offset, reader.ReadLittleEndian<uint64_t>());
  MR_ASSIGN_OR_RETURN(point.bytes, reader.ReadLittleEndian<uint64_t>());
  point.offset = Offset(offset);
  return point;
}

}  // namespace

std::string EncodeNumber(uint32_t v) {
  std::string to;
  AppendLittleEndian(to, v);
  return to;
}

Result<uint32_t> DecodeNumber(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint32_t v, reader.ReadLittleEndian<uint32_t>());
  return AllRead(reader, v);
}

std::string EncodeLogPoint(const LogPoint& point) {
  std::string to;
  AppendLogPoint(to, point);
  return to;
}

Result<LogPoint> DecodeLogPoint(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const LogPoint point, ReadLogPoint(reader));
  return AllRead(reader, point);
}

std::string EncodePartsMark(const PartsMark& mark) {
  std::string to;
  AppendLittleEndian(to, mark.phase);
  AppendLogPoint(to, mark.outputs_from);
  return to;
}

Result<PartsMark> DecodePartsMark(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint8_t phase, reader.ReadLittleEndian<uint8_t>());
  if (phase > static_cast<uint8_t>(PartsPhase::kSealed)) {
    return Corruption(fmt::format("a transaction in parts is in the unknown phase {}", phase));
  }
  PartsMark mark;
  mark.phase = static_cast<PartsPhase>(phase);
  MR_ASSIGN_OR_RETURN(mark.outputs_from, ReadLogPoint(reader));
  return AllRead(reader, mark);
}

std::string EncodeSourceIdentity(const SourceIdentity& identity) {
  std::string to;
  AppendLittleEndian(to, identity.system_identifier);
  AppendLittleEndian(to, identity.timeline);
  return to;
}

Result<SourceIdentity> DecodeSourceIdentity(std::string_view bytes) {
  ByteReader reader(bytes);
  SourceIdentity identity;
  MR_ASSIGN_OR_RETURN(identity.system_identifier, reader.ReadLittleEndian<uint64_t>());
  MR_ASSIGN_OR_RETURN(identity.timeline, reader.ReadLittleEndian<uint32_t>());
  return AllRead(reader, identity);
}

std::string EncodePosition(SourcePosition position) {
  std::string to;
  AppendLittleEndian(to, position.epoch.value());
  AppendLittleEndian(to, position.end_lsn.value());
  return to;
}

Result<SourcePosition> DecodePosition(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint8_t epoch, reader.ReadLittleEndian<uint8_t>());
  MR_ASSIGN_OR_RETURN(const uint64_t lsn, reader.ReadLittleEndian<uint64_t>());
  return AllRead(reader, SourcePosition{Epoch(epoch), Lsn(lsn)});
}

std::string EncodeDelivery(const DeliveryState& state) {
  std::string to;
  AppendLittleEndian(to, kDeliveryFormat);
  AppendLittleEndian(to, static_cast<uint8_t>(state.started ? kDeliveryStarted : 0));
  AppendLittleEndian(to, state.delivered.value());
  AppendVarint(to, state.plan.size());
  to.append(state.plan);
  return to;
}

Result<DeliveryState> DecodeDelivery(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint8_t format, reader.ReadLittleEndian<uint8_t>());
  if (format > kDeliveryFormat) {
    return Unsupported(fmt::format("a delivery state has format {}; this version reads up to {}",
                                   format, kDeliveryFormat));
  }
  MR_ASSIGN_OR_RETURN(const uint8_t flags, reader.ReadLittleEndian<uint8_t>());
  if (format != kDeliveryFormat || flags > kDeliveryStarted) {
    return Corruption("a delivery state has an unknown format or flag");
  }
  DeliveryState state;
  state.started = flags == kDeliveryStarted;
  MR_ASSIGN_OR_RETURN(const uint64_t delivered, reader.ReadLittleEndian<uint64_t>());
  state.delivered = Offset(delivered);
  MR_ASSIGN_OR_RETURN(const std::string_view plan, reader.ReadLengthPrefixed());
  state.plan = plan;
  return AllRead(reader, std::move(state));
}

std::string OutputKey(Offset first, uint32_t piece) {
  std::string key;
  AppendBigEndian(key, first.value());
  if (piece != 0) {
    AppendBigEndian(key, piece);
  }
  return key;
}

Result<OutputPlace> DecodeOutputKey(std::string_view key) {
  ByteReader reader(key);
  OutputPlace place;
  MR_ASSIGN_OR_RETURN(const uint64_t first, reader.ReadBigEndian<uint64_t>());
  place.first = Offset(first);
  if (reader.remaining() != 0) {
    MR_ASSIGN_OR_RETURN(place.piece, reader.ReadBigEndian<uint32_t>());
  }
  return AllRead(reader, place);
}

std::string DeadLetterKey(char prefix, uint64_t number, std::string_view sink) {
  std::string key(1, prefix);
  AppendBigEndian(key, number);
  key.append(sink);
  return key;
}

Result<std::pair<uint64_t, std::string_view>> DecodeDeadLetterKey(std::string_view key) {
  ByteReader reader(key);
  MR_RETURN_IF_ERROR(reader.ReadBytes(1).status());
  MR_ASSIGN_OR_RETURN(const uint64_t number, reader.ReadBigEndian<uint64_t>());
  return std::make_pair(number, key.substr(key.size() - reader.remaining()));
}

void AppendStateKeyPrefix(std::string& to, uint32_t table) { AppendBigEndian(to, table); }

std::string StateKeyPrefix(uint32_t table) {
  std::string key;
  AppendStateKeyPrefix(key, table);
  return key;
}

std::string ClearedKey(uint32_t table) {
  std::string key = StateKeyPrefix(kClearedTables);
  AppendBigEndian(key, table);
  return key;
}

Result<uint32_t> DecodeClearedTable(std::string_view key) {
  ByteReader reader(key);
  MR_ASSIGN_OR_RETURN(const uint32_t table, reader.ReadBigEndian<uint32_t>());
  return AllRead(reader, table);
}

Result<std::optional<std::string_view>> DecodePending(std::string_view value) {
  if (!value.empty() && value.front() == kPendingRow) {
    return std::optional(value.substr(1));
  }
  if (value.size() == 1 && value.front() == kPendingDeleted) {
    return std::optional<std::string_view>();
  }
  return Corruption("a row of the pending state is neither there nor deleted");
}

}  // namespace millrace::storage
