// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_options.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/clickhouse_tables.h"
#include "millrace/sinks/clickhouse/delivery_plan.h"
#include "millrace/sinks/clickhouse/native_encoder.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks::clickhouse {

// ClickHouseSink inserts each stream into its table, every row once.
//
// ClickHouse cannot keep a position with the data, but knows a repeated INSERT by its token. So
// each delivery is planned first: the DeliveryLog durably holds the offsets, and for each table the
// number of rows, a checksum and a token that names this plan for ever. Then each table gets one
// INSERT of one block. Where the outcome of one is unknown the plan stays open, and after Open()
// the very same blocks go out under the same tokens unless the table is seen to hold them, or, when
// the server may have forgotten the tokens, the rows that the table lacks. Rows that differ from
// the plan are never sent: Deliver() fails with kCorruption.
//
// A table is as one version of its stream needs it, named in each plan; rows of earlier versions
// are fitted in. It is altered for a newer version while no plan is open, by statements that a
// crash lets go on where they stopped.
//
// What a crash leaves:
//   before SavePlan() returns          nothing was sent; the rows are planned anew
//   after it, or between inserts       an open plan: tables that have their block know the token
//   before SavePosition() is durable   an open plan of a delivery that is complete: the same
//
// Errors: kInvalidArgument is a bad row, found before anything is planned; its sentence names
// stream, column and offset. Those of the server are in clickhouse_errors.h. In doubt the plan
// stays open.
class ClickHouseSink : public Sink {
 public:
  using Clock = std::function<Moment()>;

  // kInvalidArgument if options and streams do not fit.
  static Result<std::unique_ptr<ClickHouseSink>> Make(ClickHouseOptions options,
                                                      SinkContext context,
                                                      Clock clock = NowOfMachine);

  Result<SinkPosition> Open(std::stop_token stop) override;
  Status Prepare(const StreamPtr& stream, std::stop_token stop) override;
  Status Deliver(const DeliveryBatch& batch, std::stop_token stop) override;
  RefusedRows TakeRefused() override { return std::exchange(refused_, {}); }
  Result<std::optional<Offset>> ReadPosition() override;
  void Close() override;

 private:
  // The rows of one table in one delivery.
  struct Block {
    size_t table = 0;  // index into options_.tables
    std::vector<OutputSlice> slices;
    std::unique_ptr<NativeEncoder> encoder;
    NativeBlock bytes;  // while `slices` are there
  };

  ClickHouseSink(ClickHouseOptions options, SinkContext context, Clock clock);

  // Open() but for the clean-up after a failure.
  Result<SinkPosition> Connect(std::stop_token stop);
  Result<std::vector<TableNeed>> MakeNeeds(std::string_view naive_zone) const;
  Result<TableNeed> MakeNeed(const TableOptions& table, const StreamPtr& stream,
                             std::string_view naive_zone) const;
  // A version that came out of data_dir, with what this run's configuration says of the stream.
  StreamPtr AsConfigured(const StreamPtr& stream) const;
  // The version of the stream that a table is to be as: that of an open plan, whose blocks must be
  // made again byte for byte, else the newest.
  Result<StreamPtr> StreamOf(const TableOptions& table) const;
  PrepareOptions MakePrepareOptions() const;
  // With rows that ClickHouse cannot hold kInvalidArgument, and all of them in refused_.
  Result<std::vector<Block>> MakeBlocks(const DeliveryBatch& batch);
  DeliveryPlan MakePlan(const DeliveryBatch& batch, const std::vector<Block>& blocks) const;
  // Sends every block, or what is missing of it.
  Status InsertAll(const std::vector<Block>& blocks, bool is_repeat, std::stop_token stop);
  Status Insert(const Block& block, const std::string& token, std::stop_token stop);
  // True if the server may have forgotten the token of the open plan.
  bool MayHaveForgotten(const PreparedTable& table) const;
  // Sends a block whose first try may have arrived.
  Status InsertAgain(const Block& block, const TablePlan& plan, std::stop_token stop);
  // How many rows of `block` the table holds, by their `_version`; `missing` gets, for each
  // version, how many it does not.
  Result<size_t> CountFound(const Block& block, std::stop_token stop,
                            std::map<UInt128, size_t>& missing);
  // Sends the rows of `block` that the table does not hold.
  Status InsertMissing(const Block& block, const TablePlan& plan, std::stop_token stop);

  // Constant after construction.
  const ClickHouseOptions options_;
  const SinkContext context_;
  const Clock clock_;

  // The newest versions that are known, by name. Used by the writer thread only.
  std::map<std::string, StreamPtr> streams_;

  // Between Open() and Close().
  std::unique_ptr<ClickHouseClient> client_;
  ServerFacts facts_;
  std::vector<TableNeed> needs_;         // one for each of options_.tables: as the tables are
  std::vector<PreparedTable> prepared_;  // the same
  std::optional<Offset> position_;
  std::optional<DeliveryPlan> plan_;  // open: its outcome is unknown
  RefusedRows refused_;
};

}  // namespace millrace::sinks::clickhouse
