// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "millrace/common/mutex.h"
#include "millrace/common/result.h"
#include "millrace/sinks/sink.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// Which letters a command is for.
struct LetterSelection {
  std::vector<storage::DeadLetterId> ids;
  std::string stream;  // all of it
  bool all = false;
};

// DeadLetters is the queue of rows that a sink's target did not take: each is kept with the reason,
// left out of what the sink is offered from then on, and later retried or dropped by an operator.
//
// What keeps deliveries exact: a letter, and that its row is left out, are durable before the sink
// is offered the rest. A retry appends the row to the output log for that sink alone, so that it is
// delivered once like any other. A row whose key has come again meanwhile is superseded and is not
// delivered: a retry never overwrites something newer. See docs/adr/0006-dead-letters.md.
//
// Threads: any. SendAgain() is called by the engine, those of a sink by its writer.
class DeadLetters {
 public:
  struct Limits {
    // Letters have this much memory and disk; beyond it the sink that has another one pauses.
    size_t letters = 100'000;
    uint64_t bytes = uint64_t{5} << 30;
  };

  // Reads what an earlier run left.
  static Result<std::unique_ptr<DeadLetters>> Open(storage::Store& store, Limits limits);

  // ---- A sink's writer ----

  // The rows that `sink` is not offered, in [first, end), ascending.
  std::vector<Offset> LeftOut(const std::string& sink, Offset first, Offset end) const;
  // Makes letters void that the rows of `batch`, about to be delivered, supersede; those that stand
  // in the log again are left out. Durable when it returns. `newest_by`: see sinks::StreamUse.
  // REQUIRES: nothing of LeftOut() is in `batch`, whose rows ascend.
  using NewestBy = std::map<StreamId, std::vector<std::vector<std::string>>>;
  Status Supersede(const std::string& sink, const NewestBy& newest_by,
                   const sinks::DeliveryBatch& batch);
  // Keeps rows of `batch`, durably, and leaves them out of what `sink` is offered.
  // kFailedPrecondition if the queue is full.
  Status Keep(const std::string& sink, const NewestBy& newest_by, const sinks::DeliveryBatch& batch,
              const std::map<Offset, std::string>& refused);
  // Everything before `delivered` is in the target: letters that were sent again are done.
  Status Delivered(const std::string& sink, Offset delivered);

  // ---- The engine ----

  // Appends the rows of letters whose retry was asked for to the output log, at `position`. Not
  // while a transaction in parts is open.
  Status SendAgain(SourcePosition position);
  bool HasRetries() const;

  // ---- The pipeline's thread ----

  // Forgets that rows before `log_begin` are left out: they are never offered again.
  Status ForgetBefore(Offset log_begin);
  // How many there are of each stream, by its name.
  std::map<std::string, uint64_t> CountByStream() const;

  // ---- An operator ----

  struct Named {
    storage::DeadLetter letter;
    std::string stream;
  };
  struct Page {
    std::vector<Named> letters;
    storage::DeadLetterId last;  // where the next page begins; 0: this is the last
  };
  // Letters behind `after`, of `stream` unless that is empty.
  Result<Page> List(storage::DeadLetterId after, size_t limit, const std::string& stream) const;
  // kNotFound if there is none.
  Result<Named> Find(storage::DeadLetterId id) const;
  Result<OutputRecord> ReadRow(storage::DeadLetterId id) const;

  // Asks for a retry. The number of letters that will be sent again; superseded ones are dropped,
  // and those of sinks that are not in `sinks` stay. kNotFound names an id that is not there.
  struct Outcome {
    size_t changed = 0;
    size_t superseded = 0;
  };
  Result<Outcome> Retry(const LetterSelection& selection, const std::set<std::string>& sinks);
  // Drops letters; a row that is already in the log again is delivered all the same.
  Result<Outcome> Drop(const LetterSelection& selection);

 private:
  using State = storage::DeadLetter::State;
  // What is in memory of a letter.
  struct Entry {
    State state;
    std::string sink;
    StreamId stream;
    RowVersion version;
    Offset sent_again;
    uint64_t row_bytes = 0;
    std::vector<size_t> keys;  // hashes
  };
  struct OfSink {
    std::unordered_multimap<size_t, storage::DeadLetterId> by_key;
    std::set<Offset> left_out;
    std::set<storage::DeadLetterId> sent_again;
  };

  DeadLetters(storage::Store& store, Limits limits) : store_(store), limits_(limits) {}

  // Another letter of the sink has one of the keys, and a later version.
  Result<bool> HasLater(const storage::DeadLetter& letter) MR_REQUIRES(mu_);
  void Insert(const storage::DeadLetter& letter) MR_REQUIRES(mu_);
  void Erase(storage::DeadLetterId id) MR_REQUIRES(mu_);
  Result<storage::DeadLetter> Read(storage::DeadLetterId id) const;
  std::string NameOf(StreamId stream) const;
  Result<std::vector<storage::DeadLetterId>> Select(const LetterSelection& selection) const
      MR_REQUIRES(mu_);
  // Makes `changes` durable, then true in memory.
  Status Apply(const storage::DeadLetterChanges& changes) MR_REQUIRES(mu_);

  storage::Store& store_;
  const Limits limits_;

  mutable Mutex mu_;
  // Guarded by mu_, which is held over writes: they are rare.
  std::map<storage::DeadLetterId, Entry> letters_ MR_GUARDED_BY(mu_);
  std::map<std::string, OfSink> sinks_ MR_GUARDED_BY(mu_);
  std::map<StreamId, uint64_t> by_stream_ MR_GUARDED_BY(mu_);
  uint64_t bytes_ MR_GUARDED_BY(mu_) = 0;
  size_t retries_ MR_GUARDED_BY(mu_) = 0;
};

}  // namespace millrace::pipeline
