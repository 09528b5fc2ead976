// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/published_tables.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

// Column lists and row filters came with 15.
constexpr int kFirstWithFilters = 150000;

// A row for each column, so that no name has to be taken out of an array's text. Without a column
// list the view has the columns of the table as it is by now (16 and newer, where it also waits for
// an ALTER that is open), and not as this transaction's snapshot has them: there all columns of the
// snapshot count, but for generated ones that the view does not have.
constexpr std::string_view kFilteredSql = R"(
SELECT c.oid, t.pubname, t.rowfilter, a.name, n.nspname || '.' || c.relname
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
LEFT JOIN LATERAL (
  SELECT x.attname AS name, x.attnum AS i FROM pg_attribute x
  WHERE x.attrelid = c.oid AND x.attnum > 0 AND NOT x.attisdropped
    AND (x.attname = ANY (t.attnames) OR x.attgenerated = '' AND NOT EXISTS (
      SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
      WHERE p.pubname = t.pubname AND r.prrelid = c.oid AND r.prattrs IS NOT NULL))
) a ON true
WHERE t.pubname IN ({}, {}) ORDER BY c.oid, t.pubname, a.i)";

constexpr std::string_view kPlainSql = R"(
SELECT c.oid, t.pubname, NULL, NULL, n.nspname || '.' || c.relname
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname IN ({}, {}) ORDER BY c.oid, t.pubname)";

uint32_t Oid(std::string_view text) {
  uint32_t oid = 0;
  std::from_chars(text.data(), text.data() + text.size(), oid);
  return oid;
}

Status Merge(uint32_t oid, std::string_view name, PublishedTable entry,
             std::map<uint32_t, PublishedTable>& tables) {
  const auto [found, is_first] = tables.emplace(oid, entry);
  if (is_first) {
    return Status::Ok();
  }
  PublishedTable& known = found->second;
  if (known.columns != entry.columns) {
    return FailedPrecondition(
        fmt::format("two publications of the pipeline publish other columns of table {}, which "
                    "PostgreSQL refuses to stream: give both the same column list",
                    name));
  }
  known.row_filter = known.row_filter.empty() || entry.row_filter.empty()
                         ? std::string()
                         : fmt::format("({}) OR ({})", known.row_filter, entry.row_filter);
  return Status::Ok();
}

}  // namespace

Result<std::map<uint32_t, PublishedTable>> LoadPublishedTables(pg::Connection& connection,
                                                               const PostgresSourceConfig& config) {
  const std::string sql = fmt::format(
      fmt::runtime(connection.server_version() >= kFirstWithFilters ? kFilteredSql : kPlainSql),
      pg::QuoteLiteral(config.publication), pg::QuoteLiteral(config.InsertsPublication()));
  MR_ASSIGN_OR_RETURN(const pg::QueryResult rows, connection.Exec(sql));
  std::map<uint32_t, PublishedTable> tables;
  for (size_t i = 0; i < rows.row_count();) {
    const uint32_t oid = Oid(rows.Text(i, 0));
    const std::string publication(rows.Text(i, 1));
    PublishedTable entry;
    entry.row_filter = rows.Text(i, 2);
    if (connection.server_version() >= kFirstWithFilters) {
      entry.columns.emplace();
    }
    for (; i < rows.row_count() && Oid(rows.Text(i, 0)) == oid && rows.Text(i, 1) == publication;
         ++i) {
      if (entry.columns && !rows.IsNull(i, 3)) {
        entry.columns->emplace_back(rows.Text(i, 3));
      }
    }
    MR_RETURN_IF_ERROR(Merge(oid, rows.Text(i - 1, 4), std::move(entry), tables));
  }
  return tables;
}

}  // namespace millrace::sources::postgres
