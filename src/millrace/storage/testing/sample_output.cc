// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/testing/sample_output.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>

namespace millrace::storage::testing {

namespace {

constexpr size_t kRowsInTransaction = 10;
constexpr std::array<std::string_view, 6> kWords = {"play",       "finish", "podcast",
                                                    "newsletter", "ios",    "click"};

StreamPtr MakeStream(uint32_t id, std::string name, Schema columns) {
  auto stream = std::make_shared<Stream>();
  stream->id = StreamId(id);
  stream->schema_version = SchemaVersion(1);
  stream->name = std::move(name);
  stream->columns = std::make_shared<const Schema>(std::move(columns));
  stream->key = {0};
  return stream;
}

void AppendRandom(Column& to, bool nullable, std::mt19937_64& random) {
  if (nullable && random() % 8 == 0) {
    to.AppendNull();
    return;
  }
  const DataType& type = to.type();
  if (type.kind == TypeKind::kBool) {
    to.Append<uint8_t>(random() % 2);
  } else if (type.width() != 0) {
    std::array<uint64_t, 2> bytes = {random(), random()};
    if (type.kind == TypeKind::kTimestampTz) {
      bytes[0] = 1'700'000'000'000'000 + random() % 1'000'000'000;
    } else if (type.kind == TypeKind::kInt64 || type.kind == TypeKind::kInt32) {
      bytes[0] = random() % 100'000;
    }
    to.AppendFixed(bytes.data());
  } else if (type.is_list()) {
    for (uint64_t n = random() % 4; n > 0; --n) {
      AppendRandom(to.child(), nullable, random);
    }
    to.AppendListEnd();
  } else if (type.kind == TypeKind::kJson) {
    to.AppendText("{\"session\": " + std::to_string(random() % 1'000'000) +
                  ", \"position_ms\": " + std::to_string(random() % 100'000) + "}");
  } else {
    to.AppendText(kWords[random() % kWords.size()]);
  }
}

bool SameColumn(const Column& a, const Column& b) {
  if (a.size() != b.size() || a.type() != b.type() || a.null_count() != b.null_count()) {
    return false;
  }
  for (size_t row = 0; row < a.size(); ++row) {
    if (a.IsNull(row) != b.IsNull(row)) {
      return false;
    }
    if (a.IsNull(row)) {
      continue;
    }
    const size_t width = a.type().width();
    if (width != 0           ? std::memcmp(a.ValueBytes(row), b.ValueBytes(row), width) != 0
        : a.type().is_list() ? a.ListRange(row) != b.ListRange(row)
                             : a.Text(row) != b.Text(row)) {
      return false;
    }
  }
  return !a.type().is_list() || SameColumn(a.child(), b.child());
}

bool SameTransaction(const Transaction& a, const Transaction& b) {
  return a.end_lsn == b.end_lsn && a.commit_ts == b.commit_ts && a.xid == b.xid;
}

bool SameBatch(const OutputBatch& a, const OutputBatch& b) {
  return a.stream->id == b.stream->id && a.stream->schema_version == b.stream->schema_version &&
         a.first_offset == b.first_offset && a.epoch == b.epoch && a.ops == b.ops &&
         a.transaction == b.transaction && a.ordinals == b.ordinals &&
         std::equal(a.transactions.begin(), a.transactions.end(), b.transactions.begin(),
                    b.transactions.end(), SameTransaction) &&
         SameRows(a.rows, b.rows);
}

}  // namespace

StreamPtr MakeEngagementStream() {
  using K = TypeKind;
  return MakeStream(7, "enriched_engagements",
                    {{"event_id", K::kInt64, false},
                     {"content_id", K::kUuid},
                     {"user_id", K::kUuid},
                     {"event_type", K::kText, false},
                     {"event_ts", K::kTimestampTz, false},
                     {"duration_ms", K::kInt32},
                     {"device", K::kText},
                     {"raw_payload", K::kJson},
                     {"content_slug", K::kText},
                     {"content_title", K::kText},
                     {"content_type", K::kText},
                     {"length_seconds", K::kInt32},
                     {"publish_ts", K::kTimestampTz},
                     {"engagement_seconds", K::kFloat64},
                     {"engagement_percent", K::kFloat64},
                     {"amount", DataType::Decimal(10, 2)},
                     {"is_new", K::kBool, false}});
}

StreamPtr MakeEveryTypeStream() {
  Schema columns;
  for (auto kind = static_cast<uint8_t>(TypeKind::kBool);
       kind <= static_cast<uint8_t>(TypeKind::kBytes); ++kind) {
    if (static_cast<TypeKind>(kind) != TypeKind::kDecimal) {
      columns.push_back({"c" + std::to_string(kind), DataType(static_cast<TypeKind>(kind))});
    }
  }
  for (const int digits : {4, 9, 18, 38}) {
    const auto precision = static_cast<uint8_t>(digits);
    columns.push_back({"d" + std::to_string(precision), DataType::Decimal(precision, 2)});
  }
  columns.push_back({"texts", DataType::List(TypeKind::kText)});
  columns.push_back({"numbers", DataType::List(TypeKind::kInt64)});
  return MakeStream(8, "every_type", std::move(columns));
}

OutputRecord MakeRecord(const StreamPtr& stream, Offset first, size_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto batch = std::make_shared<OutputBatch>(stream);
  batch->first_offset = first;
  batch->epoch = Epoch(1);
  uint64_t lsn = 0x16'0000'0000 + seed * 1'000'000;
  for (size_t row = 0; row < rows; ++row) {
    if (row % kRowsInTransaction == 0) {
      lsn += 1000 + random() % 100;
      batch->transactions.push_back({Lsn(lsn),
                                     static_cast<TimestampMicros>(1'700'000'000'000'000 + lsn),
                                     Xid(static_cast<uint32_t>(700 + row))});
    }
    for (size_t i = 0; i < stream->columns->size(); ++i) {
      AppendRandom(batch->rows.column(i), (*stream->columns)[i].nullable, random);
    }
    batch->ops.push_back(random() % 16 == 0 ? OutputOp::kDelete : OutputOp::kUpsert);
    batch->transaction.push_back(static_cast<uint32_t>(batch->transactions.size() - 1));
    batch->ordinals.push_back(row % kRowsInTransaction + 1);
  }
  OutputRecord record;
  record.first = first;
  record.end = Offset(first.value() + rows);
  record.position = {Epoch(1), Lsn(lsn)};
  record.batches.push_back(std::move(batch));
  return record;
}

OutputRecord MakeLargeRecord(const StreamPtr& stream, Offset first, size_t rows, uint64_t seed,
                             size_t bytes) {
  OutputRecord record = MakeRecord(stream, first, rows, seed);
  const std::shared_ptr<OutputBatch> batch = CopyBatch(*record.batches[0]);
  for (size_t i = 0; i < batch->rows.column_count(); ++i) {
    if (batch->rows.column(i).type().kind == TypeKind::kText) {
      Column large(TypeKind::kText);
      std::mt19937_64 random(seed);
      for (size_t row = 0; row < rows; ++row) {
        char* at = large.AppendTextOf(bytes);
        std::generate(at, at + bytes, [&] { return static_cast<char>('a' + random() % 26); });
      }
      batch->rows.column(i) = std::move(large);
      break;
    }
  }
  record.batches[0] = batch;
  return record;
}

std::shared_ptr<OutputBatch> CopyBatch(const OutputBatch& batch) {
  auto copy = std::make_shared<OutputBatch>(batch.stream);
  copy->first_offset = batch.first_offset;
  copy->epoch = batch.epoch;
  copy->transactions = batch.transactions;
  copy->rows.AppendRange(batch.rows, 0, batch.row_count());
  copy->ops = batch.ops;
  copy->transaction = batch.transaction;
  copy->ordinals = batch.ordinals;
  return copy;
}

bool SameRows(const RowBatch& a, const RowBatch& b) {
  if (a.column_count() != b.column_count()) {
    return false;
  }
  for (size_t i = 0; i < a.column_count(); ++i) {
    if (!SameColumn(a.column(i), b.column(i))) {
      return false;
    }
  }
  return true;
}

bool SameRecord(const OutputRecord& a, const OutputRecord& b) {
  return a.first == b.first && a.end == b.end && a.position == b.position &&
         std::equal(
             a.batches.begin(), a.batches.end(), b.batches.begin(), b.batches.end(),
             [](const OutputBatchPtr& x, const OutputBatchPtr& y) { return SameBatch(*x, *y); });
}

}  // namespace millrace::storage::testing
