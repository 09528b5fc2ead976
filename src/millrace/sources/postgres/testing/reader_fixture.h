// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/sources/postgres/testing/fixed_tables.h"
#include "millrace/sources/postgres/testing/pgoutput_builder.h"
#include "millrace/sources/postgres/transaction_reader.h"

namespace millrace::sources::postgres::testing {

inline constexpr uint32_t kItems = 1001;
inline constexpr uint32_t kNotes = 1002;
inline constexpr uint32_t kForeign = 4711;

inline const std::vector<RelationColumn> kItemColumns = {
    {"id", kInt8Oid, true}, {"name", kVarcharOid, false, 14}, {"payload", kTextOid}};
inline const std::vector<RelationColumn> kNoteColumns = {{"id", kInt4Oid, true}};

inline SourceTable MakeTable(uint32_t oid, std::string name,
                             const std::vector<RelationColumn>& columns,
                             ReplicaIdentity identity = ReplicaIdentity::kDefault) {
  SourceTable made;
  Schema schema;
  auto table = std::make_shared<Table>();
  for (const RelationColumn& column : columns) {
    const ColumnTypeFacts facts{.declared_oid = column.type_oid,
                                .declared_typmod = column.typmod,
                                .type = {.oid = column.type_oid, .typmod = column.typmod}};
    if (column.is_key) {
      table->primary_key.push_back(static_cast<uint32_t>(schema.size()));
    }
    schema.push_back({column.name, MapColumnType(facts), !column.is_key});
    made.types.push_back(facts);
    table->toastable.push_back(true);
  }
  table->oid = oid;
  table->schema = "shop";
  table->name = std::move(name);
  table->columns = std::make_shared<const Schema>(std::move(schema));
  table->replica_identity = identity;
  made.table = std::move(table);
  return made;
}

inline std::string RelationOf(uint32_t oid, char identity = 'd') {
  switch (oid) {
    case kItems:
      return Relation(oid, "shop", "items", kItemColumns, identity);
    case kNotes:
      return Relation(oid, "shop", "notes", kNoteColumns, identity);
    default:
      return Relation(oid, "other", "foreign", kNoteColumns, identity);
  }
}

// Of tables of which shop.notes is a lookup.
inline TransactionReader::Options ReaderOptions() {
  return {.slot = "my_slot",
          .lookups = {"shop.notes"},
          .batch_rows_max = 16'384,
          .batch_bytes_max = size_t{8} << 20};
}

// A reader of a stream of shop.items and shop.notes that begins at LSN 100, with a staging
// directory of its own.
class ReaderFixture : public ::testing::Test {
 protected:
  explicit ReaderFixture(TransactionReader::Options options = ReaderOptions(),
                         ReplicaIdentity identity = ReplicaIdentity::kDefault)
      : directory_(std::filesystem::temp_directory_path() /
                   fmt::format("millrace_staging_{}", getpid())),
        tables_({MakeTable(kItems, "items", kItemColumns, identity),
                 MakeTable(kNotes, "notes", kNoteColumns)}),
        options_([&] {
          options.resolver = &tables_;
          options.staging_directory = directory_.string();
          return options;
        }()),
        reader_(options_) {
    Restart();
  }
  ~ReaderFixture() override { std::filesystem::remove_all(directory_); }

  void Restart() {
    const Status status = reader_.StartStream({Epoch(1), Lsn(100)});
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  void Feed(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) {
      const Status status = reader_.Decode(message);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
  }
  Status FeedUntilError(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) {
      MR_RETURN_IF_ERROR(reader_.Decode(message));
    }
    return Status::Ok();
  }

  const std::filesystem::path directory_;
  FixedTables tables_;
  const TransactionReader::Options options_;
  TransactionReader reader_;
};

}  // namespace millrace::sources::postgres::testing
