// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <rocksdb/options.h>

#include "millrace/storage/rocksdb/rocksdb_store.h"

namespace millrace::storage {

// How RocksDB is tuned, and why: the one place for it.
rocksdb::DBOptions MakeDbOptions(const OpenOptions& options);
// Few and small values, read when the store opens.
rocksdb::ColumnFamilyOptions MakeSmallFamilyOptions();
// State rows: read by key, mostly one that was used lately or one that is not there.
rocksdb::ColumnFamilyOptions MakeStateFamilyOptions(const OpenOptions& options);
// The output log: written in key order, read in key order, dropped from the front.
rocksdb::ColumnFamilyOptions MakeOutputFamilyOptions(const OpenOptions& options);

}  // namespace millrace::storage
