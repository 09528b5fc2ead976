// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_registry.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/sources/postgres/ddl_message.h"
#include "millrace/sources/postgres/partitions.h"
#include "millrace/sources/postgres/snapshot_progress.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kVisiblePoll{20};
// Of one transaction, for its second pass.
constexpr size_t kKnownMax = 64;
// Of a table: between two comparisons of the catalog there are few.
constexpr size_t kTruncationsMax = 64;

constexpr std::string_view kNotePrefix = "table/";

std::string NoteName(const Table& table) { return NoteNameOf(table.FullName()); }

// Tables that are made by hand number their columns in order.
void NumberColumns(SourceTable& table) {
  if (!table.columns.empty()) {
    return;
  }
  for (size_t i = 0; i < table.types.size(); ++i) {
    table.columns.push_back({.attnum = static_cast<int>(i) + 1});
  }
  table.attnum_max = static_cast<int>(table.types.size());
}

}  // namespace

std::string NoteNameOf(const std::string& full_name) {
  return std::string(kNotePrefix) + full_name;
}

std::set<std::string> TakenTables(const SourceState& state) {
  std::set<std::string> names;
  for (auto note = state.notes.lower_bound(kNotePrefix);
       note != state.notes.end() && note->first.starts_with(kNotePrefix); ++note) {
    const Result<SourceTable> known = ParseTableNote(note->second);
    if (known.ok() && state.notes.contains(ProgressNoteName(*known->table))) {
      names.insert(known->table->FullName());
    }
  }
  return names;
}

TableRegistry::TableRegistry(ReadCatalogFn read_catalog, telemetry::Logger log,
                             milliseconds visible_wait)
    : read_catalog_(std::move(read_catalog)), log_(std::move(log)), visible_wait_(visible_wait) {}

void TableRegistry::CaptureCommands(std::string key, std::vector<std::string> publications) {
  key_ = std::move(key);
  publications_ = std::move(publications);
}

Status TableRegistry::Load(std::vector<SourceTable> tables, const SourceState& state,
                           const std::set<std::string>& awaited,
                           const std::optional<XidSnapshot>& seen) {
  tables_.clear();
  commands_.assign(tables.size(), {});
  known_.clear();
  ahead_.reset();
  strangers_.clear();
  notes_.clear();
  is_changed_.assign(tables.size(), false);
  epoch_ = state.position ? state.position->epoch : Epoch();
  for (SourceTable& table : tables) {
    NumberColumns(table);
    const std::string name = NoteName(*table.table);
    const auto note = state.notes.find(name);
    // Before the first position nothing has been streamed: tables are as they are.
    if (!state.position.has_value() || note == state.notes.end()) {
      notes_.push_back({name, FormatTableNote(table)});
      commands_[tables_.size()].seen = seen;
      tables_.push_back(std::make_shared<const SourceTable>(std::move(table)));
      continue;
    }
    Result<SourceTable> known = ParseTableNote(note->second);
    if (!known.ok()) {
      return known.status().WithContext(fmt::format("table {}", table.table->FullName()));
    }
    if (known->covered && known->covered->epoch != epoch_) {
      known->covered.reset();  // another server's transactions
    }
    if (known->table->oid != table.table->oid) {
      commands_[tables_.size()].seen = seen;
    }
    tables_.push_back(TakeUp(*std::move(known), table));
    if (!tables_.back()->paused.empty()) {
      log_.Warn("Table is paused", {{"reason", tables_.back()->paused}});
    }
  }
  for (const std::string& name : awaited) {
    MR_RETURN_IF_ERROR(LoadAwaited(state.notes.at(NoteNameOf(name))));
  }
  return Status::Ok();
}

Status TableRegistry::LoadAwaited(const std::string& note) {
  MR_ASSIGN_OR_RETURN(const SourceTable known, ParseTableNote(note));
  if (std::any_of(tables_.begin(), tables_.end(), [&](const SourceTablePtr& table) {
        return table->table->FullName() == known.table->FullName();
      })) {
    return Status::Ok();
  }
  const auto before = std::make_shared<const SourceTable>(known);
  SourceTable gone = known.paused.empty() ? *Pause(before, "it was dropped") : known;
  gone.is_gone = true;
  tables_.push_back(before);
  is_changed_.push_back(false);
  commands_.emplace_back();
  Replace(tables_.size() - 1, std::make_shared<const SourceTable>(std::move(gone)));
  return Status::Ok();
}

void TableRegistry::LeaveOut(const std::string& full_name) {
  const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const SourceTablePtr& table) {
    return table->table->FullName() == full_name;
  });
  if (found == tables_.end()) {
    return;
  }
  std::erase_if(notes_,
                [&](const SourceNote& note) { return note.name == NoteName(*(*found)->table); });
  is_changed_.erase(is_changed_.begin() + (found - tables_.begin()));
  commands_.erase(commands_.begin() + (found - tables_.begin()));
  tables_.erase(found);
}

SourceTablePtr TableRegistry::TakeUp(SourceTable known, const SourceTable& now) {
  if (known.table->oid != now.table->oid) {
    SourceTablePtr next = FollowReadAgain(std::make_shared<const SourceTable>(std::move(known)),
                                          {.source = now, .all_columns = {}});
    log_.Info("Table was made anew", {{"table", next->table->FullName()}});
    notes_.push_back({NoteName(*next->table), FormatTableNote(*next)});
    return next;
  }
  // What no row depends on is as it is now.
  known.is_partitioned = now.is_partitioned;
  known.row_filter = now.row_filter;
  known.has_generated_column = now.has_generated_column;
  Table table = *known.table;
  table.next_names = NextNames(known, {.source = now, .all_columns = {}});
  known.table = std::make_shared<const Table>(std::move(table));
  return std::make_shared<const SourceTable>(std::move(known));
}

std::optional<size_t> TableRegistry::FindTable(const RelationMessage& relation) const {
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (tables_[i]->table->oid == relation.oid) {
      return i;
    }
  }
  for (size_t i = 0; i < tables_.size(); ++i) {
    const Table& table = *tables_[i]->table;
    if (table.schema == relation.schema && table.name == relation.name) {
      return i;
    }
  }
  return std::nullopt;
}

ResolvedRelation TableRegistry::Resolved(size_t number, RowLayout layout) const {
  return {.table = tables_[number],
          .is_transient = tables_[number]->covered.has_value(),
          .number = number,
          .places = std::move(layout.places),
          .absent = std::move(layout.absent)};
}

// One that was attached with rows since the catalog was compared.
Result<bool> TableRegistry::SeePartition(uint32_t root, uint32_t partition) {
  const auto found =
      std::find_if(tables_.begin(), tables_.end(),
                   [root](const SourceTablePtr& table) { return table->table->oid == root; });
  if (found == tables_.end() || !(*found)->partitions || !(*found)->paused.empty()) {
    return false;
  }
  const std::vector<Partition>& known = *(*found)->partitions;
  const bool is_known = std::any_of(known.begin(), known.end(),
                                    [&](const Partition& p) { return p.oid == partition; });
  // Another relation may stand behind the root by chance: it is looked for once.
  if (is_known || !strangers_.insert(partition).second) {
    return false;
  }
  const SourceTablePtr before = *found;
  MR_RETURN_IF_ERROR(LookForAttached());
  return *found != before;
}

Result<ResolvedRelation> TableRegistry::Resolve(const RelationMessage& relation, Xid transaction) {
  const std::optional<size_t> number = FindTable(relation);
  if (!number) {
    return ResolvedRelation();
  }
  if (!tables_[*number]->paused.empty()) {
    return ResolvedRelation{.is_paused = true, .number = *number};
  }
  if (const auto& covered = tables_[*number]->covered;
      covered && covered->snapshot.Sees(covered->snapshot.Widen(transaction))) {
    return ResolvedRelation{.is_paused = true, .is_transient = true, .number = *number};
  }
  Enter(transaction);
  const Commands& commands = commands_[*number];
  for (const Known& known : known_) {
    if (known.number == *number && known.step == commands.step && known.relation == relation) {
      // Columns that came since are absent.
      RowLayout layout{.places = known.layout.places, .absent = {}};
      for (uint32_t place = 0; place < tables_[*number]->columns.size(); ++place) {
        if (std::find(layout.places.begin(), layout.places.end(), place) == layout.places.end()) {
          layout.absent.push_back(place);
        }
      }
      return Resolved(*number, std::move(layout));
    }
  }
  RowLayout layout;
  if (commands.step < commands.steps_taken) {
    Replace(*number, postgres::PauseUntilRead(
                         tables_[*number],
                         "one large transaction changed its columns more often than is kept"));
    return ResolvedRelation{.is_paused = true, .number = *number};
  }
  if (!MatchesRelation(*tables_[*number], relation, layout)) {
    MR_ASSIGN_OR_RETURN(const CatalogMoment moment, ReadCatalogSeeing(transaction));
    const Table& table = *tables_[*number]->table;
    const auto named = moment.oid_of_name.find(table.FullName());
    if (relation.oid != table.oid && named != moment.oid_of_name.end() &&
        named->second == table.oid) {
      return ResolvedRelation();  // rows of the table that had the name before
    }
    TableStep step =
        FollowRelation(tables_[*number], relation, moment.Find(tables_[*number]->table->oid));
    layout = std::move(step.layout);
    Replace(*number, std::move(step.table));
    if (!tables_[*number]->paused.empty()) {
      return ResolvedRelation{.is_paused = true, .number = *number};
    }
  }
  if (known_.size() < kKnownMax) {
    known_.push_back({*number, commands.step, relation, layout});
  }
  return Resolved(*number, std::move(layout));
}

void TableRegistry::Enter(Xid transaction) {
  if (transaction == transaction_) {
    return;
  }
  transaction_ = transaction;
  known_.clear();
  for (Commands& commands : commands_) {
    commands.step = commands.steps_taken = 0;
    commands.is_rewrite = false;
  }
}

void TableRegistry::Begin(Xid transaction) {
  Enter(transaction);
  for (Commands& commands : commands_) {
    commands.step = 0;
    commands.is_rewrite = false;
  }
}

bool TableRegistry::TakeCommand(std::string_view content) {
  if (key_.empty()) {
    return false;
  }
  Result<DdlMessage> message = ParseDdlMessage(content, key_, publications_);
  if (!message.ok()) {
    // Anybody can write messages with another key; without ours a table is followed all the same.
    if (message.status().code() != Code::kPermissionDenied) {
      log_.Warn("A captured command is left out", {{"error", message.status()}});
    }
    return false;
  }
  const auto find = [this](uint32_t oid) {
    const auto found =
        std::find_if(tables_.begin(), tables_.end(),
                     [oid](const SourceTablePtr& table) { return table->table->oid == oid; });
    return static_cast<size_t>(found - tables_.begin());
  };
  bool is_ours = false;
  for (const uint32_t oid : message->rewrite ? message->rewrite->oids : std::vector<uint32_t>()) {
    const size_t number = find(oid);
    if (number == tables_.size() || !tables_[number]->paused.empty()) {
      continue;
    }
    is_ours = true;
    Commands& commands = commands_[number];
    commands.is_rewrite = true;
    const bool is_taken = commands.step < commands.steps_taken;
    if (message->rewrite->may_convert && !is_taken && !IsAhead(number)) {
      commands.paused_in = transaction_;
      Replace(number, postgres::PauseUntilRead(
                          tables_[number],
                          "its rows were written anew with other values, as ALTER COLUMN TYPE ... "
                          "USING does"));
    }
  }
  if (message->table) {
    const size_t number = find(message->table->source.table->oid);
    if (number != tables_.size()) {
      is_ours = true;
      TakeTable(number, *std::move(message->table));
    }
  }
  return is_ours;
}

// The catalog that the table was taken from showed the transaction at hand already.
bool TableRegistry::IsAhead(size_t number) const {
  const std::optional<XidSnapshot>& seen = commands_[number].seen;
  const auto& covered = tables_[number]->covered;
  return (seen && seen->Sees(seen->Widen(transaction_))) ||
         (covered && covered->snapshot.Sees(covered->snapshot.Widen(transaction_)));
}

void TableRegistry::TakeTable(size_t number, CatalogTable now) {
  Commands& commands = commands_[number];
  const bool is_rewritten = std::exchange(commands.is_rewrite, false);
  if (++commands.step <= commands.steps_taken) {
    return;
  }
  commands.steps_taken = commands.step;
  const SourceTable& known = *tables_[number];
  // Numbers are never given again: with fewer it is of an earlier time.
  if (!known.paused.empty() || IsAhead(number) || now.source.attnum_max < known.attnum_max) {
    return;
  }
  now.source.is_partitioned = known.is_partitioned;
  now.source.partitions = known.partitions;
  now.source.row_filter = known.row_filter;
  if (known.is_partitioned) {
    now.source.has_usable_identity = known.has_usable_identity;
  }
  Replace(number, FollowCommand(tables_[number], now, is_rewritten).table);
  if (!tables_[number]->paused.empty()) {
    commands.paused_in = transaction_;
  }
}

// A catalog in which the transaction is visible, and with it whatever it altered.
Result<CatalogMoment> TableRegistry::ReadCatalogSeeing(Xid transaction) {
  const auto deadline = std::chrono::steady_clock::now() + visible_wait_;
  while (true) {
    MR_ASSIGN_OR_RETURN(CatalogMoment moment, read_catalog_(tables_));
    if (moment.snapshot.Sees(moment.snapshot.Widen(transaction))) {
      return moment;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return Unavailable(fmt::format(
          "transaction {} altered a table, and is not visible yet: it waits for a synchronous "
          "standby",
          transaction.value()));
    }
    std::this_thread::sleep_for(kVisiblePoll);
  }
}

SourceTablePtr TableRegistry::AllowNull(size_t number, size_t place) {
  Replace(number, postgres::AllowNull(tables_[number], place));
  return tables_[number];
}

void TableRegistry::Replace(size_t number, SourceTablePtr next) {
  if (next == tables_[number]) {
    return;
  }
  const SourceTablePtr before = std::exchange(tables_[number], std::move(next));
  const SourceTable& now = *tables_[number];
  if (now.paused != before->paused && !now.paused.empty()) {
    log_.Error("Table is paused", {{"reason", now.paused}});
  } else if (now.table != before->table) {
    log_.Info("Columns of a table changed",
              {{"table", now.table->FullName()}, {"version", now.table->version}});
  }
  is_changed_[number] = is_changed_[number] || !IsReadTheSame(*before, now);
  SourceNote note{NoteName(*now.table), FormatTableNote(now)};
  const auto found = std::find_if(notes_.begin(), notes_.end(),
                                  [&](const SourceNote& n) { return n.name == note.name; });
  if (found == notes_.end()) {
    notes_.push_back(std::move(note));
  } else {
    *found = std::move(note);
  }
}

Status TableRegistry::ReadCatalog() {
  if (ahead_) {
    return Status::Ok();  // the stream is behind
  }
  MR_ASSIGN_OR_RETURN(ahead_, read_catalog_(tables_));
  tables_then_ = tables_;
  return Status::Ok();
}

bool TableRegistry::PassedCatalog(Lsn end) {
  if (!ahead_ || end < ahead_->wal_end) {
    return false;
  }
  const CatalogMoment moment = *std::exchange(ahead_, std::nullopt);
  bool changed = false;
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (tables_[i] != tables_then_[i]) {
      continue;
    }
    if (tables_[i]->covered && end >= tables_[i]->covered->wal_end) {
      SourceTable next = *tables_[i];
      next.covered.reset();
      Replace(i, std::make_shared<const SourceTable>(std::move(next)));
      changed = true;
    }
    const Table& table = *tables_[i]->table;
    if (!tables_[i]->paused.empty()) {
      TakeNamesake(i, moment);
      continue;
    }
    const CatalogTable* now = moment.Find(table.oid);
    if (now == nullptr) {
      // Another table may have the name.
      const auto oid = moment.oid_of_name.find(table.FullName());
      now = oid == moment.oid_of_name.end() ? nullptr : moment.Find(oid->second);
    }
    Replace(i, FollowCatalog(tables_[i], now).table);
    if (tables_[i]->paused.empty() && now->source.partitions) {
      FollowPartitions(i, *now->source.partitions);
    }
    changed |= tables_[i] != tables_then_[i];
  }
  return changed;
}

void TableRegistry::FollowPartitions(size_t number, const std::vector<Partition>& now) {
  const SourceTable& known = *tables_[number];
  const auto is_same = [](const Partition& a, const Partition& b) { return a.IsSame(b); };
  if (known.partitions && std::equal(known.partitions->begin(), known.partitions->end(),
                                     now.begin(), now.end(), is_same)) {
    return;
  }
  strangers_.clear();
  const Table& table = *known.table;
  SourceTable next = known;
  next.partitions = now;
  const std::vector<PartitionChange> changes =
      known.partitions ? ComparePartitions(*known.partitions, now, truncations_[table.FullName()])
                       : std::vector<PartitionChange>();
  const bool may_read = !never_again_.contains(table.FullName());
  const PartitionChange* brings = nullptr;
  for (const PartitionChange& change : changes) {
    if (may_read) {
      next.mend = Mend::kReadAgain;
      brings = change.brings_rows ? &change : brings;
    }
    log_.With("partition", change.partition)
        .Warn(may_read
                  ? "Rows of a partition came or went without row events, its table is read again"
                  : "Rows of a partition came or went without row events, and are not followed",
              {{"table", table.FullName()}, {"because", change.what}});
  }
  // Changes of rows that are not downstream may leave large values out.
  const bool may_be_wide =
      table.replica_identity != ReplicaIdentity::kFull &&
      std::find(table.toastable.begin(), table.toastable.end(), true) != table.toastable.end();
  if (brings != nullptr && may_be_wide) {
    next.paused = fmt::format(
        "table {}: partition {} {}; its changes are left out until it is read "
        "again",
        table.FullName(), brings->partition, brings->what);
  }
  Replace(number, std::make_shared<const SourceTable>(std::move(next)));
}

Status TableRegistry::LookForAttached() {
  const bool has_known = std::any_of(tables_.begin(), tables_.end(), [](const auto& table) {
    return table->paused.empty() && table->partitions.has_value();
  });
  if (!has_known) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const CatalogMoment moment, read_catalog_(tables_));
  for (size_t i = 0; i < tables_.size(); ++i) {
    const CatalogTable* now = moment.Find(tables_[i]->table->oid);
    if (now == nullptr || !tables_[i]->paused.empty() || !tables_[i]->partitions ||
        !now->source.partitions) {
      continue;
    }
    const std::vector<PartitionChange> changes =
        ComparePartitions(*tables_[i]->partitions, *now->source.partitions, {});
    if (std::any_of(changes.begin(), changes.end(),
                    [](const PartitionChange& change) { return change.brings_rows; })) {
      FollowPartitions(i, *now->source.partitions);
    }
  }
  return Status::Ok();
}

void TableRegistry::Truncated(size_t number, Xid transaction) {
  std::vector<uint32_t>& truncations = truncations_[tables_[number]->table->FullName()];
  if (truncations.empty() || truncations.back() != transaction.value()) {
    truncations.push_back(transaction.value());
  }
  if (truncations.size() > kTruncationsMax) {
    truncations.erase(truncations.begin());
  }
}

void TableRegistry::Mended(const std::string& full_name) {
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (tables_[i]->table->FullName() == full_name && tables_[i]->mend != Mend::kNone) {
      SourceTable next = *tables_[i];
      next.mend = Mend::kNone;
      Replace(i, std::make_shared<const SourceTable>(std::move(next)));
    }
  }
}

void TableRegistry::TakeNamesake(size_t number, const CatalogMoment& moment) {
  const SourceTable& known = *tables_[number];
  const auto oid = moment.oid_of_name.find(known.table->FullName());
  if (known.mend != Mend::kNone || oid == moment.oid_of_name.end() ||
      oid->second == known.table->oid) {
    return;
  }
  SourceTable next = known;
  next.mend = Mend::kTakeUp;
  Replace(number, std::make_shared<const SourceTable>(std::move(next)));
}

std::vector<std::string> TableRegistry::Mendable(Mend mend) const {
  std::vector<std::string> names;
  for (const SourceTablePtr& table : tables_) {
    if (table->mend == mend) {
      names.push_back(table->table->FullName());
    }
  }
  return names;
}

Result<SourceTablePtr> TableRegistry::ReadAgain(const std::string& full_name, bool covers) {
  const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const SourceTablePtr& table) {
    return table->table->FullName() == full_name;
  });
  if (found == tables_.end()) {
    return NotFound(fmt::format("table {} is not one of the pipeline's", full_name));
  }
  const auto number = static_cast<size_t>(found - tables_.begin());
  const std::optional<Xid> paused_in = commands_[number].paused_in;
  MR_ASSIGN_OR_RETURN(const CatalogMoment moment,
                      paused_in ? ReadCatalogSeeing(*paused_in) : read_catalog_(tables_));
  const auto oid = moment.oid_of_name.find(full_name);
  const CatalogTable* now = oid == moment.oid_of_name.end() ? nullptr : moment.Find(oid->second);
  if (now == nullptr) {
    return NotFound(fmt::format("table {} is not there, or cannot be read", full_name));
  }
  known_.clear();
  SourceTable next = *FollowReadAgain(*found, *now);
  if (covers) {
    next.covered = {.snapshot = moment.snapshot, .wal_end = moment.wal_end, .epoch = epoch_};
  }
  commands_[number].seen = moment.snapshot;
  commands_[number].paused_in.reset();
  Replace(number, std::make_shared<const SourceTable>(std::move(next)));
  return *found;
}

bool TableRegistry::HasNewsOf(
    const std::function<bool(const std::string& full_name)>& is_meant) const {
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (is_changed_[i] && is_meant(tables_[i]->table->FullName())) {
      return true;
    }
  }
  return false;
}

bool TableRegistry::Complete(ChangeBatch& batch) {
  for (SourceNote& note : notes_) {
    batch.notes.push_back(std::move(note));
  }
  notes_.clear();
  bool has_changed = false;
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (!is_changed_[i]) {
      continue;
    }
    has_changed = true;
    is_changed_[i] = false;
    const TablePtr& table = tables_[i]->table;
    const auto found =
        std::find_if(batch.tables.begin(), batch.tables.end(), [&](const TableChanges& changes) {
          return changes.table->FullName() == table->FullName();
        });
    if (found == batch.tables.end()) {
      batch.tables.emplace_back(table);
    } else if (found->table != table) {
      Evolve(*found, table);
    }
  }
  return has_changed;
}

std::vector<std::pair<std::string, std::string>> TableRegistry::Paused() const {
  std::vector<std::pair<std::string, std::string>> paused;
  for (const SourceTablePtr& table : tables_) {
    if (!table->paused.empty()) {
      paused.emplace_back(table->table->FullName(), table->paused);
    }
  }
  return paused;
}

}  // namespace millrace::sources::postgres
