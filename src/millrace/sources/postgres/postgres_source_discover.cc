// SPDX-License-Identifier: Apache-2.0
//
// Tables that come while the source runs, with `discover`.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/failpoint.h"
#include "millrace/config/table_name.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/publication.h"
#include "millrace/sources/postgres/server_check.h"
#include "millrace/sources/postgres/table_history.h"

namespace millrace::sources::postgres {
namespace {

bool IsRetried(const Status& status) {
  return status.code() == Code::kUnavailable || status.code() == Code::kTimedOut;
}

std::string UnpublishedSentence(const std::string& table, const Status& status) {
  return LeftOutSentence(table, status, IsRetried(status) ? " until it can be published" : "");
}

}  // namespace

std::set<std::string> PostgresSource::AwaitedTables(const std::set<std::string>& taken) const {
  std::set<std::string> listed;
  for (const std::string& text : config_.tables) {
    if (const auto pattern = config::TablePattern::Parse(text); pattern && pattern->exact()) {
      listed.insert(fmt::format("{}.{}", pattern->exact()->schema, pattern->exact()->name));
    }
  }
  std::set<std::string> awaited;
  for (const std::string& name : taken) {
    if (listed.contains(name) || config_.stream_tables.contains(name)) {
      awaited.insert(name);
    }
  }
  return awaited;
}

void PostgresSource::SetLeftOut(std::map<std::string, std::string> left_out) {
  if (left_out == left_out_) {
    return;
  }
  std::vector<PausedTable> tables;
  for (const auto& [table, reason] : left_out) {
    if (std::string& said = said_[table]; said != reason) {
      said = reason;
      log_.With("table", table).Warn("Table is left out", {{"reason", reason}});
    }
    tables.push_back({table, reason});
  }
  left_out_ = std::move(left_out);
  MutexLock lock(mu_);
  status_.left_out_tables = std::move(tables);
}

void PostgresSource::LeaveOut(const std::map<std::string, std::string>& reasons) {
  std::map<std::string, std::string> left_out = left_out_;
  unfit_.clear();
  for (const auto& [table, reason] : reasons) {
    left_out[table] = reason;
    if (const auto candidate = candidates_.find(table); candidate != candidates_.end()) {
      unfit_[table] = candidate->second.note;
    }
    registry_.LeaveOut(table);
  }
  SetLeftOut(std::move(left_out));
  TakeTables();
  PublishTables();
}

std::vector<SourceTable> PostgresSource::PresentTables() const {
  std::vector<SourceTable> tables;
  for (const SourceTablePtr& table : registry_.tables()) {
    if (!table->is_gone) {
      tables.push_back(*table);
    }
  }
  return tables;
}

Status PostgresSource::PublishTaken(pg::Connection& connection) {
  Result<std::vector<std::string>> names = EnsurePublications(connection, config_, PresentTables());
  if (!names.ok()) {
    // Others go on without what came last.
    std::map<std::string, std::string> reasons = roles_.left_out;
    std::vector<std::string> unpublished;
    for (const auto& [table, candidate] : candidates_) {
      if (!candidate.is_published && reasons.try_emplace(table).second) {
        reasons[table] = UnpublishedSentence(table, names.status());
        unpublished.push_back(table);
      }
    }
    if (unpublished.empty()) {
      return names.status();
    }
    LeaveOut(reasons);
    for (const std::string& table : unpublished) {
      if (IsRetried(names.status())) {
        unfit_.erase(table);
      }
    }
    names = EnsurePublications(connection, config_, PresentTables());
  }
  MR_ASSIGN_OR_RETURN(publications_, std::move(names));
  return Status::Ok();
}

Result<PostgresSource::Matches> PostgresSource::FindNewcomers() {
  std::set<std::string> known;
  for (const SourceTablePtr& table : registry_.tables()) {
    known.insert(table->table->FullName());
  }
  MR_ASSIGN_OR_RETURN(const std::set<std::string> names, ListTables(*catalog_, config_));
  std::erase_if(said_, [&](const auto& said) { return !names.contains(said.first); });
  Matches matches;
  if (std::includes(known.begin(), known.end(), names.begin(), names.end())) {
    return matches;
  }
  MR_ASSIGN_OR_RETURN(ServerReport report, InspectTables(*catalog_, config_, known));
  for (CatalogTable& entry : report.catalog.tables) {
    const std::string name = entry.source.table->FullName();
    const auto unfit = unfit_.find(name);
    if (known.contains(name)) {
      matches.known.push_back(std::move(entry.source));
    } else if (unfit != unfit_.end() && unfit->second == FormatTableNote(entry.source)) {
      matches.left_out[name] = left_out_[name];
    } else {
      matches.newcomers.push_back(std::move(entry.source));
    }
  }
  matches.left_out.merge(report.left_out);
  return matches;
}

Result<std::string> PostgresSource::LookForTables() {
  std::string found;
  // What a large transaction has sent so far would be sent again.
  if (catalog_ == nullptr || reader_->is_within() || reader_->has_large() ||
      snapshot_->is_within_transaction()) {
    return found;
  }
  MR_ASSIGN_OR_RETURN(Matches matches, FindNewcomers());
  std::vector<SourceTable>& tables = matches.known;
  for (const SourceTable& newcomer : matches.newcomers) {
    const std::string name = newcomer.table->FullName();
    tables.push_back(newcomer);
    // While the others stream: it waits for no lock of the table for long. A standby's publication
    // is made at its primary, when the source connects.
    const Status published =
        is_standby_ ? Status::Ok() : EnsurePublications(*catalog_, config_, tables).status();
    if (published.ok()) {
      MR_FAILPOINT("source.after_tables_published");
      found += (found.empty() ? "" : ", ") + name;
      continue;
    }
    tables.pop_back();
    matches.left_out[name] = UnpublishedSentence(name, published);
  }
  SetLeftOut(std::move(matches.left_out));
  return found;
}

std::vector<std::string> PostgresSource::Candidates() const {
  MutexLock lock(mu_);
  return candidate_names_;
}

}  // namespace millrace::sources::postgres
