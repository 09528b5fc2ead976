// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/key_order.h"

#include <gtest/gtest.h>

#include "millrace/sources/postgres/type_map.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {
namespace {

SourceTable TableOf(const std::vector<TypeFacts>& key) {
  auto table = std::make_shared<Table>();
  Schema schema;
  SourceTable source;
  for (const TypeFacts& type : key) {
    ColumnTypeFacts facts;
    facts.type = type;
    table->primary_key.push_back(static_cast<uint32_t>(schema.size()));
    schema.push_back({"k" + std::to_string(schema.size()), MapColumnType(facts), false});
    source.types.push_back(facts);
  }
  table->columns = std::make_shared<const Schema>(std::move(schema));
  source.table = std::move(table);
  return source;
}

Result<KeyOrder> OrderOf(const std::vector<TypeFacts>& key, bool byte_ordered = true) {
  return KeyOrder::Make(TableOf(key), std::vector<bool>(key.size(), byte_ordered));
}

// `values` ascend as PostgreSQL orders them.
void ExpectAscending(const TypeFacts& type, const std::vector<std::string>& values) {
  const Result<KeyOrder> order = OrderOf({type});
  ASSERT_TRUE(order.ok()) << order.status().ToString();
  std::string last;
  for (size_t i = 0; i < values.size(); ++i) {
    const Result<KeyBound> key = order->FromText({values[i]});
    ASSERT_TRUE(key.ok()) << values[i] << ": " << key.status().ToString();
    if (i != 0) {
      EXPECT_LT(last, key->encoded) << values[i - 1] << " before " << values[i];
    }
    last = key->encoded;
  }
}

TEST(KeyOrderTest, ValuesAscendAsInPostgres) {
  ExpectAscending({kBoolOid}, {"f", "t"});
  ExpectAscending({kInt2Oid}, {"-32768", "-1", "0", "1", "32767"});
  ExpectAscending({kInt4Oid}, {"-2147483648", "-256", "-1", "0", "255", "256", "2147483647"});
  ExpectAscending({kInt8Oid}, {"-9223372036854775808", "-1", "0", "1", "9223372036854775807"});
  ExpectAscending({kFloat8Oid}, {"-Infinity", "-1e300", "-1", "-1e-300", "0", "1e-300", "2", "10",
                                 "Infinity", "NaN"});
  ExpectAscending({kFloat4Oid}, {"-Infinity", "-3.5", "0", "1e-45", "3.5", "Infinity", "NaN"});
  ExpectAscending({kUuidOid},
                  {"00000000-0000-0000-0000-000000000001", "7fffffff-0000-0000-0000-000000000000",
                   "80000000-0000-0000-0000-000000000000"});
  ExpectAscending({kDateOid}, {"-infinity", "0044-03-15 BC", "1969-12-31", "1970-01-01",
                               "20000-01-01", "infinity"});
  ExpectAscending({kTimestampTzOid},
                  {"-infinity", "0044-03-15 12:00:00+00 BC", "1969-12-31 23:59:59.999999+00",
                   "1970-01-01 00:00:00+00", "infinity"});
  ExpectAscending({kTimeOid}, {"00:00:00", "12:00:00", "12:00:00.5", "24:00:00"});
  ExpectAscending({kByteaOid}, {"\\x", "\\x00", "\\x0000", "\\x0001", "\\x01", "\\x0100", "\\xff"});
  ExpectAscending({kTextOid}, {"", " ", "A", "AB", "B", "a", "a b", "ab", "\xc3\xa4"});
  ExpectAscending({kBpcharOid}, {"", "a", "a!", "ab  "});
  const int32_t numeric_10_2 = ((10 << 16) | 2) + 4;
  ExpectAscending({kNumericOid, numeric_10_2}, {"-99999999.99", "-1.00", "0.00", "0.01", "12.00"});
  ExpectAscending({kNumericOid},
                  {"-Infinity", "-1000", "-999.9",  "-10.01", "-10",
                   "-1",        "-0.1",  "-0.0001", "0",      "0.00001",
                   "0.0002",    "0.1",   "0.11",    "0.2",    "1",
                   "1.5",       "9",     "10",      "10.001", "123456789012345678901234567890",
                   "Infinity",  "NaN"});
}

TEST(KeyOrderTest, EqualKeysAreOne) {
  const auto same = [](const TypeFacts& type, const char* a, const char* b) {
    const Result<KeyOrder> order = OrderOf({type});
    return order->FromText({a})->encoded == order->FromText({b})->encoded;
  };
  EXPECT_TRUE(same({kNumericOid}, "1.0", "1.00"));
  EXPECT_TRUE(same({kNumericOid}, "0", "-0.00"));
  EXPECT_TRUE(same({kFloat8Oid}, "0", "-0"));
  EXPECT_TRUE(same({kBpcharOid}, "ab", "ab   "));
  EXPECT_FALSE(same({kTextOid}, "ab", "ab "));
}

TEST(KeyOrderTest, TheFirstColumnComesFirst) {
  const Result<KeyOrder> order = OrderOf({{kTextOid}, {kInt4Oid}});
  ASSERT_TRUE(order.ok());
  const auto key = [&](const char* a, const char* b) { return order->FromText({a, b})->encoded; };
  EXPECT_LT(key("a", "2"), key("a", "10"));
  EXPECT_LT(key("a", "10"), key("a ", "-5"));
  EXPECT_LT(key("a", "10"), key("b", "-5"));
}

TEST(KeyOrderTest, WhatHasAnOrderOfItsOwnIsRefusedByName) {
  EXPECT_EQ(OrderOf({{kIntervalOid}}).status().code(), Code::kUnsupported);
  EXPECT_EQ(OrderOf({{kTimeTzOid}}).status().code(), Code::kUnsupported);
  EXPECT_EQ(OrderOf({{.oid = 5000, .is_enum = true}}).status().code(), Code::kUnsupported);
  EXPECT_EQ(OrderOf({{.oid = 5001, .is_text_extension = true}}).status().code(),
            Code::kUnsupported);
  EXPECT_EQ(OrderOf({{kTextOid}}, false).status().message(),
            "has column 'k0' in its key, whose collation is not C");
  EXPECT_EQ(OrderOf({}).status().message(), "has no primary key");
}

TEST(KeyOrderTest, ARowsTextReadsBackAsItsKey) {
  const std::vector<std::pair<TypeFacts, std::string>> cases = {
      {{kBoolOid}, "t"},
      {{kInt2Oid}, "-7"},
      {{kInt8Oid}, "-9223372036854775808"},
      {{kFloat8Oid}, "1e-300"},
      {{kUuidOid}, "00112233-4455-6677-8899-aabbccddeeff"},
      {{kDateOid}, "2024-02-29"},
      {{kTimestampOid}, "1969-12-31 23:59:59.999999"},
      {{kTimestampTzOid}, "2024-02-29 00:00:00+00"},
      {{kTimeOid}, "12:00:00.5"},
      {{kByteaOid}, "\\x00ff"},
      {{kTextOid}, "it's"},
      {{kNumericOid}, "-0.50"},
      {{kNumericOid, ((38 << 16) | 10) + 4}, "-1234567890123456789012345678.0123456789"},
  };
  for (const auto& [type, text] : cases) {
    const Result<KeyOrder> order = OrderOf({type});
    const Result<KeyBound> key = order->FromText({text});
    ASSERT_TRUE(key.ok()) << text;
    RowBatch row(TableOf({type}).table->columns);
    ASSERT_EQ(ValueParserFor(row.column(0).type())(text, row.column(0)), nullptr);
    const std::optional<KeyBound> from_row = order->FromRow(row, 0);
    ASSERT_TRUE(from_row.has_value()) << text;
    EXPECT_EQ(from_row->encoded, key->encoded);
    if (row.column(0).type().width() != 8 || type.oid == kInt8Oid || type.oid == kFloat8Oid) {
      EXPECT_EQ(order->FromText(from_row->text)->encoded, key->encoded) << from_row->text[0];
    } else {
      // ISO 8601, which PostgreSQL reads too.
      EXPECT_EQ(from_row->text[0], type.oid == kTimeOid        ? "12:00:00.5"
                                   : type.oid == kTimestampOid ? "1969-12-31T23:59:59.999999"
                                                               : "2024-02-29T00:00:00Z");
    }
  }
  const Result<KeyOrder> order = OrderOf({{kDateOid}});
  for (const char* text : {"infinity", "0044-03-15 BC", "20000-01-01"}) {
    RowBatch row(TableOf({{kDateOid}}).table->columns);
    ASSERT_EQ(ValueParserFor(row.column(0).type())(text, row.column(0)), nullptr);
    EXPECT_FALSE(order->FromRow(row, 0).has_value()) << text;
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
