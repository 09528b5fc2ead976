// SPDX-License-Identifier: Apache-2.0
//
// ClickHouseSink against a real server, whose address is in MILLRACE_TEST_CLICKHOUSE_URL. Each test
// has a database of its own.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/clickhouse_sink.h"
#include "millrace/sinks/testing/sink_conformance.h"
#include "millrace/sinks/testing/faulty_link.h"

namespace millrace::sinks::clickhouse {
namespace {

using testing::EveryTypeStream;
using testing::MakeDelivery;
using testing::MakeStream;
using testing::MemoryDeliveryLog;
using testing::OutputWriter;
using testing::FaultyLink;

std::string ServerUrl() {
  const char* url = std::getenv("MILLRACE_TEST_CLICKHOUSE_URL");
  return url == nullptr ? "" : url;
}

// A server without a URL is a failure, never a skip.
constexpr const char* kNoServer =
    "MILLRACE_TEST_CLICKHOUSE_URL is not set: start a server (tools/servers.sh start clickhouse) "
    "and "
    "set it to http://127.0.0.1:<port>";

http::HttpOptions DirectOptions() {
  http::HttpOptions options;
  options.url = *http::ParseHttpUrl(ServerUrl());
  options.response_bytes_max = size_t{256} << 20;
  return options;
}

// One database, with a link to the server that can be cut.
class Target {
 public:
  Target()
      : proxy(DirectOptions().url.host, DirectOptions().url.port),
        client(*ClickHouseClient::Make(DirectOptions())),
        database(fmt::format("mr_{:016x}", std::random_device()() * uint64_t{0x100000001} ^
                                               static_cast<uint64_t>(getpid()))) {
    options.http = DirectOptions();
    options.http.url.host = "127.0.0.1";
    options.http.url.port = std::to_string(proxy.port());
    options.database = database;
  }
  ~Target() { Run("DROP DATABASE IF EXISTS " + database); }

  void Run(const std::string& sql) {
    const Status status = client->Execute(sql, {});
    EXPECT_TRUE(status.ok()) << sql << ": " << status.ToString();
  }
  ClickHouseClient::Rows Read(const std::string& sql) {
    auto rows = client->Select(sql, {});
    EXPECT_TRUE(rows.ok()) << sql << ": " << rows.status().ToString();
    return rows.ok() ? *rows : ClickHouseClient::Rows();
  }
  std::string ReadOne(const std::string& sql) {
    const auto rows = Read(sql);
    return rows.empty() || rows[0].empty() ? "(nothing)" : rows[0][0];
  }
  std::string Count(const std::string& table) {
    return ReadOne(fmt::format("SELECT toString(count()) FROM {}.{}", database, table));
  }

  SinkContext Context(const std::vector<StreamPtr>& streams) {
    SinkContext context;
    context.pipeline = "tests";
    context.name = "warehouse";
    context.instance_id = database;
    for (const StreamPtr& stream : streams) {
      context.streams[stream->name] = stream;
    }
    context.delivery_log = &log;
    context.log = telemetry::MakeCapturingLogger(
        [this](telemetry::LogLevel, const std::string& line) { log_lines.push_back(line); });
    return context;
  }
  std::unique_ptr<Sink> MakeSink(const std::vector<StreamPtr>& streams) {
    auto sink = ClickHouseSink::Make(options, Context(streams), [this] { return now; });
    EXPECT_TRUE(sink.ok()) << sink.status().ToString();
    return *std::move(sink);
  }
  // A sink with one table of the same name for each stream.
  void MapStreams(const std::vector<StreamPtr>& streams) {
    options.tables.clear();
    for (const StreamPtr& stream : streams) {
      options.tables.push_back({.stream = stream->name, .table = stream->name});
    }
  }

  FaultyLink proxy;
  std::unique_ptr<ClickHouseClient> client;  // past the proxy
  std::string database;
  ClickHouseOptions options;
  MemoryDeliveryLog log;
  std::vector<std::string> log_lines;
  std::chrono::system_clock::time_point now = std::chrono::system_clock::now();
};

// ---- the conformance suite ----

// ClickHouse's text of a value as AppendValueText() prints it.
std::string CanonicalText(const DataType& type, std::string text) {
  const auto replace_all = [&](const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  };
  if (text == "NULL") {
    return text;
  }
  switch (type.kind) {
    case TypeKind::kFloat32:
    case TypeKind::kFloat64:
      return text == "nan"    ? "NaN"
             : text == "-inf" ? "-Infinity"
             : text == "inf"  ? "Infinity"
                              : text;
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz: {
      replace_all(" ", "T");
      while (text.ends_with('0')) {
        text.pop_back();
      }
      if (text.ends_with('.')) {
        text.pop_back();
      }
      return type.kind == TypeKind::kTimestampTz ? text + "Z" : text;
    }
    case TypeKind::kList:
      replace_all("NULL", "null");
      return text;
    default:
      return text;
  }
}

class ClickHouseFixture : public testing::SinkFixture {
 public:
  std::unique_ptr<Sink> MakeSink(const StreamPtr& stream) override {
    target_.MapStreams({stream});
    return target_.MakeSink({stream});
  }
  MemoryDeliveryLog& delivery_log() override { return target_.log; }

  std::vector<std::vector<std::string>> ReadRows(const StreamPtr& stream) override {
    std::string list;
    for (const Field& field : *stream->columns) {
      const std::string name = QuoteIdentifier(field.name);
      // Raw bytes are not UTF-8 and do not survive JSON.
      const std::string text = field.type.kind == TypeKind::kBytes ? fmt::format("hex({})", name)
                               : field.type.kind == TypeKind::kDecimal
                                   ? fmt::format("toDecimalString({}, {})", name, field.type.scale)
                                   : fmt::format("toString({})", name);
      list += fmt::format("{}ifNull({}, 'NULL')", list.empty() ? "" : ", ", text);
    }
    auto rows = target_.Read(
        fmt::format("SELECT {} FROM {}.{} {} ORDER BY {}", list, target_.database, stream->name,
                    stream->append_only ? "" : "FINAL", (*stream->columns)[0].name));
    for (auto& row : rows) {
      for (size_t i = 0; i < row.size(); ++i) {
        const DataType& type = (*stream->columns)[i].type;
        row[i] = type.kind == TypeKind::kBytes && row[i] != "NULL" ? FromHex(row[i])
                                                                   : CanonicalText(type, row[i]);
      }
    }
    return rows;
  }
  size_t CountCopies(const StreamPtr& stream) override {
    return std::stoul(target_.Count(stream->name));
  }
  void CutConnections() override { target_.proxy.Cut(); }
  void StallConnections() override { target_.proxy.SetMode(FaultyLink::Mode::kStall); }
  void WaitForStalledBytes() override { target_.proxy.WaitForStalledBytes(); }
  bool LoseNextReply() override {
    // libcurl itself repeats a request once whose kept connection ends without a reply.
    target_.proxy.SetMode(FaultyLink::Mode::kDropReplies);
    watcher_ = std::jthread([this](std::stop_token stop) {
      while (target_.proxy.faults() < 2 && !stop.stop_requested()) {
        std::this_thread::yield();
      }
      target_.proxy.SetMode(FaultyLink::Mode::kPass);
    });
    return true;
  }

 private:
  static std::string FromHex(const std::string& hex) {
    std::string bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return bytes;
  }

  Target target_;
  std::jthread watcher_;
};

std::unique_ptr<testing::SinkFixture> MakeClickHouseFixture() {
  if (ServerUrl().empty()) {
    ADD_FAILURE() << kNoServer;
    return nullptr;
  }
  return std::make_unique<ClickHouseFixture>();
}

}  // namespace
}  // namespace millrace::sinks::clickhouse

namespace millrace::sinks::testing {
INSTANTIATE_TEST_SUITE_P(ClickHouse, SinkConformance,
                         ::testing::Values(&clickhouse::MakeClickHouseFixture));
}  // namespace millrace::sinks::testing
