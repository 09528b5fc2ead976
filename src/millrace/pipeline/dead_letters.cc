// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/dead_letters.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/clock.h"
#include "millrace/common/failpoint.h"
#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

using storage::DeadLetter;
using storage::DeadLetterChanges;
using storage::DeadLetterId;

constexpr size_t kReadAtATime = 1'000;
// What one write of SendAgain() takes, unless a single row is larger.
constexpr size_t kSentAtATime = 256;
constexpr uint64_t kBytesAtATime = uint64_t{8} << 20;

// By which columns rows of a stream are told apart, with what stands in front of their values.
struct KeyColumns {
  std::string prefix;
  std::vector<uint32_t> columns;
};

std::vector<KeyColumns> KeyColumnsOf(const Stream& stream, const DeadLetters::NewestBy& newest_by) {
  std::vector<KeyColumns> all;
  if (!stream.key.empty()) {
    all.push_back({std::to_string(stream.id.value()) + '\0', stream.key});
  }
  const auto sets = newest_by.find(stream.id);
  if (sets == newest_by.end()) {
    return all;
  }
  for (const std::vector<std::string>& names : sets->second) {
    KeyColumns key{std::to_string(stream.id.value()), {}};
    for (const std::string& name : names) {
      key.prefix += '\0' + name;
      if (const int column = stream.FindColumn(name); column >= 0) {
        key.columns.push_back(static_cast<uint32_t>(column));
      }
    }
    key.prefix += '\0';
    if (key.columns.size() == names.size()) {
      all.push_back(std::move(key));
    }
  }
  return all;
}

std::vector<std::string> KeysOf(const std::vector<KeyColumns>& columns, const RowBatch& rows,
                                size_t row) {
  std::vector<std::string> keys;
  for (const KeyColumns& key : columns) {
    keys.push_back(key.prefix);
    storage::EncodeKey(rows, row, key.columns, keys.back());
  }
  return keys;
}

size_t HashOf(const std::string& key) { return std::hash<std::string>()(key); }

// Row `row` of `batch` as a record of its own, at `offset`.
OutputRecord RecordOf(const OutputBatch& batch, size_t row, Offset offset,
                      SourcePosition position) {
  OutputBatch one(batch.stream);
  one.first_offset = offset;
  one.epoch = batch.epoch;
  one.transactions = {batch.transactions[batch.transaction[row]]};
  one.rows.AppendRow(batch.rows, row);
  one.ops = {batch.ops[row]};
  one.transaction = {0};
  one.ordinals = {batch.ordinals[row]};
  OutputRecord record{
      .first = offset, .end = Offset(offset.value() + 1), .position = position, .batches = {}};
  record.batches.push_back(std::make_shared<const OutputBatch>(std::move(one)));
  return record;
}

// The slice that holds `offset`, and the row's index in its batch.
std::optional<std::pair<const OutputBatch*, size_t>> FindRow(const sinks::DeliveryBatch& batch,
                                                             Offset offset) {
  for (const sinks::OutputSlice& slice : batch.slices) {
    const uint64_t first = slice.batch->first_offset.value();
    if (offset.value() >= first + slice.begin && offset.value() < first + slice.end) {
      return std::pair(slice.batch.get(), offset.value() - first);
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::unique_ptr<DeadLetters>> DeadLetters::Open(storage::Store& store, Limits limits) {
  std::unique_ptr<DeadLetters> queue(new DeadLetters(store, limits));
  const MutexLock lock(queue->mu_);
  for (DeadLetterId after;;) {
    MR_ASSIGN_OR_RETURN(const std::vector<DeadLetter> letters,
                        store.ReadDeadLetters(after, kReadAtATime));
    for (const DeadLetter& letter : letters) {
      queue->Insert(letter);
    }
    if (letters.empty()) {
      break;
    }
    after = letters.back().id;
  }
  MR_ASSIGN_OR_RETURN(const auto left_out, store.ReadLeftOutRows());
  for (const storage::LeftOutRow& row : left_out) {
    queue->sinks_[row.sink].left_out.insert(row.offset);
  }
  return queue;
}

void DeadLetters::Insert(const DeadLetter& letter) {
  Erase(letter.id);
  Entry entry{.state = letter.state,
              .sink = letter.sink,
              .stream = letter.stream,
              .version = letter.version,
              .sent_again = letter.sent_again,
              .row_bytes = letter.row_bytes,
              .keys = {}};
  OfSink& sink = sinks_[letter.sink];
  if (letter.state != State::kSuperseded) {
    for (const std::string& key : letter.keys) {
      entry.keys.push_back(HashOf(key));
      sink.by_key.emplace(entry.keys.back(), letter.id);
    }
  }
  if (letter.state == State::kSentAgain) {
    sink.sent_again.insert(letter.id);
  }
  retries_ += letter.state == State::kRetryAsked ? 1 : 0;
  bytes_ += letter.row_bytes;
  ++by_stream_[letter.stream];
  letters_.emplace(letter.id, std::move(entry));
}

void DeadLetters::Erase(DeadLetterId id) {
  const auto found = letters_.find(id);
  if (found == letters_.end()) {
    return;
  }
  const Entry& entry = found->second;
  OfSink& sink = sinks_[entry.sink];
  for (const size_t key : entry.keys) {
    const auto [begin, end] = sink.by_key.equal_range(key);
    const auto at = std::find_if(begin, end, [&](const auto& other) { return other.second == id; });
    if (at != end) {
      sink.by_key.erase(at);
    }
  }
  sink.sent_again.erase(id);
  retries_ -= entry.state == State::kRetryAsked ? 1 : 0;
  bytes_ -= entry.row_bytes;
  if (--by_stream_[entry.stream] == 0) {
    by_stream_.erase(entry.stream);
  }
  letters_.erase(found);
}

Result<DeadLetter> DeadLetters::Read(DeadLetterId id) const {
  MR_ASSIGN_OR_RETURN(std::vector<DeadLetter> found,
                      store_.ReadDeadLetters(DeadLetterId(id.value() - 1), 1));
  if (found.empty() || found.front().id != id) {
    return NotFound(fmt::format(
        "there is no dead letter {}: `millrace dlq list` shows which there are", id.value()));
  }
  return std::move(found.front());
}

Status DeadLetters::Apply(const DeadLetterChanges& changes) {
  MR_RETURN_IF_ERROR(store_.ChangeDeadLetters(changes));
  for (const DeadLetter& letter : changes.put) {
    Insert(letter);
  }
  for (const DeadLetterId id : changes.removed) {
    Erase(id);
  }
  if (!changes.left_out.empty()) {
    sinks_[changes.sink].left_out.insert(changes.left_out.begin(), changes.left_out.end());
  }
  return Status::Ok();
}

// ---- A sink's writer ----

std::vector<Offset> DeadLetters::LeftOut(const std::string& sink, Offset first, Offset end) const {
  const MutexLock lock(mu_);
  const auto found = sinks_.find(sink);
  if (found == sinks_.end()) {
    return {};
  }
  const std::set<Offset>& all = found->second.left_out;
  return {all.lower_bound(first), all.lower_bound(end)};
}

Status DeadLetters::Supersede(const std::string& sink, const NewestBy& newest_by,
                              const sinks::DeliveryBatch& batch) {
  const MutexLock lock(mu_);
  const auto of_sink = sinks_.find(sink);
  if (of_sink == sinks_.end() || of_sink->second.by_key.empty()) {
    return Status::Ok();
  }
  std::map<DeadLetterId, DeadLetter> superseded;
  std::set<Offset> left_out;
  for (const sinks::OutputSlice& slice : batch.slices) {
    const std::vector<KeyColumns> columns = KeyColumnsOf(*slice.batch->stream, newest_by);
    for (size_t row = slice.begin; row < slice.end; ++row) {
      const Offset offset(slice.batch->first_offset.value() + row);
      if (left_out.contains(offset)) {
        continue;  // it is not delivered itself
      }
      for (const std::string& key : KeysOf(columns, slice.batch->rows, row)) {
        const auto [begin, end] = of_sink->second.by_key.equal_range(HashOf(key));
        for (auto at = begin; at != end; ++at) {
          const Entry& entry = letters_.at(at->second);
          const bool is_later = slice.batch->VersionOf(row) > entry.version &&
                                (entry.state != State::kSentAgain || offset < entry.sent_again);
          if (!is_later || superseded.contains(at->second)) {
            continue;
          }
          MR_ASSIGN_OR_RETURN(DeadLetter letter, Read(at->second));
          if (std::find(letter.keys.begin(), letter.keys.end(), key) == letter.keys.end()) {
            continue;  // another key of this hash
          }
          if (letter.state == State::kSentAgain) {
            left_out.insert(letter.sent_again);
          }
          superseded.emplace(at->second, std::move(letter));
        }
      }
    }
  }
  if (superseded.empty()) {
    return Status::Ok();
  }
  DeadLetterChanges changes;
  changes.sink = sink;
  changes.left_out.assign(left_out.begin(), left_out.end());
  for (auto& [id, letter] : superseded) {
    if (letter.state == State::kSentAgain) {
      changes.removed.push_back(id);
    } else {
      letter.state = State::kSuperseded;
      changes.put.push_back(std::move(letter));
    }
  }
  return Apply(changes);
}

Result<bool> DeadLetters::HasLater(const DeadLetter& letter) {
  for (const std::string& key : letter.keys) {
    const auto [begin, end] = sinks_[letter.sink].by_key.equal_range(HashOf(key));
    for (auto at = begin; at != end; ++at) {
      if (letters_.at(at->second).version > letter.version) {
        MR_ASSIGN_OR_RETURN(const DeadLetter other, Read(at->second));
        if (std::find(other.keys.begin(), other.keys.end(), key) != other.keys.end()) {
          return true;
        }
      }
    }
  }
  return false;
}

Status DeadLetters::Keep(const std::string& sink, const NewestBy& newest_by,
                         const sinks::DeliveryBatch& batch,
                         const std::map<Offset, std::string>& refused) {
  const MutexLock lock(mu_);
  if (letters_.size() + refused.size() > limits_.letters || bytes_ > limits_.bytes) {
    return FailedPrecondition(fmt::format(
        "{} rows cannot be delivered, and the dead letter queue is full with {} rows and {} "
        "bytes: look at them with `millrace dlq list`, then retry or drop them",
        refused.size(), letters_.size(), bytes_));
  }
  // Of rows that were sent again and are refused again, the former letters.
  std::map<Offset, DeadLetterId> former;
  for (const DeadLetterId id : sinks_[sink].sent_again) {
    former.emplace(letters_.at(id).sent_again, id);
  }
  for (auto at = refused.begin(); at != refused.end();) {
    DeadLetterChanges changes;
    changes.sink = sink;
    uint64_t bytes = 0;
    for (; at != refused.end() && bytes < kBytesAtATime; ++at) {
      const auto row = FindRow(batch, at->first);
      if (!row) {
        return Internal(
            fmt::format("the sink refused offset {}, which it was not offered", at->first.value()));
      }
      const auto& [output, index] = *row;
      changes.rows.push_back(RecordOf(*output, index, at->first, batch.position));
      DeadLetter letter;
      letter.id = store_.NextDeadLetter();
      letter.sink = sink;
      letter.stream = output->stream->id;
      letter.version = output->VersionOf(index);
      letter.offset = at->first;
      letter.at = NowMicros();
      letter.row_bytes = changes.rows.back().batches.front()->rows.byte_size();
      letter.keys =
          KeysOf(KeyColumnsOf(*output->stream, newest_by), changes.rows.back().batches[0]->rows, 0);
      letter.reason = at->second;
      bytes += letter.row_bytes;
      if (const auto again = former.find(letter.offset); again != former.end()) {
        changes.removed.push_back(again->second);
      }
      // A target that lost its position is offered again what came before other letters.
      MR_ASSIGN_OR_RETURN(const bool is_void, HasLater(letter));
      letter.state = is_void ? State::kSuperseded : State::kOpen;
      changes.left_out.push_back(letter.offset);
      changes.put.push_back(std::move(letter));
    }
    // Dying here, or between two of these writes, only means that the sink refuses the rest again.
    MR_FAILPOINT("dead_letters.before_keep");
    MR_RETURN_IF_ERROR(Apply(changes));
    MR_FAILPOINT("dead_letters.after_keep");
  }
  return Status::Ok();
}

Status DeadLetters::Delivered(const std::string& sink, Offset delivered) {
  const MutexLock lock(mu_);
  const auto found = sinks_.find(sink);
  if (found == sinks_.end()) {
    return Status::Ok();
  }
  DeadLetterChanges changes;
  for (const DeadLetterId id : found->second.sent_again) {
    if (letters_.at(id).sent_again < delivered) {
      changes.removed.push_back(id);
    }
  }
  return changes.removed.empty() ? Status::Ok() : Apply(changes);
}

// ---- The engine ----

bool DeadLetters::HasRetries() const {
  const MutexLock lock(mu_);
  return retries_ != 0;
}

Status DeadLetters::SendAgain(SourcePosition position) {
  const MutexLock lock(mu_);
  std::vector<DeadLetterId> asked;
  for (const auto& [id, entry] : letters_) {
    if (entry.state == State::kRetryAsked) {
      asked.push_back(id);
    }
  }
  for (size_t begin = 0; begin < asked.size();) {
    std::unique_ptr<storage::StoreBatch> batch = store_.NewBatch();
    std::vector<DeadLetter> sent;
    Offset next = store_.AppendEnd();
    for (; begin < asked.size() && sent.size() < kSentAtATime && batch->byte_size() < kBytesAtATime;
         ++begin) {
      MR_ASSIGN_OR_RETURN(DeadLetter letter, Read(asked[begin]));
      MR_ASSIGN_OR_RETURN(const OutputRecord row, store_.ReadDeadLetterRow(letter.id));
      OutputRecord record = RecordOf(*row.batches.front(), 0, next, position);
      record.sink = letter.sink;
      batch->AppendOutput(std::move(record));
      letter.state = State::kSentAgain;
      letter.sent_again = next;
      next = Offset(next.value() + 1);
      batch->PutDeadLetter(letter);
      sent.push_back(std::move(letter));
    }
    MR_FAILPOINT("dead_letters.before_send_again");
    MR_RETURN_IF_ERROR(store_.Commit(std::move(batch)));
    MR_FAILPOINT("dead_letters.after_send_again");
    for (const DeadLetter& letter : sent) {
      Insert(letter);
    }
  }
  return Status::Ok();
}

// ---- The pipeline's thread ----

Status DeadLetters::ForgetBefore(Offset log_begin) {
  const MutexLock lock(mu_);
  bool any = false;
  for (const auto& [name, sink] : sinks_) {
    any |= !sink.left_out.empty() && *sink.left_out.begin() < log_begin;
  }
  if (!any) {
    return Status::Ok();
  }
  DeadLetterChanges changes;
  changes.left_out_begin = log_begin;
  MR_RETURN_IF_ERROR(Apply(changes));
  for (auto& [name, sink] : sinks_) {
    sink.left_out.erase(sink.left_out.begin(), sink.left_out.lower_bound(log_begin));
  }
  return Status::Ok();
}

std::map<std::string, uint64_t> DeadLetters::CountByStream() const {
  const MutexLock lock(mu_);
  std::map<std::string, uint64_t> counts;
  for (const auto& [stream, count] : by_stream_) {
    counts[NameOf(stream)] = count;
  }
  return counts;
}

// ---- An operator ----

std::string DeadLetters::NameOf(StreamId stream) const {
  const StreamPtr found = store_.FindStream(stream, SchemaVersion(1));
  return found == nullptr ? "" : found->name;
}

Result<DeadLetters::Page> DeadLetters::List(DeadLetterId after, size_t limit,
                                            const std::string& stream) const {
  Page page;
  MR_ASSIGN_OR_RETURN(std::vector<DeadLetter> letters, store_.ReadDeadLetters(after, limit));
  page.last = letters.size() == limit ? letters.back().id : DeadLetterId();
  for (DeadLetter& letter : letters) {
    std::string name = NameOf(letter.stream);
    if (stream.empty() || name == stream) {
      page.letters.push_back({std::move(letter), std::move(name)});
    }
  }
  return page;
}

Result<DeadLetters::Named> DeadLetters::Find(DeadLetterId id) const {
  MR_ASSIGN_OR_RETURN(DeadLetter letter, Read(id));
  std::string name = NameOf(letter.stream);
  return Named{std::move(letter), std::move(name)};
}

Result<OutputRecord> DeadLetters::ReadRow(DeadLetterId id) const {
  return store_.ReadDeadLetterRow(id);
}

Result<std::vector<DeadLetterId>> DeadLetters::Select(const LetterSelection& selection) const {
  std::vector<DeadLetterId> ids;
  for (const DeadLetterId id : selection.ids) {
    if (!letters_.contains(id)) {
      return NotFound(fmt::format(
          "there is no dead letter {}: `millrace dlq list` shows which there are", id.value()));
    }
    ids.push_back(id);
  }
  if (selection.ids.empty()) {
    for (const auto& [id, entry] : letters_) {
      if (selection.all || NameOf(entry.stream) == selection.stream) {
        ids.push_back(id);
      }
    }
  }
  return ids;
}

Result<DeadLetters::Outcome> DeadLetters::Retry(const LetterSelection& selection,
                                                const std::set<std::string>& sinks) {
  const MutexLock lock(mu_);
  MR_ASSIGN_OR_RETURN(const std::vector<DeadLetterId> ids, Select(selection));
  Outcome outcome;
  DeadLetterChanges changes;
  for (const DeadLetterId id : ids) {
    const Entry& entry = letters_.at(id);
    if (entry.state == State::kSuperseded) {
      changes.removed.push_back(id);
    } else if (entry.state == State::kOpen && sinks.contains(entry.sink)) {
      MR_ASSIGN_OR_RETURN(DeadLetter letter, Read(id));
      letter.state = State::kRetryAsked;
      changes.put.push_back(std::move(letter));
    }
  }
  outcome.changed = changes.put.size();
  outcome.superseded = changes.removed.size();
  MR_RETURN_IF_ERROR(Apply(changes));
  return outcome;
}

Result<DeadLetters::Outcome> DeadLetters::Drop(const LetterSelection& selection) {
  const MutexLock lock(mu_);
  MR_ASSIGN_OR_RETURN(const std::vector<DeadLetterId> ids, Select(selection));
  DeadLetterChanges changes;
  for (const DeadLetterId id : ids) {
    // What is in the log again is done when it is delivered, and needs its letter until then.
    if (letters_.at(id).state != State::kSentAgain) {
      changes.removed.push_back(id);
    }
  }
  MR_RETURN_IF_ERROR(Apply(changes));
  return Outcome{.changed = changes.removed.size(), .superseded = 0};
}

}  // namespace millrace::pipeline
