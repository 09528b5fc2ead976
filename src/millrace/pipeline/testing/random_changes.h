// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "millrace/pipeline/testing/streams_fixture.h"

namespace millrace::pipeline::testing {

// Random transactions of about `changes` changes over few keys, so that reference and driving
// changes collide often. Large values are left out where they do not change.
class RandomChanges {
 public:
  explicit RandomChanges(uint64_t seed) : random_(seed) {}

  std::vector<TestTransaction> Transactions(size_t count, int64_t changes) {
    std::vector<TestTransaction> transactions(count);
    for (TestTransaction& transaction : transactions) {
      for (int64_t n = 1 + Below(2 * changes - 1); n > 0; --n) {
        transaction.push_back(Below(10) < 4 ? ContentChange() : EventChange());
        for (Table* table : {&contents_, &events_}) {
          ReadAgain(*table, transaction);
        }
      }
    }
    return transactions;
  }

  // What the source's tables hold: title and kind by id.
  using Rows = std::map<int64_t, std::string>;
  const Rows& contents() const { return contents_.rows; }
  const Rows& events() const { return events_.rows; }
  // Has tables lose rows without a change, and be read again thereafter.
  void ReadTablesAgain() { reads_again_ = true; }
  bool is_reading() const { return contents_.is_reading || events_.is_reading; }

 private:
  struct Table {
    TestChange (*change)(int64_t id, std::string text);
    Rows rows;
    bool is_reading = false;
    std::set<int64_t> unread = {};  // with is_reading: rows that nothing has shown since it began
  };

  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  std::string Text(std::string text) {
    return Below(4) == 0 ? text + std::string(2000, 'x') : std::move(text);
  }
  // The new value of an updated row, or that it is left out.
  std::string Updated(const std::string& from, std::string& to, std::string text) {
    if (from.size() >= 2000 && Below(2) == 0) {
      to = from;
      return "<toast>";
    }
    to = std::move(text);
    return to;
  }
  static TestChange Truncate(Table& table) {
    table.rows.clear();
    table.unread.clear();
    return As(ChangeOp::kTruncate, table.change(0, ""));
  }
  static void Show(Table& table, int64_t id) { table.unread.erase(id); }

  void ReadAgain(Table& table, TestTransaction& transaction) {
    if (!table.is_reading) {
      if (!reads_again_ || Below(30) != 0) {
        return;
      }
      for (int64_t lost = Below(3); lost > 0 && !table.rows.empty(); --lost) {
        table.rows.erase(
            std::next(table.rows.begin(), Below(static_cast<int64_t>(table.rows.size()))));
      }
      table.is_reading = true;
      for (const auto& [id, text] : table.rows) {
        table.unread.insert(id);
      }
      transaction.push_back(As(ChangeOp::kReadAgainBegin, table.change(0, "")));
    }
    while (!table.unread.empty() && Below(3) == 0) {
      const int64_t id = *table.unread.begin();
      table.unread.erase(id);
      if (table.rows.contains(id)) {
        transaction.push_back(As(ChangeOp::kRead, table.change(id, table.rows[id])));
      }
    }
    if (table.unread.empty() && Below(4) == 0) {
      table.is_reading = false;
      transaction.push_back(As(ChangeOp::kReadAgainEnd, table.change(0, "")));
    }
  }

  TestChange ContentChange() {
    Rows& rows = contents_.rows;
    const int64_t id = 1 + Below(4);
    const auto row = rows.find(id);
    const std::string text = Text("t" + std::to_string(Below(1000)));
    if (Below(40) == 0) {
      return Truncate(contents_);
    }
    Show(contents_, id);
    if (row == rows.end()) {
      rows[id] = text;
      return Content(id, text);
    }
    if (Below(4) == 0) {
      rows.erase(row);
      return As(ChangeOp::kDelete, Content(id, ""));
    }
    const std::string from = row->second;
    int64_t to = id;
    if (Below(4) == 0 && !rows.contains(1 + id % 4)) {
      to = 1 + id % 4;
      rows.erase(row);
      Show(contents_, to);
    }
    TestChange change = As(ChangeOp::kUpdate, Content(to, Updated(from, rows[to], text)));
    if (to != id) {
      change.old_id = id;
    }
    return change;
  }

  TestChange EventChange() {
    Rows& rows = events_.rows;
    const std::string kind = Text(Below(5) == 0 ? "hidden" : "k" + std::to_string(Below(3)));
    const int64_t content = 1 + Below(4);
    const int64_t choice = Below(6);
    if (Below(60) == 0) {
      return Truncate(events_);
    }
    if (choice < 3 || rows.empty()) {
      rows[next_event_] = kind;
      return Event(next_event_++, kind, content);
    }
    const auto row = std::next(rows.begin(), Below(static_cast<int64_t>(rows.size())));
    const auto [id, from] = *row;
    Show(events_, id);
    if (choice == 3) {
      rows.erase(row);
      return As(ChangeOp::kDelete, Event(id, "", 0));
    }
    int64_t to = id;
    if (choice == 4) {
      rows.erase(row);
      to = next_event_++;
    }
    TestChange change = As(ChangeOp::kUpdate, Event(to, Updated(from, rows[to], kind), content));
    if (to != id) {
      change.old_id = id;
    }
    return change;
  }

  std::mt19937_64 random_;
  Table contents_{[](int64_t id, std::string text) { return Content(id, std::move(text)); }, {}};
  Table events_{[](int64_t id, std::string text) { return Event(id, std::move(text), 1 + id % 4); },
                {}};
  int64_t next_event_ = 1;
  bool reads_again_ = false;
};

inline std::vector<TestTransaction> RandomTransactions(uint64_t seed, size_t count,
                                                       int64_t changes = 3) {
  return RandomChanges(seed).Transactions(count, changes);
}

}  // namespace millrace::pipeline::testing
