// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/transaction_stage.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "millrace/common/check.h"

namespace millrace::sources::postgres {
namespace {

namespace fs = std::filesystem;

// One read of a file; larger messages are read whole.
constexpr size_t kPieceSize = size_t{256} << 10;
// A transaction that is done keeps no more memory than this for the next.
constexpr size_t kKeptMemoryMax = size_t{1} << 20;

Status DiskError(int error, const std::string& directory, const char* what) {
  const std::string text = fmt::format("{} in {}, where large transactions are staged: {}", what,
                                       directory, std::generic_category().message(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ResourceExhausted(text + ": make room there for the largest transaction");
    case EMFILE:
    case ENFILE:
      return ResourceExhausted(text + ": allow the process more open files");
    default:
      return FailedPrecondition(text + ": this process must be able to write and read there");
  }
}

}  // namespace

// ---------------------------------------------------------------------------- StagedTransaction

void StagedTransaction::Reset() {
  if (file_ >= 0) {
    close(std::exchange(file_, -1));
  }
  file_size_ = 0;
  message_count_ = 0;
  aborted_.clear();
  memory_.Clear();
  if (memory_.capacity() > kKeptMemoryMax) {
    Buffer empty;
    memory_ = std::move(empty);
  }
}

// ----------------------------------------------------------------------------- TransactionStage

TransactionStage::TransactionStage(std::string directory, size_t memory_max)
    : directory_(std::move(directory)), memory_max_(memory_max) {}

void TransactionStage::Clear() {
  open_.clear();
  memory_size_ = 0;
}

Status TransactionStage::PrepareDirectory() const {
  if (mkdir(directory_.c_str(), 0700) != 0 &&
      (errno != EEXIST || chmod(directory_.c_str(), 0700) != 0)) {
    return DiskError(errno, directory_, "make the directory");
  }
  std::error_code error;
  const fs::directory_iterator end;
  for (fs::directory_iterator at(directory_, error); !error && at != end; at.increment(error)) {
    fs::remove_all(at->path(), error);
  }
  return error ? DiskError(error.value(), directory_, "remove old files") : Status::Ok();
}

StagedTransaction* TransactionStage::Find(Xid xid) {
  const auto found = open_.find(xid.value());
  return found == open_.end() ? nullptr : found->second.get();
}

StagedTransaction& TransactionStage::Open(Xid xid) {
  const auto [entry, is_new] = open_.emplace(xid.value(), std::move(spare_));
  MR_CHECK(is_new);
  spare_ = nullptr;
  if (entry->second == nullptr) {
    entry->second = std::make_unique<StagedTransaction>();
  }
  return *entry->second;
}

std::unique_ptr<StagedTransaction> TransactionStage::Take(Xid xid) {
  const auto found = open_.find(xid.value());
  MR_CHECK(found != open_.end());
  std::unique_ptr<StagedTransaction> transaction = std::move(found->second);
  open_.erase(found);
  memory_size_ -= transaction->memory_.size();
  return transaction;
}

void TransactionStage::Recycle(std::unique_ptr<StagedTransaction> transaction) {
  transaction->Reset();
  spare_ = std::move(transaction);
}

Status TransactionStage::Append(StagedTransaction& transaction, Xid xid, uint64_t serial, char type,
                                std::string_view body) {
  const StagedReader::Header header{
      .size = static_cast<uint32_t>(body.size() + 1), .xid = xid.value(), .serial = serial};
  const size_t size = sizeof(header) + header.size;
  ++transaction.message_count_;
  if (memory_size_ + size > memory_max_) [[unlikely]] {
    MR_RETURN_IF_ERROR(MakeRoom(transaction, size));
  }
  // A message that would not stay in memory is not copied into it.
  const bool goes_to_file = size > memory_max_;
  const size_t copied = goes_to_file ? sizeof(header) + 1 : size;
  char* to = transaction.memory_.Extend(copied);
  std::memcpy(to, &header, sizeof(header));
  to[sizeof(header)] = type;
  memory_size_ += copied;
  if (goes_to_file) [[unlikely]] {
    MR_RETURN_IF_ERROR(Spill(transaction));
    return Write(transaction, body);
  }
  std::memcpy(to + sizeof(header) + 1, body.data(), body.size());
  return Status::Ok();
}

Status TransactionStage::MakeRoom(StagedTransaction& transaction, size_t size) {
  if (size > memory_max_) {
    return Spill(transaction);
  }
  while (memory_size_ + size > memory_max_) {
    const auto largest =
        std::max_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) {
          return a.second->memory_.size() < b.second->memory_.size();
        });
    MR_RETURN_IF_ERROR(Spill(*largest->second));
  }
  return Status::Ok();
}

Status TransactionStage::Spill(StagedTransaction& transaction) {
  if (transaction.file_ < 0) {
    const std::string path = directory_ + "/transaction";
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || unlink(path.c_str()) != 0) {
      const int error = errno;
      if (file >= 0) {
        close(file);
      }
      return DiskError(error, directory_, "make a file");
    }
    transaction.file_ = file;
  }
  MR_RETURN_IF_ERROR(Write(transaction, transaction.memory_.view()));
  memory_size_ -= transaction.memory_.size();
  transaction.memory_.Clear();
  return Status::Ok();
}

Status TransactionStage::Write(StagedTransaction& transaction, std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(transaction.file_, bytes.data(), bytes.size(),
                                   static_cast<off_t>(transaction.file_size_));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return DiskError(written == 0 ? ENOSPC : errno, directory_, "write a file");
    }
    bytes.remove_prefix(static_cast<size_t>(written));
    transaction.file_size_ += static_cast<uint64_t>(written);
  }
  return Status::Ok();
}

// --------------------------------------------------------------------------------- StagedReader

Result<const char*> StagedReader::Window(uint64_t offset, size_t n) {
  const StagedTransaction& transaction = *transaction_;
  if (offset >= piece_begin_ && offset + n <= piece_begin_ + piece_.size()) {
    return piece_.data() + (offset - piece_begin_);
  }
  const size_t wanted =
      std::max<size_t>(n, std::min<uint64_t>(kPieceSize, transaction.file_size_ - offset));
  if (piece_.capacity() > std::max(wanted, kPieceSize)) {
    Buffer empty;
    piece_ = std::move(empty);
  }
  piece_.Clear();
  piece_begin_ = offset;
  char* to = piece_.Extend(wanted);
  for (size_t done = 0; done < wanted;) {
    const ssize_t got =
        pread(transaction.file_, to + done, wanted - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      piece_.Clear();
      return FailedPrecondition(
          fmt::format("read a staged transaction back from its file: {}",
                      got == 0 ? "it is cut" : std::generic_category().message(errno)));
    }
    done += static_cast<size_t>(got);
  }
  return piece_.data();
}

Result<const StagedMessage*> StagedReader::Peek() {
  while (!has_message_) {
    if (at_ == transaction_->byte_size()) {
      return nullptr;
    }
    const bool is_in_memory = IsInMemory();
    const char* bytes = nullptr;
    if (is_in_memory) {
      bytes = transaction_->memory_.data() + (at_ - transaction_->file_size_);
    } else {
      MR_ASSIGN_OR_RETURN(bytes, Window(at_, sizeof(Header)));
    }
    Header header;
    std::memcpy(&header, bytes, sizeof(header));
    if (header.xid != 0 && transaction_->aborted_.contains(header.xid)) {
      at_ += sizeof(header) + header.size;
      continue;
    }
    size_t head = header.size;
    if (!is_in_memory) {
      head = std::min(head, StagedMessage::kHeadSize);
      MR_ASSIGN_OR_RETURN(bytes, Window(at_, sizeof(header) + head));
    }
    message_ = {.xid = header.xid,
                .serial = header.serial,
                .size = header.size,
                .head = {bytes + sizeof(header), head}};
    has_message_ = true;
  }
  return &message_;
}

Status StagedReader::Load() {
  if (!message_.is_whole()) {
    MR_ASSIGN_OR_RETURN(const char* bytes, Window(at_ + sizeof(Header), message_.size));
    message_.head = {bytes, message_.size};
  }
  return Status::Ok();
}

void StagedReader::Advance() {
  at_ += sizeof(Header) + message_.size;
  has_message_ = false;
  if (piece_.capacity() > 2 * kPieceSize) {
    Buffer empty;
    piece_ = std::move(empty);
  }
}

}  // namespace millrace::sources::postgres
