// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/position.h"

namespace millrace::sources::postgres {

// What all open transactions together hold in memory. It is most of what capture holds beside the
// open batch, and large enough that transactions of an application meet no file.
inline constexpr size_t kStagedMemoryMax = size_t{16} << 20;

// A message of a transaction, as StagedReader gives it.
struct StagedMessage {
  // What is read of a message in a file: type and relation of a row message, all of a shorter one.
  static constexpr size_t kHeadSize = 5;

  // The subtransaction that wrote it; 0: it stays whichever is aborted.
  uint32_t xid = 0;
  uint64_t serial = 0;  // its place among the connection's messages
  size_t size = 0;
  std::string_view head;  // its first bytes, or all of it

  bool is_whole() const { return head.size() == size; }
};

// The messages of one open transaction in the order in which they came: the newest in memory, those
// before them, if any, in a file that has no name. Made by TransactionStage.
class StagedTransaction {
 public:
  StagedTransaction() = default;
  StagedTransaction(const StagedTransaction&) = delete;
  StagedTransaction& operator=(const StagedTransaction&) = delete;
  ~StagedTransaction() { Reset(); }

  // The messages that this subtransaction wrote so far are left out. The set is bounded by the
  // subtransactions that were open when the server ended a stream block: others it drops itself.
  void DropSubtransaction(Xid xid) { aborted_.insert(xid.value()); }

  bool is_spilled() const { return file_ >= 0; }
  uint64_t byte_size() const { return file_size_ + memory_.size(); }
  uint64_t message_count() const { return message_count_; }

 private:
  friend class TransactionStage;
  friend class StagedReader;

  // Forgets everything, and large memory.
  void Reset();

  Buffer memory_;
  int file_ = -1;
  uint64_t file_size_ = 0;
  uint64_t message_count_ = 0;
  std::unordered_set<uint32_t> aborted_;
};

// TransactionStage keeps the messages of the transactions that have not committed yet. Above a
// bound in memory it writes the largest to a file in `directory`, unlinked as soon as it is open.
// Nothing in it survives the process: the server sends again what has not become durable.
//
// Threads: one at a time.
//
// Errors: kResourceExhausted when disk or file descriptors run out, kFailedPrecondition when the
// directory cannot be used. The transaction is then of no further use.
class TransactionStage {
 public:
  TransactionStage(std::string directory, size_t memory_max);

  // Drops all transactions.
  void Clear();
  // Makes the directory with mode 0700 if it is missing, and removes what it holds.
  Status PrepareDirectory() const;

  // Null if it is not open.
  StagedTransaction* Find(Xid xid);
  // REQUIRES: it is not open.
  StagedTransaction& Open(Xid xid);
  // Copies a message, which may come in two pieces.
  Status Append(StagedTransaction& transaction, Xid xid, uint64_t serial, char type,
                std::string_view body);
  // Takes an open transaction out. REQUIRES: it is open.
  std::unique_ptr<StagedTransaction> Take(Xid xid);
  // Frees its file and keeps its memory for the next.
  void Recycle(std::unique_ptr<StagedTransaction> transaction);

  // Of all open transactions.
  size_t memory_size() const { return memory_size_; }

 private:
  Status MakeRoom(StagedTransaction& transaction, size_t size);
  Status Spill(StagedTransaction& transaction);
  Status Write(StagedTransaction& transaction, std::string_view bytes) const;

  // Constant after construction.
  const std::string directory_;
  const size_t memory_max_;

  std::unordered_map<uint32_t, std::unique_ptr<StagedTransaction>> open_;
  std::unique_ptr<StagedTransaction> spare_;
  size_t memory_size_ = 0;
};

// Reads a transaction from its first message to its last, without those of aborted subtransactions.
// The transaction outlives it and does not change meanwhile. Memory: a piece of the file, or the
// largest message that was loaded.
class StagedReader {
 public:
  explicit StagedReader(const StagedTransaction& transaction) : transaction_(&transaction) {}

  // The message that the reader stands at, null at the end. Valid until Advance().
  Result<const StagedMessage*> Peek();
  // Makes all of it its head. REQUIRES: Peek() gave one.
  Status Load();
  // Goes on to the next. REQUIRES: Peek() gave one.
  void Advance();

 private:
  // What stands before each message.
  struct Header {
    uint32_t size = 0;
    uint32_t xid = 0;
    uint64_t serial = 0;
  };
  friend class TransactionStage;

  bool IsInMemory() const { return at_ >= transaction_->file_size_; }
  // `n` bytes of the file at `offset`.
  Result<const char*> Window(uint64_t offset, size_t n);

  const StagedTransaction* transaction_;
  uint64_t at_ = 0;  // of the current message's header
  bool has_message_ = false;
  StagedMessage message_;
  // A piece of the file.
  Buffer piece_;
  uint64_t piece_begin_ = 0;
};

}  // namespace millrace::sources::postgres
