// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "millrace/common/result.h"
#include "millrace/common/strong_id.h"
#include "millrace/model/position.h"
#include "millrace/storage/store.h"

namespace millrace::storage {

// Keys and values of the column families meta, state, pending, output, delivery and
// dead_letter; their format is
// docs/formats/data_dir.md and docs/formats/delivery_plan.md. Pure functions.

inline constexpr uint32_t kDataDirFormat = 1;

inline constexpr std::string_view kFormatKey = "format";
inline constexpr std::string_view kInstanceIdKey = "instance_id";
inline constexpr std::string_view kSourceKey = "source";
inline constexpr std::string_view kPositionKey = "position";
inline constexpr std::string_view kPartsKey = "parts";
inline constexpr std::string_view kSlotKey = "slot";
inline constexpr std::string_view kOutputBeginKey = "output_begin";
inline constexpr std::string_view kOutputEndKey = "output_end";
inline constexpr std::string_view kStateTablePrefix = "state_table/";
inline constexpr std::string_view kStreamPrefix = "stream/";
inline constexpr std::string_view kNotePrefix = "note/";
inline constexpr std::string_view kDeadLetterEndKey = "dead_letter_end";

// Whether a slot is about to be made, or was.
inline constexpr uint32_t kSlotPending = 1;
inline constexpr uint32_t kSlotMade = 2;

// A place in the output log: an offset, and the bytes of all records before it since data_dir was
// made.
struct LogPoint {
  Offset offset;
  uint64_t bytes = 0;
};

enum class PartsPhase : uint8_t { kNone = 0, kOpen = 1, kSealed = 2 };

// Where a transaction that is committed in parts stands. While it is open, outputs from
// `outputs_from` on are not readable.
struct PartsMark {
  PartsPhase phase = PartsPhase::kNone;
  LogPoint outputs_from;
};

// The server that data_dir belongs to.
struct SourceIdentity {
  uint64_t system_identifier = 0;
  uint32_t timeline = 0;
};

std::string EncodeNumber(uint32_t v);
Result<uint32_t> DecodeNumber(std::string_view bytes);
std::string EncodeLogPoint(const LogPoint& point);
Result<LogPoint> DecodeLogPoint(std::string_view bytes);
std::string EncodePartsMark(const PartsMark& mark);
Result<PartsMark> DecodePartsMark(std::string_view bytes);
std::string EncodeSourceIdentity(const SourceIdentity& identity);
Result<SourceIdentity> DecodeSourceIdentity(std::string_view bytes);
std::string EncodePosition(SourcePosition position);
Result<SourcePosition> DecodePosition(std::string_view bytes);
std::string EncodeDelivery(const DeliveryState& state);
Result<DeliveryState> DecodeDelivery(std::string_view bytes);

// The value of a record begins with the bytes of the log before it, little-endian.
inline constexpr size_t kLogBytesPrefix = sizeof(uint64_t);
// A key of the output log: the record's first offset, big-endian. A record of more than
// kRecordScratchKept stands in pieces of kOutputPiece, so that no table file has large blocks: the
// keys of those behind its first have their number too, from 1 on, and their values nothing in
// front.
inline constexpr size_t kOutputPiece = size_t{4} << 20;
struct OutputPlace {
  Offset first;
  uint32_t piece = 0;
};
std::string OutputKey(Offset first, uint32_t piece = 0);
Result<OutputPlace> DecodeOutputKey(std::string_view key);

// The dead_letter family: a letter, its row, and a row that a sink is not offered. Behind the first
// byte stands a big-endian id or offset, behind that the sink.
inline constexpr char kLetterPrefix = 'l';
inline constexpr char kLetterRowPrefix = 'r';
inline constexpr char kLeftOutPrefix = 'x';
std::string DeadLetterKey(char prefix, uint64_t number, std::string_view sink = "");
// The number, and the sink, of a key.
Result<std::pair<uint64_t, std::string_view>> DecodeDeadLetterKey(std::string_view key);

// What stands in front of every key of a state table: its id, big-endian.
inline constexpr size_t kStateKeyPrefix = 4;
void AppendStateKeyPrefix(std::string& to, uint32_t table);
std::string StateKeyPrefix(uint32_t table);

// The pending family has keys like those of state. This table holds, by id, the tables of which
// every row is gone that pending does not hold; from kReplayTables on stand the tables of
// ReplayOf().
inline constexpr uint32_t kClearedTables = 0;
inline constexpr uint32_t kReplayTables = uint32_t{1} << 31;
inline constexpr uint32_t kTablesEnd = UINT32_MAX;
std::string ClearedKey(uint32_t table);
// The table of a ClearedKey() behind its prefix.
Result<uint32_t> DecodeClearedTable(std::string_view key);
// What stands in front of a row of pending.
inline constexpr char kPendingDeleted = 0;
inline constexpr char kPendingRow = 1;
// The row of a pending value; nothing if it is deleted.
Result<std::optional<std::string_view>> DecodePending(std::string_view value);

}  // namespace millrace::storage
