// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/output_record_codec.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <lz4.h>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"
#include "millrace/storage/crc32c.h"

namespace millrace::storage {

namespace {

constexpr uint8_t kRecordFormat = 1;
constexpr char kMagic[3] = {'M', 'R', 'O'};
constexpr uint64_t kPayloadMax = LZ4_MAX_INPUT_SIZE;  // just below 2 GiB
constexpr uint64_t kCompressMin = 1024;
// Beyond it, where a single row is that large, a second copy in memory costs more than disk does.
constexpr uint64_t kCompressMax = uint64_t{16} << 20;
// Trades a tenth of the ratio for twice the speed; see benchmarks/micro/output_log_bench.cc.
constexpr int kLz4Acceleration = 4;

enum class Codec : uint8_t { kNone = 0, kLz4 = 1 };

// The fixed part in front of the payload, as it stands in memory and on disk.
struct Head {
  char magic[3];
  uint8_t format;
  uint8_t codec;
  uint8_t epoch;
  uint16_t flags;
  uint64_t first;
  uint64_t end;
  uint64_t end_lsn;
  uint64_t payload_size;
};
static_assert(sizeof(Head) == 40);
constexpr size_t kHeadSize = sizeof(Head) + sizeof(uint32_t);  // with the checksum behind it

// Flags of a record.
constexpr uint16_t kIsForOneSink = 1;

// Flags of a column.
constexpr uint8_t kHasValidity = 1;
constexpr uint8_t kLengthWidthShift = 1;  // two bits: log2 of the bytes of a length
constexpr uint8_t kFlagsMax = 7;

uint64_t ZigZag(uint64_t delta) { return (delta << 1) ^ (0 - (delta >> 63)); }
uint64_t UnZigZag(uint64_t v) { return (v >> 1) ^ (0 - (v & 1)); }

// ---- Encoding ----

// Runs of equal differences: constants, counters and what repeats cost two or three bytes a run.
template <typename T>
void AppendDeltaRuns(Buffer& to, const std::vector<T>& values) {
  uint64_t previous = 0;
  size_t i = 0;
  while (i < values.size()) {
    const uint64_t delta = uint64_t{values[i]} - previous;
    size_t run = 1;
    while (i + run < values.size() &&
           uint64_t{values[i + run]} - uint64_t{values[i + run - 1]} == delta) {
      ++run;
    }
    AppendVarint(to, ZigZag(delta));
    AppendVarint(to, run);
    previous = values[i + run - 1];
    i += run;
  }
}

void AppendOps(Buffer& to, const std::vector<OutputOp>& ops) {
  for (size_t i = 0; i < ops.size();) {
    size_t run = 1;
    while (i + run < ops.size() && ops[i + run] == ops[i]) {
      ++run;
    }
    to.AppendValue(ops[i]);
    AppendVarint(to, run);
    i += run;
  }
}

template <typename T>
void AppendLengthsAs(Buffer& to, std::span<const uint64_t> ends) {
  char* at = to.Extend(ends.size() * sizeof(T));
  uint64_t begin = 0;
  for (const uint64_t end : ends) {
    const T length = static_cast<T>(end - begin);
    std::memcpy(at, &length, sizeof(T));
    at += sizeof(T);
    begin = end;
  }
}

// The two flag bits that name the least width that holds every length.
uint8_t LengthWidth(std::span<const uint64_t> ends) {
  uint64_t all = 0;
  uint64_t begin = 0;
  for (const uint64_t end : ends) {
    all |= end - begin;
    begin = end;
  }
  return all <= UINT8_MAX ? 0 : all <= UINT16_MAX ? 1 : all <= UINT32_MAX ? 2 : 3;
}

void AppendLengths(Buffer& to, uint8_t width, std::span<const uint64_t> ends) {
  switch (width) {
    case 0:
      return AppendLengthsAs<uint8_t>(to, ends);
    case 1:
      return AppendLengthsAs<uint16_t>(to, ends);
    case 2:
      return AppendLengthsAs<uint32_t>(to, ends);
    default:
      return AppendLengthsAs<uint64_t>(to, ends);
  }
}

void AppendColumn(Buffer& to, const Column& column) {
  const size_t n = column.size();
  const bool fixed = column.type().width() != 0;
  const uint8_t width = fixed ? uint8_t{0} : LengthWidth(column.ends());
  to.AppendValue(
      static_cast<uint8_t>((column.has_nulls() ? kHasValidity : 0) | width << kLengthWidthShift));
  if (column.has_nulls()) {
    to.Append(column.validity().data(), (n + 7) / 8);
    if (n % 8 != 0) {
      // Bits behind the last row are set, whatever the column holds there.
      to.data()[to.size() - 1] = static_cast<char>(static_cast<uint8_t>(to.data()[to.size() - 1]) |
                                                   static_cast<uint8_t>(0xff << (n % 8)));
    }
  }
  if (fixed) {
    to.Append(column.fixed().data(), n * column.type().width());
    return;
  }
  AppendLengths(to, width, column.ends());
  if (column.type().is_list()) {
    AppendColumn(to, column.child());
  } else {
    to.Append(column.bytes());
  }
}

void AppendTransactions(Buffer& to, const std::vector<Transaction>& transactions) {
  AppendVarint(to, transactions.size());
  Transaction previous;
  for (const Transaction& transaction : transactions) {
    AppendVarint(to, ZigZag(transaction.end_lsn.value() - previous.end_lsn.value()));
    AppendVarint(to, ZigZag(static_cast<uint64_t>(transaction.commit_ts) -
                            static_cast<uint64_t>(previous.commit_ts)));
    AppendVarint(to, transaction.xid.value());
    previous = transaction;
  }
}

void AppendBatch(Buffer& to, const OutputBatch& batch) {
  const size_t n = batch.row_count();
  MR_CHECK(batch.rows.column_count() != 0 && batch.rows.row_count() == n);
  MR_CHECK(batch.transaction.size() == n && batch.ordinals.size() == n);
  AppendVarint(to, batch.stream->id.value());
  AppendVarint(to, batch.stream->schema_version.value());
  to.AppendValue(batch.epoch.value());
  AppendVarint(to, n);
  AppendTransactions(to, batch.transactions);
  AppendOps(to, batch.ops);
  AppendDeltaRuns(to, batch.transaction);
  AppendDeltaRuns(to, batch.ordinals);
  AppendVarint(to, batch.rows.column_count());
  for (size_t i = 0; i < batch.rows.column_count(); ++i) {
    AppendColumn(to, batch.rows.column(i));
  }
}

// Appends `payload` to `to` as one LZ4 block. False, and `to` as it was, where that is not worth
// while.
bool AppendCompressed(std::string_view payload, Buffer& to) {
  if (payload.size() <= kCompressMin || payload.size() > kCompressMax) {
    return false;
  }
  const size_t before = to.size();
  // With no more room than is worth while, LZ4 gives up early on what does not compress.
  const size_t room = payload.size() - payload.size() / 8;
  char* at = to.Extend(room);
  const int size = LZ4_compress_fast(payload.data(), at, static_cast<int>(payload.size()),
                                     static_cast<int>(room), kLz4Acceleration);
  to.Truncate(before + static_cast<size_t>(std::max(size, 0)));
  return size > 0;
}

// ---- Decoding ----

Status Damaged(std::string_view what) {
  return Corruption(fmt::format("a record of the output log is damaged: {}", what));
}

Result<Head> ReadHead(std::string_view bytes) {
  if (bytes.size() < kHeadSize) {
    return Damaged("it is shorter than its head");
  }
  Head head{};
  std::memcpy(&head, bytes.data(), sizeof(Head));
  if (std::memcmp(head.magic, kMagic, sizeof(kMagic)) != 0) {
    return Damaged("it does not begin with MRO");
  }
  if (head.format > kRecordFormat) {
    return Unsupported(
        fmt::format("a record of the output log has format {}; this version reads up to {}",
                    head.format, kRecordFormat));
  }
  if (head.format != kRecordFormat || head.flags > kIsForOneSink ||
      head.codec > static_cast<uint8_t>(Codec::kLz4)) {
    return Damaged("its head has an unknown format, codec or flag");
  }
  if (head.end < head.first) {
    return Damaged("it ends before it begins");
  }
  return head;
}

// Gives the payload; `memory` holds it where it was compressed.
Result<std::string_view> ReadPayload(const Head& head, std::string_view stored, Buffer& memory) {
  if (head.codec == static_cast<uint8_t>(Codec::kNone)) {
    if (head.payload_size != stored.size()) {
      return Damaged("its size is not the stated one");
    }
    return stored;
  }
  // No LZ4 block grows by more than 255 times.
  if (stored.size() > kPayloadMax || head.payload_size > kPayloadMax ||
      head.payload_size / 255 > stored.size()) {
    return Damaged("the stated size is impossible");
  }
  char* at = memory.Extend(head.payload_size);
  const int size = LZ4_decompress_safe(stored.data(), at, static_cast<int>(stored.size()),
                                       static_cast<int>(head.payload_size));
  if (size < 0 || static_cast<uint64_t>(size) != head.payload_size) {
    return Damaged("it does not decompress to the stated size");
  }
  return memory.view();
}

Status ReadTransactions(ByteReader& reader, std::vector<Transaction>& to) {
  MR_ASSIGN_OR_RETURN(const uint64_t n, reader.ReadVarint());
  if (n > reader.remaining() / 3) {  // a transaction takes three bytes or more
    return Damaged("it names more transactions than it has bytes for");
  }
  to.reserve(n);
  Transaction at;
  for (uint64_t i = 0; i < n; ++i) {
    MR_ASSIGN_OR_RETURN(const uint64_t lsn, reader.ReadVarint());
    MR_ASSIGN_OR_RETURN(const uint64_t ts, reader.ReadVarint());
    MR_ASSIGN_OR_RETURN(const uint64_t xid, reader.ReadVarint());
    if (xid > UINT32_MAX) {
      return Damaged("a transaction id is beyond 32 bits");
    }
    at.end_lsn = Lsn(at.end_lsn.value() + UnZigZag(lsn));
    at.commit_ts = static_cast<TimestampMicros>(static_cast<uint64_t>(at.commit_ts) + UnZigZag(ts));
    at.xid = Xid(static_cast<uint32_t>(xid));
    to.push_back(at);
  }
  return Status::Ok();
}

// Reads a run's length, of `left` values that are missing.
Result<uint64_t> ReadRun(ByteReader& reader, uint64_t left) {
  MR_ASSIGN_OR_RETURN(const uint64_t run, reader.ReadVarint());
  if (run == 0 || run > left) {
    return Damaged("a run is longer than its batch");
  }
  return run;
}

Status ReadOps(ByteReader& reader, uint64_t n, std::vector<OutputOp>& to) {
  to.reserve(n);
  while (to.size() < n) {
    MR_ASSIGN_OR_RETURN(const uint8_t op, reader.ReadLittleEndian<uint8_t>());
    if (op < static_cast<uint8_t>(OutputOp::kUpsert) ||
        op > static_cast<uint8_t>(OutputOp::kRead)) {
      return Damaged("a row has an unknown operation");
    }
    MR_ASSIGN_OR_RETURN(const uint64_t run, ReadRun(reader, n - to.size()));
    to.insert(to.end(), run, static_cast<OutputOp>(op));
  }
  return Status::Ok();
}

// Values stay below `bound`, unless it is 0.
template <typename T>
Status ReadDeltaRuns(ByteReader& reader, uint64_t n, uint64_t bound, std::vector<T>& to) {
  to.resize(n);
  uint64_t value = 0;
  for (uint64_t i = 0; i < n;) {
    MR_ASSIGN_OR_RETURN(const uint64_t zigzag, reader.ReadVarint());
    MR_ASSIGN_OR_RETURN(const uint64_t run, ReadRun(reader, n - i));
    const uint64_t delta = UnZigZag(zigzag);
    for (const uint64_t end = i + run; i < end; ++i) {
      value += delta;
      if (bound != 0 && value >= bound) {
        return Damaged("a row names a transaction that is not there");
      }
      to[i] = static_cast<T>(value);
    }
  }
  return Status::Ok();
}

template <typename T>
uint64_t SumLengthsAs(std::string_view lengths, Buffer& ends) {
  const size_t n = lengths.size() / sizeof(T);
  auto* to = reinterpret_cast<uint64_t*>(ends.Extend(n * sizeof(uint64_t)));
  uint64_t end = 0;
  for (size_t i = 0; i < n; ++i) {
    T length;
    std::memcpy(&length, lengths.data() + i * sizeof(T), sizeof(T));
    end += length;
    to[i] = end;
  }
  return end;
}

// Reads `n` lengths as ends; the last end is at most what remains to be read.
Result<uint64_t> ReadLengths(ByteReader& reader, uint64_t n, uint8_t width, Buffer& ends) {
  if (n > reader.remaining() >> width) {
    return Damaged("its lengths are cut off");
  }
  MR_ASSIGN_OR_RETURN(const std::string_view lengths, reader.ReadBytes(n << width));
  if (width == 3) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < n; ++i) {  // eight-byte lengths could overflow their sum
      uint64_t length;
      std::memcpy(&length, lengths.data() + i * 8, 8);
      if (length > reader.remaining() || total + length > reader.remaining()) {
        return Damaged("a value is longer than its record");
      }
      total += length;
    }
  }
  const uint64_t end = width == 0   ? SumLengthsAs<uint8_t>(lengths, ends)
                       : width == 1 ? SumLengthsAs<uint16_t>(lengths, ends)
                       : width == 2 ? SumLengthsAs<uint32_t>(lengths, ends)
                                    : SumLengthsAs<uint64_t>(lengths, ends);
  // Each value, and each element of a list, takes a byte or more of what follows.
  if (end > reader.remaining()) {
    return Damaged("a value is longer than its record");
  }
  return end;
}

Result<std::vector<uint64_t>> ReadValidity(ByteReader& reader, uint64_t n) {
  MR_ASSIGN_OR_RETURN(const std::string_view bits, reader.ReadBytes(n / 8 + (n % 8 != 0 ? 1 : 0)));
  std::vector<uint64_t> validity((n + 63) / 64, ~uint64_t{0});
  if (!bits.empty()) {
    std::memcpy(validity.data(), bits.data(), bits.size());
  }
  return validity;
}

Status ReadColumn(ByteReader& reader, uint64_t n, Column& to) {
  MR_ASSIGN_OR_RETURN(const uint8_t flags, reader.ReadLittleEndian<uint8_t>());
  const size_t value_width = to.type().width();
  if (flags > kFlagsMax || (value_width != 0 && flags > kHasValidity) || n > reader.remaining()) {
    return Damaged("a column is cut off or has an unknown flag");
  }
  std::vector<uint64_t> validity;
  if ((flags & kHasValidity) != 0) {
    MR_ASSIGN_OR_RETURN(validity, ReadValidity(reader, n));
  }
  Buffer data;
  Buffer ends;
  if (value_width != 0) {
    if (n > reader.remaining() / value_width) {
      return Damaged("a column is cut off");
    }
    MR_ASSIGN_OR_RETURN(const std::string_view bytes, reader.ReadBytes(n * value_width));
    if (to.type().kind == TypeKind::kBool &&
        std::any_of(bytes.begin(), bytes.end(), [](char c) { return (c & ~1) != 0; })) {
      return Damaged("a boolean is neither true nor false");
    }
    data.Append(bytes);
  } else {
    MR_ASSIGN_OR_RETURN(const uint64_t end,
                        ReadLengths(reader, n, flags >> kLengthWidthShift, ends));
    if (to.type().is_list()) {
      MR_RETURN_IF_ERROR(ReadColumn(reader, end, to.child()));
    } else {
      MR_ASSIGN_OR_RETURN(const std::string_view bytes, reader.ReadBytes(end));
      data.Append(bytes);
    }
  }
  to.Restore(n, std::move(validity), std::move(data), std::move(ends));
  return Status::Ok();
}

Result<OutputBatchPtr> ReadBatch(ByteReader& reader, Offset first, const StreamResolver& resolver) {
  MR_ASSIGN_OR_RETURN(const uint64_t id, reader.ReadVarint());
  MR_ASSIGN_OR_RETURN(const uint64_t version, reader.ReadVarint());
  if (id > UINT32_MAX || version > UINT32_MAX) {
    return Damaged("a stream's number is beyond 32 bits");
  }
  StreamPtr stream =
      resolver(StreamId(static_cast<uint32_t>(id)), SchemaVersion(static_cast<uint32_t>(version)));
  if (stream == nullptr || stream->columns->empty()) {
    return Damaged(fmt::format("version {} of stream {} is not known", version, id));
  }
  auto batch = std::make_shared<OutputBatch>(std::move(stream));
  batch->first_offset = first;
  MR_ASSIGN_OR_RETURN(const uint8_t epoch, reader.ReadLittleEndian<uint8_t>());
  batch->epoch = Epoch(epoch);
  MR_ASSIGN_OR_RETURN(const uint64_t rows, reader.ReadVarint());
  if (rows > reader.remaining()) {  // a row takes a byte or more in each column
    return Damaged("it names more rows than it has bytes for");
  }
  MR_RETURN_IF_ERROR(ReadTransactions(reader, batch->transactions));
  if (rows != 0 && batch->transactions.empty()) {
    return Damaged("a row names a transaction that is not there");
  }
  MR_RETURN_IF_ERROR(ReadOps(reader, rows, batch->ops));
  MR_RETURN_IF_ERROR(ReadDeltaRuns(reader, rows, batch->transactions.size(), batch->transaction));
  MR_RETURN_IF_ERROR(ReadDeltaRuns(reader, rows, 0, batch->ordinals));
  MR_ASSIGN_OR_RETURN(const uint64_t columns, reader.ReadVarint());
  if (columns != batch->rows.column_count()) {
    return Damaged(fmt::format("it has {} columns where the stream has {}", columns,
                               batch->rows.column_count()));
  }
  for (size_t i = 0; i < columns; ++i) {
    MR_RETURN_IF_ERROR(ReadColumn(reader, rows, batch->rows.column(i)));
  }
  return OutputBatchPtr(std::move(batch));
}

}  // namespace

Status EncodeOutputRecord(const OutputRecord& record, RecordCompression compression,
                          RecordScratch& scratch, Buffer& to) {
  // The record as it is without compression: room for the head, then the payload.
  Buffer& plain = scratch.record;
  plain.Clear();
  plain.Extend(kHeadSize);
  if (!record.sink.empty()) {
    AppendLengthPrefixed(plain, record.sink);
  }
  AppendVarint(plain, record.batches.size());
  uint64_t at = record.first.value();
  for (const OutputBatchPtr& batch : record.batches) {
    MR_CHECK(batch->first_offset.value() == at);
    AppendBatch(plain, *batch);
    at += batch->row_count();
  }
  MR_CHECK(at == record.end.value());
  const std::string_view payload = plain.view().substr(kHeadSize);
  if (payload.size() > kPayloadMax) {
    return ResourceExhausted(
        fmt::format("append to the output log: the outputs of one micro-batch take {} bytes, the "
                    "most is {}; lower engine.batch.max_bytes",
                    payload.size(), kPayloadMax));
  }
  Head head{};
  std::memcpy(head.magic, kMagic, sizeof(kMagic));
  head.format = kRecordFormat;
  head.epoch = record.position.epoch.value();
  head.flags = record.sink.empty() ? 0 : kIsForOneSink;
  head.first = record.first.value();
  head.end = record.end.value();
  head.end_lsn = record.position.end_lsn.value();
  head.payload_size = payload.size();
  const size_t begin = to.size();
  to.Extend(kHeadSize);
  if (compression == RecordCompression::kLz4 && AppendCompressed(payload, to)) {
    head.codec = static_cast<uint8_t>(Codec::kLz4);
  } else if (begin == 0) {
    std::swap(to, plain);  // a large record is not copied
  } else {
    to.Append(payload);
  }
  char* const head_at = to.data() + begin;
  std::memcpy(head_at, &head, sizeof(Head));
  const uint32_t crc = Crc32c(to.view().substr(begin + kHeadSize), Crc32c({head_at, sizeof(Head)}));
  std::memcpy(head_at + sizeof(Head), &crc, sizeof(crc));
  if (plain.capacity() > kRecordScratchKept) {
    plain = Buffer();
  }
  return Status::Ok();
}

Result<OutputRecord> DecodeOutputRecord(std::string_view bytes, const StreamResolver& resolver) {
  MR_ASSIGN_OR_RETURN(const Head head, ReadHead(bytes));
  const std::string_view stored = bytes.substr(kHeadSize);
  uint32_t crc;
  std::memcpy(&crc, bytes.data() + sizeof(Head), sizeof(crc));
  if (crc != Crc32c(stored, Crc32c(bytes.substr(0, sizeof(Head))))) {
    return Damaged("its checksum does not fit");
  }
  Buffer memory;
  MR_ASSIGN_OR_RETURN(const std::string_view payload, ReadPayload(head, stored, memory));
  ByteReader reader(payload);
  OutputRecord record;
  if ((head.flags & kIsForOneSink) != 0) {
    MR_ASSIGN_OR_RETURN(record.sink, reader.ReadLengthPrefixed());
    if (record.sink.empty()) {
      return Damaged("the sink that it is for has no name");
    }
  }
  MR_ASSIGN_OR_RETURN(const uint64_t batches, reader.ReadVarint());
  record.first = Offset(head.first);
  record.position = {Epoch(head.epoch), Lsn(head.end_lsn)};
  uint64_t at = head.first;
  for (uint64_t i = 0; i < batches; ++i) {  // ends with the bytes at the latest
    MR_ASSIGN_OR_RETURN(OutputBatchPtr batch, ReadBatch(reader, Offset(at), resolver));
    if (batch->row_count() > head.end - at) {
      return Damaged("it has more rows than offsets");
    }
    at += batch->row_count();
    record.batches.push_back(std::move(batch));
  }
  if (at != head.end || !reader.empty()) {
    return Damaged("it has fewer rows than offsets, or bytes behind its end");
  }
  record.end = Offset(at);
  return record;
}

Result<OutputRecordHead> DecodeOutputRecordHead(std::string_view bytes) {
  MR_ASSIGN_OR_RETURN(const Head head, ReadHead(bytes));
  return OutputRecordHead{
      Offset(head.first), Offset(head.end), {Epoch(head.epoch), Lsn(head.end_lsn)}};
}

}  // namespace millrace::storage
