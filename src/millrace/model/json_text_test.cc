// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/json_text.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "millrace/model/value_text.h"

namespace millrace {
namespace {

constexpr int64_t kSecond = 1'000'000;

std::string Json(const Column& column, size_t row = 0) {
  Buffer to;
  JsonWriterOf(column.type())(column, row, to);
  return std::string(to.view());
}

std::string Text(const Column& column, size_t row = 0) {
  Buffer to;
  TextWriterOf(column.type())(column, row, to);
  return std::string(to.view());
}

template <typename T>
Column One(DataType type, T value) {
  Column column(std::move(type));
  column.Append(value);
  return column;
}

Column OneText(TypeKind kind, std::string_view value) {
  Column column(kind);
  column.AppendText(value);
  return column;
}

struct Case {
  // NOLINTNEXTLINE(google-explicit-constructor)
  Case(Column c, const char* t, const char* j)
      : column(std::make_shared<Column>(std::move(c))), text(t), json(j) {}
  std::shared_ptr<const Column> column;
  const char* text;
  const char* json;
};

void Check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(Text(*c.column), c.text) << c.column->type().ToString();
    EXPECT_EQ(Json(*c.column), c.json) << c.column->type().ToString();
  }
}

TEST(JsonText, BooleansAndIntegers) {
  Check({
      {One<uint8_t>(TypeKind::kBool, 1), "true", "true"},
      {One<uint8_t>(TypeKind::kBool, 0), "false", "false"},
      {One<int8_t>(TypeKind::kInt8, INT8_MIN), "-128", "-128"},
      {One<int16_t>(TypeKind::kInt16, INT16_MIN), "-32768", "-32768"},
      {One<int32_t>(TypeKind::kInt32, INT32_MIN), "-2147483648", "-2147483648"},
      {One<int64_t>(TypeKind::kInt64, INT64_MIN), "-9223372036854775808", "-9223372036854775808"},
      {One<uint8_t>(TypeKind::kUInt8, UINT8_MAX), "255", "255"},
      {One<uint16_t>(TypeKind::kUInt16, UINT16_MAX), "65535", "65535"},
      {One<uint32_t>(TypeKind::kUInt32, UINT32_MAX), "4294967295", "4294967295"},
      {One<uint64_t>(TypeKind::kUInt64, UINT64_MAX), "18446744073709551615",
       "18446744073709551615"},
      {One<Int128>(TypeKind::kInt128, static_cast<Int128>(UInt128{1} << 127)),
       "-170141183460469231731687303715884105728", "\"-170141183460469231731687303715884105728\""},
      {One<UInt128>(TypeKind::kUInt128, ~UInt128{0}), "340282366920938463463374607431768211455",
       "\"340282366920938463463374607431768211455\""},
  });
}

TEST(JsonText, FloatsAreTheShortestThatReadBack) {
  using Limits = std::numeric_limits<double>;
  Check({
      {One(TypeKind::kFloat64, 0.1), "0.1", "0.1"},
      {One(TypeKind::kFloat64, -0.0), "-0", "-0"},
      {One(TypeKind::kFloat64, 1e300), "1e+300", "1e+300"},
      {One(TypeKind::kFloat64, Limits::denorm_min()), "5e-324", "5e-324"},
      {One(TypeKind::kFloat64, Limits::max()), "1.7976931348623157e+308",
       "1.7976931348623157e+308"},
      {One(TypeKind::kFloat64, Limits::quiet_NaN()), "NaN", "\"NaN\""},
      {One(TypeKind::kFloat64, Limits::infinity()), "Infinity", "\"Infinity\""},
      {One(TypeKind::kFloat64, -Limits::infinity()), "-Infinity", "\"-Infinity\""},
      {One(TypeKind::kFloat32, 0.1F), "0.1", "0.1"},
      {One(TypeKind::kFloat32, std::nanf("")), "NaN", "\"NaN\""},
  });
}

TEST(JsonText, DecimalsKeepEveryDigit) {
  const UInt128 most = [] {
    UInt128 v = 0;
    for (int i = 0; i < 38; ++i) {
      v = v * 10 + 9;
    }
    return v;
  }();
  Check({
      {One<int16_t>(DataType::Decimal(4, 2), 1230), "12.30", "\"12.30\""},
      {One<int16_t>(DataType::Decimal(4, 4), -5), "-0.0005", "\"-0.0005\""},
      {One<int16_t>(DataType::Decimal(4, 2), 0), "0.00", "\"0.00\""},
      {One<int32_t>(DataType::Decimal(9, 0), INT32_MIN), "-2147483648", "\"-2147483648\""},
      {One<int64_t>(DataType::Decimal(18, 1), 10), "1.0", "\"1.0\""},
      {One<Int128>(DataType::Decimal(38, 0), static_cast<Int128>(most)),
       "99999999999999999999999999999999999999", "\"99999999999999999999999999999999999999\""},
      {One<Int128>(DataType::Decimal(38, 38), -static_cast<Int128>(most)),
       "-0.99999999999999999999999999999999999999",
       "\"-0.99999999999999999999999999999999999999\""},
      {One<int16_t>(DataType::Decimal(4, 2), INT16_MAX), "NaN", "\"NaN\""},
      {One<int32_t>(DataType::Decimal(9, 2), INT32_MAX), "NaN", "\"NaN\""},
      {One<int64_t>(DataType::Decimal(18, 2), INT64_MAX), "NaN", "\"NaN\""},
      {One<Int128>(DataType::Decimal(38, 2), kDecimalNaN<Int128>), "NaN", "\"NaN\""},
  });
}

TEST(JsonText, DatesAndTimes) {
  Check({
      {One<int32_t>(TypeKind::kDate, 0), "1970-01-01", "\"1970-01-01\""},
      {One<int32_t>(TypeKind::kDate, 19'782), "2024-02-29", "\"2024-02-29\""},
      {One<int32_t>(TypeKind::kDate, -1), "1969-12-31", "\"1969-12-31\""},
      // 4713-01-01 BC, Julian day 0 of PostgreSQL's range, and its last date.
      {One<int32_t>(TypeKind::kDate, -2'440'588), "-004713-11-24", "\"-004713-11-24\""},
      {One<int32_t>(TypeKind::kDate, 2'932'897), "+010000-01-01", "\"+010000-01-01\""},
      {One<int32_t>(TypeKind::kDate, -719'529), "-000001-12-31", "\"-000001-12-31\""},
      {One<int32_t>(TypeKind::kDate, -719'528), "0000-01-01", "\"0000-01-01\""},
      {One<int32_t>(TypeKind::kDate, 2'145'042'905), "+5874897-12-31", "\"+5874897-12-31\""},
      {One<int32_t>(TypeKind::kDate, kDateInfinity), "infinity", "\"infinity\""},
      {One<int32_t>(TypeKind::kDate, kDateMinusInfinity), "-infinity", "\"-infinity\""},
      {One<int64_t>(TypeKind::kTime, 0), "00:00:00", "\"00:00:00\""},
      {One<int64_t>(TypeKind::kTime, 86'400 * kSecond), "24:00:00", "\"24:00:00\""},
      {One<int64_t>(TypeKind::kTime, 86'399 * kSecond + 999'990), "23:59:59.99999",
       "\"23:59:59.99999\""},
      {One<int64_t>(TypeKind::kTimestamp, 1'709'251'199 * kSecond + 500'000),
       "2024-02-29T23:59:59.5", "\"2024-02-29T23:59:59.5\""},
      {One<int64_t>(TypeKind::kTimestampTz, 1'709'251'199 * kSecond + 1),
       "2024-02-29T23:59:59.000001Z", "\"2024-02-29T23:59:59.000001Z\""},
      {One<int64_t>(TypeKind::kTimestampTz, -1), "1969-12-31T23:59:59.999999Z",
       "\"1969-12-31T23:59:59.999999Z\""},
      {One<int64_t>(TypeKind::kTimestampTz, 0), "1970-01-01T00:00:00Z", "\"1970-01-01T00:00:00Z\""},
      {One<int64_t>(TypeKind::kTimestamp, kTimestampInfinity), "infinity", "\"infinity\""},
      {One<int64_t>(TypeKind::kTimestampTz, kTimestampMinusInfinity), "-infinity", "\"-infinity\""},
      // The last timestamp that the type holds.
      {One<int64_t>(TypeKind::kTimestamp, INT64_MAX - 1), "+294247-01-10T04:00:54.775806",
       "\"+294247-01-10T04:00:54.775806\""},
  });
}

TEST(JsonText, Intervals) {
  Check({
      {One(TypeKind::kInterval, Interval{}), "PT0S", "\"PT0S\""},
      {One(TypeKind::kInterval, Interval{14, 3, (4 * 3600 + 5 * 60 + 6) * kSecond + 500'000}),
       "P1Y2M3DT4H5M6.5S", "\"P1Y2M3DT4H5M6.5S\""},
      {One(TypeKind::kInterval, Interval{-1, 2, -kSecond / 2}), "P-1M2DT-0.5S", "\"P-1M2DT-0.5S\""},
      {One(TypeKind::kInterval, Interval{0, 1, 0}), "P1D", "\"P1D\""},
      {One(TypeKind::kInterval, Interval{0, 0, INT64_MIN}), "PT-2562047788H-54.775808S",
       "\"PT-2562047788H-54.775808S\""},
      {One(TypeKind::kInterval, Interval{INT32_MIN, INT32_MIN, 60 * kSecond}),
       "P-178956970Y-8M-2147483648DT1M", "\"P-178956970Y-8M-2147483648DT1M\""},
      {One(TypeKind::kInterval, kIntervalInfinity), "infinity", "\"infinity\""},
      {One(TypeKind::kInterval, kIntervalMinusInfinity), "-infinity", "\"-infinity\""},
  });
}

TEST(JsonText, UuidsAndBytes) {
  Column uuid(TypeKind::kUuid);
  uuid.AppendFixed("\x01\x90\x16\x3d\x86\x94\x73\x9b\xae\xa5\x96\x6c\x26\xf8\xad\x91");
  Check({
      {std::move(uuid), "0190163d-8694-739b-aea5-966c26f8ad91",
       "\"0190163d-8694-739b-aea5-966c26f8ad91\""},
      {OneText(TypeKind::kBytes, ""), "", "\"\""},
      {OneText(TypeKind::kBytes, "f"), "Zg==", "\"Zg==\""},
      {OneText(TypeKind::kBytes, "fo"), "Zm8=", "\"Zm8=\""},
      {OneText(TypeKind::kBytes, std::string_view("\0\xff\x80", 3)), "AP+A", "\"AP+A\""},
      {OneText(TypeKind::kBytes, "foobar"), "Zm9vYmFy", "\"Zm9vYmFy\""},
  });
}

TEST(JsonText, StringsAreEscaped) {
  Check({
      {OneText(TypeKind::kText, ""), "", "\"\""},
      {OneText(TypeKind::kEnum, "play"), "play", "\"play\""},
      {OneText(TypeKind::kText, "a\"b\\c/d"), "a\"b\\c/d", R"("a\"b\\c/d")"},
      {OneText(TypeKind::kText, "\b\f\n\r\t\x01\x1f\x7f"), "\b\f\n\r\t\x01\x1f\x7f",
       "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
      {OneText(TypeKind::kText, "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d"),
       "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d",
       "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d\""},
  });
}

// A special character is found at every place of the eight bytes that are looked at together.
TEST(JsonText, EscapesAtEveryPlace) {
  for (size_t n = 0; n < 24; ++n) {
    std::string text(24, 'x');
    std::string expected = "\"" + text;
    text[n] = '"';
    expected.replace(n + 1, 1, "\\\"");
    EXPECT_EQ(Json(OneText(TypeKind::kText, text)), expected + "\"") << n;
  }
}

TEST(JsonText, InvalidUtf8IsReplaced) {
  const std::string bad = "\xef\xbf\xbd";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\xff"
       "b",
       "a" + bad + "b"},
      {"\xc0\xaf", bad + bad},                       // overlong
      {"\xed\xa0\x80", bad + bad + bad},             // a surrogate
      {"\xf4\x90\x80\x80", bad + bad + bad + bad},   // above U+10FFFF
      {"12345678\xe2\x82", "12345678" + bad + bad},  // cut
      {"\xc3", bad},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(Json(OneText(TypeKind::kText, text)), "\"" + expected + "\"");
    EXPECT_EQ(Json(OneText(TypeKind::kJson, "\"" + text + "\"")), "\"" + expected + "\"");
  }
}

TEST(JsonText, JsonIsEmbedded) {
  Check({
      {OneText(TypeKind::kJson, R"({"a": [1, 2.50, null]})"), R"({"a": [1, 2.50, null]})",
       R"({"a": [1, 2.50, null]})"},
      {OneText(TypeKind::kJson, "null"), "null", "null"},
  });
}

TEST(JsonText, Lists) {
  Column list(DataType::List(TypeKind::kText));
  list.child().AppendText("a\"");
  list.child().AppendNull();
  list.AppendListEnd();
  list.AppendListEnd();
  list.AppendNull();
  EXPECT_EQ(Json(list, 0), R"(["a\"",null])");
  EXPECT_EQ(Text(list, 0), R"(["a\"",null])");
  EXPECT_EQ(Json(list, 1), "[]");
  EXPECT_EQ(Json(list, 2), "null");

  Column decimals(DataType::List(DataType::Decimal(4, 1)));
  decimals.child().Append<int16_t>(15);
  decimals.AppendListEnd();
  EXPECT_EQ(Text(decimals), R"(["1.5"])");
}

TEST(JsonText, NullOfEveryKind) {
  for (int kind = 1; kind <= static_cast<int>(TypeKind::kBytes); ++kind) {
    DataType type(static_cast<TypeKind>(kind));
    if (type.kind == TypeKind::kDecimal) {
      type = DataType::Decimal(10, 2);
    }
    Column column(type);
    column.AppendNull();
    EXPECT_EQ(Json(column), "null") << type.ToString();
  }
}

TEST(JsonText, AppendsBehindWhatIsThere) {
  Buffer to;
  to.Append("x");
  AppendUnsigned128(to, (UInt128{1} << 64));
  to.Append(" ");
  AppendTimestamp(to, 1'500'000, "Z");
  EXPECT_EQ(to.view(), "x18446744073709551616 1970-01-01T00:00:01.5Z");
}

}  // namespace
}  // namespace millrace
