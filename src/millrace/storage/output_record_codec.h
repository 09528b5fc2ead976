// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/stream.h"

namespace millrace::storage {

// Records of the output log as bytes; the format is docs/formats/output_record.md. Pure functions.

// Gives the stream with the columns of a version, or nothing if there is none.
using StreamResolver = std::function<StreamPtr(StreamId, SchemaVersion)>;

enum class RecordCompression : uint8_t {
  kNone,
  kLz4,  // from 1 KiB to 16 MiB, where it makes the record smaller by an eighth or more
};

// Reusable memory of EncodeOutputRecord(). Holds as much as the largest record so far took, up to
// kRecordScratchKept.
struct RecordScratch {
  Buffer record;
};
inline constexpr size_t kRecordScratchKept = size_t{16} << 20;

// Appends `record` to `to`. kResourceExhausted if its batches exceed 2 GiB.
//
// REQUIRES: the batches are dense from record.first to record.end, each with its stream's columns,
// of which there is at least one.
Status EncodeOutputRecord(const OutputRecord& record, RecordCompression compression,
                          RecordScratch& scratch, Buffer& to);

// Rebuilds a record. kCorruption if the bytes are not a record or their checksum does not fit,
// kUnsupported if the format is newer. Memory is bounded by the size that the checked header
// states, at most 255 times the size of `bytes`.
Result<OutputRecord> DecodeOutputRecord(std::string_view bytes, const StreamResolver& resolver);

// What the head of a record says; reads no further and checks no checksum.
struct OutputRecordHead {
  Offset first;
  Offset end;
  SourcePosition position;
};
Result<OutputRecordHead> DecodeOutputRecordHead(std::string_view bytes);

}  // namespace millrace::storage
