// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/stream_codec.h"

#include <utility>

#include <fmt/format.h>

#include "millrace/common/buffer.h"
#include "millrace/common/coding.h"
#include "millrace/storage/row_codec.h"

namespace millrace::storage {

namespace {

constexpr uint8_t kStreamFormat = 1;
constexpr uint8_t kAppendOnly = 1;
constexpr uint8_t kHasFill = 2;
constexpr uint8_t kFlagsMax = kAppendOnly | kHasFill;
constexpr int kListDepthMax = 8;

void AppendType(Buffer& to, const DataType& type) {
  to.AppendValue(type.kind);
  if (type.kind == TypeKind::kDecimal) {
    to.AppendValue(type.precision);
    to.AppendValue(type.scale);
  } else if (type.is_list()) {
    AppendType(to, *type.element);
  }
}

Result<DataType> ReadType(ByteReader& reader, int depth) {
  MR_ASSIGN_OR_RETURN(const uint8_t kind, reader.ReadLittleEndian<uint8_t>());
  if (kind < static_cast<uint8_t>(TypeKind::kBool) ||
      kind > static_cast<uint8_t>(TypeKind::kList)) {
    return Corruption(fmt::format("a stored column has the unknown type {}", kind));
  }
  if (kind == static_cast<uint8_t>(TypeKind::kDecimal)) {
    MR_ASSIGN_OR_RETURN(const uint8_t precision, reader.ReadLittleEndian<uint8_t>());
    MR_ASSIGN_OR_RETURN(const uint8_t scale, reader.ReadLittleEndian<uint8_t>());
    if (precision < 1 || precision > 38 || scale > precision) {
      return Corruption(fmt::format("a stored column has type decimal({},{})", precision, scale));
    }
    return DataType::Decimal(precision, scale);
  }
  if (kind == static_cast<uint8_t>(TypeKind::kList)) {
    if (depth == kListDepthMax) {
      return Corruption("a stored column has a list type that is nested too deeply");
    }
    MR_ASSIGN_OR_RETURN(DataType element, ReadType(reader, depth + 1));
    return DataType::List(std::move(element));
  }
  return DataType(static_cast<TypeKind>(kind));
}

Result<uint32_t> ReadNumber(ByteReader& reader) {
  MR_ASSIGN_OR_RETURN(const uint64_t v, reader.ReadVarint());
  if (v > UINT32_MAX) {
    return Corruption("a stored stream has a number beyond 32 bits");
  }
  return static_cast<uint32_t>(v);
}

Result<Schema> ReadColumns(ByteReader& reader) {
  MR_ASSIGN_OR_RETURN(const uint64_t n, reader.ReadVarint());
  Schema columns;
  for (uint64_t i = 0; i < n; ++i) {  // ends with the bytes at the latest
    Field field;
    MR_ASSIGN_OR_RETURN(const std::string_view name, reader.ReadLengthPrefixed());
    field.name = name;
    MR_ASSIGN_OR_RETURN(field.type, ReadType(reader, 0));
    MR_ASSIGN_OR_RETURN(const uint8_t nullable, reader.ReadLittleEndian<uint8_t>());
    if (nullable > 1) {
      return Corruption("a stored column is neither nullable nor not");
    }
    field.nullable = nullable == 1;
    columns.push_back(std::move(field));
  }
  return columns;
}

Result<std::vector<std::vector<std::string>>> ReadFormerNames(ByteReader& reader, size_t columns) {
  MR_ASSIGN_OR_RETURN(const uint64_t lists, reader.ReadVarint());
  std::vector<std::vector<std::string>> former;
  for (uint64_t i = 0; i < lists; ++i) {  // ends with the bytes at the latest
    MR_ASSIGN_OR_RETURN(const uint64_t n, reader.ReadVarint());
    if (n > columns) {
      return Corruption("a stored stream had more columns than it has");
    }
    std::vector<std::string>& names = former.emplace_back();
    for (uint64_t k = 0; k < n; ++k) {
      MR_ASSIGN_OR_RETURN(const std::string_view name, reader.ReadLengthPrefixed());
      names.emplace_back(name);
    }
  }
  return former;
}

}  // namespace

std::string EncodeStream(const Stream& stream) {
  Buffer to;
  to.AppendValue(kStreamFormat);
  to.AppendValue(static_cast<uint8_t>((stream.append_only ? kAppendOnly : 0) |
                                      (stream.fill != nullptr ? kHasFill : 0)));
  AppendVarint(to, stream.id.value());
  AppendVarint(to, stream.schema_version.value());
  AppendLengthPrefixed(to, stream.name);
  AppendVarint(to, stream.columns->size());
  for (const Field& field : *stream.columns) {
    AppendLengthPrefixed(to, field.name);
    AppendType(to, field.type);
    to.AppendValue(static_cast<uint8_t>(field.nullable));
  }
  AppendVarint(to, stream.key.size());
  for (const uint32_t column : stream.key) {
    AppendVarint(to, column);
  }
  AppendLengthPrefixed(to, stream.table);
  AppendVarint(to, stream.former_names.size());
  for (const std::vector<std::string>& names : stream.former_names) {
    AppendVarint(to, names.size());
    for (const std::string& name : names) {
      AppendLengthPrefixed(to, name);
    }
  }
  if (stream.fill != nullptr) {
    std::string fill;
    EncodeRow(*stream.fill, 0, stream.schema_version, fill);
    AppendLengthPrefixed(to, fill);
  }
  return std::string(to.view());
}

Result<StreamPtr> DecodeStream(std::string_view bytes) {
  ByteReader reader(bytes);
  MR_ASSIGN_OR_RETURN(const uint8_t format, reader.ReadLittleEndian<uint8_t>());
  if (format > kStreamFormat) {
    return Unsupported(fmt::format("a stored stream has format {}; this version reads up to {}",
                                   format, kStreamFormat));
  }
  MR_ASSIGN_OR_RETURN(const uint8_t flags, reader.ReadLittleEndian<uint8_t>());
  if (format != kStreamFormat || flags > kFlagsMax) {
    return Corruption("a stored stream has an unknown format or flag");
  }
  auto stream = std::make_shared<Stream>();
  stream->append_only = (flags & kAppendOnly) != 0;
  MR_ASSIGN_OR_RETURN(const uint32_t id, ReadNumber(reader));
  MR_ASSIGN_OR_RETURN(const uint32_t version, ReadNumber(reader));
  stream->id = StreamId(id);
  stream->schema_version = SchemaVersion(version);
  MR_ASSIGN_OR_RETURN(const std::string_view name, reader.ReadLengthPrefixed());
  stream->name = name;
  MR_ASSIGN_OR_RETURN(Schema columns, ReadColumns(reader));
  MR_ASSIGN_OR_RETURN(const uint64_t key_columns, reader.ReadVarint());
  for (uint64_t i = 0; i < key_columns; ++i) {
    MR_ASSIGN_OR_RETURN(const uint32_t column, ReadNumber(reader));
    if (column >= columns.size()) {
      return Corruption("a stored stream has a key column that it does not have");
    }
    stream->key.push_back(column);
  }
  MR_ASSIGN_OR_RETURN(const std::string_view table, reader.ReadLengthPrefixed());
  stream->table = table;
  MR_ASSIGN_OR_RETURN(stream->former_names, ReadFormerNames(reader, columns.size()));
  stream->columns = std::make_shared<const Schema>(std::move(columns));
  if ((flags & kHasFill) != 0) {
    MR_ASSIGN_OR_RETURN(const std::string_view row, reader.ReadLengthPrefixed());
    auto fill = std::make_shared<RowBatch>(stream->columns);
    MR_RETURN_IF_ERROR(DecodeRow(row, *fill));
    stream->fill = std::move(fill);
  }
  if (!reader.empty()) {
    return Corruption("a stored stream has bytes behind its end");
  }
  return StreamPtr(std::move(stream));
}

}  // namespace millrace::storage
