// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/blackhole/blackhole_sink.h"

#include <gtest/gtest.h>

#include "millrace/sinks/testing/memory_delivery_log.h"
#include "millrace/sinks/testing/test_rows.h"

namespace millrace::sinks {
namespace {

TEST(BlackholeSink, CountsRowsAndKeepsThePosition) {
  const StreamPtr stream = testing::SmallStream();
  testing::MemoryDeliveryLog log;
  SinkContext context = testing::SmallContext("p", stream);
  context.delivery_log = &log;
  BlackholeSink sink(context);
  EXPECT_EQ(sink.Open({})->delivered, std::nullopt);
  ASSERT_TRUE(sink.Deliver(testing::NumberedDelivery(stream, 0, 10), {}).ok());
  EXPECT_EQ(sink.rows(), 10U);
  EXPECT_EQ(BlackholeSink(context).Open({})->delivered, Offset(10));
}

}  // namespace
}  // namespace millrace::sinks
