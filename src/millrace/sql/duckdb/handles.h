// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include <duckdb.h>

namespace millrace::sql {

// Owns an object of DuckDB's C API.
template <typename T, void (*Destroy)(T*)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T raw) : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { Reset(); }

  explicit operator bool() const { return raw_ != nullptr; }
  T get() const { return raw_; }
  // For functions that make the object.
  T* out() {
    Reset();
    return &raw_;
  }
  void Reset() {
    if (raw_ != nullptr) {
      Destroy(&raw_);
      raw_ = nullptr;
    }
  }

 private:
  T raw_ = nullptr;
};

using DuckDatabase = Handle<duckdb_database, duckdb_close>;
using DuckConnection = Handle<duckdb_connection, duckdb_disconnect>;
using DuckConfig = Handle<duckdb_config, duckdb_destroy_config>;
using DuckStatement = Handle<duckdb_prepared_statement, duckdb_destroy_prepare>;
using DuckPending = Handle<duckdb_pending_result, duckdb_destroy_pending>;
using DuckType = Handle<duckdb_logical_type, duckdb_destroy_logical_type>;
using DuckChunk = Handle<duckdb_data_chunk, duckdb_destroy_data_chunk>;
using DuckTableFunction = Handle<duckdb_table_function, duckdb_destroy_table_function>;

class DuckResult {
 public:
  DuckResult() : raw_() {}
  DuckResult(const DuckResult&) = delete;
  DuckResult& operator=(const DuckResult&) = delete;
  ~DuckResult() { duckdb_destroy_result(&raw_); }
  duckdb_result* get() { return &raw_; }

 private:
  duckdb_result raw_;
};

}  // namespace millrace::sql
