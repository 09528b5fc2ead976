// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/relation_message.h"
#include "millrace/sources/postgres/source_table.h"

// How a table gets from one version of its columns to the next.
//
// The stream describes a table by names and types (RelationMessage), but not by the numbers that
// PostgreSQL gives columns for ever. The catalog has the numbers, of dropped columns too, but may
// be several ALTERs ahead of the stream. What was known before, the message and the catalog
// together tell an added column from one that was renamed.
//
// Where event triggers write down what each command did (ddl_message.h), nothing has to be told
// apart: FollowCommand().
//
// What can be followed: a column that is added (older rows hold what the catalog says), dropped (it
// stays, NULL from then on), renamed to a name that no column has or had, widened, or may be NULL
// now. Everything else pauses the table, by a sentence that says what happened and what to do: its
// rows may have changed without row events, or it cannot be told what became of its columns.
//
// Pure functions.
namespace millrace::sources::postgres {

// Where the values of a row stand in the table's columns.
struct RowLayout {
  std::vector<uint32_t> places;  // of each column of the message
  std::vector<uint32_t> absent;  // columns of the table that the message lacks

  bool operator==(const RowLayout&) const = default;
};

// True if rows of `relation` are rows of `known`, nothing has changed; then `layout` is theirs.
bool MatchesRelation(const SourceTable& known, const RelationMessage& relation, RowLayout& layout);

// What a table comes to.
struct TableStep {
  SourceTablePtr table;  // the known one if nothing changed; paused, it has a sentence
  RowLayout layout;      // of FollowRelation(), unless the table is paused

  bool changes(const SourceTablePtr& known) const { return table != known; }
};

// `known` as the stream has it when rows of `relation` come. `now` is what the catalog has under
// its object id, at that time or later; null if it has nothing.
TableStep FollowRelation(const SourceTablePtr& known, const RelationMessage& relation,
                         const CatalogTable* now);

// `known` as the catalog has it, where the stream has come as far as the catalog. `recreated_as`:
// the object id that its name has now.
TableStep FollowCatalog(const SourceTablePtr& known, const CatalogTable* now);

// `known` behind a command that left it as `now`; nothing changed it between but what that command
// did. `is_rewritten`: it wrote the rows anew, with what new columns hold in them.
TableStep FollowCommand(const SourceTablePtr& known, const CatalogTable& now, bool is_rewritten);

// True if neither the engine nor who reads the table's rows sees a difference between two versions
// of it.
bool IsReadTheSame(const SourceTable& before, const SourceTable& after);

// True if the catalog has `known` as it is, and publishes the same rows of it.
bool IsAsKnown(const SourceTable& known, const CatalogTable& now);

// `known` after it is read again in full, as the catalog has it: a column of a known name keeps its
// place, also with another type or number. It is no longer paused.
SourceTablePtr FollowReadAgain(const SourceTablePtr& known, const CatalogTable& now);

// `known` with column `place` nullable: a NULL came for it.
SourceTablePtr AllowNull(const SourceTablePtr& known, size_t place);
// `known`, paused by `sentence`.
SourceTablePtr Pause(const SourceTablePtr& known, std::string_view what_happened);
// The same, for what reading it again mends without doubt.
SourceTablePtr PauseUntilRead(const SourceTablePtr& known, std::string_view what_happened);

// The names that the catalog has for the columns of `known`, if they are others.
std::vector<std::string> NextNames(const SourceTable& known, const CatalogTable& now);

// A table as the text of a note in data_dir.
std::string FormatTableNote(const SourceTable& table);
// kCorruption for what is no such text, kUnsupported for that of a newer format.
Result<SourceTable> ParseTableNote(std::string_view text);

}  // namespace millrace::sources::postgres
