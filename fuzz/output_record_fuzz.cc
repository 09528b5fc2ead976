// SPDX-License-Identifier: Apache-2.0
// A record of the output log. Input: the record; its checksum is set right before it is read, so
// that what stands behind it is reached.
#include <cstring>

#include "input.h"
#include "millrace/common/check.h"
#include "millrace/storage/crc32c.h"
#include "millrace/storage/output_record_codec.h"
#include "value_types.h"

namespace {

constexpr size_t kChecksumAt = 40;
constexpr size_t kHeadSize = 44;

// Stream 1 as in the example of docs/formats/output_record.md, stream 2 with every type.
millrace::StreamPtr Resolve(millrace::StreamId id, millrace::SchemaVersion version) {
  using namespace millrace;
  const auto make = [](bool every_type) {
    auto stream = std::make_shared<Stream>();
    stream->id = StreamId(every_type ? 2 : 1);
    stream->schema_version = SchemaVersion(2);
    stream->name = "s";
    Schema schema{{"id", TypeKind::kInt64, false}, {"note", TypeKind::kText, true}};
    for (const DataType& type : fuzz::ScalarTypes()) {
      if (every_type) {
        schema.push_back({"c", type, true});
        schema.push_back({"l", DataType::List(type), true});
      }
    }
    stream->columns = std::make_shared<const Schema>(std::move(schema));
    return StreamPtr(std::move(stream));
  };
  static const StreamPtr kPlain = make(false);
  static const StreamPtr kEveryType = make(true);
  return version.value() != 2 ? nullptr : id.value() == 1 ? kPlain : kEveryType;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.size() >= kHeadSize) {
    const std::string_view all = bytes;
    const uint32_t head = storage::Crc32c(all.substr(0, kChecksumAt));
    const uint32_t crc = storage::Crc32c(all.substr(kHeadSize), head);
    std::memcpy(bytes.data() + kChecksumAt, &crc, sizeof(crc));
  }
  const auto record = storage::DecodeOutputRecord(bytes, Resolve);
  if (!record.ok()) {
    MR_CHECK(record.status().code() == Code::kCorruption ||
             record.status().code() == Code::kUnsupported);
    return 0;
  }
  storage::RecordScratch scratch;
  Buffer again;
  MR_CHECK(
      storage::EncodeOutputRecord(record.value(), storage::RecordCompression::kNone, scratch, again)
          .ok());
  MR_CHECK(storage::DecodeOutputRecord(again.view(), Resolve).ok());
  return 0;
}
