// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/value_text.h"

#include <limits>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

std::string Date(int32_t days) {
  std::string text;
  AppendDate(days, text);
  return text;
}

std::string Timestamp(int64_t micros) {
  std::string text;
  AppendTimestamp(micros, "Z", text);
  return text;
}

std::string IntervalText(int32_t months, int32_t days, int64_t micros) {
  std::string text;
  AppendInterval({months, days, micros}, text);
  return text;
}

TEST(ValueText, DatesOfEveryAge) {
  EXPECT_EQ(Date(0), "1970-01-01");
  EXPECT_EQ(Date(-1), "1969-12-31");
  EXPECT_EQ(Date(19782), "2024-02-29");
  EXPECT_EQ(Date(19783), "2024-03-01");
  EXPECT_EQ(Date(-25567), "1900-01-01");
  EXPECT_EQ(Date(120529), "2299-12-31");
  EXPECT_EQ(Date(-719163), "0000-12-31");
  EXPECT_EQ(Date(-735160), "-0043-03-15");
  EXPECT_EQ(Date(kDateInfinity), "infinity");
  EXPECT_EQ(Date(kDateMinusInfinity), "-infinity");
}

TEST(ValueText, TimestampsKeepMicroseconds) {
  EXPECT_EQ(Timestamp(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(Timestamp(-1), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(Timestamp(1'714'979'289'500'000), "2024-05-06T07:08:09.5Z");
  EXPECT_EQ(Timestamp(kTimestampInfinity), "infinity");
  EXPECT_EQ(Timestamp(kTimestampMinusInfinity), "-infinity");
}

TEST(ValueText, TimesUpToTheEndOfTheDay) {
  std::string text;
  AppendTime(86'400'000'000, text);
  AppendTime(3'723'000'004, text);
  EXPECT_EQ(text, "24:00:0001:02:03.000004");
}

TEST(ValueText, IntervalsAsPostgreSqlPrintsThem) {
  EXPECT_EQ(IntervalText(0, 0, 0), "PT0S");
  EXPECT_EQ(IntervalText(14, 3, 14'706'700'000), "P1Y2M3DT4H5M6.7S");
  EXPECT_EQ(IntervalText(-14, -3, -14'706'700'000), "P-1Y-2M-3DT-4H-5M-6.7S");
  EXPECT_EQ(IntervalText(1, -1, 0), "P1M-1D");
  EXPECT_EQ(IntervalText(0, 0, -500'000), "PT-0.5S");
}

TEST(ValueText, DecimalsKeepTheirScale) {
  std::string text;
  AppendDecimal(5, 3, text);
  text += ' ';
  AppendDecimal(-12345, 2, text);
  text += ' ';
  AppendDecimal(0, 2, text);
  text += ' ';
  AppendDecimal(-7, 0, text);
  EXPECT_EQ(text, "0.005 -123.45 0.00 -7");
}

TEST(ValueText, FloatsAreShortest) {
  std::string text;
  for (const double v : {0.1, 1.0, -0.0, 1e300, std::numeric_limits<double>::infinity()}) {
    AppendFloat(v, text);
    text += ' ';
  }
  AppendFloat(0.1F, text);
  EXPECT_EQ(text, "0.1 1 -0 1e+300 Infinity 0.1");
}

TEST(ValueText, ListsAreJson) {
  Column texts(DataType::List(TypeKind::kText));
  texts.child().AppendText("a\"\n");
  texts.child().AppendNull();
  texts.AppendListEnd();
  std::string text;
  AppendValueText(texts, 0, text);
  EXPECT_EQ(text, "[\"a\\\"\\u000a\",null]");

  Column bytes(DataType::List(TypeKind::kBytes));
  for (const char* value : {"", "a", "ab", "abc"}) {
    bytes.child().AppendText(value);
  }
  bytes.AppendListEnd();
  text.clear();
  AppendValueText(bytes, 0, text);
  EXPECT_EQ(text, "[\"\",\"YQ==\",\"YWI=\",\"YWJj\"]");

  Column doubles(DataType::List(TypeKind::kFloat64));
  doubles.child().Append(1.5);
  doubles.child().Append(std::numeric_limits<double>::quiet_NaN());
  doubles.AppendListEnd();
  text.clear();
  AppendValueText(doubles, 0, text);
  EXPECT_EQ(text, "[1.5,\"NaN\"]");
}

TEST(ValueText, UuidsInPrintedOrder) {
  Column column(TypeKind::kUuid);
  column.AppendFixed("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
  std::string text;
  AppendValueText(column, 0, text);
  EXPECT_EQ(text, "01234567-89ab-cdef-0123-456789abcdef");
}

}  // namespace
}  // namespace millrace::sinks
