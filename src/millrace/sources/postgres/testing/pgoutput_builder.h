// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/coding.h"
#include "millrace/model/lsn.h"

namespace millrace::sources::postgres::testing {

// Writes pgoutput messages by hand, for tests and benchmarks of the decoder.
class Message {
 public:
  explicit Message(char type) { bytes_.push_back(type); }

  Message& U8(uint8_t v) { return Add(v); }
  Message& U16(uint16_t v) { return Add(v); }
  Message& U32(uint32_t v) { return Add(v); }
  Message& U64(uint64_t v) { return Add(v); }
  Message& Char(char c) { return Add(static_cast<uint8_t>(c)); }
  Message& CString(std::string_view text) {
    bytes_.append(text);
    bytes_.push_back('\0');
    return *this;
  }
  Message& Raw(std::string_view bytes) {
    bytes_.append(bytes);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  template <typename T>
  Message& Add(T v) {
    AppendBigEndian(bytes_, v);
    return *this;
  }
  std::string bytes_;
};

// A value of a tuple: text, NULL, or unchanged and stored out of line.
struct Datum {
  enum Kind { kText, kNull, kUnchanged } kind = kText;
  std::string text;

  // NOLINTNEXTLINE(google-explicit-constructor)
  Datum(const char* t) : text(t) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Datum(std::string t) : text(std::move(t)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Datum(std::nullptr_t) : kind(kNull) {}
  static Datum Unchanged() {
    Datum datum(nullptr);
    datum.kind = kUnchanged;
    return datum;
  }
};
using Tuple = std::vector<Datum>;

struct RelationColumn {
  std::string name;
  uint32_t type_oid = 25;
  bool is_key = false;
  int32_t typmod = -1;
};

inline std::string Begin(uint64_t commit_lsn, int64_t commit_ts = 0, uint32_t xid = 7) {
  return Message('B').U64(commit_lsn).U64(static_cast<uint64_t>(commit_ts)).U32(xid).bytes();
}
inline std::string Commit(uint64_t commit_lsn, uint64_t end_lsn, int64_t commit_ts = 0) {
  return Message('C')
      .U8(0)
      .U64(commit_lsn)
      .U64(end_lsn)
      .U64(static_cast<uint64_t>(commit_ts))
      .bytes();
}
inline std::string Relation(uint32_t oid, std::string_view schema, std::string_view name,
                            const std::vector<RelationColumn>& columns, char identity = 'd') {
  Message message('R');
  message.U32(oid).CString(schema).CString(name).Char(identity).U16(
      static_cast<uint16_t>(columns.size()));
  for (const RelationColumn& column : columns) {
    message.U8(column.is_key)
        .CString(column.name)
        .U32(column.type_oid)
        .U32(static_cast<uint32_t>(column.typmod));
  }
  return message.bytes();
}
inline void AppendTuple(Message& message, char marker, const Tuple& tuple) {
  message.Char(marker).U16(static_cast<uint16_t>(tuple.size()));
  for (const Datum& datum : tuple) {
    switch (datum.kind) {
      case Datum::kText:
        message.Char('t').U32(static_cast<uint32_t>(datum.text.size())).Raw(datum.text);
        break;
      case Datum::kNull:
        message.Char('n');
        break;
      case Datum::kUnchanged:
        message.Char('u');
        break;
    }
  }
}
inline std::string Insert(uint32_t oid, const Tuple& tuple) {
  Message message('I');
  AppendTuple(message.U32(oid), 'N', tuple);
  return message.bytes();
}
inline std::string Update(uint32_t oid, const Tuple& tuple) {
  Message message('U');
  AppendTuple(message.U32(oid), 'N', tuple);
  return message.bytes();
}
inline std::string UpdateWithOld(uint32_t oid, char old_marker, const Tuple& old_tuple,
                                 const Tuple& tuple) {
  Message message('U');
  AppendTuple(message.U32(oid), old_marker, old_tuple);
  AppendTuple(message, 'N', tuple);
  return message.bytes();
}
inline std::string Delete(uint32_t oid, char old_marker, const Tuple& old_tuple) {
  Message message('D');
  AppendTuple(message.U32(oid), old_marker, old_tuple);
  return message.bytes();
}
inline std::string Truncate(const std::vector<uint32_t>& oids) {
  Message message('T');
  message.U32(static_cast<uint32_t>(oids.size())).U8(0);
  for (const uint32_t oid : oids) {
    message.U32(oid);
  }
  return message.bytes();
}
inline std::string LogicalMessage(bool is_transactional, std::string_view prefix,
                                  std::string_view content) {
  return Message('M')
      .U8(is_transactional)
      .U64(1)
      .CString(prefix)
      .U32(static_cast<uint32_t>(content.size()))
      .Raw(content)
      .bytes();
}
inline std::string Origin(std::string_view name) {
  return Message('O').U64(5).CString(name).bytes();
}
inline std::string Type(uint32_t oid, std::string_view schema, std::string_view name) {
  return Message('Y').U32(oid).CString(schema).CString(name).bytes();
}

inline std::string StreamStart(uint32_t xid, bool is_first) {
  return Message('S').U32(xid).U8(is_first).bytes();
}
inline std::string StreamStop() { return Message('E').bytes(); }
inline std::string StreamCommit(uint32_t xid, uint64_t commit_lsn, uint64_t end_lsn,
                                int64_t commit_ts = 0) {
  return Message('c')
      .U32(xid)
      .U8(0)
      .U64(commit_lsn)
      .U64(end_lsn)
      .U64(static_cast<uint64_t>(commit_ts))
      .bytes();
}
inline std::string StreamAbort(uint32_t xid, uint32_t subxid) {
  return Message('A').U32(xid).U32(subxid).bytes();
}
// A message as it stands in a stream block: with the subtransaction behind its type.
inline std::string InStream(uint32_t xid, const std::string& message) {
  return Message(message.front()).U32(xid).Raw(std::string_view(message).substr(1)).bytes();
}

}  // namespace millrace::sources::postgres::testing
