// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/common/coding.h"
#include "millrace/model/column.h"
#include "millrace/model/data_type.h"

namespace millrace::sinks {

// The exact text of values, appended to `to`: ISO 8601 for everything that has to do with time, as
// PostgreSQL prints it under IntervalStyle iso_8601. Infinite dates and timestamps are `infinity`
// and
// `-infinity`; years before 1 are astronomical: `-0043-03-15` is 44 BC.

void AppendDate(int32_t days, std::string& to);
// `2024-05-06T07:08:09.000001`, with `zone` behind it ("" or "Z"). The fraction is left out at
// zero.
void AppendTimestamp(int64_t micros, std::string_view zone, std::string& to);
// `07:08:09.000001`; midnight at the end of the day is `24:00:00`.
void AppendTime(int64_t micros, std::string& to);
// `P1Y2M3DT4H5M6.7S`; nothing at all is `PT0S`. Each part carries its own sign.
void AppendInterval(const Interval& interval, std::string& to);
void AppendDecimal(Int128 unscaled, uint8_t scale, std::string& to);
// `bytes` is 16 bytes in printed order.
void AppendUuid(const char* bytes, std::string& to);
// The shortest digits that give the same number again; `NaN`, `Infinity`, `-Infinity`.
void AppendFloat(float value, std::string& to);
void AppendFloat(double value, std::string& to);

// The integer of a fixed-size integer or decimal value, whatever its width.
Int128 IntegerOf(const Column& column, size_t row);

// The text of any value but NULL: text, JSON and bytes as they are, lists as a JSON array (in which
// bytes are base64). REQUIRES: !column.IsNull(row).
void AppendValueText(const Column& column, size_t row, std::string& to);

}  // namespace millrace::sinks
