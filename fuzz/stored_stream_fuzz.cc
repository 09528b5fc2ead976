// SPDX-License-Identifier: Apache-2.0
// A stream's columns as data_dir holds them. Input: the bytes.
#include "input.h"
#include "millrace/common/check.h"
#include "millrace/storage/stream_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto stream = storage::DecodeStream(bytes);
  if (!stream.ok()) {
    MR_CHECK(stream.status().code() == Code::kCorruption ||
             stream.status().code() == Code::kUnsupported);
    return 0;
  }
  const std::string again = storage::EncodeStream(*stream.value());
  MR_CHECK(storage::DecodeStream(again).ok());
  return 0;
}
