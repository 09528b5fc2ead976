// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's text of one array. Input: a byte for the element's type (value_types.h), then the
// text.
#include "input.h"
#include "value.h"
#include "value_types.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  millrace::fuzz::Input input(data, size);
  const auto& types = millrace::fuzz::ScalarTypes();
  const millrace::DataType& type = types[input.Byte() % types.size()];
  millrace::fuzz::CheckValue(millrace::DataType::List(type), input.rest());
  return 0;
}
