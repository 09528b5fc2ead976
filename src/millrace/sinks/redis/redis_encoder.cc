// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/redis_encoder.h"

#include <algorithm>

#include <fmt/format.h>

#include "millrace/clients/redis/resp.h"
#include "millrace/model/value_text.h"

namespace millrace::sinks {

namespace {

// Each in one piece: the command's name as a RESP argument.
constexpr std::string_view kXadd = "$4\r\nXADD\r\n";
constexpr std::string_view kDel = "*2\r\n$3\r\nDEL\r\n";
constexpr std::string_view kHset = "$4\r\nHSET\r\n";
constexpr std::string_view kSet = "$3\r\nSET\r\n";
constexpr std::string_view kPublish = "*3\r\n$7\r\nPUBLISH\r\n";
constexpr std::string_view kPexpire = "*3\r\n$7\r\nPEXPIRE\r\n";
constexpr std::string_view kPx = "$2\r\nPX\r\n";
constexpr std::string_view kXtrim = "*5\r\n$5\r\nXTRIM\r\n";
constexpr std::string_view kMaxlen = "$6\r\nMAXLEN\r\n$1\r\n~\r\n";
constexpr std::string_view kVersion = "$8\r\n_version\r\n";
constexpr std::string_view kDeleted = "$8\r\n_deleted\r\n$1\r\n1\r\n";

bool IsGone(OutputOp op) { return op == OutputOp::kDelete || op == OutputOp::kMovedAway; }

}  // namespace

RedisEncoder::RedisEncoder(std::vector<RedisWrite> writes)
    : writes_(std::move(writes)), layouts_(writes_.size()), json_(writes_.size()) {}

size_t RedisEncoder::command_count() const {
  size_t count = 0;
  for (const Run& run : runs_) {
    count += run.count;
  }
  return count;
}

Status RedisEncoder::PrepareLayout(size_t write, const StreamPtr& stream) {
  Layout& layout = layouts_[write];
  if (layout.stream == stream) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(layout.key, BoundKeyTemplate::Bind(writes_[write].key, *stream));
  layout.fields.clear();
  for (const Field& field : *stream->columns) {
    Buffer name;
    redis::AppendArgument(name, field.name);
    layout.fields.push_back({std::string(name.view()), TextWriterOf(field.type)});
  }
  layout.stream = stream;
  return Status::Ok();
}

Status RedisEncoder::Begin(const DeliveryBatch& batch) {
  jobs_.clear();
  keys_.clear();
  key_index_.clear();
  channel_index_.clear();
  for (const OutputSlice& slice : batch.slices) {
    for (size_t write = 0; write < writes_.size(); ++write) {
      if (writes_[write].stream == slice.batch->stream->name) {
        MR_RETURN_IF_ERROR(AddJob(slice, write));
      }
    }
  }
  return Status::Ok();
}

Status RedisEncoder::AddJob(const OutputSlice& slice, size_t write) {
  MR_RETURN_IF_ERROR(PrepareLayout(write, slice.batch->stream));
  const RedisWrite& entry = writes_[write];
  const bool keeps_every_row =
      entry.command == RedisCommand::kXadd || entry.command == RedisCommand::kPublish;
  Job job{.slice = &slice, .write = write, .keys = {}};
  job.keys.reserve(slice.row_count());
  for (size_t row = slice.begin; row < slice.end; ++row) {
    const OutputOp op = slice.batch->ops[row];
    const bool left_out = (op == OutputOp::kRead && !entry.snapshot) ||
                          (op == OutputOp::kMovedAway && keeps_every_row);
    uint32_t key = kLeftOut;
    if (!left_out) {
      scratch_.Clear();
      layouts_[write].key.Append(slice.batch->rows, row, scratch_);
      MR_ASSIGN_OR_RETURN(key, FindKey(scratch_.view(), write));
    }
    job.keys.push_back(key);
  }
  jobs_.push_back(std::move(job));
  return Status::Ok();
}

Result<uint32_t> RedisEncoder::FindKey(std::string_view name, size_t write) {
  const RedisWrite& entry = writes_[write];
  // A channel and a key may have one name.
  NameIndex& index = entry.command == RedisCommand::kPublish ? channel_index_ : key_index_;
  if (const auto found = index.find(name); found != index.end()) {
    const RedisWrite& first = writes_[keys_[found->second].write];
    if (first.command != entry.command) {
      return FailedPrecondition(fmt::format(
          "the templates '{}' and '{}' give the same key, which cannot be of two types: change one",
          first.key.text(), entry.key.text()));
    }
    return found->second;
  }
  const auto at = static_cast<uint32_t>(keys_.size());
  const auto added = index.emplace(name, at).first;
  keys_.push_back({.name = added->first, .write = write, .last_id = {}});
  return at;
}

std::vector<Offset> RedisEncoder::RowsOf(const Key& key) const {
  std::vector<Offset> rows;
  const auto wanted = static_cast<uint32_t>(&key - keys_.data());
  for (const Job& job : jobs_) {
    for (size_t i = 0; i < job.keys.size(); ++i) {
      if (job.keys[i] == wanted) {
        rows.push_back(OffsetOf(job, i));
      }
    }
  }
  return rows;
}

std::optional<Offset> RedisEncoder::RowOfCommand(size_t command) const {
  return command < rows_.size() ? std::optional(rows_[command]) : std::nullopt;
}

Offset RedisEncoder::OffsetOf(const Job& job, size_t i) {
  return Offset(job.slice->batch->first_offset.value() + job.slice->begin + i);
}

Status RedisEncoder::Encode(Buffer& to, std::map<Offset, std::string>& refused) {
  runs_.clear();
  rows_.clear();
  refused.clear();
  for (const Job& job : jobs_) {
    MR_RETURN_IF_ERROR(EncodeJob(job, to, refused));
  }
  if (!refused.empty()) {
    return InvalidArgument(refused.begin()->second);
  }
  AppendTrimsAndExpires(to);
  return Status::Ok();
}

Status RedisEncoder::EncodeJob(const Job& job, Buffer& to, std::map<Offset, std::string>& refused) {
  const OutputBatch& batch = *job.slice->batch;
  const RedisWrite& entry = writes_[job.write];
  runs_.push_back({.write = job.write, .count = 0});
  size_t commands = 0;  // of the run so far
  for (size_t i = 0; i < job.keys.size(); ++i) {
    if (job.keys[i] == kLeftOut) {
      continue;
    }
    const size_t row = job.slice->begin + i;
    Key& key = keys_[job.keys[i]];
    longest_argument_ = 0;
    if (entry.command == RedisCommand::kXadd) {
      MR_RETURN_IF_ERROR(AppendXadd(job, row, key, to));
    } else if (entry.command == RedisCommand::kPublish) {
      AppendPublish(job, row, key.name, to);
    } else if (IsGone(batch.ops[row])) {
      // The row that takes its place follows; at the same key it replaces this one by itself.
      const bool replaced = batch.ops[row] == OutputOp::kMovedAway && i + 1 < job.keys.size() &&
                            job.keys[i + 1] == job.keys[i];
      if (!replaced) {
        to.Append(kDel);
        redis::AppendArgument(to, key.name);
        ++runs_.back().count;
      }
    } else if (entry.command == RedisCommand::kHset) {
      AppendHset(job, row, key.name, to);
    } else {
      AppendSet(job, row, key.name, to);
    }
    if (longest_argument_ > redis::kArgumentBytesMax) [[unlikely]] {
      refused.emplace(
          OffsetOf(job, i),
          fmt::format("stream '{}': a row has a value of {} bytes, Redis takes at "
                      "most {}",
                      writes_[job.write].stream, longest_argument_, redis::kArgumentBytesMax));
    }
    rows_.resize(rows_.size() + runs_.back().count - commands, OffsetOf(job, i));
    commands = runs_.back().count;
  }
  return Status::Ok();
}

size_t RedisEncoder::FieldCount(const Job& job, size_t row) const {
  const RowBatch& rows = job.slice->batch->rows;
  size_t count = 1;  // _version
  for (size_t i = 0; i < rows.column_count(); ++i) {
    count += rows.column(i).IsNull(row) ? 0 : 1;
  }
  return count;
}

void RedisEncoder::AppendFields(const Job& job, size_t row, Buffer& to) {
  const Layout& layout = layouts_[job.write];
  const OutputBatch& batch = *job.slice->batch;
  for (size_t i = 0; i < layout.fields.size(); ++i) {
    const Column& column = batch.rows.column(i);
    if (column.IsNull(row)) {
      continue;
    }
    scratch_.Clear();
    layout.fields[i].write(column, row, scratch_);
    longest_argument_ = std::max(longest_argument_, scratch_.size());
    to.Append(layout.fields[i].name);
    redis::AppendArgument(to, scratch_.view());
  }
  to.Append(kVersion);
  scratch_.Clear();
  AppendUnsigned128(scratch_, batch.VersionOf(row).Encode());
  redis::AppendArgument(to, scratch_.view());
}

Status RedisEncoder::AppendXadd(const Job& job, size_t row, Key& key, Buffer& to) {
  const RedisWrite& entry = writes_[job.write];
  const OutputBatch& batch = *job.slice->batch;
  const auto id = NextXaddId(key.last_id, batch.CommitTimeOf(row));
  if (!id.has_value()) {
    return FailedPrecondition(fmt::format(
        "a Redis stream of template '{}' has used up its entry ids: delete it", entry.key.text()));
  }
  key.last_id = *id;
  const bool is_delete = batch.ops[row] == OutputOp::kDelete;
  const size_t fields = FieldCount(job, row) + (is_delete ? 1 : 0);
  redis::AppendCommandHeader(to, 3 + 2 * fields);
  to.Append(kXadd);
  redis::AppendArgument(to, key.name);
  scratch_.Clear();
  AppendInteger(scratch_, id->ms);
  scratch_.Append("-");
  AppendInteger(scratch_, id->sequence);
  redis::AppendArgument(to, scratch_.view());
  AppendFields(job, row, to);
  if (is_delete) {
    to.Append(kDeleted);
  }
  ++runs_.back().count;
  return Status::Ok();
}

void RedisEncoder::AppendHset(const Job& job, size_t row, std::string_view key, Buffer& to) {
  const RedisWrite& entry = writes_[job.write];
  // What the row does not have must not stay from before.
  to.Append(kDel);
  redis::AppendArgument(to, key);
  redis::AppendCommandHeader(to, 2 + 2 * FieldCount(job, row));
  to.Append(kHset);
  redis::AppendArgument(to, key);
  AppendFields(job, row, to);
  runs_.back().count += 2;
  if (entry.ttl.count() != 0) {
    to.Append(kPexpire);
    redis::AppendArgument(to, key);
    redis::AppendUnsignedArgument(to, static_cast<uint64_t>(entry.ttl.count()));
    ++runs_.back().count;
  }
}

void RedisEncoder::AppendSet(const Job& job, size_t row, std::string_view key, Buffer& to) {
  const RedisWrite& entry = writes_[job.write];
  scratch_.Clear();
  json_[job.write].Append(*job.slice->batch, row, scratch_);
  longest_argument_ = std::max(longest_argument_, scratch_.size());
  redis::AppendCommandHeader(to, entry.ttl.count() != 0 ? 5 : 3);
  to.Append(kSet);
  redis::AppendArgument(to, key);
  redis::AppendArgument(to, scratch_.view());
  if (entry.ttl.count() != 0) {
    to.Append(kPx);
    redis::AppendUnsignedArgument(to, static_cast<uint64_t>(entry.ttl.count()));
  }
  ++runs_.back().count;
}

void RedisEncoder::AppendPublish(const Job& job, size_t row, std::string_view channel, Buffer& to) {
  scratch_.Clear();
  json_[job.write].Append(*job.slice->batch, row, scratch_);
  longest_argument_ = std::max(longest_argument_, scratch_.size());
  to.Append(kPublish);
  redis::AppendArgument(to, channel);
  redis::AppendArgument(to, scratch_.view());
  ++runs_.back().count;
}

void RedisEncoder::AppendTrimsAndExpires(Buffer& to) {
  for (const Key& key : keys_) {
    const RedisWrite& entry = writes_[key.write];
    if (entry.command != RedisCommand::kXadd) {
      continue;
    }
    if (entry.maxlen != 0) {
      to.Append(kXtrim);
      redis::AppendArgument(to, key.name);
      to.Append(kMaxlen);
      redis::AppendUnsignedArgument(to, entry.maxlen);
      runs_.push_back({.write = key.write, .count = 1});
    }
    if (entry.ttl.count() != 0) {
      to.Append(kPexpire);
      redis::AppendArgument(to, key.name);
      redis::AppendUnsignedArgument(to, static_cast<uint64_t>(entry.ttl.count()));
      runs_.push_back({.write = key.write, .count = 1});
    }
  }
}

}  // namespace millrace::sinks
