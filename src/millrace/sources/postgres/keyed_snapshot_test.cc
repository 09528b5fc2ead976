// SPDX-License-Identifier: Apache-2.0
//
// KeyedSnapshot against a simulated server: random transactions whose commits become visible some
// time after the stream can have them, chunks that are read, cut and lost, and a process that dies.
#include "millrace/sources/postgres/keyed_snapshot.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

// A row: the number of the write that made it, and a value that updates leave alone.
struct Row {
  int64_t write = 0;
  int64_t big = 0;

  bool operator==(const Row&) const = default;
};
using Rows = std::map<int32_t, Row>;

struct Write {
  ChangeOp op = ChangeOp::kInsert;
  int32_t key = 0;      // of the new row, or of a deleted one
  int32_t old_key = 0;  // of an update
  Row row;
  bool leaves_big_out = false;
};

struct SimulatedTransaction {
  FullXid xid = 0;
  std::vector<Write> writes;
  uint64_t lsn = 0;  // of the commit; 0: it runs
  bool is_visible = false;
};

SourceTable MakeTable() {
  auto table = std::make_shared<Table>();
  table->oid = 7;
  table->schema = "public";
  table->name = "t";
  table->columns = std::make_shared<const Schema>(Schema{{"id", TypeKind::kInt32, false},
                                                         {"write", TypeKind::kInt64, false},
                                                         {"big", TypeKind::kInt64, true}});
  table->primary_key = {0};
  table->toastable = {false, false, true};
  SourceTable source;
  source.table = std::move(table);
  source.types.resize(3);
  return source;
}

// What PostgreSQL promises: a row's writers follow each other, the next one once the last is
// visible; the WAL has commits in order; a snapshot sees what is visible.
class SimulatedServer {
 public:
  explicit SimulatedServer(std::mt19937& random)
      : random_(random), keys_(4 + Random(40)), open_max_(1 + static_cast<size_t>(Random(6))) {}

  int Random(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  void BeginSome() {
    if (open_.size() < open_max_ && Random(2) == 0) {
      SimulatedTransaction& transaction = transactions_.emplace_back();
      transaction.xid = next_xid_++;
      open_.push_back(transactions_.size() - 1);
    }
  }
  void WriteSome() {
    for (const size_t index : open_) {
      if (transactions_[index].lsn == 0 && Random(3) == 0) {
        WriteOne(index);
      }
    }
  }
  void EndSome() {
    for (size_t i = 0; i < open_.size();) {
      SimulatedTransaction& transaction = transactions_[open_[i]];
      if (transaction.lsn == 0 && Random(4) == 0) {
        transaction.lsn = ++lsn_;
        log_.push_back(open_[i]);
      }
      if (transaction.lsn != 0 && Random(3) == 0) {
        transaction.is_visible = true;
        for (auto it = lockers_.begin(); it != lockers_.end();) {
          it = it->second == open_[i] ? lockers_.erase(it) : std::next(it);
        }
        open_.erase(open_.begin() + static_cast<ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  }
  void EndAll() {
    while (!open_.empty()) {
      EndSome();
    }
  }

  XidSnapshot TakeSnapshot() const {
    XidSnapshot snapshot;
    snapshot.xmax = next_xid_;
    for (const size_t index : open_) {
      snapshot.running.push_back(transactions_[index].xid);
    }
    std::sort(snapshot.running.begin(), snapshot.running.end());
    snapshot.xmin = snapshot.running.empty() ? snapshot.xmax : snapshot.running.front();
    return snapshot;
  }
  // The table as a snapshot that is taken now sees it.
  Rows Visible() const {
    Rows rows;
    for (const size_t index : log_) {
      if (transactions_[index].is_visible) {
        for (const Write& write : transactions_[index].writes) {
          Apply(write, rows);
        }
      }
    }
    return rows;
  }
  static void Apply(const Write& write, Rows& rows) {
    if (write.op == ChangeOp::kTruncate) {
      rows.clear();
      return;
    }
    if (write.op == ChangeOp::kDelete) {
      rows.erase(write.key);
      return;
    }
    if (write.op == ChangeOp::kUpdate) {
      rows.erase(write.old_key);
    }
    rows[write.key] = write.row;
  }

  uint64_t lsn() const { return lsn_; }
  const std::vector<size_t>& log() const { return log_; }
  const SimulatedTransaction& transaction(size_t index) const { return transactions_[index]; }

 private:
  static constexpr int kAllKeys = -1;

  bool Lock(int key, size_t owner) {
    for (const auto& [locked, by] : lockers_) {
      if (by != owner && (locked == key || key == kAllKeys || locked == kAllKeys)) {
        return false;
      }
    }
    lockers_.emplace(key, owner);
    return true;
  }

  // The table as the transaction sees it: what it locked is as it left it.
  Rows Seen(size_t index) const {
    Rows rows = Visible();
    for (const Write& write : transactions_[index].writes) {
      Apply(write, rows);
    }
    return rows;
  }

  void WriteOne(size_t index) {
    std::vector<Write>& writes = transactions_[index].writes;
    if (Random(40) == 0) {
      if (Lock(kAllKeys, index)) {
        writes.push_back({.op = ChangeOp::kTruncate});
      }
      return;
    }
    const int key = Random(keys_);
    if (!Lock(key, index)) {
      return;
    }
    const Rows rows = Seen(index);
    const auto found = rows.find(key);
    ++write_;
    if (found == rows.end()) {
      writes.push_back({.op = ChangeOp::kInsert, .key = key, .row = {write_, write_}});
      return;
    }
    if (Random(3) == 0) {
      writes.push_back({.op = ChangeOp::kDelete, .key = key});
      return;
    }
    Write update{.op = ChangeOp::kUpdate, .key = key, .old_key = key, .row = {write_, write_}};
    const int target = Random(keys_);
    if (Random(3) == 0 && !rows.contains(target) && Lock(target, index)) {
      update.key = target;
    }
    if (Random(2) == 0) {
      update.leaves_big_out = true;
      update.row.big = found->second.big;
    }
    writes.push_back(update);
  }

  std::mt19937& random_;
  const int keys_;
  const size_t open_max_;
  std::vector<SimulatedTransaction> transactions_;
  std::vector<size_t> open_;  // that run, or whose commit is not visible
  std::vector<size_t> log_;   // in commit order
  std::multimap<int, size_t> lockers_;
  FullXid next_xid_ = (FullXid{5} << 32) - 20;  // wraps in 32 bits while it runs
  uint64_t lsn_ = 0;
  int64_t write_ = 0;
};

// The stream's reader, with what is downstream of it.
class Reader {
 public:
  Reader(SimulatedServer& server, KeyedSnapshot::Mode mode)
      : server_(server), mode_(mode), newest_(server.TakeSnapshot()) {
    for (const FullXid xid : newest_.running) {
      durable_.ledger.MustSee(xid);  // what committed before the stream began may not be visible
    }
    durable_.at = server.log().size();
    if (mode == KeyedSnapshot::Mode::kAgain) {
      for (const size_t index : server.log()) {
        for (const Write& write : server.transaction(index).writes) {
          SimulatedServer::Apply(write, durable_.rows);
        }
      }
    }
    durable_.lsn = server.lsn();
    Restart();
  }

  // The process died: what is not durable is gone.
  void Restart() {
    std::string text;
    durable_.ledger.Encode(text);
    ByteReader in(text);
    Result<ChunkLedger> ledger = ChunkLedger::Decode(in);
    ASSERT_TRUE(ledger.ok()) << ledger.status().ToString();
    now_ = durable_;
    Result<KeyOrder> order = KeyOrder::Make(source_, {true});
    ASSERT_TRUE(order.ok());
    snapshot_ = std::make_unique<KeyedSnapshot>(source_.table, *order, mode_, std::move(*ledger));
    chunks_.clear();
    newest_ = server_.TakeSnapshot();
  }

  void BeginChunk() {
    const std::optional<KeyRange> unread = snapshot_->FirstUnread();
    if (!unread.has_value() || chunks_.size() >= 3) {
      return;
    }
    KeyRange range = *unread;
    if (!range.includes_lo && server_.Random(4) != 0) {
      const int lo = range.lo.has_value() ? std::stoi(range.lo->text[0]) : -1;
      const KeyBound hi = Bound(lo + 1 + server_.Random(12));
      if (!range.hi.has_value() || hi.encoded < range.hi->encoded) {
        range.hi = hi;
      }
    }
    auto taken = std::make_shared<const XidSnapshot>(server_.TakeSnapshot());
    newest_ = *taken;
    const ChunkId id = ++last_chunk_;
    if (!snapshot_->Begin(id, range, taken, Lsn(server_.lsn()), 0)) {
      return;
    }
    Rows rows;
    for (const auto& [key, row] : server_.Visible()) {
      const std::string encoded = Bound(key).encoded;
      const bool is_behind = !range.lo.has_value() || encoded > range.lo->encoded ||
                             (range.includes_lo && encoded == range.lo->encoded);
      if (is_behind && (!range.hi.has_value() || encoded <= range.hi->encoded)) {
        rows[key] = row;
      }
    }
    chunks_[id] = std::move(rows);
  }

  void ReadChunk() {
    if (chunks_.empty()) {
      return;
    }
    auto chunk = std::next(chunks_.begin(), server_.Random(static_cast<int>(chunks_.size())));
    if (server_.Random(8) == 0) {
      snapshot_->Cut(chunk->first);
      chunks_.erase(chunk);
      return;
    }
    ChunkRows rows(source_.table->columns);
    for (int n = 1 + server_.Random(5); n > 0 && !chunk->second.empty(); --n) {
      const auto [key, row] = *chunk->second.begin();
      AppendRow(key, row, false, rows.rows);
      rows.keys.push_back(Bound(key).encoded);
      rows.last = Bound(key);
      rows.bytes += 10;
      chunk->second.erase(chunk->second.begin());
    }
    const Result<bool> goes_on = snapshot_->AddRows(chunk->first, std::move(rows));
    ASSERT_TRUE(goes_on.ok()) << goes_on.status().ToString();
    if (!*goes_on) {
      chunks_.erase(chunk);
    } else if (chunk->second.empty()) {
      snapshot_->Finish(chunk->first);
      chunks_.erase(chunk);
    }
  }

  // Takes some of the log, and what joins behind it, as one batch.
  void TakeBatch() {
    if (server_.Random(4) == 0) {
      newest_ = server_.TakeSnapshot();
      snapshot_->ledger().Forget(newest_);
    }
    TableChanges changes(source_.table);
    std::vector<FullXid> xids;
    const int size = server_.Random(4);
    for (int i = 0; i < size && now_.at < server_.log().size(); ++i) {
      const SimulatedTransaction& transaction = server_.transaction(server_.log()[now_.at++]);
      now_.lsn = transaction.lsn;
      for (const Write& write : transaction.writes) {
        AppendWrite(write, static_cast<uint32_t>(xids.size()), changes);
      }
      xids.push_back(newest_.Widen(Xid(static_cast<uint32_t>(transaction.xid))));
      ASSERT_EQ(xids.back(), transaction.xid);
    }
    if (server_.Random(3) == 0) {
      TableChanges first =
          SelectChanges(changes, std::vector<Kept>(changes.changes.size(), Kept::kAll), {});
      snapshot_->Remember();
      snapshot_->Filter(xids, newest_, first);
      snapshot_->Recall();
      snapshot_->Filter(xids, newest_, changes);
      ASSERT_EQ(first.changes.size(), changes.changes.size());
      for (size_t i = 0; i < first.changes.size(); ++i) {
        ASSERT_EQ(first.changes[i].op, changes.changes[i].op);
        ASSERT_EQ(first.changes[i].ordinal, changes.changes[i].ordinal);
      }
    } else {
      snapshot_->Filter(xids, newest_, changes);
    }
    uint64_t ordinal = 0;
    TimestampMicros taken_at = 0;
    while (snapshot_->HasRowsFor(Lsn(now_.lsn)) && server_.Random(5) != 0) {
      snapshot_->JoinRows(Lsn(now_.lsn), static_cast<uint32_t>(xids.size()), ordinal, taken_at,
                          changes);
    }
    Deliver(changes);
    if (server_.Random(2) == 0) {
      now_.ledger = snapshot_->ledger();
      durable_ = now_;
    }
  }

  bool is_complete() const { return snapshot_->is_complete() && now_.at == server_.log().size(); }
  const Rows& rows() const { return now_.rows; }

 private:
  struct State {
    ChunkLedger ledger;
    size_t at = 0;  // index into the log
    uint64_t lsn = 0;
    Rows rows;                 // downstream
    std::set<int64_t> writes;  // that were shown
  };

  KeyBound Bound(int32_t key) const {
    const Result<KeyOrder> order = KeyOrder::Make(source_, {true});
    return *order->FromText({std::to_string(key)});
  }

  static void AppendRow(int32_t key, const Row& row, bool leaves_big_out, RowBatch& rows) {
    rows.column(0).Append(key);
    rows.column(1).Append(row.write);
    if (leaves_big_out) {
      rows.column(2).AppendNull();
    } else {
      rows.column(2).Append(row.big);
    }
  }

  static void AppendWrite(const Write& write, uint32_t transaction, TableChanges& to) {
    Change change{.ordinal = to.changes.size() + 1, .transaction = transaction, .op = write.op};
    const bool has_new = write.op == ChangeOp::kInsert || write.op == ChangeOp::kUpdate;
    const bool has_old = write.op == ChangeOp::kDelete ||
                         (write.op == ChangeOp::kUpdate && write.old_key != write.key);
    if (has_old) {
      change.old_row = static_cast<uint32_t>(to.old_rows.row_count());
      to.old_rows.column(0).Append(write.op == ChangeOp::kDelete ? write.key : write.old_key);
      to.old_rows.column(1).AppendNull();
      to.old_rows.column(2).AppendNull();
    }
    if (has_new) {
      change.new_row = static_cast<uint32_t>(to.new_rows.row_count());
      AppendRow(write.key, write.row, write.leaves_big_out, to.new_rows);
      if (write.leaves_big_out) {
        to.unchanged_toast.push_back({change.new_row, 2});
      }
    }
    to.changes.push_back(change);
  }

  // As the engine does: gaps are filled from the row before.
  void Deliver(const TableChanges& changes) {
    size_t gap = 0;
    for (const Change& change : changes.changes) {
      Write write{.op = change.op};
      if (change.old_row != kNoRow) {
        write.key = write.old_key = changes.old_rows.column(0).Value<int32_t>(change.old_row);
      }
      if (change.new_row != kNoRow) {
        write.key = changes.new_rows.column(0).Value<int32_t>(change.new_row);
        if (change.old_row == kNoRow) {
          write.old_key = write.key;
        }
        write.row.write = changes.new_rows.column(1).Value<int64_t>(change.new_row);
        const bool has_gap = gap < changes.unchanged_toast.size() &&
                             changes.unchanged_toast[gap].new_row == change.new_row;
        if (has_gap) {
          ++gap;
          ASSERT_TRUE(now_.rows.contains(write.old_key)) << "nobody knows the value left out";
          write.row.big = now_.rows.at(write.old_key).big;
        } else {
          write.row.big = changes.new_rows.column(2).Value<int64_t>(change.new_row);
        }
        ASSERT_TRUE(now_.writes.insert(write.row.write).second ||
                    mode_ == KeyedSnapshot::Mode::kAgain)
            << "write " << write.row.write << " of key " << write.key << " was shown twice";
      }
      if (change.op == ChangeOp::kRead) {
        write.op = ChangeOp::kInsert;
      }
      if (change.op == ChangeOp::kUpdate || change.op == ChangeOp::kDelete) {
        const int32_t old_key = change.op == ChangeOp::kDelete ? write.key : write.old_key;
        ASSERT_TRUE(now_.rows.contains(old_key)) << "a change of a row that never came";
      }
      SimulatedServer::Apply(write, now_.rows);
    }
    ASSERT_EQ(gap, changes.unchanged_toast.size());
  }

  SimulatedServer& server_;
  const KeyedSnapshot::Mode mode_;
  const SourceTable source_ = MakeTable();
  State durable_;
  State now_;
  XidSnapshot newest_;
  std::unique_ptr<KeyedSnapshot> snapshot_;
  std::map<ChunkId, Rows> chunks_;  // rows that are still to be read
  ChunkId last_chunk_ = 0;
};

void RunModel(unsigned seed, KeyedSnapshot::Mode mode) {
  std::mt19937 random(seed);
  SimulatedServer server(random);
  const auto work = [&] {
    server.BeginSome();
    server.WriteSome();
    server.EndSome();
  };
  for (int i = 0; i < 60; ++i) {
    work();
  }
  Reader reader(server, mode);
  for (int i = 0; i < 250; ++i) {
    work();
    if (server.Random(3) == 0) {
      reader.BeginChunk();
    }
    reader.ReadChunk();
    if (server.Random(2) == 0) {
      reader.TakeBatch();
    }
    if (server.Random(60) == 0) {
      reader.Restart();
    }
    if (::testing::Test::HasFailure()) {
      return;
    }
  }
  server.EndAll();
  for (int i = 0; i < 10'000 && !reader.is_complete(); ++i) {
    reader.BeginChunk();
    reader.ReadChunk();
    reader.TakeBatch();
    if (::testing::Test::HasFailure()) {
      return;
    }
  }
  ASSERT_TRUE(reader.is_complete());
  ASSERT_EQ(reader.rows(), server.Visible());
}

TEST(KeyedSnapshotModelTest, EndsEqualWhateverTheTiming) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RunModel(seed, KeyedSnapshot::Mode::kFirst);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(KeyedSnapshotModelTest, ATableThatIsReadAgainStaysEqual) {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RunModel(seed, KeyedSnapshot::Mode::kAgain);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
