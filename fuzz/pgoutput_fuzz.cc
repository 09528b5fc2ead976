// SPDX-License-Identifier: Apache-2.0
// A stream of pgoutput messages, in any order, cut anywhere. Input: messages, each with its length
// before it in two bytes, big-endian. The tables are those of make_seeds.py. Little is kept in
// memory and little is a large transaction, so that files and parts are met too.
#include <filesystem>
#include <memory>
#include <vector>

#include <unistd.h>

#include "input.h"
#include "millrace/common/check.h"
#include "millrace/sources/postgres/testing/fixed_tables.h"
#include "millrace/sources/postgres/transaction_reader.h"

namespace millrace::fuzz {
namespace {

using sources::postgres::ColumnTypeFacts;
using sources::postgres::RelationResolver;
using sources::postgres::SourceTable;
using sources::postgres::TransactionReader;

struct ColumnSpec {
  const char* name;
  uint32_t oid;
  bool is_array = false;
};

SourceTable MakeTable(uint32_t oid, const char* name, const std::vector<ColumnSpec>& columns,
                      ReplicaIdentity identity) {
  SourceTable made;
  auto table = std::make_shared<Table>();
  Schema schema;
  for (const ColumnSpec& column : columns) {
    ColumnTypeFacts facts;
    facts.declared_oid = column.is_array ? 1007 : column.oid;
    facts.type.oid = column.oid;
    facts.is_array = column.is_array;
    facts.dimensions = column.is_array ? 1 : 0;
    schema.push_back({column.name, MapColumnType(facts), !schema.empty()});
    made.types.push_back(facts);
    table->toastable.push_back(true);
  }
  table->oid = oid;
  table->schema = "public";
  table->name = name;
  table->columns = std::make_shared<const Schema>(std::move(schema));
  table->primary_key = {0};
  table->replica_identity = identity;
  made.table = std::move(table);
  return made;
}

std::vector<SourceTable> Tables() {
  using namespace sources::postgres;
  return {MakeTable(1001, "items",
                    {{"id", kInt8Oid},
                     {"name", kTextOid},
                     {"at", kTimestampTzOid},
                     {"payload", kJsonbOid},
                     {"tags", kInt4Oid, true}},
                    ReplicaIdentity::kDefault),
          MakeTable(1002, "full", {{"id", kInt4Oid}, {"raw", kByteaOid}}, ReplicaIdentity::kFull)};
}

// What the rest of the program relies on, whatever the server sent.
void CheckBatch(const ChangeBatch& batch) {
  for (const TableChanges& changes : batch.tables) {
    for (const RowBatch* rows : {&changes.new_rows, &changes.old_rows}) {
      for (size_t i = 0; i < rows->column_count(); ++i) {
        MR_CHECK(rows->column(i).size() == rows->row_count());
      }
    }
    for (const Change& change : changes.changes) {
      MR_CHECK(change.transaction < batch.transactions.size());
      MR_CHECK(change.new_row == kNoRow || change.new_row < changes.new_rows.row_count());
      MR_CHECK(change.old_row == kNoRow || change.old_row < changes.old_rows.row_count());
    }
    for (const UnchangedToast& toast : changes.unchanged_toast) {
      MR_CHECK(toast.new_row < changes.new_rows.row_count());
      MR_CHECK(toast.column < changes.new_rows.column_count());
    }
  }
}

TransactionReader::Options ReaderOptions(RelationResolver& tables) {
  static const std::string kDirectory =
      std::filesystem::temp_directory_path() / ("millrace_fuzz_" + std::to_string(getpid()));
  return {.resolver = &tables,
          .slot = "slot",
          .lookups = {"public.full"},
          .staging_directory = kDirectory,
          .batch_rows_max = 3,
          .batch_bytes_max = 1 << 20,
          .staged_memory_max = 512,
          .whole_max = 1000};
}

// A transaction in parts comes in order, and alone.
void CheckPart(const ChangeBatch& batch) {
  if (batch.part.has_value()) {
    MR_CHECK(batch.transactions.size() == 1 && batch.row_count != 0);
    MR_CHECK(batch.part->is_last == (batch.end.end_lsn == batch.transactions[0].end_lsn));
  }
}

Status DecodeAndTake(TransactionReader& reader, const std::string& message) {
  MR_RETURN_IF_ERROR(reader.Decode(message));
  while (reader.can_take() || reader.has_large()) {
    if (!reader.can_take()) {
      MR_RETURN_IF_ERROR(reader.DecodePart());
    } else {
      const std::unique_ptr<ChangeBatch> batch = reader.Take();
      CheckBatch(*batch);
      CheckPart(*batch);
    }
  }
  return Status::Ok();
}

}  // namespace
}  // namespace millrace::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  fuzz::Input input(data, size);
  // The catalog has no table: whatever is described otherwise is paused.
  sources::postgres::testing::FixedTables tables(fuzz::Tables());
  fuzz::TransactionReader reader(fuzz::ReaderOptions(tables));
  MR_CHECK(reader.StartStream({Epoch(0), Lsn(16)}).ok());
  while (!input.empty()) {
    const Status status = fuzz::DecodeAndTake(reader, input.Part());
    if (!status.ok()) {
      // kUnavailable: the catalog does not see the transaction yet.
      MR_CHECK(status.code() == Code::kCorruption || status.code() == Code::kInvalidArgument ||
               status.code() == Code::kFailedPrecondition || status.code() == Code::kUnsupported ||
               status.code() == Code::kUnavailable);
      fuzz::CheckBatch(reader.batch());
      MR_CHECK(reader.StartStream({Epoch(0), reader.end_lsn()}).ok());
    }
  }
  return 0;
}
