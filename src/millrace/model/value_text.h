// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millrace/common/buffer.h"
#include "millrace/model/data_type.h"
#include "millrace/model/position.h"

// The text of single values, appended to a buffer; json_text.h says which form each type has. Pure
// functions; any thread.
namespace millrace {

// Decimal digits, with a minus sign if negative. `T`: an integer of up to 64 bits.
template <typename T>
void AppendInteger(Buffer& to, T value);
void AppendUnsigned128(Buffer& to, UInt128 value);
void AppendSigned128(Buffer& to, Int128 value);
// All `scale` digits behind the point.
void AppendDecimal(Buffer& to, Int128 unscaled, size_t scale);
// The shortest text that reads back as the same value; NaN, Infinity, -Infinity. `T`: float,
// double.
template <typename T>
void AppendFloat(Buffer& to, T value);

void AppendDate(Buffer& to, int32_t days);
// REQUIRES: 0 <= micros <= kMicrosPerDay.
void AppendTime(Buffer& to, int64_t micros);
// With `zone` behind it: "" or "Z".
void AppendTimestamp(Buffer& to, TimestampMicros value, std::string_view zone);
// Infinite ones as "infinity" and "-infinity".
void AppendInterval(Buffer& to, const Interval& value);

// `bytes` is 16 bytes in printed order.
void AppendUuid(Buffer& to, const char* bytes);
void AppendBase64(Buffer& to, std::string_view bytes);

}  // namespace millrace
