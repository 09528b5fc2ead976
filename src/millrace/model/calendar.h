// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// The proleptic Gregorian calendar; year 0 is 1 BC.
namespace millrace {

inline constexpr int64_t kMicrosPerSecond = 1'000'000;
inline constexpr int64_t kMicrosPerDay = 86'400 * kMicrosPerSecond;

struct CivilDate {
  int64_t year = 1970;
  int64_t month = 1;
  int64_t day = 1;
};

// Both count in eras of 400 years that begin on March 1, so that a leap day is the last of its
// year.
inline constexpr int64_t kDaysPerEra = 146'097;
inline constexpr int64_t kDaysToEpoch = 719'468;  // from 0000-03-01 to 1970-01-01

// Days since 1970-01-01.
constexpr int64_t DaysFromCivil(const CivilDate& date) {
  const int64_t y = date.month <= 2 ? date.year - 1 : date.year;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const int64_t year_of_era = y - era * 400;
  const int64_t month_from_march = date.month + (date.month > 2 ? -3 : 9);
  const int64_t day_of_year = (153 * month_from_march + 2) / 5 + date.day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * kDaysPerEra + day_of_era - kDaysToEpoch;
}

constexpr CivilDate CivilFromDays(int64_t days_since_1970) {
  const int64_t day = days_since_1970 + kDaysToEpoch;
  const int64_t era = (day >= 0 ? day : day - (kDaysPerEra - 1)) / kDaysPerEra;
  const int64_t of_era = day - era * kDaysPerEra;
  const int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36'524 - of_era / 146'096) / 365;
  const int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * of_year + 2) / 153;
  const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  return {.year = year_of_era + era * 400 + (month <= 2 ? 1 : 0),
          .month = month,
          .day = of_year - (153 * month_from_march + 2) / 5 + 1};
}

}  // namespace millrace
