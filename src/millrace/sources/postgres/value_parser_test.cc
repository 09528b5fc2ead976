// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/value_parser.h"

#include <cmath>
#include <cstdint>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

std::string HexOf(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  }
  return hex;
}

// One value of a column, for comparison.
std::string Show(const Column& column, size_t row) {
  if (column.IsNull(row)) {
    return "NULL";
  }
  switch (column.type().kind) {
    case TypeKind::kBool:
      return column.Value<uint8_t>(row) != 0 ? "true" : "false";
    case TypeKind::kInt16:
      return fmt::format("{}", column.Value<int16_t>(row));
    case TypeKind::kInt32:
    case TypeKind::kDate:
      return fmt::format("{}", column.Value<int32_t>(row));
    case TypeKind::kInt64:
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return fmt::format("{}", column.Value<int64_t>(row));
    case TypeKind::kFloat32:
      return fmt::format("{}", column.Value<float>(row));
    case TypeKind::kFloat64:
      return fmt::format("{}", column.Value<double>(row));
    case TypeKind::kDecimal:
      switch (column.type().width()) {
        case 2:
          return fmt::format("{}", column.Value<int16_t>(row));
        case 4:
          return fmt::format("{}", column.Value<int32_t>(row));
        case 8:
          return fmt::format("{}", column.Value<int64_t>(row));
        default:
          return FormatInt128(column.Value<Int128>(row));
      }
    case TypeKind::kInterval: {
      const auto v = column.Value<Interval>(row);
      return fmt::format("{} {} {}", v.months, v.days, v.micros);
    }
    case TypeKind::kUuid:
      return HexOf({column.ValueBytes(row), 16});
    case TypeKind::kBytes:
      return HexOf(column.Text(row));
    case TypeKind::kList: {
      std::string list = "[";
      const auto [begin, end] = column.ListRange(row);
      for (size_t i = begin; i < end; ++i) {
        list += (i == begin ? "" : "|") + Show(column.child(), i);
      }
      return list + "]";
    }
    default:
      return std::string(column.Text(row));
  }
}

// The value that `text` gives, or "bad row" or "corrupt".
std::string Parse(const DataType& type, std::string_view text) {
  Column column(type);
  const ValueError* error = ValueParserFor(type)(text, column);
  if (error != nullptr) {
    EXPECT_EQ(column.size(), 0u) << text;
    if (type.is_list()) {
      EXPECT_EQ(column.child().size(), 0u) << text;
    }
    EXPECT_FALSE(error->reason.empty());
    return error->code == Code::kInvalidArgument ? "bad row"
           : error->code == Code::kCorruption    ? "corrupt"
                                                 : "wrong code";
  }
  EXPECT_EQ(column.size(), 1u) << text;
  return Show(column, 0);
}

struct Case {
  std::string text;
  std::string value;
};

void Check(const DataType& type, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(Parse(type, c.text), c.value) << type.ToString() << ": " << c.text;
  }
}

TEST(ValueParser, Bools) {
  Check(TypeKind::kBool, {{"t", "true"}, {"f", "false"}, {"", "corrupt"}, {"true", "corrupt"}});
}

TEST(ValueParser, Integers) {
  Check(TypeKind::kInt16, {{"0", "0"},
                           {"-32768", "-32768"},
                           {"32767", "32767"},
                           {"32768", "corrupt"},
                           {"", "corrupt"},
                           {"1 ", "corrupt"}});
  Check(TypeKind::kInt32, {{"-2147483648", "-2147483648"},
                           {"2147483647", "2147483647"},
                           {"2147483648", "corrupt"},
                           {"0x1", "corrupt"}});
  Check(TypeKind::kInt64, {{"-9223372036854775808", "-9223372036854775808"},
                           {"9223372036854775807", "9223372036854775807"},
                           {"9223372036854775808", "corrupt"},
                           {"+1", "corrupt"}});
}

TEST(ValueParser, Floats) {
  Check(TypeKind::kFloat64, {{"0", "0"},
                             {"-0", "-0"},
                             {"0.1", "0.1"},
                             {"1.7976931348623157e+308", "1.7976931348623157e+308"},
                             {"5e-324", "5e-324"},
                             {"2.2250738585072014e-308", "2.2250738585072014e-308"},
                             {"Infinity", "inf"},
                             {"-Infinity", "-inf"},
                             {"NaN", "nan"},
                             {"inf", "corrupt"},
                             {"nan", "corrupt"},
                             {"", "corrupt"},
                             {"-", "corrupt"},
                             {"1.5x", "corrupt"},
                             {"0.30000000000000004", "0.30000000000000004"}});
  Check(TypeKind::kFloat32, {{"1e-45", "1e-45"},
                             {"3.4028235e+38", "3.4028235e+38"},
                             {"0.1", "0.1"},
                             {"NaN", "nan"},
                             {"Infinity", "inf"}});
  Column column(TypeKind::kFloat64);
  ASSERT_EQ(ValueParserFor(TypeKind::kFloat64)("-0", column), nullptr);
  EXPECT_TRUE(std::signbit(column.Value<double>(0)));
}

TEST(ValueParser, DecimalsAreExactInEveryWidth) {
  Check(DataType::Decimal(4, 2), {{"12.34", "1234"},
                                  {"-99.99", "-9999"},
                                  {"0.00", "0"},
                                  {"99.999", "bad row"},
                                  {"100.00", "bad row"},
                                  {"5", "500"},
                                  {"0.100", "10"},
                                  {"NaN", "32767"},
                                  {"-NaN", "corrupt"},
                                  {"Infinity", "corrupt"},
                                  {"", "corrupt"},
                                  {"-", "corrupt"},
                                  {"1.2.3", "corrupt"},
                                  {"1e5", "corrupt"},
                                  {".", "corrupt"}});
  Check(DataType::Decimal(9, 0), {{"999999999", "999999999"}, {"1000000000", "bad row"}});
  Check(DataType::Decimal(9, 9), {{"0.123456789", "123456789"}, {"1.0", "bad row"}});
  Check(DataType::Decimal(18, 6), {{"999999999999.999999", "999999999999999999"},
                                   {"-0.000001", "-1"},
                                   {"1000000000000", "bad row"}});
  Check(DataType::Decimal(38, 0),
        {{"99999999999999999999999999999999999999", "99999999999999999999999999999999999999"},
         {"-99999999999999999999999999999999999999", "-99999999999999999999999999999999999999"},
         {"100000000000000000000000000000000000000", "bad row"},
         {"000000000000000000000000000000000000000000001", "1"}});
  Check(DataType::Decimal(38, 10),
        {{"1234567890123456789012345678.0123456789", "12345678901234567890123456780123456789"},
         {"0", "0"},
         {"1", "10000000000"},
         {"12345678901234567890123456789", "bad row"}});
  Check(DataType::Decimal(38, 38), {{"0.00000000000000000000000000000000000001", "1"}});
}

TEST(ValueParser, Dates) {
  Check(TypeKind::kDate, {{"1970-01-01", "0"},           {"1969-12-31", "-1"},
                          {"2000-02-29", "11016"},       {"1582-10-04", "-141438"},
                          {"0001-01-01", "-719162"},     {"0001-12-31 BC", "-719163"},
                          {"4714-11-24 BC", "-2440588"}, {"0001-02-29 BC", "-719469"},
                          {"10000-01-01", "2932897"},    {"5874897-12-31", "2145042905"},
                          {"infinity", "2147483647"},    {"-infinity", "-2147483647"},
                          {"2001-02-29", "corrupt"},     {"1900-02-29", "corrupt"},
                          {"2001-13-01", "corrupt"},     {"2001-00-01", "corrupt"},
                          {"2001-01-00", "corrupt"},     {"2001-04-31", "corrupt"},
                          {"0000-01-01", "corrupt"},     {"", "corrupt"},
                          {"2001-01-01 AD", "corrupt"},  {"2001-01-01x", "corrupt"},
                          {"201-01-01", "corrupt"},      {"12345678-01-01", "corrupt"}});
}

TEST(ValueParser, Times) {
  Check(TypeKind::kTime, {{"00:00:00", "0"},
                          {"23:59:59.999999", "86399999999"},
                          {"24:00:00", "86400000000"},
                          {"12:34:56.7", "45296700000"},
                          {"24:00:01", "corrupt"},
                          {"12:60:00", "corrupt"},
                          {"12:00:60", "corrupt"},
                          {"12:00", "corrupt"},
                          {"12:00:00.", "corrupt"},
                          {"12:00:00.1234567", "corrupt"},
                          {"", "corrupt"}});
}

TEST(ValueParser, Timestamps) {
  Check(TypeKind::kTimestamp, {{"1970-01-01 00:00:00", "0"},
                               {"2026-11-22 18:05:03.123456", "1795370703123456"},
                               {"1969-12-31 23:59:59.5", "-500000"},
                               {"0044-03-15 12:00:00 BC", "-63517780800000000"},
                               {"4714-11-24 00:00:00 BC", "-210866803200000000"},
                               {"294247-01-10 04:00:54.775806", "9223372036854775806"},
                               {"294247-01-10 04:00:54.775807", "bad row"},
                               {"294276-12-31 23:59:59.999999", "bad row"},
                               {"infinity", "9223372036854775807"},
                               {"-infinity", "-9223372036854775807"},
                               {"2026-11-22 18:05:03+00", "corrupt"},
                               {"2026-11-22T18:05:03", "corrupt"},
                               {"2026-11-22", "corrupt"},
                               {"", "corrupt"},
                               {"-infinitY", "corrupt"},
                               {"y", "corrupt"}});
  Check(TypeKind::kTimestampTz, {{"1970-01-01 00:00:00+00", "0"},
                                 {"2026-11-22 18:05:03.123456+00", "1795370703123456"},
                                 {"1970-01-01 05:30:00+05:30", "0"},
                                 {"1969-12-31 21:00:00-03", "0"},
                                 {"1900-01-01 00:19:32+00:19:32", "-2208988800000000"},
                                 {"0044-03-15 12:00:00+00 BC", "-63517780800000000"},
                                 {"20000-01-01 00:00:00+00", "568971820800000000"},
                                 {"infinity", "9223372036854775807"},
                                 {"-infinity", "-9223372036854775807"},
                                 {"1970-01-01 00:00:00", "corrupt"},
                                 {"1970-01-01 00:00:00+", "corrupt"},
                                 {"1970-01-01 00:00:00+0", "corrupt"},
                                 {"1970-01-01 00:00:00Z", "corrupt"}});
}

TEST(ValueParser, Intervals) {
  Check(TypeKind::kInterval, {{"PT0S", "0 0 0"},
                              {"P1Y2M3DT4H5M6.789S", "14 3 14706789000"},
                              {"P-1Y-2M3DT-4H-5M-6.7S", "-14 3 -14706700000"},
                              {"P1Y-2M", "10 0 0"},
                              {"PT-0.000001S", "0 0 -1"},
                              {"P-1D", "0 -1 0"},
                              {"PT1M", "0 0 60000000"},
                              {"P1M", "1 0 0"},
                              {"P178956970Y7M", "2147483647 0 0"},
                              {"P-178956970Y-8M", "-2147483648 0 0"},
                              {"P178956970Y8M", "bad row"},
                              {"P2147483648D", "bad row"},
                              {"PT2562047788H54.775807S", "0 0 9223372036854775807"},
                              {"PT2562047788H54.775808S", "bad row"},
                              {"PT-2562047788H-54.775808S", "0 0 -9223372036854775808"},
                              {"P178956970Y7M2147483647DT2562047788H54.775807S", "bad row"},
                              {"infinity", "2147483647 2147483647 9223372036854775807"},
                              {"-infinity", "-2147483648 -2147483648 -9223372036854775808"},
                              {"", "corrupt"},
                              {"P", "corrupt"},
                              {"PT", "corrupt"},
                              {"P1", "corrupt"},
                              {"P1H", "corrupt"},
                              {"PT1D", "corrupt"},
                              {"P1.5D", "corrupt"},
                              {"P--1D", "corrupt"},
                              {"1 day", "corrupt"},
                              {"P1DT", "corrupt"}});
}

TEST(ValueParser, UuidsAndBytes) {
  Check(TypeKind::kUuid,
        {{"00112233-4455-6677-8899-aabbccddeeff", "00112233445566778899aabbccddeeff"},
         {"00112233-4455-6677-8899-AABBCCDDEEFF", "00112233445566778899aabbccddeeff"},
         {"00112233-4455-6677-8899-aabbccddeefg", "corrupt"},
         {"00112233445566778899aabbccddeeff", "corrupt"},
         {"", "corrupt"},
         {"00112233-4455-6677-8899-aabbccddee-f", "corrupt"}});
  Check(TypeKind::kBytes, {{"\\x", ""},
                           {"\\x00ff10", "00ff10"},
                           {"\\x0", "corrupt"},
                           {"\\xzz", "corrupt"},
                           {"abc", "corrupt"},
                           {"", "corrupt"}});
  std::string large = "\\x";
  std::string hex;
  for (int i = 0; i < 5000; ++i) {
    hex += fmt::format("{:02x}", i % 256);
  }
  EXPECT_EQ(Parse(TypeKind::kBytes, large + hex), hex);
}

TEST(ValueParser, TextEnumAndJsonAreAsTheyStand) {
  Check(TypeKind::kText, {{"", ""}, {"NULL", "NULL"}, {"a\tb\\n", "a\tb\\n"}});
  Check(TypeKind::kEnum, {{"play", "play"}});
  Check(TypeKind::kJson, {{"{\"a\":  1}", "{\"a\":  1}"}, {"null", "null"}, {"", "corrupt"}});
}

// Only a database of encoding SQL_ASCII sends such.
TEST(ValueParser, TextThatIsNotUtf8IsABadRow) {
  for (const DataType& type :
       {DataType(TypeKind::kText), DataType(TypeKind::kEnum), DataType(TypeKind::kJson)}) {
    Check(type, {{"na\xc3\xafve \xf0\x9f\x98\x80", "na\xc3\xafve \xf0\x9f\x98\x80"},
                 {"caf\xe9", "bad row"},
                 {"\xc0\xaf", "bad row"},
                 {"\xed\xa0\x80", "bad row"},
                 {"cut \xf0\x9f", "bad row"}});
  }
  Check(DataType::List(TypeKind::kText), {{"{a,\"\xff\"}", "bad row"}});
}

TEST(ValueParser, AValueBeyondTheLargestRowIsABadRow) {
  std::string text(kRowBytesMax + 1, 'a');
  EXPECT_EQ(Parse(TypeKind::kText, text), "bad row");
  EXPECT_EQ(Parse(DataType::List(TypeKind::kText), "{" + text + "}"), "bad row");
  text.pop_back();
  Column column(TypeKind::kText);
  EXPECT_EQ(ValueParserFor(TypeKind::kText)(text, column), nullptr);
  EXPECT_EQ(column.Text(0).size(), kRowBytesMax);
}

TEST(ValueParser, FailedBytesLeaveEarlierRowsAlone) {
  Column column(TypeKind::kBytes);
  ASSERT_EQ(ValueParserFor(TypeKind::kBytes)("\\x0102", column), nullptr);
  ASSERT_NE(ValueParserFor(TypeKind::kBytes)("\\x03zz", column), nullptr);
  ASSERT_EQ(ValueParserFor(TypeKind::kBytes)("\\x04", column), nullptr);
  EXPECT_EQ(Show(column, 0), "0102");
  EXPECT_EQ(Show(column, 1), "04");
}

TEST(ValueParser, Arrays) {
  Check(DataType::List(TypeKind::kInt32), {{"{}", "[]"},
                                           {"{1}", "[1]"},
                                           {"{1,NULL,-3}", "[1|NULL|-3]"},
                                           {"[2:3]={5,6}", "[5|6]"},
                                           {"[-1:0]={5,6}", "[5|6]"},
                                           {"{{1,2},{3,4}}", "bad row"},
                                           {"[1:1][2:3]={{1,2}}", "bad row"},
                                           {"{1,{2}}", "bad row"},
                                           {"{1,}", "corrupt"},
                                           {"{,1}", "corrupt"},
                                           {"{1", "corrupt"},
                                           {"1}", "corrupt"},
                                           {"", "corrupt"},
                                           {"{", "corrupt"},
                                           {"{1,x}", "corrupt"},
                                           {"[2:3]{5,6}", "corrupt"},
                                           {"[2:3=]={5}", "corrupt"},
                                           {"{1 2}", "corrupt"},
                                           {"{1}2}", "corrupt"}});
  Check(DataType::List(TypeKind::kText),
        {{"{a,\"b c\",\"\",\"NULL\",NULL}", "[a|b c||NULL|NULL]"},
         {"{\"a\\\"b\",\"c\\\\d\",\"{e}\",\"f,g\"}", "[a\"b|c\\d|{e}|f,g]"},
         {"{\"a}", "corrupt"},
         {"{\"a\\", "corrupt"},
         {"{\"a\"b}", "corrupt"},
         {"{a\"b}", "corrupt"},
         {"{null}", "[null]"}});
  Check(DataType::List(TypeKind::kBytes), {{"{\"\\\\x00ff\",NULL}", "[00ff|NULL]"}});
  Check(DataType::List(DataType::Decimal(10, 2)), {{"{1.50,NaN}", "[150|9223372036854775807]"}});
  Check(DataType::List(TypeKind::kTimestampTz), {{"{\"1970-01-01 00:00:01+00\"}", "[1000000]"}});
  Check(DataType::List(TypeKind::kJson), {{"{\"{\\\"a\\\": 1}\"}", "[{\"a\": 1}]"}});
}

TEST(ValueParser, AFailedArrayLeavesEarlierRowsAlone) {
  const DataType type = DataType::List(TypeKind::kInt32);
  Column column(type);
  ASSERT_EQ(ValueParserFor(type)("{1,2}", column), nullptr);
  ASSERT_NE(ValueParserFor(type)("{3,x}", column), nullptr);
  ASSERT_EQ(ValueParserFor(type)("{4}", column), nullptr);
  EXPECT_EQ(Show(column, 0), "[1|2]");
  EXPECT_EQ(Show(column, 1), "[4]");
}

// No prefix of a value may crash or run past the end; most are corrupt, none is read as the whole.
TEST(ValueParser, CutTextsNeverRunPastTheirEnd) {
  const std::pair<DataType, std::string> values[] = {
      {TypeKind::kTimestampTz, "20260-11-22 18:05:03.123456+05:30:15 BC"},
      {TypeKind::kInterval, "P-1Y-2M3DT-4H-5M-6.789S"},
      {TypeKind::kUuid, "00112233-4455-6677-8899-aabbccddeeff"},
      {DataType::Decimal(38, 10), "-1234567890123456789012345678.0123456789"},
      {DataType::List(TypeKind::kText), "[2:4]={\"a\\\"b\",NULL,c}"},
      {TypeKind::kBytes, "\\x00ff10"},
  };
  for (const auto& [type, text] : values) {
    for (size_t n = 0; n < text.size(); ++n) {
      // A copy of its own, so that a sanitizer sees a read behind it.
      const std::string cut = text.substr(0, n);
      EXPECT_NE(Parse(type, cut), Parse(type, text)) << cut;
    }
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
