// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/common/result.h"
#include "millrace/model/stream.h"

namespace millrace::storage {

// One version of a stream as bytes: name, id, version, columns, key, table, fill. The format is in
// docs/formats/data_dir.md. Pure functions.
std::string EncodeStream(const Stream& stream);

// kCorruption if the bytes are not a stream, kUnsupported if their format is newer.
Result<StreamPtr> DecodeStream(std::string_view bytes);

}  // namespace millrace::storage
