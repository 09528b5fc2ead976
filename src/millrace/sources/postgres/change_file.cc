// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/change_file.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

Status Failure(std::string_view what) {
  const int error = errno;
  return Status(
      error == ENOSPC || error == EDQUOT ? Code::kResourceExhausted : Code::kUnavailable,
      fmt::format("{} in data_dir/staging: {}", what, std::generic_category().message(error)));
}

void AppendColumn(std::string& to, const Column& column) {
  AppendVarint(to, column.size());
  AppendVarint(to, column.validity().size());
  for (const uint64_t word : column.validity()) {
    AppendBigEndian(to, word);
  }
  const auto append = [&](std::string_view bytes) {
    AppendVarint(to, bytes.size());
    to.append(bytes);
  };
  append(column.bytes());
  const std::span<const uint64_t> ends = column.ends();
  append({reinterpret_cast<const char*>(ends.data()), ends.size_bytes()});
  if (column.type().is_list()) {
    AppendColumn(to, column.child());
  }
}

Status ReadColumn(ByteReader& in, Column& column) {
  MR_ASSIGN_OR_RETURN(const uint64_t size, in.ReadVarint());
  MR_ASSIGN_OR_RETURN(const uint64_t words, in.ReadVarint());
  std::vector<uint64_t> validity;
  for (uint64_t i = 0; i < words; ++i) {
    MR_ASSIGN_OR_RETURN(const uint64_t word, in.ReadBigEndian<uint64_t>());
    validity.push_back(word);
  }
  MR_ASSIGN_OR_RETURN(const std::string_view data, in.ReadLengthPrefixed());
  MR_ASSIGN_OR_RETURN(const std::string_view ends, in.ReadLengthPrefixed());
  const size_t width = column.type().width();
  const bool has_ends = width == 0;
  if ((words != 0 && words != (size + 63) / 64) || (width != 0 && data.size() != size * width) ||
      ends.size() != (has_ends ? size * sizeof(uint64_t) : 0)) {
    return Corruption("a staged column is not of its size");
  }
  Buffer data_buffer;
  data_buffer.Append(data);
  Buffer ends_buffer;
  ends_buffer.Append(ends);
  column.Restore(size, std::move(validity), std::move(data_buffer), std::move(ends_buffer));
  return column.type().is_list() ? ReadColumn(in, column.child()) : Status::Ok();
}

void AppendRows(std::string& to, const RowBatch& rows) {
  for (size_t i = 0; i < rows.column_count(); ++i) {
    AppendColumn(to, rows.column(i));
  }
}

Status ReadRows(ByteReader& in, RowBatch& rows) {
  for (size_t i = 0; i < rows.column_count(); ++i) {
    MR_RETURN_IF_ERROR(ReadColumn(in, rows.column(i)));
  }
  return Status::Ok();
}

Result<TableChanges> ReadChanges(std::string_view bytes, const TablePtr& table) {
  ByteReader in(bytes);
  TableChanges changes(table);
  MR_ASSIGN_OR_RETURN(uint64_t count, in.ReadVarint());
  for (; count != 0; --count) {
    Change change;
    MR_ASSIGN_OR_RETURN(const uint8_t op, in.ReadBigEndian<uint8_t>());
    MR_ASSIGN_OR_RETURN(change.new_row, in.ReadBigEndian<uint32_t>());
    MR_ASSIGN_OR_RETURN(change.old_row, in.ReadBigEndian<uint32_t>());
    change.op = static_cast<ChangeOp>(op);
    changes.changes.push_back(change);
  }
  MR_ASSIGN_OR_RETURN(count, in.ReadVarint());
  for (; count != 0; --count) {
    UnchangedToast toast;
    MR_ASSIGN_OR_RETURN(toast.new_row, in.ReadBigEndian<uint32_t>());
    MR_ASSIGN_OR_RETURN(toast.column, in.ReadBigEndian<uint32_t>());
    changes.unchanged_toast.push_back(toast);
  }
  MR_RETURN_IF_ERROR(ReadRows(in, changes.new_rows));
  MR_RETURN_IF_ERROR(ReadRows(in, changes.old_rows));
  return changes;
}

}  // namespace

Result<std::unique_ptr<ChangeFile>> ChangeFile::Make(const std::string& directory, TablePtr table) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  std::string name = directory + "/snapshot.XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) {
    return Failure("make a file");
  }
  unlink(name.c_str());
  return std::unique_ptr<ChangeFile>(new ChangeFile(fd, std::move(table)));
}

ChangeFile::~ChangeFile() { close(fd_); }

Status ChangeFile::Append(const TableChanges& changes) {
  std::string block(sizeof(uint64_t), '\0');
  AppendVarint(block, changes.changes.size());
  for (const Change& change : changes.changes) {
    block.push_back(static_cast<char>(change.op));
    AppendBigEndian(block, change.new_row);
    AppendBigEndian(block, change.old_row);
  }
  AppendVarint(block, changes.unchanged_toast.size());
  for (const UnchangedToast& toast : changes.unchanged_toast) {
    AppendBigEndian(block, toast.new_row);
    AppendBigEndian(block, toast.column);
  }
  AppendRows(block, changes.new_rows);
  AppendRows(block, changes.old_rows);
  std::string size;
  AppendBigEndian(size, static_cast<uint64_t>(block.size() - sizeof(uint64_t)));
  block.replace(0, size.size(), size);
  for (size_t written = 0; written < block.size();) {
    const ssize_t n = pwrite(fd_, block.data() + written, block.size() - written,
                             static_cast<off_t>(size_ + written));
    if (n < 0 && errno != EINTR) {
      return Failure("write rows");
    }
    written += n < 0 ? 0 : static_cast<size_t>(n);
  }
  size_ += block.size();
  change_count_ += changes.changes.size();
  return Status::Ok();
}

Result<TableChanges> ChangeFile::Next() {
  const auto read = [&](size_t size) -> Result<std::string> {
    std::string bytes(size, '\0');
    for (size_t done = 0; done < size;) {
      const ssize_t n =
          pread(fd_, bytes.data() + done, size - done, static_cast<off_t>(read_at_ + done));
      if (n == 0) {
        return Corruption("a staged file is shorter than it was written");
      }
      if (n < 0 && errno != EINTR) {
        return Failure("read rows");
      }
      done += n < 0 ? 0 : static_cast<size_t>(n);
    }
    read_at_ += size;
    return bytes;
  };
  MR_ASSIGN_OR_RETURN(const std::string header, read(sizeof(uint64_t)));
  const auto size = LoadBigEndian<uint64_t>(header.data());
  if (size > size_ - read_at_) {
    return Corruption("a staged block is longer than its file");
  }
  MR_ASSIGN_OR_RETURN(const std::string block, read(size));
  return ReadChanges(block, table_);
}

}  // namespace millrace::sources::postgres
