// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/stdout/stdout_sink.h"

#include <array>
#include <chrono>
#include <memory>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/sinks/testing/memory_delivery_log.h"
#include "millrace/sinks/testing/test_rows.h"

namespace millrace::sinks {
namespace {

using testing::MemoryDeliveryLog;
using testing::NumberedDelivery;
using testing::SmallContext;
using testing::SmallDelivery;
using testing::SmallStream;

class StdoutSinkTest : public ::testing::Test {
 protected:
  StdoutSinkTest() {
    EXPECT_EQ(::pipe2(pipe_.data(), O_CLOEXEC), 0);
    SinkContext context = SmallContext("p", stream_);
    context.delivery_log = &log_;
    sink_ = std::make_unique<StdoutSink>(std::move(context), pipe_[1]);
  }
  ~StdoutSinkTest() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  std::string Read() {
    std::string text(4096, '\0');
    const ssize_t n = ::read(pipe_[0], text.data(), text.size());
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
  }

  std::array<int, 2> pipe_{};
  StreamPtr stream_ = SmallStream();
  MemoryDeliveryLog log_;
  std::unique_ptr<StdoutSink> sink_;
};

TEST_F(StdoutSinkTest, PrintsALineForEachRowAndKeepsThePosition) {
  ASSERT_EQ(sink_->Open({})->delivered, std::nullopt);
  ASSERT_TRUE(sink_
                  ->Deliver(SmallDelivery(stream_, 0,
                                          {{7, "a\n", std::nullopt},
                                           {7, "a", "x", OutputOp::kMovedAway},
                                           {7, std::nullopt, std::nullopt, OutputOp::kDelete}}),
                            {})
                  .ok());
  EXPECT_EQ(Read(), R"({"_stream":"events","id":7,"type":"a\n","note":null,)"
                    R"("_version":"75557863725914323419137","_commit_ts":"2023-11-14T22:13:20Z"})"
                    "\n"
                    R"({"_stream":"events","id":7,"_version":"75557863725914323419139",)"
                    R"("_commit_ts":"2023-11-14T22:13:20Z","_deleted":true})"
                    "\n");
  EXPECT_EQ(*sink_->ReadPosition(), Offset(3));
}

TEST_F(StdoutSinkTest, EmbeddedJsonStaysOnItsLine) {
  auto stream = std::make_shared<Stream>(*stream_);
  stream->columns = std::make_shared<Schema>(
      Schema{{"id", TypeKind::kInt64}, {"type", TypeKind::kText}, {"note", TypeKind::kJson}});
  ASSERT_TRUE(sink_->Deliver(SmallDelivery(stream, 0, {{1, "a", "{\n\"k\": 1}"}}), {}).ok());
  const std::string text = Read();
  EXPECT_NE(text.find("{ \"k\": 1}"), std::string::npos);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST_F(StdoutSinkTest, StopUnblocksAFullPipe) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(sink_->Deliver(NumberedDelivery(stream_, 0, 5'000), stop.get_token()).code(),
            Code::kCancelled);
  EXPECT_EQ(*sink_->ReadPosition(), std::nullopt);
}

}  // namespace
}  // namespace millrace::sinks
