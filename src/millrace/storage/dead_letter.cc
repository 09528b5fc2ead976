// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/dead_letter.h"

#include <utility>

#include <fmt/format.h>

#include "millrace/common/buffer.h"
#include "millrace/common/coding.h"

namespace millrace::storage {

namespace {

constexpr uint8_t kLetterFormat = 1;

}  // namespace

std::string EncodeDeadLetter(const DeadLetter& letter) {
  Buffer to;
  to.AppendValue(kLetterFormat);
  to.AppendValue(letter.state);
  to.AppendValue(letter.at);
  to.AppendValue(letter.version.epoch.value());
  to.AppendValue(letter.version.end_lsn.value());
  to.AppendValue(letter.version.ordinal);
  to.AppendValue(letter.offset.value());
  to.AppendValue(letter.sent_again.value());
  AppendVarint(to, letter.stream.value());
  AppendVarint(to, letter.row_bytes);
  AppendLengthPrefixed(to, letter.sink);
  AppendLengthPrefixed(to, letter.reason);
  AppendVarint(to, letter.keys.size());
  for (const std::string& key : letter.keys) {
    AppendLengthPrefixed(to, key);
  }
  return std::string(to.view());
}

Result<DeadLetter> DecodeDeadLetter(DeadLetterId id, std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint8_t format, reader.ReadLittleEndian<uint8_t>());
  if (format > kLetterFormat) {
    return Unsupported(fmt::format("a dead letter has format {}; this version reads up to {}",
                                   format, kLetterFormat));
  }
  DeadLetter letter;
  letter.id = id;
  MR_ASSIGN_OR_RETURN(const uint8_t state, reader.ReadLittleEndian<uint8_t>());
  if (format != kLetterFormat || state < static_cast<uint8_t>(DeadLetter::State::kOpen) ||
      state > static_cast<uint8_t>(DeadLetter::State::kSuperseded)) {
    return Corruption("a dead letter has an unknown format or state");
  }
  letter.state = static_cast<DeadLetter::State>(state);
  MR_ASSIGN_OR_RETURN(letter.at, reader.ReadLittleEndian<TimestampMicros>());
  MR_ASSIGN_OR_RETURN(const uint8_t epoch, reader.ReadLittleEndian<uint8_t>());
  MR_ASSIGN_OR_RETURN(const uint64_t end_lsn, reader.ReadLittleEndian<uint64_t>());
  MR_ASSIGN_OR_RETURN(letter.version.ordinal, reader.ReadLittleEndian<uint64_t>());
  letter.version.epoch = Epoch(epoch);
  letter.version.end_lsn = Lsn(end_lsn);
  MR_ASSIGN_OR_RETURN(const uint64_t offset, reader.ReadLittleEndian<uint64_t>());
  MR_ASSIGN_OR_RETURN(const uint64_t sent_again, reader.ReadLittleEndian<uint64_t>());
  letter.offset = Offset(offset);
  letter.sent_again = Offset(sent_again);
  MR_ASSIGN_OR_RETURN(const uint64_t stream, reader.ReadVarint());
  MR_ASSIGN_OR_RETURN(letter.row_bytes, reader.ReadVarint());
  MR_ASSIGN_OR_RETURN(letter.sink, reader.ReadLengthPrefixed());
  MR_ASSIGN_OR_RETURN(letter.reason, reader.ReadLengthPrefixed());
  MR_ASSIGN_OR_RETURN(const uint64_t keys, reader.ReadVarint());
  for (uint64_t i = 0; i < keys; ++i) {  // ends with the bytes at the latest
    MR_ASSIGN_OR_RETURN(const std::string_view key, reader.ReadLengthPrefixed());
    letter.keys.emplace_back(key);
  }
  if (stream > UINT32_MAX || !reader.empty()) {
    return Corruption("a dead letter has a stream beyond 32 bits, or bytes behind its end");
  }
  letter.stream = StreamId(static_cast<uint32_t>(stream));
  return letter;
}

}  // namespace millrace::storage
