// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/stream.h"
#include "millrace/sinks/clickhouse/clickhouse_options.h"

// Types, DDL and the comparison of a table with what is needed. Pure: nothing here talks to a
// server.
namespace millrace::sinks::clickhouse {

inline constexpr std::string_view kVersionColumn = "_version";
inline constexpr std::string_view kCommitTimeColumn = "_commit_ts";
inline constexpr std::string_view kDeletedColumn = "_deleted";

// The blocks whose tokens a table made by Millrace remembers. A retry follows its first try with at
// most one open plan in between, so that only other writers' inserts count against it; 10,000 is
// the default of replicated tables, costs about 1 MB of memory, and leaves a stuck retry half an
// hour beside a writer of five blocks a second.
inline constexpr uint64_t kDeduplicationWindow = 10'000;

// `name` in backticks, `text` in single quotes, with everything in them escaped.
std::string QuoteIdentifier(std::string_view name);
std::string QuoteString(std::string_view text);

// The column type for values of `type`, in ClickHouse's own spelling. `naive_zone` is the zone of
// timestamps without one: "" where the server's zone is UTC, else "UTC", so that they are shown as
// they are.
std::string ColumnType(const DataType& type, bool nullable, bool as_string,
                       std::string_view naive_zone);

struct ColumnNeed {
  std::string name;
  std::string type;
  bool is_instant = false;  // a timestamptz: the same in every zone
};

// The table that a stream needs.
struct TableNeed {
  std::string database;
  std::string table;
  StreamPtr stream;
  std::vector<StreamPtr> earlier;   // versions of the stream before this one, newest first
  std::vector<ColumnNeed> columns;  // the stream's, then the metadata columns
  std::set<std::string> as_string;  // columns of the stream that are kept as exact text
  std::string naive_zone;           // see ColumnType()
  std::vector<std::string> order_by;
  bool has_nullable_key = false;
  std::string partition_by;
  std::string engine;  // with its arguments

  bool is_mutable() const { return !stream->append_only; }
  bool IsString(const std::string& column) const { return as_string.contains(column); }
  // `db`.`table`
  std::string QualifiedName() const;
};

// Fits `options` to the stream. kInvalidArgument with the remedy where they do not fit: a column
// that does not exist, a mutable stream whose sorting key lacks key columns, a name that is taken.
Result<TableNeed> MakeTableNeed(const TableOptions& options, const std::string& database,
                                StreamPtr stream, std::string_view naive_zone);

// kInvalidArgument unless `engine` is one engine of the MergeTree family with arguments, and fits.
Status CheckEngine(std::string_view engine, bool is_mutable);
// kInvalidArgument unless `expression` is one whole expression: quotes and brackets closed, no
// semicolon, no comment.
Status CheckExpression(std::string_view expression);
// The names in an expression that are not functions.
std::vector<std::string> ExpressionColumns(std::string_view expression);

std::string CreateDatabaseSql(std::string_view database);
std::string CreateTableSql(const TableNeed& need);

// A table as the server describes it.
struct TableFacts {
  struct Column {
    std::string type;
    std::string default_kind;
    bool is_in_partition_key = false;
    bool is_in_sorting_key = false;
    std::string codec;  // with CODEC(); empty: the server's default
    std::string comment;
  };
  std::string engine;
  std::string engine_full;
  std::string sorting_key;
  std::map<std::string, Column> columns;
};

// True if both are one type, however they are spelled.
bool IsSameType(std::string_view a, std::string_view b);
// True if every value of type `need` is kept, and shown, as it is in a column of type `have`: the
// same type, with LowCardinality or Nullable added, or another zone for an instant.
bool TypeHolds(std::string have, std::string need, bool is_instant);

// Defaults of merge tree settings that a table's own settings override.
using MergeTreeSettings = std::map<std::string, std::string>;

// The value of a setting of a table; empty if nobody knows it.
std::string TableSetting(std::string_view engine_full, const std::string& name,
                         const MergeTreeSettings& defaults);
bool IsReplicated(std::string_view engine);
// The number of blocks whose tokens the table remembers, by its kind.
uint64_t DeduplicationWindow(const TableFacts& facts, const MergeTreeSettings& defaults);

// kFailedPrecondition with the statement to run if rows for `need` would not be taken as they are:
// a missing column, another type, an engine that would merge rows away, no deduplication window.
Status CheckTable(const TableNeed& need, const TableFacts& facts,
                  const MergeTreeSettings& defaults);

}  // namespace millrace::sinks::clickhouse
