// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/calendar.h"

#include <charconv>
#include <limits>

namespace millrace::sources::postgres {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int64_t DaysInMonth(int64_t year, int64_t month) {
  constexpr int64_t kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return month == 2 && is_leap ? 29 : kDays[month - 1];
}

// Up to six digits behind a decimal point, as microseconds. Moves `at`.
bool ReadFraction(const char*& at, const char* end, int64_t& micros) {
  int64_t weight = 100'000;
  const char* begin = at;
  for (; at != end && IsDigit(*at) && weight != 0; ++at, weight /= 10) {
    micros += (*at - '0') * weight;
  }
  return at != begin;
}

}  // namespace

bool CalendarReader::ReadTwoDigits(int64_t& value) {
  if (end_ - at_ < 2 || !IsDigit(at_[0]) || !IsDigit(at_[1])) {
    return false;
  }
  value = (at_[0] - '0') * 10 + (at_[1] - '0');
  at_ += 2;
  return true;
}

bool CalendarReader::ReadDate(int64_t& days, int64_t& year) {
  const char* begin = at_;
  year = 0;
  for (; at_ != end_ && IsDigit(*at_) && at_ - begin < 7; ++at_) {
    year = year * 10 + (*at_ - '0');
  }
  if (at_ - begin < 4 || year == 0 || !Skip('-') || !ReadTwoDigits(month_) || !Skip('-') ||
      !ReadTwoDigits(day_) || month_ < 1 || month_ > 12 || day_ < 1 || day_ > 31) {
    return false;
  }
  days = DaysFromCivil({year, month_, day_});
  return true;
}

bool CalendarReader::ReadEra(int64_t& days, int64_t year) {
  if (at_ != end_) {
    if (end_ - at_ < 3 || at_[0] != ' ' || at_[1] != 'B' || at_[2] != 'C') {
      return false;
    }
    at_ += 3;
    year = 1 - year;
    days = DaysFromCivil({year, month_, day_});
  }
  return day_ <= DaysInMonth(year, month_);
}

bool CalendarReader::ReadTime(int64_t& micros) {
  int64_t hour = 0;
  int64_t minute = 0;
  int64_t second = 0;
  int64_t fraction = 0;
  if (!ReadTwoDigits(hour) || !Skip(':') || !ReadTwoDigits(minute) || !Skip(':') ||
      !ReadTwoDigits(second) || (Skip('.') && !ReadFraction(at_, end_, fraction))) {
    return false;
  }
  if (minute > 59 || second > 59) {
    return false;
  }
  micros = (hour * 3600 + minute * 60 + second) * kMicrosPerSecond + fraction;
  return micros <= kMicrosPerDay;
}

bool CalendarReader::ReadZone(int64_t& micros) {
  const bool is_west = at_ != end_ && *at_ == '-';
  int64_t hour = 0;
  int64_t minute = 0;
  int64_t second = 0;
  if ((!is_west && !(at_ != end_ && *at_ == '+'))) {
    return false;
  }
  ++at_;
  if (!ReadTwoDigits(hour) || (Skip(':') && !ReadTwoDigits(minute)) ||
      (Skip(':') && !ReadTwoDigits(second)) || minute > 59 || second > 59) {
    return false;
  }
  micros = (hour * 3600 + minute * 60 + second) * kMicrosPerSecond;
  micros = is_west ? -micros : micros;
  return true;
}

namespace {

// One number with its designator.
struct IntervalPart {
  int64_t whole = 0;     // without the sign
  int64_t fraction = 0;  // microseconds
  bool is_negative = false;
  char designator = 0;
};

bool ReadPart(const char*& at, const char* end, IntervalPart& part) {
  part = {};
  if (at != end && (*at == '-' || *at == '+')) {
    part.is_negative = *at == '-';
    ++at;
  }
  const auto parsed = std::from_chars(at, end, part.whole);
  if (at == end || !IsDigit(*at) || parsed.ec != std::errc()) {
    return false;
  }
  at = parsed.ptr;
  if (at != end && *at == '.') {
    ++at;
    if (!ReadFraction(at, end, part.fraction)) {
      return false;
    }
  }
  if (at == end) {
    return false;
  }
  part.designator = *at++;
  return part.fraction == 0 || part.designator == 'S';
}

// Adds part * unit to `sum`. False on overflow.
bool AddPart(const IntervalPart& part, int64_t unit, int64_t& sum) {
  int64_t amount = 0;
  if (__builtin_mul_overflow(part.whole, unit, &amount) ||
      __builtin_add_overflow(amount, part.fraction, &amount)) {
    return false;
  }
  return part.is_negative ? !__builtin_sub_overflow(sum, amount, &sum)
                          : !__builtin_add_overflow(sum, amount, &sum);
}

}  // namespace

IntervalParse ParseIsoInterval(std::string_view text, Interval& interval) {
  if (text.size() < 3 || text.front() != 'P') {
    return IntervalParse::kMalformed;
  }
  const char* at = text.data() + 1;
  const char* end = text.data() + text.size();
  bool in_time = false;
  int64_t months = 0;
  int64_t days = 0;
  int64_t micros = 0;
  while (at != end) {
    if (*at == 'T' && !in_time) {
      in_time = true;
      if (++at == end) {
        return IntervalParse::kMalformed;
      }
    }
    IntervalPart part;
    if (!ReadPart(at, end, part)) {
      return IntervalParse::kMalformed;
    }
    bool fits = false;
    switch (part.designator) {
      case 'Y':
        fits = AddPart(part, 12, months);
        break;
      case 'M':
        fits = in_time ? AddPart(part, 60 * kMicrosPerSecond, micros) : AddPart(part, 1, months);
        break;
      case 'D':
        fits = AddPart(part, 1, days);
        break;
      case 'H':
        fits = AddPart(part, 3600 * kMicrosPerSecond, micros);
        break;
      case 'S':
        fits = AddPart(part, kMicrosPerSecond, micros);
        break;
      default:
        return IntervalParse::kMalformed;
    }
    const bool is_time_part =
        part.designator == 'H' || part.designator == 'S' || (part.designator == 'M' && in_time);
    if (is_time_part != in_time) {
      return IntervalParse::kMalformed;
    }
    if (!fits) {
      return IntervalParse::kOutOfRange;
    }
  }
  constexpr int64_t kMin = std::numeric_limits<int32_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  if (months < kMin || months > kMax || days < kMin || days > kMax) {
    return IntervalParse::kOutOfRange;
  }
  interval = {static_cast<int32_t>(months), static_cast<int32_t>(days), micros};
  return IntervalParse::kOk;
}

}  // namespace millrace::sources::postgres
