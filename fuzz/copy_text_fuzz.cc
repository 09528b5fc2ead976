// SPDX-License-Identifier: Apache-2.0
// One line of COPY's text format. Input: the line.
#include "input.h"
#include "millrace/common/check.h"
#include "millrace/sources/postgres/copy_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using millrace::sources::postgres::CopyLine;
  const std::string line(reinterpret_cast<const char*>(data), size);
  CopyLine fields(line);
  size_t count = 0;
  size_t bytes = 0;
  while (!fields.AtEnd()) {
    std::string_view text;
    if (fields.Next(text) == CopyLine::Field::kText) {
      bytes += text.size();
    }
    ++count;
  }
  // A field takes its tab, and an escape only makes text shorter.
  MR_CHECK(count <= size + 1 && bytes <= size);
  return 0;
}
