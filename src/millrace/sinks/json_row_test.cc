// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/json_row.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

StreamPtr TestStream() {
  auto stream = std::make_shared<Stream>();
  stream->name = "events";
  stream->columns = std::make_shared<Schema>(
      Schema{{"id", TypeKind::kInt64, false}, {"a \"b\"", TypeKind::kText, true}});
  stream->key = {0};
  return stream;
}

OutputBatch TwoRows() {
  OutputBatch batch(TestStream());
  batch.transactions = {{Lsn(1), 1'500'000, Xid(7)}};
  batch.ops = {OutputOp::kUpsert, OutputOp::kDelete};
  batch.transaction = {0, 0};
  batch.ordinals = {1, 2};
  for (int64_t id : {1, 2}) {
    batch.rows.column(0).Append(id);
    batch.rows.column(1).AppendNull();
  }
  return batch;
}

std::string Row(const OutputBatch& batch, size_t row) {
  Buffer to;
  JsonRowEncoder encoder;
  encoder.Append(batch, row, to);
  return std::string(to.view());
}

TEST(JsonRow, HasEveryColumnAndTheMetadata) {
  EXPECT_EQ(Row(TwoRows(), 0), R"({"id":1,"a \"b\"":null,"_version":"18446744073709551617",)"
                               R"("_commit_ts":"1970-01-01T00:00:01.5Z"})");
}

TEST(JsonRow, DeleteHasWhatItKnows) {
  EXPECT_EQ(Row(TwoRows(), 1), R"({"id":2,"_version":"18446744073709551618",)"
                               R"("_commit_ts":"1970-01-01T00:00:01.5Z","_deleted":true})");
}

TEST(JsonRow, PreparesAgainForAnotherVersionOfTheStream) {
  JsonRowEncoder encoder;
  Buffer to;
  encoder.Append(TwoRows(), 1, to);
  OutputBatch other = TwoRows();
  auto renamed = std::make_shared<Stream>(*other.stream);
  renamed->columns =
      std::make_shared<Schema>(Schema{{"key", TypeKind::kInt64}, {"b", TypeKind::kText}});
  other.stream = renamed;
  to.Clear();
  encoder.Append(other, 0, to);
  EXPECT_EQ(to.view().substr(0, 18), R"({"key":1,"b":null,)");
}

}  // namespace
}  // namespace millrace::sinks
