// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

#include "millrace/common/buffer.h"
#include "millrace/model/column.h"
#include "millrace/model/data_type.h"

// Column values as JSON and as plain text: what Kafka messages, Redis entries and JSON lines hold.
//
//   kind               JSON                                                  plain text
//   bool               true, false                                           the same
//   integers to 64 bit number                                                the same
//   128-bit integers   string of digits                                      the digits
//   floats             number, the shortest that reads back as the same      the same, bare
//                      value; "NaN", "Infinity", "-Infinity"
//   decimal            string with all digits of its scale; "NaN"            the same, bare
//   date               "2024-02-29"                                          the same, bare
//   time               "23:59:59.5"; "24:00:00" is kept                      the same, bare
//   timestamp          "2024-02-29T23:59:59.5", no zone                      the same, bare
//   timestamptz        "2024-02-29T23:59:59.5Z"                              the same, bare
//   interval           "P1Y2M3DT4H5M6.5S", a sign at each part; "PT0S"       the same, bare
//   uuid               "0190163d-8694-739b-aea5-966c26f8ad91"                the same, bare
//   text, enum         string                                                raw
//   json               the value itself                                      the JSON text
//   bytes              string of base64 with padding                         the base64
//   list               array                                                 the JSON text
//   NULL               null                                                  has none
//
// How numbers and times are written is in value_text.h: fractions of a second have up to six digits
// without trailing zeros. Years are those of the proleptic Gregorian calendar with a year 0, which
// is 1 BC; outside 0 to 9999 they have a sign and at least six digits, as in ECMAScript:
// "+010000-01-01", "-000043-03-15". Infinite dates, timestamps and intervals are "infinity" and
// "-infinity".
//
// JSON is always valid UTF-8: bytes that are not become U+FFFD. Pure functions; any thread.
namespace millrace {

// Appends the value in `row` of a column to `to`.
using ValueWriter = void (*)(const Column& column, size_t row, Buffer& to);

// The writer of one type's values, chosen once for a column. NULL gives `null`.
ValueWriter JsonWriterOf(const DataType& type);
// The same as plain text. REQUIRES of the writer: the value is not NULL.
ValueWriter TextWriterOf(const DataType& type);

// Appends a JSON string with its quotes.
void AppendJsonString(Buffer& to, std::string_view text);

}  // namespace millrace
