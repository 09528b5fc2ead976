// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <rocksdb/cache.h>
#include <rocksdb/options.h>

#include "millrace/storage/rocksdb/rocksdb_store.h"

namespace millrace::storage {

// How RocksDB is tuned, and why: the one place for it.
rocksdb::DBOptions MakeDbOptions(const OpenOptions& options);
// Few and small values, read when the store opens.
rocksdb::ColumnFamilyOptions MakeSmallFamilyOptions();
// Dead letters and their rows, which may be large.
rocksdb::ColumnFamilyOptions MakeDeadLetterFamilyOptions();
// Blocks of state rows.
std::shared_ptr<rocksdb::Cache> MakeStateCache(const OpenOptions& options);
// State rows: read by key, mostly one that was used lately or one that is not there.
// `cache` is MakeStateCache().
rocksdb::ColumnFamilyOptions MakeStateFamilyOptions(const OpenOptions& options,
                                                    std::shared_ptr<rocksdb::Cache> cache);
// State rows of a transaction in parts, dropped at its end.
rocksdb::ColumnFamilyOptions MakePendingFamilyOptions(const OpenOptions& options,
                                                      std::shared_ptr<rocksdb::Cache> cache);
// The output log: written in key order, read in key order, dropped from the front.
rocksdb::ColumnFamilyOptions MakeOutputFamilyOptions(const OpenOptions& options);

}  // namespace millrace::storage
