// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/database_options.h"

#include <algorithm>
#include <utility>

#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_buffer_manager.h>

namespace millrace::storage {

namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

}  // namespace

rocksdb::DBOptions MakeDbOptions(const OpenOptions& options) {
  rocksdb::DBOptions db;
  db.create_if_missing = true;
  db.create_missing_column_families = true;
  if (options.env != nullptr) {
    db.env = options.env;
  }
  // One WAL for all families, synced by fdatasync at each commit. What a power cut tears is its
  // end, which nobody was told of; recovery goes on at the newest whole batch.
  db.manual_wal_flush = false;
  db.use_fsync = false;
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  db.paranoid_checks = true;
  // A family that is seldom written would keep every WAL file since its last flush: bounds the disk
  // that WAL takes and the time that a start takes.
  db.max_total_wal_size = 256 * kMiB;
  db.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(options.write_buffer_bytes);
  db.max_background_jobs = 2;
  db.bytes_per_sync = kMiB;  // table files reach the disk evenly, not at their end
  // Table readers hold memory and descriptors; the common limit of the latter is 1024.
  db.max_open_files = 256;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.max_log_file_size = kMiB;
  db.keep_log_file_num = 3;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  db.skip_stats_update_on_db_open = true;
  return db;
}

rocksdb::ColumnFamilyOptions MakeSmallFamilyOptions() {
  rocksdb::ColumnFamilyOptions family;
  family.write_buffer_size = 2 * kMiB;
  family.compression = rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family;
}

rocksdb::ColumnFamilyOptions MakeDeadLetterFamilyOptions() {
  rocksdb::ColumnFamilyOptions family = MakeSmallFamilyOptions();
  family.enable_blob_files = true;  // as state rows
  family.min_blob_size = 4 * kMiB;
  family.enable_blob_garbage_collection = true;
  return family;
}

std::shared_ptr<rocksdb::Cache> MakeStateCache(const OpenOptions& options) {
  return rocksdb::NewLRUCache(options.cache_bytes, -1, /*strict_capacity_limit=*/false,
                              /*high_pri_pool_ratio=*/0.5);
}

namespace {

// State rows, stored or pending.
rocksdb::ColumnFamilyOptions MakeRowFamilyOptions(const OpenOptions& options,
                                                  std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::ColumnFamilyOptions family;
  family.write_buffer_size = std::clamp<size_t>(options.write_buffer_bytes / 4, kMiB, 64 * kMiB);
  family.max_write_buffer_number = 3;
  family.level_compaction_dynamic_level_bytes = true;
  const auto supported = rocksdb::GetSupportedCompressions();
  family.compression =
      std::find(supported.begin(), supported.end(), rocksdb::kLZ4Compression) != supported.end()
          ? rocksdb::kLZ4Compression
          : rocksdb::kNoCompression;
  // A key that is not there is answered without a search of the memtable.
  family.memtable_prefix_bloom_size_ratio = 0.05;
  family.memtable_whole_key_filtering = true;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(cache);
  table.block_size = 8 * kKiB;
  // Indexes and filters are parts of a few KiB in the same cache, so that it bounds all of it
  // however large the state grows.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.metadata_block_size = 4 * kKiB;
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_top_level_index_and_filter = true;
  table.optimize_filters_for_memory = true;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family;
}

}  // namespace

rocksdb::ColumnFamilyOptions MakeStateFamilyOptions(const OpenOptions& options,
                                                    std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::ColumnFamilyOptions family = MakeRowFamilyOptions(options, std::move(cache));
  // Values of many megabytes go to files of their own. As blocks of tables each would be held by a
  // flush two or three times, and by a compaction once for each of its inputs.
  family.enable_blob_files = true;
  family.min_blob_size = 4 * kMiB;
  family.enable_blob_garbage_collection = true;
  return family;
}

rocksdb::ColumnFamilyOptions MakePendingFamilyOptions(const OpenOptions& options,
                                                      std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::ColumnFamilyOptions family = MakeRowFamilyOptions(options, std::move(cache));
  // Soon gone. No blob files: RocksDB 7.8 does not expect DeleteFilesInRange() beside them.
  family.compression = rocksdb::kNoCompression;
  return family;
}

rocksdb::ColumnFamilyOptions MakeOutputFamilyOptions(const OpenOptions& options) {
  rocksdb::ColumnFamilyOptions family;
  family.write_buffer_size = std::clamp<size_t>(options.write_buffer_bytes / 2, kMiB, 128 * kMiB);
  family.max_write_buffer_number = 2;
  family.compression = rocksdb::kNoCompression;  // records are compressed where it helps
  // Keys only grow, so files do not overlap: each flushed file is moved down as it is, nothing is
  // ever merged, and truncation drops whole files of level 1 without a tombstone.
  family.num_levels = 2;
  family.level0_file_num_compaction_trigger = 1;
  family.max_bytes_for_level_base = uint64_t{1} << 50;
  family.ttl = 0;
  family.periodic_compaction_seconds = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_size = 32 * kKiB;
  table.no_block_cache = true;  // decoded records are cached instead
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family;
}

}  // namespace millrace::storage
