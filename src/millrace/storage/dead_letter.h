// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/common/strong_id.h"
#include "millrace/model/position.h"
#include "millrace/model/stream.h"

namespace millrace::storage {

// A dead letter's number: given once in a data_dir, ascending, from 1.
using DeadLetterId = StrongId<uint64_t, struct DeadLetterIdTag>;

// A row that a sink's target did not take, without the row itself. The format is in
// docs/formats/data_dir.md.
struct DeadLetter {
  // The numbers stand in data_dir.
  enum class State : uint8_t {
    kOpen = 1,        // waits for an operator
    kRetryAsked = 2,  // is to be delivered again
    kSentAgain = 3,   // stands in the output log once more, at `sent_again`
    kSuperseded = 4,  // a later row of its key has come: it is not delivered again
  };

  DeadLetterId id;
  State state = State::kOpen;
  std::string sink;
  StreamId stream;
  RowVersion version;             // of the row
  Offset offset;                  // where it stood when it was refused
  Offset sent_again;              // see kSentAgain
  TimestampMicros at = 0;         // when, by this machine's clock
  uint64_t row_bytes = 0;         // that it takes in data_dir
  std::vector<std::string> keys;  // a row of the stream with one of them and a later version
                                  // supersedes it
  std::string reason;             // one sentence, without the row's values
};

// What changes in the queue, as one durable write.
struct DeadLetterChanges {
  std::vector<DeadLetter> put;        // new ones, or in the place of those with their ids
  std::vector<OutputRecord> rows;     // those of the first of `put`, each a record of one row
  std::vector<DeadLetterId> removed;  // with their rows
  // Rows that the sink is not offered again, whatever becomes of their letters.
  std::string sink;
  std::vector<Offset> left_out;
  // Forgets rows that are left out at offsets below it, of every sink.
  Offset left_out_begin;
};

// The rows that a sink is not offered.
struct LeftOutRow {
  std::string sink;
  Offset offset;
};

// A letter without its id as bytes. Pure functions; kCorruption if the bytes are not one,
// kUnsupported if their format is newer.
std::string EncodeDeadLetter(const DeadLetter& letter);
Result<DeadLetter> DecodeDeadLetter(DeadLetterId id, std::string_view bytes);

}  // namespace millrace::storage
