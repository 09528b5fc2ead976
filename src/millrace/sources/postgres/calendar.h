// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "millrace/model/calendar.h"
#include "millrace/model/data_type.h"

namespace millrace::sources::postgres {

// Reads dates and times of DateStyle ISO from left to right. Each Read is false if the text is not
// of the form; the place is then of no meaning.
class CalendarReader {
 public:
  explicit CalendarReader(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  // YYYY-MM-DD, four to seven digits of year. `year` is as printed, for ReadEra().
  bool ReadDate(int64_t& days, int64_t& year);
  // HH:MM:SS and up to six digits of fraction; 24:00:00 is one.
  bool ReadTime(int64_t& micros);
  // +HH, +HH:MM, +HH:MM:SS, with either sign, in microseconds east of UTC.
  bool ReadZone(int64_t& micros);
  // " BC", which moves the date, or nothing.
  bool ReadEra(int64_t& days, int64_t year);

  bool Skip(char c) {
    if (at_ == end_ || *at_ != c) {
      return false;
    }
    ++at_;
    return true;
  }
  bool AtEnd() const { return at_ == end_; }

 private:
  bool ReadTwoDigits(int64_t& value);

  const char* at_;
  const char* end_;
  int64_t month_ = 0;
  int64_t day_ = 0;
};

enum class IntervalParse { kOk, kMalformed, kOutOfRange };

// ISO 8601 with designators, as IntervalStyle iso_8601 prints: P1Y2M-3DT-4H5M6.789S. Years join the
// months, and hours, minutes and seconds the microseconds; days stay apart.
IntervalParse ParseIsoInterval(std::string_view text, Interval& interval);

}  // namespace millrace::sources::postgres
