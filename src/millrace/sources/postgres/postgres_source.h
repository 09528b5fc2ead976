// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/mutex.h"
#include "millrace/sources/postgres/heartbeat.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/replication_stream.h"
#include "millrace/sources/postgres/slot.h"
#include "millrace/sources/postgres/snapshot_coordinator.h"
#include "millrace/sources/postgres/table_registry.h"
#include "millrace/sources/postgres/transaction_reader.h"
#include "millrace/sources/source.h"
#include "millrace/telemetry/log.h"

namespace millrace::sources::postgres {

// PostgresSource reads a PostgreSQL database through a logical replication slot with pgoutput, and
// beside it the rows that tables had before.
//
// Start() checks that slot and data_dir belong together, or begins to make the slot; what takes
// long (waiting for the slot, the stream, reading tables) happens in Poll(), step by step:
//
//   Start -> making the slot -> streaming        first start
//   Start -------------------> streaming         every later one
//
// The rest of the contract is in sources/source.h. Poll() with a full batch reads nothing and
// returns at once; it still tells the server by time that it lives, so that a caller that waits for
// the engine keeps the connection by calling Poll(0) every few seconds.
class PostgresSource final : public Source {
 public:
  PostgresSource(PostgresSourceConfig config, telemetry::Logger log);
  ~PostgresSource() override;

  Status Connect(const SourceState& state) override;
  std::vector<TablePtr> Tables() const override;
  std::vector<std::string> Candidates() const override;
  Status Start(const SourceState& state, SourceStateStore& store, const TableRoles& roles) override;
  Status Poll(std::chrono::milliseconds wait) override;
  void Hold(bool is_held) override { is_held_ = is_held; }
  PendingBatch Pending() const override;
  Result<std::unique_ptr<ChangeBatch>> Take() override;
  void Confirm(Lsn durable) override;
  Status ReadAgain(const std::string& table) override;
  SourceStatus GetStatus() const override;
  void Close() override;

 private:
  enum class Phase { kClosed, kConnected, kMakingSlot, kStreaming };

  Status StartFresh(const SourceState& state);
  Status Resume(const SourceState& state);
  // Streams from the stored position if `verdict` lets it.
  Status ResumeFrom(const SourceState& state, const SlotVerdict& verdict);
  // kFenced if another process has taken the slot since we streamed from it.
  Status CheckSlotIsStillOurs(const SlotInfo& slot) const;
  // Makes the slot again, and reads every table again.
  Status StartOver(const SourceState& state);
  // Drops a slot of ours, and begins to make it; the stream then goes on with `epoch`.
  Status MakeSlot(Epoch epoch, bool reads_all_again);
  Result<std::unique_ptr<pg::Connection>> Open(bool is_replication) const;
  // At heartbeat_url, which must reach the primary of our standby.
  Result<std::unique_ptr<pg::Connection>> OpenPrimary() const;
  // A standby without heartbeat_url has no place to read tables from.
  Status CheckCanRead() const;
  // Where tables are read: of a standby its primary.
  Result<std::unique_ptr<pg::Connection>> OpenToRead() const;
  // Which tables are to be read, as notes.
  Result<std::vector<SourceNote>> PlanReading(bool is_fresh) const;
  // The tables in the order in which they are read; kInvalidArgument if a name is not ours.
  Result<std::vector<SourceTable>> TablesInOrder() const;
  // Has the tables read again that were asked for.
  Status BeginReadingAgain();
  // Something joins the stream at the end of what is complete.
  bool HasSnapshotRows() const;
  // Has event triggers capture commands, if they are asked for: on the primary.
  Status PrepareDdlCapture();
  // Makes or checks the publications, on the primary, and waits until our server has them.
  Status PreparePublications();
  Status PollSlot(std::chrono::milliseconds wait);
  void HurrySlot();
  // Notes what tables are to be read, and goes on at `start`.
  Status StartStreaming(SourcePosition start, bool is_fresh);
  Status Step(std::chrono::milliseconds wait);
  Status PollStream(std::chrono::milliseconds wait);
  void PublishStatus(const Status& status);
  Result<CatalogMoment> ReadCatalog(const std::vector<SourceTablePtr>& tables);
  // Looks now and then whether the catalog shows changes of tables to which nobody writes, and
  // other tables. kUnavailable if these are to be taken in.
  Status CompareCatalog();
  // Those of the tables of earlier runs that stay ours while they are not there.
  std::set<std::string> AwaitedTables(const std::set<std::string>& taken) const;
  // Says each reason once.
  void SetLeftOut(std::map<std::string, std::string> left_out);
  // Goes on without these candidates.
  void LeaveOut(const std::map<std::string, std::string>& reasons);
  // Publishes the tables, if need be without the candidates.
  Status PublishTaken(pg::Connection& connection);
  // Those of the tables that are there.
  std::vector<SourceTable> PresentTables() const;
  // What the catalog has of the tables, and what is to be taken in beside them. Both empty: there
  // is nothing that is not known.
  struct Matches {
    std::vector<SourceTable> known;
    std::vector<SourceTable> newcomers;
    std::map<std::string, std::string> left_out;  // and why
  };
  Result<Matches> FindNewcomers();
  // The names of what is to be taken in, and is published by then; empty: nothing.
  Result<std::string> LookForTables();
  // Takes the tables as the registry has them now.
  void TakeTables();
  void PublishTables();
  void SampleLag();

  // Constant after construction.
  const PostgresSourceConfig config_;
  const telemetry::Logger log_;

  // Used by the capture thread only.
  Phase phase_ = Phase::kClosed;
  bool is_held_ = false;
  TableRegistry registry_;
  std::unique_ptr<pg::Connection> catalog_;  // made when it is needed
  std::chrono::steady_clock::time_point next_compare_;
  std::chrono::steady_clock::time_point next_mend_;
  std::vector<SourceTable> source_tables_;  // as they were when the source connected
  // With discover. What is not taken in, and why; what Connect() found that no earlier run had, and
  // of that what the streams cannot use: as notes, by full name.
  struct Candidate {
    std::string note;
    bool is_published = false;
  };
  std::map<std::string, std::string> left_out_;
  std::map<std::string, std::string> said_;  // of left_out_, so that each is said once
  std::map<std::string, Candidate> candidates_;
  std::map<std::string, std::string> unfit_;
  bool must_start_again_ = false;      // a table that is being read has changed
  uint64_t paused_changes_ = 0;        // of earlier readers
  SourceStateStore* store_ = nullptr;  // from Start() to Close()
  TableRoles roles_;
  std::map<std::string, std::string, std::less<>> notes_;  // that are durable
  std::unique_ptr<pg::Connection> control_;
  std::unique_ptr<pg::Connection> replication_;  // until the stream takes it
  std::unique_ptr<pg::Connection> primary_;  // only where a standby's slot or publication is made
  bool is_standby_ = false;
  SystemInfo system_;
  std::deque<int32_t> own_senders_;  // the newest walsenders that streamed to us
  std::string instance_;             // of the server that the stream comes from
  // Of the slot that is being made.
  Epoch epoch_;
  bool reads_all_again_ = false;
  std::chrono::steady_clock::time_point next_hurry_;
  // Since when the server has sent what is not confirmed.
  std::optional<std::chrono::steady_clock::time_point> unconfirmed_since_;
  std::vector<std::string> publications_;
  std::unique_ptr<TransactionReader> reader_;
  std::unique_ptr<Heartbeat> heartbeat_;
  std::unique_ptr<SnapshotCoordinator> snapshot_;

  // What was read and is not confirmed: ends and commit times of transactions, some a second.
  struct ReadSample {
    Lsn end_lsn;
    TimestampMicros commit_ts = 0;
    std::chrono::steady_clock::time_point taken_at;
  };
  std::deque<ReadSample> unconfirmed_;

  // How far the stream was that ended so, see ReplicationStream::failed_within_open().
  std::optional<Lsn> open_failed_at_;
  // The newest Confirm(), also while there is no stream.
  std::atomic<uint64_t> confirmed_{0};

  mutable Mutex mu_;
  // Guarded by mu_.
  std::vector<TablePtr> tables_ MR_GUARDED_BY(mu_);
  std::vector<std::string> candidate_names_ MR_GUARDED_BY(mu_);
  SourceStatus status_ MR_GUARDED_BY(mu_);
  std::set<std::string> read_again_ MR_GUARDED_BY(mu_);  // full names
  Status can_read_ MR_GUARDED_BY(mu_);
  std::shared_ptr<ReplicationStream> stream_;  // replaced under mu_
};

std::unique_ptr<Source> MakePostgresSource(PostgresSourceConfig config, telemetry::Logger log);

// `millrace check`: what the server needs for this pipeline, without changing anything.
std::vector<CheckFinding> CheckPostgres(const PostgresSourceConfig& config);

}  // namespace millrace::sources::postgres
