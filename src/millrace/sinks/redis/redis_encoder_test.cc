// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/redis_encoder.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

constexpr std::string_view kVersionOfRow1 = "18446744073709551617";

struct TestRow {
  OutputOp op;
  int64_t id;
  const char* type;  // nullptr: NULL
};

class RedisEncoderTest : public testing::Test {
 protected:
  RedisEncoderTest() {
    auto stream = std::make_shared<Stream>();
    stream->name = "events";
    stream->columns = std::make_shared<Schema>(
        Schema{{"id", TypeKind::kInt64, false}, {"type", TypeKind::kText, true}});
    stream->key = {0};
    stream_ = stream;
  }

  void AddWrite(RedisCommand command, const char* key) {
    writes_.push_back({.stream = "events", .command = command, .key = *KeyTemplate::Parse(key)});
  }

  void Begin(const std::vector<TestRow>& rows) {
    auto batch = std::make_shared<OutputBatch>(stream_);
    batch->transactions = {{Lsn(1), 1'500'999, Xid(7)}};
    for (const TestRow& row : rows) {
      batch->ops.push_back(row.op);
      batch->transaction.push_back(0);
      batch->ordinals.push_back(batch->ops.size());
      batch->rows.column(0).Append(row.id);
      if (row.type == nullptr) {
        batch->rows.column(1).AppendNull();
      } else {
        batch->rows.column(1).AppendText(row.type);
      }
    }
    delivery_.slices = {{batch, 0, batch->row_count()}};
    encoder_ = std::make_unique<RedisEncoder>(writes_);
    begun_ = encoder_->Begin(delivery_);
  }

  // The commands with `\r\n` written as a space.
  std::string Encode() {
    EXPECT_TRUE(begun_.ok()) << begun_.ToString();
    Buffer to;
    EXPECT_TRUE(encoder_->Encode(to, refused_).ok());
    std::string text;
    for (const char c : to.view()) {
      if (c == '\n') {
        text += ' ';
      } else if (c != '\r') {
        text += c;
      }
    }
    return text;
  }

  StreamPtr stream_;
  std::vector<RedisWrite> writes_;
  DeliveryBatch delivery_;
  std::unique_ptr<RedisEncoder> encoder_;
  std::map<Offset, std::string> refused_;
  Status begun_;
};

TEST_F(RedisEncoderTest, XaddHasExactBytes) {
  AddWrite(RedisCommand::kXadd, "e:{type}");
  Begin({{OutputOp::kUpsert, 5, "a"}});
  ASSERT_TRUE(begun_.ok());
  Buffer to;
  ASSERT_TRUE(encoder_->Encode(to, refused_).ok());
  EXPECT_EQ(to.view(),
            "*9\r\n$4\r\nXADD\r\n$3\r\ne:a\r\n$6\r\n1500-0\r\n$2\r\nid\r\n$1\r\n5\r\n$4\r\ntype\r\n"
            "$1\r\na\r\n$8\r\n_version\r\n$20\r\n18446744073709551617\r\n");
  EXPECT_EQ(encoder_->command_count(), 1U);
}

TEST_F(RedisEncoderTest, XaddTrimsCountsIdsAndLeavesNullsOut) {
  AddWrite(RedisCommand::kXadd, "e:{type}");
  writes_[0].maxlen = 1000;
  writes_[0].ttl = std::chrono::seconds(3);
  Begin({{OutputOp::kUpsert, 5, nullptr},
         {OutputOp::kMovedAway, 9, "b"},
         {OutputOp::kDelete, 6, nullptr}});
  ASSERT_EQ(encoder_->keys().size(), 1U);
  EXPECT_EQ(encoder_->keys()[0].name, "e:unknown");
  encoder_->keys()[0].last_id = {1500, 41};
  EXPECT_EQ(Encode(),
            "*7 $4 XADD $9 e:unknown $7 1500-42 $2 id $1 5 $8 _version $20 18446744073709551617 "
            "*9 $4 XADD $9 e:unknown $7 1500-43 $2 id $1 6 $8 _version $20 18446744073709551619 "
            "$8 _deleted $1 1 "
            "*5 $5 XTRIM $9 e:unknown $6 MAXLEN $1 ~ $4 1000 "
            "*3 $7 PEXPIRE $9 e:unknown $4 3000 ");
  EXPECT_EQ(encoder_->command_count(), 4U);
}

TEST_F(RedisEncoderTest, EncodesAgainFromNewIds) {
  AddWrite(RedisCommand::kXadd, "e");
  Begin({{OutputOp::kUpsert, 5, nullptr}});
  const std::string first = Encode();
  encoder_->keys()[0].last_id = {};
  EXPECT_EQ(Encode(), first);
  EXPECT_EQ(encoder_->command_count(), 1U);
}

TEST_F(RedisEncoderTest, HsetReplacesTheWholeHash) {
  AddWrite(RedisCommand::kHset, "h:{id}");
  writes_[0].ttl = std::chrono::seconds(1);
  Begin({{OutputOp::kUpsert, 1, nullptr}, {OutputOp::kDelete, 2, nullptr}});
  EXPECT_EQ(Encode(), "*2 $3 DEL $3 h:1 *6 $4 HSET $3 h:1 $2 id $1 1 $8 _version $20 " +
                          std::string(kVersionOfRow1) +
                          " *3 $7 PEXPIRE $3 h:1 $4 1000 *2 $3 DEL $3 h:2 ");
  EXPECT_EQ(encoder_->command_count(), 4U);
}

TEST_F(RedisEncoderTest, SetHoldsJson) {
  AddWrite(RedisCommand::kSet, "s:{id}");
  Begin({{OutputOp::kUpsert, 1, "x"}});
  const std::string json =
      R"({"id":1,"type":"x","_version":"18446744073709551617","_commit_ts":"1970-01-01T00:00:01.500999Z"})";
  EXPECT_EQ(Encode(), "*3 $3 SET $3 s:1 $" + std::to_string(json.size()) + " " + json + " ");
  writes_[0].ttl = std::chrono::seconds(1);
  Begin({{OutputOp::kUpsert, 1, "x"}});
  EXPECT_EQ(Encode(),
            "*5 $3 SET $3 s:1 $" + std::to_string(json.size()) + " " + json + " $2 PX $4 1000 ");
}

TEST_F(RedisEncoderTest, AMovedRowLeavesItsOldKey) {
  AddWrite(RedisCommand::kSet, "s:{type}");
  Begin({{OutputOp::kMovedAway, 1, "old"}, {OutputOp::kUpsert, 1, "new"}});
  EXPECT_EQ(Encode().substr(0, 39), "*2 $3 DEL $5 s:old *3 $3 SET $5 s:new $");
  Begin({{OutputOp::kMovedAway, 1, "same"}, {OutputOp::kUpsert, 1, "same"}});
  EXPECT_EQ(Encode().substr(0, 12), "*3 $3 SET $6");
}

TEST_F(RedisEncoderTest, PublishSendsDeletesToo) {
  AddWrite(RedisCommand::kPublish, "c");
  Begin({{OutputOp::kDelete, 1, nullptr}, {OutputOp::kMovedAway, 1, "a"}});
  const std::string text = Encode();
  EXPECT_EQ(text.substr(0, 24), "*3 $7 PUBLISH $1 c $101 ");
  EXPECT_NE(text.find("\"_deleted\":true}"), std::string::npos);
  EXPECT_EQ(encoder_->command_count(), 1U);
}

TEST_F(RedisEncoderTest, SnapshotRowsCanBeLeftOut) {
  AddWrite(RedisCommand::kXadd, "a");
  AddWrite(RedisCommand::kXadd, "b");
  writes_[0].snapshot = false;
  Begin({{OutputOp::kRead, 1, nullptr}});
  ASSERT_EQ(encoder_->keys().size(), 1U);
  EXPECT_EQ(encoder_->keys()[0].name, "b");
}

TEST_F(RedisEncoderTest, TwoEntriesShareTheIdsOfOneStream) {
  AddWrite(RedisCommand::kXadd, "all");
  AddWrite(RedisCommand::kXadd, "all");
  Begin({{OutputOp::kUpsert, 1, nullptr}});
  ASSERT_EQ(encoder_->keys().size(), 1U);
  const std::string text = Encode();
  EXPECT_NE(text.find("1500-0"), std::string::npos);
  EXPECT_NE(text.find("1500-1"), std::string::npos);
}

TEST_F(RedisEncoderTest, RefusesOneKeyOfTwoTypes) {
  AddWrite(RedisCommand::kXadd, "k");
  AddWrite(RedisCommand::kHset, "k");
  Begin({{OutputOp::kUpsert, 1, nullptr}});
  EXPECT_EQ(begun_.code(), Code::kFailedPrecondition);
  writes_.clear();
  AddWrite(RedisCommand::kPublish, "k");
  AddWrite(RedisCommand::kHset, "k");
  Begin({{OutputOp::kUpsert, 1, nullptr}});
  EXPECT_TRUE(begun_.ok());
}

TEST_F(RedisEncoderTest, StreamsThatAreNotNamedAreLeftOut) {
  AddWrite(RedisCommand::kXadd, "k");
  writes_[0].stream = "other";
  Begin({{OutputOp::kUpsert, 1, nullptr}});
  EXPECT_EQ(Encode(), "");
  EXPECT_EQ(encoder_->command_count(), 0U);
}

}  // namespace
}  // namespace millrace::sinks
