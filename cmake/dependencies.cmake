# SPDX-License-Identifier: Apache-2.0
# Every library that Millrace uses, with its least version and its reason. Nothing is downloaded
# here: tools/deps.sh installs all of it.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# Text formatting: g++ 12 has no std::format.
find_package(fmt 9 REQUIRED)
# Log output, behind telemetry/log.h.
find_package(spdlog 1.10 REQUIRED)
# The configuration file, with line and column of each value.
find_package(yaml-cpp 0.7 REQUIRED)
# The command line.
find_package(CLI11 2.1 REQUIRED)
# JSON in Kafka messages, positions, the admin API and query trees.
find_package(nlohmann_json 3.11 REQUIRED)
# Counters, histograms and Prometheus' text format.
find_package(prometheus-cpp CONFIG REQUIRED)
# PostgreSQL's protocol, replication mode included.
pkg_check_modules(LIBPQ REQUIRED IMPORTED_TARGET libpq>=15)
# Kafka's protocol with transactions.
pkg_check_modules(RDKAFKA REQUIRED IMPORTED_TARGET rdkafka>=2.0)
# RESP formatting and reading; the socket is ours.
pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis>=0.14)
# HTTP to ClickHouse, TLS included.
find_package(CURL 7.88 REQUIRED)
# TLS to Redis.
find_package(OpenSSL 3 REQUIRED)
# Compression of output log records.
pkg_check_modules(LZ4 REQUIRED IMPORTED_TARGET liblz4)

# State, output log and positions on disk. Debian's package has no usable CMake config.
find_path(ROCKSDB_INCLUDE_DIR rocksdb/db.h REQUIRED)
find_library(ROCKSDB_LIBRARY rocksdb REQUIRED)
add_library(RocksDB::rocksdb UNKNOWN IMPORTED)
set_target_properties(RocksDB::rocksdb PROPERTIES
  IMPORTED_LOCATION ${ROCKSDB_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${ROCKSDB_INCLUDE_DIR})

# The admin server's HTTP. Its flags matter: they decide the layout of its classes.
pkg_check_modules(HTTPLIB REQUIRED IMPORTED_TARGET cpp-httplib>=0.11)

# SQL over micro-batches. Not in Debian: tools/deps.sh puts the pinned release here.
if(NOT MILLRACE_CACHE)
  if(DEFINED ENV{MILLRACE_CACHE})
    set(MILLRACE_CACHE $ENV{MILLRACE_CACHE})
  elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(MILLRACE_CACHE $ENV{XDG_CACHE_HOME}/millrace)
  else()
    set(MILLRACE_CACHE $ENV{HOME}/.cache/millrace)
  endif()
endif()
find_path(DUCKDB_INCLUDE_DIR duckdb.h HINTS ${MILLRACE_CACHE}/duckdb/include REQUIRED)
find_library(DUCKDB_LIBRARY duckdb HINTS ${MILLRACE_CACHE}/duckdb/lib REQUIRED)
add_library(DuckDB::duckdb SHARED IMPORTED)
set_target_properties(DuckDB::duckdb PROPERTIES
  IMPORTED_LOCATION ${DUCKDB_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${DUCKDB_INCLUDE_DIR})

if(MILLRACE_DEVELOPER_MODE)
  # Unit tests.
  find_package(GTest 1.12 REQUIRED)
  # Micro benchmarks.
  find_package(benchmark 1.7 REQUIRED)
endif()
