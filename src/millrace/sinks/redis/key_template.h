// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/json_text.h"
#include "millrace/model/row_batch.h"
#include "millrace/model/stream.h"

namespace millrace::sinks {

// The name of a Redis key with columns in it: `enriched_events:{content_type}`. `{{` and `}}` stand
// for the braces themselves. A NULL is written `unknown`.
class KeyTemplate {
 public:
  KeyTemplate() = default;
  // kInvalidArgument for unbalanced braces and for names without any character.
  static Result<KeyTemplate> Parse(std::string_view text);

  // As it was written: what messages show instead of keys, which hold values.
  const std::string& text() const { return text_; }
  // Names in order; one may occur twice.
  std::vector<std::string> Columns() const;

 private:
  friend class BoundKeyTemplate;
  struct Part {
    std::string literal;
    std::string column;  // behind the literal; empty: none
  };

  std::string text_;
  std::vector<Part> parts_;
};

// A template with its columns found in a stream.
class BoundKeyTemplate {
 public:
  // kInvalidArgument if the stream lacks a column.
  static Result<BoundKeyTemplate> Bind(const KeyTemplate& key, const Stream& stream);

  // Appends the key of a row.
  void Append(const RowBatch& rows, size_t row, Buffer& to) const;

 private:
  struct Part {
    std::string literal;
    int column = -1;  // behind the literal; -1: none
    ValueWriter write = nullptr;
  };
  std::vector<Part> parts_;
};

}  // namespace millrace::sinks
