// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/transaction_reader.h"

#include <utility>

#include <fmt/format.h>

#include "millrace/common/check.h"
#include "millrace/sources/postgres/ddl_message.h"

namespace millrace::sources::postgres {
namespace {

using Filter = PgOutputDecoder::Filter;
using Pass = TransactionPart::Pass;

// PostgreSQL counts from 2000-01-01.
constexpr TimestampMicros kPostgresEpoch = 946'684'800'000'000;
// One DecodePart() reads no more than this, so that its caller can tell the server that it lives.
constexpr size_t kPartBytesMax = size_t{4} << 20;

Status Cut() { return Corruption("a pgoutput message is shorter than it says"); }
Status NotOfItsLength(const char* name) {
  return Corruption(fmt::format("a {} message is not of its length", name));
}

TimestampMicros FromPostgres(uint64_t micros) {
  // Wraps round for a time that no server has.
  return static_cast<TimestampMicros>(micros + static_cast<uint64_t>(kPostgresEpoch));
}

}  // namespace

TransactionReader::TransactionReader(Options options)
    : options_(std::move(options)),
      stage_(options_.staging_directory, options_.staged_memory_max),
      decoder_(*options_.resolver, options_.slot, options_.lookups) {}

Status TransactionReader::StartStream(SourcePosition start) {
  start_ = start;
  end_lsn_ = start.end_lsn;
  serial_ = 0;
  place_ = Place::kOutside;
  staged_ = nullptr;
  large_.reset();
  stage_.Clear();
  decoder_.StartStream();
  return stage_.PrepareDirectory();
}

bool TransactionReader::is_full() const {
  const ChangeBatch& batch = decoder_.batch();
  return large_ != nullptr || batch.part.has_value() ||
         batch.row_count >= options_.batch_rows_max || batch.byte_size >= options_.batch_bytes_max;
}

std::unique_ptr<ChangeBatch> TransactionReader::Take() {
  std::unique_ptr<ChangeBatch> batch = decoder_.TakeBatch();
  batch->end = {start_.epoch, end_lsn_};
  return batch;
}

Status TransactionReader::Decode(std::string_view message) {
  MR_CHECK(large_ == nullptr);
  if (message.empty()) {
    return Cut();
  }
  ++serial_;
  return DecodeMessage(message);
}

Status TransactionReader::DecodeMessage(std::string_view message) {
  const char type = message.front();
  const MessageCursor in(message.substr(1));
  switch (type) {
    case 'I':
    case 'U':
    case 'D':
    case 'T':
    case 'R':
    case 'Y':
      return StageMessage(message);
    case 'B':
      return DecodeBegin(in);
    case 'C':
      return DecodeCommit(in);
    case 'S':
      return DecodeStreamStart(in);
    case 'E':
      return DecodeStreamStop(in);
    case 'c':
      return DecodeStreamCommit(in);
    case 'A':
      return DecodeStreamAbort(in);
    case 'M':
      return DecodeLogicalMessage(message);
    case 'O': {  // Origin: where the transaction was made first. Never with an xid.
      MessageCursor origin = in;
      Lsn lsn;
      std::string_view name;
      if (!origin.ReadLsn(lsn) || !origin.ReadCString(name) || !origin.AtEnd()) {
        return NotOfItsLength("Origin");
      }
      return place_ == Place::kOutside
                 ? Corruption("an Origin message stands outside of a transaction")
                 : Status::Ok();
    }
    case 'b':
    case 'P':
    case 'K':
    case 'r':
    case 'p':
      // Without two_phase a prepared transaction comes as any other at its COMMIT PREPARED, and
      // what was streamed of it is aborted at its ROLLBACK PREPARED.
      return FailedPrecondition(fmt::format(
          "slot '{}' sends transactions when they are prepared (two_phase is on), so that their "
          "rows would be gone after a restart: drop the slot and start anew",
          options_.slot));
    default:
      return Corruption(
          fmt::format("pgoutput message of unknown type {:#04x}", static_cast<uint8_t>(type)));
  }
}

// ---------------------------------------------------------- transactions that come in one piece

Status TransactionReader::DecodeBegin(MessageCursor in) {
  Lsn commit_lsn;
  uint64_t commit_ts = 0;
  uint32_t xid = 0;
  if (!in.ReadLsn(commit_lsn) || !in.Read(commit_ts) || !in.Read(xid) || !in.AtEnd()) {
    return NotOfItsLength("Begin");
  }
  if (place_ != Place::kOutside || stage_.Find(Xid(xid)) != nullptr) {
    return Corruption("a transaction begins within another or for the second time");
  }
  place_ = Place::kTransaction;
  xid_ = Xid(xid);
  staged_ = &stage_.Open(xid_);
  begin_commit_lsn_ = commit_lsn;
  begin_commit_ts_ = FromPostgres(commit_ts);
  return Status::Ok();
}

Status TransactionReader::DecodeCommit(MessageCursor in) {
  uint8_t flags = 0;
  uint64_t commit_ts = 0;
  Lsn commit_lsn;
  Lsn end_lsn;
  if (!in.Read(flags) || !in.ReadLsn(commit_lsn) || !in.ReadLsn(end_lsn) || !in.Read(commit_ts) ||
      !in.AtEnd()) {
    return NotOfItsLength("Commit");
  }
  if (place_ != Place::kTransaction || commit_lsn != begin_commit_lsn_) {
    return Corruption("a transaction ends that did not begin");
  }
  return Complete(xid_, commit_lsn, end_lsn, begin_commit_ts_);
}

// -------------------------------------------------------- transactions that come in stream blocks

Status TransactionReader::DecodeStreamStart(MessageCursor in) {
  uint32_t xid = 0;
  uint8_t is_first = 0;
  if (!in.Read(xid) || !in.Read(is_first) || !in.AtEnd()) {
    return NotOfItsLength("Stream Start");
  }
  if (place_ != Place::kOutside) {
    return Corruption("a stream block begins within a transaction or another block");
  }
  StagedTransaction* staged = stage_.Find(Xid(xid));
  if ((staged == nullptr) != (is_first == 1)) {
    return Corruption(
        fmt::format("the stream blocks of transaction {} {}", xid,
                    is_first == 1 ? "begin for the second time" : "go on without a first one"));
  }
  place_ = Place::kStreamBlock;
  xid_ = Xid(xid);
  staged_ = staged == nullptr ? &stage_.Open(xid_) : staged;
  return Status::Ok();
}

Status TransactionReader::DecodeStreamStop(MessageCursor in) {
  if (!in.AtEnd()) {
    return NotOfItsLength("Stream Stop");
  }
  if (place_ != Place::kStreamBlock) {
    return Corruption("a stream block ends that did not begin");
  }
  place_ = Place::kOutside;
  staged_ = nullptr;
  return Status::Ok();
}

Status TransactionReader::DecodeStreamCommit(MessageCursor in) {
  uint32_t xid = 0;
  uint8_t flags = 0;
  Lsn commit_lsn;
  Lsn end_lsn;
  uint64_t commit_ts = 0;
  if (!in.Read(xid) || !in.Read(flags) || !in.ReadLsn(commit_lsn) || !in.ReadLsn(end_lsn) ||
      !in.Read(commit_ts) || !in.AtEnd()) {
    return NotOfItsLength("Stream Commit");
  }
  if (place_ != Place::kOutside || stage_.Find(Xid(xid)) == nullptr) {
    return Corruption(fmt::format("transaction {} commits, which was not streamed", xid));
  }
  return Complete(Xid(xid), commit_lsn, end_lsn, FromPostgres(commit_ts));
}

Status TransactionReader::DecodeStreamAbort(MessageCursor in) {
  uint32_t xid = 0;
  uint32_t subxid = 0;
  // With streaming 'parallel' position and time would follow.
  if (!in.Read(xid) || !in.Read(subxid) || !in.AtEnd()) {
    return NotOfItsLength("Stream Abort");
  }
  if (place_ != Place::kOutside) {
    return Corruption(fmt::format("transaction {} aborts within another", xid));
  }
  StagedTransaction* staged = stage_.Find(Xid(xid));
  if (staged == nullptr) {
    // PostgreSQL 18 sends it for a rolled-back transaction that it had spilled to disk, although
    // nothing of it was ever sent (seen with 18.4).
    return Status::Ok();
  }
  if (subxid == xid) {
    stage_.Recycle(stage_.Take(Xid(xid)));
  } else {
    // Those nested in it that wrote something come with aborts of their own.
    staged->DropSubtransaction(Xid(subxid));
  }
  return Status::Ok();
}

// ----------------------------------------------------------------------- messages of transactions

// In a stream block the xid of the subtransaction stands behind the type.
Status TransactionReader::StageMessage(std::string_view message) {
  const char type = message.front();
  std::string_view body = message.substr(1);
  if (place_ == Place::kTransaction) [[likely]] {
    return stage_.Append(*staged_, Xid(0), serial_, type, body);
  }
  if (place_ == Place::kOutside) {
    return Corruption("a change stands outside of a transaction");
  }
  uint32_t xid = 0;
  if (MessageCursor in(body); !in.Read(xid)) {
    return Cut();
  }
  if (xid == 0) {
    return Corruption("a change of a stream block without its transaction");
  }
  // What describes a relation stays when its subtransaction is aborted. PostgreSQL 14 to 18 notes
  // under the top-level transaction which relations it has described (maybe_send_schema() in
  // pgoutput.c), so that a description that came with one subtransaction may serve the rows of
  // another. That it forgets the note at a Stream Abort, and describes anew, is nothing that the
  // protocol promises. A description changes nothing by itself: only rows that use it do.
  const bool stays = type == 'R' || type == 'Y';
  return stage_.Append(*staged_, Xid(stays ? 0 : xid), serial_, type, body.substr(sizeof(xid)));
}

Status TransactionReader::DecodeLogicalMessage(std::string_view message) {
  MessageCursor in(message.substr(1));
  uint32_t xid = 0;
  if (place_ == Place::kStreamBlock && !in.Read(xid)) {
    return Cut();
  }
  LogicalMessage logical;
  if (!ReadLogicalMessage(in, logical) || !in.AtEnd()) {
    return NotOfItsLength("Message");
  }
  if (!logical.is_transactional) {
    decoder_.NoteMessage(logical);
    return Status::Ok();
  }
  if (place_ == Place::kOutside) {
    return Corruption("a transactional message stands outside of a transaction");
  }
  // Those of others are nothing to us. One in a stream block may be of a subtransaction that is
  // rolled back later.
  const bool is_command = options_.takes_commands && place_ == Place::kTransaction &&
                          logical.prefix == kDdlPrefix && logical.content.size() <= kDdlMessageMax;
  return logical.prefix == kHeartbeatPrefix || is_command ? StageMessage(message) : Status::Ok();
}

// --------------------------------------------------------------------------------------- commits

Status TransactionReader::Complete(Xid xid, Lsn commit_lsn, Lsn end_lsn,
                                   TimestampMicros commit_ts) {
  // The server starts at the position that it was told; this keeps a repeated one out all the same.
  const bool is_known = commit_lsn < start_.end_lsn;
  if (end_lsn <= commit_lsn || (!is_known && end_lsn <= end_lsn_)) {
    return Corruption(
        fmt::format("a transaction that committed at {} ends at {}, and {} was before",
                    FormatLsn(commit_lsn), FormatLsn(end_lsn), FormatLsn(end_lsn_)));
  }
  place_ = Place::kOutside;
  staged_ = nullptr;
  std::unique_ptr<StagedTransaction> staged = stage_.Take(xid);
  const Transaction transaction{.end_lsn = end_lsn, .commit_ts = commit_ts, .xid = xid};
  const uint64_t size = staged->byte_size() + staged->message_count() * kMessageOverhead;
  if (!is_known && size > options_.whole_max) {
    large_ = std::make_unique<Large>(std::move(staged), transaction,
                                     options_.lookups.empty() ? Pass::kChanges : Pass::kLookups);
    return Status::Ok();
  }
  decoder_.Begin(transaction, is_known ? Filter::kNothing : Filter::kAll);
  const Status status = DecodeWhole(*staged);
  if (!status.ok()) [[unlikely]] {
    decoder_.RollBack();
    return status;
  }
  decoder_.Commit();
  if (!is_known) {
    MoveTo(transaction);
  }
  stage_.Recycle(std::move(staged));
  return Status::Ok();
}

void TransactionReader::MoveTo(const Transaction& transaction) {
  end_lsn_ = transaction.end_lsn;
  last_commit_ts_ = transaction.commit_ts;
}

Status TransactionReader::DecodeWhole(const StagedTransaction& staged) {
  StagedReader reader(staged);
  for (;;) {
    MR_ASSIGN_OR_RETURN(const StagedMessage* message, reader.Peek());
    if (message == nullptr) {
      return Status::Ok();
    }
    MR_RETURN_IF_ERROR(DecodeStaged(reader, *message));
  }
}

Status TransactionReader::DecodeStaged(StagedReader& reader, const StagedMessage& message) {
  if (!message.is_whole()) {
    // Rows that are not kept stay in the file.
    MR_ASSIGN_OR_RETURN(const bool is_admitted, decoder_.Admit(message.head));
    if (!is_admitted) {
      reader.Advance();
      return Status::Ok();
    }
    MR_RETURN_IF_ERROR(reader.Load());
  }
  MR_RETURN_IF_ERROR(decoder_.Decode(message.head, message.serial));
  reader.Advance();
  return Status::Ok();
}

// ----------------------------------------------------------------------------------------- parts

Status TransactionReader::DecodePart() {
  MR_CHECK(large_ != nullptr && !can_take());
  const Status status = [this]() -> Status {
    if (!std::exchange(large_->is_pass_begun, true)) {
      decoder_.Begin(large_->transaction,
                     large_->pass == Pass::kLookups ? Filter::kLookups : Filter::kAll);
    }
    for (size_t read = 0; read < kPartBytesMax;) {
      MR_ASSIGN_OR_RETURN(const StagedMessage* message, large_->reader.Peek());
      if (message == nullptr) {
        EndPass();
        return Status::Ok();
      }
      if (decoder_.open_rows() >= options_.batch_rows_max ||
          decoder_.open_bytes() >= options_.batch_bytes_max) {
        // A part ends only before a change that needs another: so the last is known to be it.
        if (message->head.front() == 'T') {
          MR_RETURN_IF_ERROR(large_->reader.Load());
        }
        MR_ASSIGN_OR_RETURN(const bool keeps, decoder_.Keeps(message->head));
        if (keeps) {
          decoder_.EndPart(MakePart(false));
          return Status::Ok();
        }
      }
      read += message->size;
      MR_RETURN_IF_ERROR(DecodeStaged(large_->reader, *message));
    }
    return Status::Ok();
  }();
  if (!status.ok()) [[unlikely]] {
    decoder_.RollBack();
  }
  return status;
}

TransactionPart TransactionReader::MakePart(bool is_last) {
  const bool is_first = !std::exchange(large_->has_parts, true);
  return {.pass = large_->pass, .is_first = is_first, .is_last = is_last};
}

void TransactionReader::EndPass() {
  if (large_->pass == Pass::kLookups) {
    if (decoder_.open_rows() != 0) {
      decoder_.EndPart(MakePart(false));
    }
    large_->pass = Pass::kChanges;
    large_->is_pass_begun = false;
    large_->reader = StagedReader(*large_->staged);
    return;
  }
  decoder_.Commit(MakePart(true));
  MoveTo(large_->transaction);
  stage_.Recycle(std::move(large_->staged));
  large_.reset();
}

}  // namespace millrace::sources::postgres
