// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/mutex.h"
#include "millrace/sources/postgres/heartbeat.h"
#include "millrace/sources/postgres/pgoutput_decoder.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/replication_stream.h"
#include "millrace/sources/postgres/slot.h"
#include "millrace/sources/postgres/snapshot.h"
#include "millrace/sources/source.h"
#include "millrace/telemetry/log.h"

namespace millrace::sources::postgres {

// PostgresSource reads a PostgreSQL database through a logical replication slot with pgoutput,
// after a first snapshot of the tables.
//
// Start() checks that slot and data_dir belong together, or begins to make the slot; what takes
// long (waiting for the slot, the snapshot, the stream) happens in Poll(), step by step:
//
//   Start -> making the slot -> snapshot -> streaming        first start
//   Start -------------------------------> streaming         every later one
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
  Status Start(const SourceState& state, SourceStateStore& store, const TableRoles& roles) override;
  Status Poll(std::chrono::milliseconds wait) override;
  PendingBatch Pending() const override;
  std::unique_ptr<ChangeBatch> Take() override;
  void Confirm(Lsn durable) override;
  SourceStatus GetStatus() const override;
  void Close() override;

 private:
  enum class Phase { kClosed, kConnected, kMakingSlot, kSnapshot, kStreaming };

  Status StartFresh(const SourceState& state);
  Status Resume(const SourceState& state);
  // Streams from the stored position if `verdict` lets it.
  Status ResumeFrom(const SourceState& state, const SlotVerdict& verdict);
  Result<std::unique_ptr<pg::Connection>> Open(bool is_replication) const;
  // The tables in the order of the snapshot; kInvalidArgument if the names are not ours.
  Status OrderTables(const std::vector<std::string>& snapshot_order);
  // The connection to heartbeat_url, which must reach the primary of our standby.
  Status ConnectPrimary();
  // Makes or checks the publications, on the primary, and waits until our server has them.
  Status PreparePublications(bool is_resuming);
  Status PollSlot(std::chrono::milliseconds wait);
  void HurrySlot();
  Status BeginSnapshot(const std::string& snapshot);
  Status StartStreaming(SourcePosition start, Lsn confirmed);
  Status Step(std::chrono::milliseconds wait);
  Status PollStream(std::chrono::milliseconds wait);
  void PublishStatus(const Status& status);
  void SampleLag();

  // Constant after construction.
  const PostgresSourceConfig config_;
  const telemetry::Logger log_;

  // Used by the capture thread only.
  Phase phase_ = Phase::kClosed;
  std::vector<SourceTable> source_tables_;
  std::vector<SourceTable> snapshot_tables_;  // in the order of the snapshot
  std::unique_ptr<pg::Connection> control_;
  std::unique_ptr<pg::Connection> replication_;  // until the stream takes it
  std::unique_ptr<pg::Connection> primary_;  // only where a standby's slot or publication is made
  SourceStateStore* store_ = nullptr;        // from Start() to Close()
  bool is_standby_ = false;
  SystemInfo system_;
  std::string instance_;  // of the server that the stream comes from
  std::chrono::steady_clock::time_point next_hurry_;
  // Since when the server has sent what is not confirmed.
  std::optional<std::chrono::steady_clock::time_point> unconfirmed_since_;
  std::vector<std::string> publications_;
  SourcePosition start_;
  std::unique_ptr<PgOutputDecoder> decoder_;
  std::unique_ptr<SnapshotReader> snapshot_;
  std::unique_ptr<Heartbeat> heartbeat_;

  // What was read and is not confirmed: ends and commit times of transactions, some a second.
  struct ReadSample {
    Lsn end_lsn;
    TimestampMicros commit_ts = 0;
    std::chrono::steady_clock::time_point taken_at;
  };
  std::deque<ReadSample> unconfirmed_;

  // The newest Confirm(), also while there is no stream.
  std::atomic<uint64_t> confirmed_{0};

  mutable Mutex mu_;
  // Guarded by mu_.
  std::vector<TablePtr> tables_ MR_GUARDED_BY(mu_);
  SourceStatus status_ MR_GUARDED_BY(mu_);
  std::shared_ptr<ReplicationStream> stream_;  // replaced under mu_
};

std::unique_ptr<Source> MakePostgresSource(PostgresSourceConfig config, telemetry::Logger log);

// `millrace check`: what the server needs for this pipeline, without changing anything.
std::vector<CheckFinding> CheckPostgres(const PostgresSourceConfig& config);

}  // namespace millrace::sources::postgres
