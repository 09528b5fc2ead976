// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/delivery_plan.h"

#include <array>
#include <functional>
#include <set>

#include <gtest/gtest.h>

namespace millrace::sinks::clickhouse {
namespace {

DeliveryPlan Plan() {
  DeliveryPlan plan;
  plan.first = Offset(10);
  plan.end = Offset(20);
  plan.position = {Epoch(1), Lsn(0x16B374D848)};
  plan.encoder_version = 1;
  plan.planned_at = {.wall_ms = 1'714'979'289'000, .boot = "start", .boot_ms = 77};
  plan.tables = {{"app", "orders", 3, 2, 10, 999, 11, ~uint64_t{0}, "i/p/s/orders/10-20/ff"},
                 {"app", "\"odd\\ name", 4, 1, 1, 9, 12, 13, "i/p/s/odd/10-20/0d"}};
  return plan;
}

TEST(DeliveryPlan, RoundTrips) {
  const Result<DeliveryPlan> parsed = DeliveryPlan::Parse(Plan().Format());
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(*parsed, Plan());
}

TEST(DeliveryPlan, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(DeliveryPlan::Parse(R"({"version": 2})").status().code(), Code::kUnsupported);
  const std::string text = Plan().Format();
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_EQ(DeliveryPlan::Parse(text.substr(0, n)).status().code(), Code::kCorruption) << n;
  }
  for (const char* bad : {"", "[]", "1", R"({"version": "1"})", R"({"version": 1})",
                          R"({"version": 1, "tables": [1]})"}) {
    EXPECT_EQ(DeliveryPlan::Parse(bad).status().code(), Code::kCorruption) << bad;
  }
}

TEST(CheckSamePlan, OtherRowsNeverPass) {
  struct Case {
    Code code;
    std::function<void(DeliveryPlan&)> change;
  };
  const Case cases[] = {
      {Code::kOk, [](DeliveryPlan&) {}},
      {Code::kOk, [](DeliveryPlan& p) { p.planned_at.wall_ms += 5; }},
      {Code::kOk, [](DeliveryPlan& p) { p.tables[0].token = "other"; }},
      {Code::kInternal, [](DeliveryPlan& p) { p.end = Offset(19); }},
      {Code::kInternal, [](DeliveryPlan& p) { p.first = Offset(11); }},
      {Code::kFailedPrecondition, [](DeliveryPlan& p) { p.tables.pop_back(); }},
      {Code::kFailedPrecondition, [](DeliveryPlan& p) { p.tables[0].table = "x"; }},
      {Code::kFailedPrecondition, [](DeliveryPlan& p) { p.tables[0].database = "x"; }},
      {Code::kFailedPrecondition, [](DeliveryPlan& p) { p.tables[0].stream_id = 9; }},
      {Code::kFailedPrecondition, [](DeliveryPlan& p) { p.tables[1].layout = 9; }},
      {Code::kCorruption, [](DeliveryPlan& p) { p.tables[0].row_count = 9; }},
      {Code::kCorruption, [](DeliveryPlan& p) { p.tables[0].schema_version = 9; }},
      {Code::kCorruption, [](DeliveryPlan& p) { p.tables[1].checksum = 9; }},
      {Code::kCorruption, [](DeliveryPlan& p) { p.tables[1].byte_count = 8; }},
      // A later encoder: other bytes of the same rows.
      {Code::kOk,
       [](DeliveryPlan& p) {
         p.encoder_version = 2;
         p.tables[1].checksum = 9;
         p.tables[1].byte_count = 8;
         p.tables[1].layout = 7;
       }},
  };
  for (const Case& c : cases) {
    DeliveryPlan rebuilt = Plan();
    c.change(rebuilt);
    EXPECT_EQ(CheckSamePlan(Plan(), rebuilt).code(), c.code) << rebuilt.Format();
  }
}

TEST(Checksum, SeesEveryByteAndTheLength) {
  std::set<uint64_t> seen;
  std::string text(70, '\0');
  for (size_t n = 0; n <= text.size(); ++n) {
    EXPECT_TRUE(seen.insert(Checksum(std::string_view(text).substr(0, n))).second) << n;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      text[i] = static_cast<char>(1 << bit);
      EXPECT_TRUE(seen.insert(Checksum(text)).second) << i;
    }
    text[i] = 0;
  }
  // Stands in stored plans.
  EXPECT_EQ(Checksum("millrace keeps this"), 17247294343337130278U);
  const std::string_view sample = "forty-eight bytes, three steps of the checksum.";
  for (size_t a = 0; a <= sample.size(); ++a) {
    for (size_t b = a; b <= sample.size(); ++b) {
      const std::array pieces = {sample.substr(0, a), sample.substr(a, b - a), sample.substr(b)};
      EXPECT_EQ(Checksum(pieces), Checksum(sample)) << a << " " << b;
    }
  }
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
