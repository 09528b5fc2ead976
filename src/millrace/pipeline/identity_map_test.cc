// SPDX-License-Identifier: Apache-2.0
// Old images of tables whose identity index lacks the primary key, on the real store.
#include "millrace/pipeline/identity_map.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/storage/rocksdb/rocksdb_store.h"

namespace millrace::pipeline {
namespace {

using Pass = TransactionPart::Pass;
using testing::ElementsAre;
using testing::HasSubstr;

TablePtr MakeTable() {
  auto table = std::make_shared<Table>();
  table->schema = "public";
  table->name = "t";
  table->columns = std::make_shared<const Schema>(Schema{{"id", TypeKind::kText, false},
                                                         {"code", TypeKind::kInt64, false},
                                                         {"v", TypeKind::kText, true}});
  table->primary_key = {0};
  table->identity_index = {1};
  table->replica_identity = ReplicaIdentity::kIndex;
  return table;
}

class IdentityMapTest : public testing::Test {
 protected:
  void SetUp() override {
    auto store = storage::OpenRocksDbStore({.path = root_});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
    ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(1)}, {}).ok());
    auto map = IdentityMap::Make(table_, true, *store_);
    ASSERT_TRUE(map.ok()) << map.status().ToString();
    map_ = std::move(map).value();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  uint32_t NewRow(const std::string& id, int64_t code) {
    changes_.new_rows.column(0).AppendText(id);
    changes_.new_rows.column(1).Append(code);
    changes_.new_rows.column(2).AppendText("v");
    return static_cast<uint32_t>(changes_.new_rows.row_count() - 1);
  }
  uint32_t OldRow(int64_t code) {
    changes_.old_rows.column(0).AppendNull();
    changes_.old_rows.column(1).Append(code);
    changes_.old_rows.column(2).AppendNull();
    return static_cast<uint32_t>(changes_.old_rows.row_count() - 1);
  }
  void Insert(const std::string& id, int64_t code) {
    const uint32_t row = NewRow(id, code);
    changes_.changes.push_back({.new_row = row, .op = ChangeOp::kInsert});
  }
  void Update(const std::string& id, int64_t code, std::optional<int64_t> old_code = {}) {
    const uint32_t old_row = old_code ? OldRow(*old_code) : kNoRow;
    const uint32_t row = NewRow(id, code);
    changes_.changes.push_back({.new_row = row, .old_row = old_row, .op = ChangeOp::kUpdate});
  }
  void Delete(int64_t code) {
    const uint32_t row = OldRow(code);
    changes_.changes.push_back({.old_row = row, .op = ChangeOp::kDelete});
  }
  void Truncate() { changes_.changes.push_back({.op = ChangeOp::kTruncate}); }

  // The primary keys of the old images of the changes so far, "-" where there is none.
  std::vector<std::string> OldKeys(std::optional<Pass> pass = std::nullopt) {
    const Status status = map_->BeginBatch(&changes_, pass);
    EXPECT_TRUE(status.ok()) << status.ToString();
    std::vector<std::string> keys;
    for (const Change& change : changes_.changes) {
      keys.emplace_back(
          change.old_row == kNoRow ? "-" : changes_.old_rows.column(0).Text(change.old_row));
    }
    std::unique_ptr<storage::StoreBatch> batch = store_->NewBatch();
    map_->Save(*batch);
    if (pass) {
      batch->SetPart(*pass == Pass::kChanges);
    }
    EXPECT_TRUE(store_->Commit(std::move(batch)).ok());
    map_->EndBatch();
    changes_ = TableChanges(table_);
    return keys;
  }

  const std::filesystem::path root_ =
      std::filesystem::path(testing::TempDir()) / ("identity_map_" + std::to_string(getpid()));
  const TablePtr table_ = MakeTable();
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<IdentityMap> map_;
  TableChanges changes_{table_};
};

TEST_F(IdentityMapTest, FindsKeysOfEarlierBatchesAndOfItsOwn) {
  Insert("a", 1);
  Insert("b", 2);
  EXPECT_THAT(OldKeys(), ElementsAre("-", "-"));
  Update("a", 1);     // neither key nor index changed: no old image is needed
  Update("c", 2);     // the key changed, and PostgreSQL sent nothing of it
  Update("c", 3, 2);  // the index changed
  Update("d", 4, 3);  // both
  Insert("e", 3);     // index columns that are free again
  Delete(4);
  Delete(3);
  EXPECT_THAT(OldKeys(), ElementsAre("-", "b", "c", "c", "-", "d", "e"));
  Delete(1);
  EXPECT_THAT(OldKeys(), ElementsAre("a"));
}

TEST_F(IdentityMapTest, ATruncateForgetsStoredAndOpenRows) {
  Insert("a", 1);
  OldKeys();
  Insert("b", 2);
  Truncate();
  Insert("c", 1);
  Delete(1);
  EXPECT_THAT(OldKeys(), ElementsAre("-", "-", "-", "c"));
  Delete(2);
  const Status status = map_->BeginBatch(&changes_, std::nullopt);
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("REPLICA IDENTITY DEFAULT"));
}

TEST_F(IdentityMapTest, BothPassesOfALargeTransactionBeginAtTheSameRows) {
  Insert("a", 1);
  OldKeys();
  for (const Pass pass : {Pass::kLookups, Pass::kChanges}) {
    Update("b", 2, 1);
    Delete(2);
    Insert("c", 1);
    EXPECT_THAT(OldKeys(pass), ElementsAre("a", "b", "-"));
  }
  Delete(1);
  EXPECT_THAT(OldKeys(), ElementsAre("c"));
}

TEST_F(IdentityMapTest, AKeyOutOfLineThatDidNotChangeIsFilled) {
  Insert("large", 1);
  OldKeys();
  const uint32_t row = static_cast<uint32_t>(changes_.new_rows.row_count());
  changes_.new_rows.column(0).AppendNull();
  changes_.new_rows.column(1).Append<int64_t>(1);
  changes_.new_rows.column(2).AppendNull();
  changes_.changes.push_back({.new_row = row, .op = ChangeOp::kUpdate});
  changes_.unchanged_toast = {{row, 0}, {row, 2}};
  ASSERT_TRUE(map_->BeginBatch(&changes_, std::nullopt).ok());
  EXPECT_EQ(changes_.new_rows.column(0).Text(0), "large");
  ASSERT_EQ(changes_.unchanged_toast.size(), 1u);
  EXPECT_EQ(changes_.unchanged_toast[0].column, 2u);
}

}  // namespace
}  // namespace millrace::pipeline
