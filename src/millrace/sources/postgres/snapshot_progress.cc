// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/snapshot_progress.h"

#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

constexpr uint8_t kVersion = 1;
constexpr std::string_view kNotePrefix = "snapshot/";

enum Flag : uint8_t { kIsDone = 1, kIsAgain = 2, kKeepsChanges = 4, kHasBegun = 8 };

Status CheckVersion(ByteReader& in) {
  MR_ASSIGN_OR_RETURN(const uint8_t version, in.ReadBigEndian<uint8_t>());
  return version == kVersion
             ? Status::Ok()
             : Unsupported(fmt::format("a note about a snapshot has format {}, and this version "
                                       "reads format {}: use the version that wrote data_dir",
                                       version, kVersion));
}

TableProgress Unread(const SourceTable& table, const XidSnapshot& now) {
  TableProgress progress;
  progress.oid = table.table->oid;
  for (const FullXid xid : now.running) {
    progress.ledger.MustSee(xid);
  }
  return progress;
}

}  // namespace

std::string EncodeProgress(const TableProgress& progress) {
  std::string text(1, static_cast<char>(kVersion));
  text.push_back(static_cast<char>(
      (progress.is_done ? kIsDone : 0) | (progress.is_again ? kIsAgain : 0) |
      (progress.keeps_changes ? kKeepsChanges : 0) | (progress.has_begun ? kHasBegun : 0)));
  AppendBigEndian(text, progress.oid);
  AppendVarint(text, progress.rows);
  progress.ledger.Encode(text);
  return text;
}

Result<TableProgress> DecodeProgress(std::string_view text) {
  ByteReader in(text);
  MR_RETURN_IF_ERROR(CheckVersion(in));
  TableProgress progress;
  MR_ASSIGN_OR_RETURN(const uint8_t flags, in.ReadBigEndian<uint8_t>());
  progress.is_done = (flags & kIsDone) != 0;
  progress.is_again = (flags & kIsAgain) != 0;
  progress.keeps_changes = (flags & kKeepsChanges) != 0;
  progress.has_begun = (flags & kHasBegun) != 0;
  MR_ASSIGN_OR_RETURN(progress.oid, in.ReadBigEndian<uint32_t>());
  MR_ASSIGN_OR_RETURN(progress.rows, in.ReadVarint());
  MR_ASSIGN_OR_RETURN(progress.ledger, ChunkLedger::Decode(in));
  if (!in.empty()) {
    return Corruption("a note about a snapshot is longer than it says");
  }
  return progress;
}

std::string ProgressNoteName(const Table& table) {
  return fmt::format("{}{}", kNotePrefix, pg::QuoteQualified(table.schema, table.name));
}

uint64_t& SnapshotOrdinals::At(Lsn at) {
  if (position != at || next == 0) {
    position = at;
    next = kSnapshotOrdinalBase;
  }
  return next;
}

std::string EncodeOrdinals(const SnapshotOrdinals& ordinals) {
  std::string text(1, static_cast<char>(kVersion));
  AppendBigEndian(text, ordinals.position.value());
  AppendBigEndian(text, ordinals.next);
  return text;
}

Result<SnapshotOrdinals> DecodeOrdinals(std::string_view text) {
  ByteReader in(text);
  MR_RETURN_IF_ERROR(CheckVersion(in));
  SnapshotOrdinals ordinals;
  MR_ASSIGN_OR_RETURN(const uint64_t position, in.ReadBigEndian<uint64_t>());
  MR_ASSIGN_OR_RETURN(ordinals.next, in.ReadBigEndian<uint64_t>());
  ordinals.position = Lsn(position);
  return ordinals;
}

Result<std::vector<SourceNote>> PlanProgress(
    const std::map<std::string, std::string, std::less<>>& notes,
    const std::vector<SourceTable>& tables, SnapshotMode mode, const XidSnapshot& now) {
  std::vector<SourceNote> plan;
  std::set<std::string> names;
  for (const SourceTable& table : tables) {
    const std::string name = ProgressNoteName(*table.table);
    names.insert(name);
    TableProgress progress = Unread(table, now);
    progress.is_done = mode == SnapshotMode::kNever;
    if (const auto found = notes.find(name); found != notes.end()) {
      MR_ASSIGN_OR_RETURN(const TableProgress known, DecodeProgress(found->second));
      if (known.oid == table.table->oid) {
        continue;
      }
      progress.is_again = true;
    }
    plan.push_back({name, EncodeProgress(progress)});
  }
  for (auto note = notes.lower_bound(kNotePrefix);
       note != notes.end() && note->first.starts_with(kNotePrefix); ++note) {
    if (!names.contains(note->first)) {
      plan.push_back({note->first, std::nullopt});
    }
  }
  return plan;
}

std::vector<SourceNote> PlanReadingAgain(const std::vector<SourceTable>& tables,
                                         const XidSnapshot& now) {
  std::vector<SourceNote> plan;
  for (const SourceTable& table : tables) {
    TableProgress progress = Unread(table, now);
    progress.is_again = true;
    plan.push_back({ProgressNoteName(*table.table), EncodeProgress(progress)});
  }
  return plan;
}

}  // namespace millrace::sources::postgres
