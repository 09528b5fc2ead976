// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/column_alignment.h"

#include <algorithm>
#include <limits>

namespace millrace::sources::postgres {

namespace {

constexpr uint32_t kImpossible = std::numeric_limits<uint32_t>::max();

// The best way to place the rest of the row: how many columns have a strange name or type, and how
// many ways are that good.
struct Best {
  uint32_t cost = kImpossible;
  uint32_t ways = 0;  // 2: more than one

  void Add(uint32_t other_cost, uint32_t other_ways) {
    if (other_ways == 0 || other_cost > cost) {
      return;
    }
    if (other_cost < cost) {
      *this = {other_cost, other_ways};
    } else {
      ways = 2;
    }
  }
};

uint32_t CostOf(const NumberedColumn& number, const ColumnFace& face) {
  const bool is_known = number.before == face || number.now == face;
  if (is_known) {
    return 0;
  }
  // A new name with the known type, or the known name with a new type.
  return 1;
}

// May the row lack this column while it still has columns with higher numbers?
bool MayBeAbsent(const NumberedColumn& number) { return !number.now.has_value(); }

// May the row have it?
bool MayBeThere(const NumberedColumn& number) {
  return number.before.has_value() || number.is_new || number.now.has_value();
}

}  // namespace

std::optional<std::vector<size_t>> AlignColumns(const std::vector<NumberedColumn>& numbers,
                                                const std::vector<ColumnFace>& row) {
  const size_t n = numbers.size();
  const size_t m = row.size();
  // best[i][j]: numbers from i on, columns of the row from j on.
  std::vector<std::vector<Best>> best(n + 1, std::vector<Best>(m + 1));
  best[n][m] = {0, 1};
  for (size_t i = n; i-- > 0;) {
    for (size_t j = m + 1; j-- > 0;) {
      Best& at = best[i][j];
      const Best& left_out = best[i + 1][j];
      // Behind the row's last column come those that were made later.
      if (MayBeAbsent(numbers[i]) || j == m) {
        at.Add(left_out.cost, left_out.ways);
      }
      if (j < m && MayBeThere(numbers[i])) {
        const Best& rest = best[i + 1][j + 1];
        if (rest.ways != 0) {
          at.Add(rest.cost + CostOf(numbers[i], row[j]), rest.ways);
        }
      }
    }
  }
  if (best[0][0].ways != 1) {
    return std::nullopt;
  }
  std::vector<size_t> aligned;
  for (size_t i = 0, j = 0; j < m; ++i) {
    const Best& rest = best[i + 1][j + 1];
    const bool is_there = MayBeThere(numbers[i]) && rest.ways != 0 &&
                          rest.cost + CostOf(numbers[i], row[j]) == best[i][j].cost;
    if (is_there) {
      aligned.push_back(i);
      ++j;
    }
  }
  return aligned;
}

}  // namespace millrace::sources::postgres
