// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/model/source_state.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/relation_resolver.h"
#include "millrace/sources/postgres/table_history.h"
#include "millrace/sources/postgres/xid_snapshot.h"
#include "millrace/telemetry/log.h"

namespace millrace::sources::postgres {

// The full names of the tables that earlier runs have read, or were to read: both kinds of notes
// are there.
std::set<std::string> TakenTables(const SourceState& state);
// The name of a table's note.
std::string NoteNameOf(const std::string& full_name);

// Asks the server for its catalog, see LoadMoment(). Blocks.
using ReadCatalogFn =
    std::function<Result<CatalogMoment>(const std::vector<SourceTablePtr>& tables)>;

// TableRegistry holds the tables of the pipeline, each in the version that the stream has come to.
// What changes becomes a note `table/<full name>` of the batch at hand, so that data_dir knows the
// tables as of its position.
//
// Where event triggers capture commands, each change stands in the stream at its place, and is
// followed exactly; a Relation message then says the same. Where it does not, because a message is
// missing, and without triggers, a change shows itself in two ways: a Relation message that
// differs, at its first row; and the catalog, which is compared now and then for changes without
// rows. A catalog is ahead of the stream: what it shows counts once the stream has come past the
// moment, and only where the stream has shown no change of the table meanwhile.
//
// Lifecycle: Load() at each connection, then the rest.
//
// Threads: one at a time.
class TableRegistry : public RelationResolver {
 public:
  // With synchronous replication a commit is decoded before anybody sees it: for so long its
  // catalog is waited for. The stream is not read meanwhile; far below wal_sender_timeout.
  static constexpr std::chrono::milliseconds kVisibleWait{5'000};

  TableRegistry(ReadCatalogFn read_catalog, telemetry::Logger log,
                std::chrono::milliseconds visible_wait = kVisibleWait);

  // The messages of event triggers count that have `key`, and what they say of `publications`.
  // Called before they come; an empty key: none counts.
  void CaptureCommands(std::string key, std::vector<std::string> publications);

  // `tables` as the catalog has them, and `state` of earlier runs: a table that has a note there is
  // as the note says. One that was dropped and made again since is as the catalog has it, and is to
  // be read again. One of `awaited`, which have notes, that is not among `tables` comes last, as
  // the note says, and is paused. kCorruption or kUnsupported for a note that cannot be read.
  // `seen` is of the time before the catalog was looked at.
  Status Load(std::vector<SourceTable> tables, const SourceState& state,
              const std::set<std::string>& awaited = {},
              const std::optional<XidSnapshot>& seen = std::nullopt);

  // Goes on without a table that Load() gave. Before the rest.
  void LeaveOut(const std::string& full_name);

  // The tables, in the order that Load() was given.
  const std::vector<SourceTablePtr>& tables() const { return tables_; }

  // RelationResolver
  size_t table_count() const override { return tables_.size(); }
  void Begin(Xid transaction) override;
  bool TakeCommand(std::string_view content) override;
  Result<bool> SeePartition(uint32_t root, uint32_t partition) override;
  Result<ResolvedRelation> Resolve(const RelationMessage& relation, Xid transaction) override;
  SourceTablePtr AllowNull(size_t number, size_t place) override;
  void Truncated(size_t number, Xid transaction) override;

  // Tables that are not read again for the sake of their partitions.
  void SetNeverAgain(const std::vector<std::string>& full_names) {
    never_again_ = {full_names.begin(), full_names.end()};
  }
  // Before streaming: pauses tables for which partitions were attached whose rows' changes, being
  // next in the stream, may leave values out that nobody knows.
  Status LookForAttached();

  // Compares the catalog. What it shows waits for PassedCatalog().
  Status ReadCatalog();
  // The stream has come to `end`: everything before it has been decoded. True if tables changed.
  bool PassedCatalog(Lsn end);

  // The table is read again in full, as the catalog has it now: it is paused no more. With `covers`
  // the changes of transactions that this catalog sees are left out: whoever reads the table sees
  // them too. Not so where the catalog is a standby's, which does not know what the primary shows.
  // kNotFound if the table is not there, or not one of ours.
  Result<SourceTablePtr> ReadAgain(const std::string& full_name, bool covers);

  // The table is being read again, which was to mend it.
  void Mended(const std::string& full_name);

  // The full names of tables that this mends.
  std::vector<std::string> Mendable(Mend mend) const;

  // Something changed that no batch carries yet.
  bool has_news() const { return !notes_.empty(); }
  // The same of one of the tables for which `is_meant` is true.
  bool HasNewsOf(const std::function<bool(const std::string& full_name)>& is_meant) const;
  // The notes that no batch carries yet, for a write of their own.
  std::vector<SourceNote> TakeNotes() { return std::exchange(notes_, {}); }
  // Hands `batch` its notes and the newest version of each table that changed; rows of it that are
  // of an earlier version become rows of that. True if there is one.
  bool Complete(ChangeBatch& batch);

  // Of tables that are paused: full name, sentence.
  std::vector<std::pair<std::string, std::string>> Paused() const;

 private:
  // A mapping that was found in the transaction at hand: large ones are decoded twice.
  struct Known {
    size_t number = 0;
    uint32_t step = 0;  // see Commands
    RelationMessage relation;
    RowLayout layout;
  };
  // The captured commands of a table.
  struct Commands {
    // In the transaction at hand, in this pass over it, and in any pass.
    uint32_t step = 0;
    uint32_t steps_taken = 0;
    bool is_rewrite = false;  // the one that comes next writes the rows anew
    // One of this transaction paused the table, by what it says itself: the catalog may not show it
    // yet.
    std::optional<Xid> paused_in;
    // The table is as the catalog was then: it shows commands that the stream has still to come to.
    std::optional<XidSnapshot> seen;
  };

  Status LoadAwaited(const std::string& note);
  // A table that a note knows, as the catalog has it now.
  SourceTablePtr TakeUp(SourceTable known, const SourceTable& now);
  // A paused table, in whose place there is another of its name.
  void TakeNamesake(size_t number, const CatalogMoment& moment);
  std::optional<size_t> FindTable(const RelationMessage& relation) const;
  Result<CatalogMoment> ReadCatalogSeeing(Xid transaction);
  void Enter(Xid transaction);
  void TakeTable(size_t number, CatalogTable now);
  bool IsAhead(size_t number) const;
  void Replace(size_t number, SourceTablePtr next);
  // Notes the partitions, and whether their rows came or went without row events.
  void FollowPartitions(size_t number, const std::vector<Partition>& now);
  ResolvedRelation Resolved(size_t number, RowLayout layout) const;

  // Constant after construction.
  const ReadCatalogFn read_catalog_;
  const telemetry::Logger log_;
  const std::chrono::milliseconds visible_wait_;

  std::string key_;  // of captured commands
  std::vector<std::string> publications_;
  std::vector<SourceTablePtr> tables_;
  Epoch epoch_;
  std::vector<Commands> commands_;  // of each table
  Xid transaction_;
  std::vector<Known> known_;
  // A catalog that the stream has not come to, and the tables as they were when it was read.
  std::optional<CatalogMoment> ahead_;
  std::vector<SourceTablePtr> tables_then_;
  std::set<std::string> never_again_;
  std::set<uint32_t> strangers_;  // relations that stood behind a root and are no partitions of it
  // The transactions that truncated a table as a whole, lately, by its full name.
  std::map<std::string, std::vector<uint32_t>> truncations_;
  // Of the next batch.
  std::vector<SourceNote> notes_;
  std::vector<bool> is_changed_;  // in a way that the engine or a reader of the table sees
};

}  // namespace millrace::sources::postgres
