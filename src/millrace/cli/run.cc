// SPDX-License-Identifier: Apache-2.0
// millrace run -c FILE
#include <csignal>
#include <cstdio>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <pthread.h>
#include <unistd.h>

#include "millrace/admin/admin_server.h"
#include "millrace/cli/command.h"
#include "millrace/common/mutex.h"
#include "millrace/components/registry.h"
#include "millrace/pipeline/pipeline.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/metrics.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::cli {

namespace {

struct RunOptions {
  std::string file;
  std::string role = "all";
  std::string log_level = "info";
  std::string log_format = "text";
};

// Turns SIGTERM and SIGINT into a stop request; a second one ends the process at once, which loses
// nothing. Every thread that is started later inherits the blocked mask.
class SignalStop {
 public:
  SignalStop() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this] { Wait(); });
  }
  ~SignalStop() {
    pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
  }
  SignalStop(const SignalStop&) = delete;
  SignalStop& operator=(const SignalStop&) = delete;

  std::stop_token token() const { return stop_.get_token(); }

 private:
  void Wait() {
    pthread_setname_np(pthread_self(), "mr-signals");
    int received = 0;
    while (sigwait(&signals_, &received) == 0 && received != SIGUSR2) {
      if (stop_.stop_requested()) {
        _exit(kExitFine);
      }
      stop_.request_stop();
    }
  }

  sigset_t signals_{};
  std::stop_source stop_;
  std::thread thread_;
};

// The pipeline for the admin server, which starts before it and ends behind it.
class PipelineSlot {
 public:
  // A call that is under way is waited for.
  void Set(pipeline::Pipeline* pipeline) {
    MutexLock lock(mu_);
    pipeline_ = pipeline;
  }
  Status ReadAgain(const std::string& table) {
    MutexLock lock(mu_);
    return pipeline_ == nullptr ? NotThere() : pipeline_->ReadTableAgain(table);
  }
  Result<std::string> AnswerDeadLetters(const std::string& request) {
    MutexLock lock(mu_);
    return pipeline_ == nullptr ? NotThere() : pipeline_->AnswerDeadLetters(request);
  }

 private:
  static Status NotThere() {
    return FailedPrecondition("the pipeline is starting or stopping: try again when it streams");
  }

  Mutex mu_;
  // Guarded by mu_.
  pipeline::Pipeline* pipeline_ MR_GUARDED_BY(mu_) = nullptr;
};

telemetry::LogLevel ParseLevel(const std::string& level) {
  if (level == "trace") {
    return telemetry::LogLevel::kTrace;
  }
  if (level == "debug") {
    return telemetry::LogLevel::kDebug;
  }
  if (level == "warn") {
    return telemetry::LogLevel::kWarn;
  }
  return level == "error" ? telemetry::LogLevel::kError : telemetry::LogLevel::kInfo;
}

int Run(const RunOptions& options, const Components& components) {
  const auto config = LoadConfig(options.file, components);
  if (!config) {
    return kExitUsage;
  }
  if (options.role != "all") {
    std::fprintf(stderr,
                 "millrace: this version runs --role all only: everything in one process\n");
    return kExitUsage;
  }
  SignalStop signals;
  const telemetry::Logger log =
      telemetry::MakeStderrLogger(ParseLevel(options.log_level), options.log_format == "json"
                                                                     ? telemetry::LogFormat::kJson
                                                                     : telemetry::LogFormat::kText)
          .With("pipeline", config->pipeline);
  telemetry::MetricsRegistry registry(config->pipeline);
  telemetry::PipelineMetrics metrics(registry);
  pipeline::StatusBoard board;
  PipelineSlot running;
  std::unique_ptr<admin::AdminServer> server;
  if (config->admin.is_configured) {
    server = std::make_unique<admin::AdminServer>(
        admin::AdminOptions{
            .host = config->admin.host,
            .port = config->admin.port,
            .token = config->admin.token,
            .read_again = [&](const std::string& table) { return running.ReadAgain(table); },
            .dead_letters =
                [&](const std::string& request) { return running.AnswerDeadLetters(request); }},
        board, registry, log.With("component", "admin"));
    if (const Status status = server->Start(); !status.ok()) {
      return Fail(status);
    }
  }
  Result<pipeline::Parts> parts = components::MakeParts(*config, log);
  if (!parts.ok()) {
    return Fail(parts.status());
  }
  log.Info("Millrace starts", {{"version", MILLRACE_VERSION}, {"data_dir", config->data_dir}});
  pipeline::Pipeline pipeline(*config, std::move(parts).value(), metrics, board, log);
  running.Set(&pipeline);
  const Status status = pipeline.Run(signals.token());
  running.Set(nullptr);
  if (!status.ok()) {
    log.Error("Millrace ends", {{"error", status}});
    return Fail(status);
  }
  log.Info("Millrace has stopped, everything accepted is delivered or kept");
  return kExitFine;
}

}  // namespace

void AddRunCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("run", "Runs a pipeline until SIGTERM");
  auto options = std::make_shared<RunOptions>();
  AddConfigOption(*command, options->file);
  command->add_option("--role", options->role, "What this process does")
      ->check(CLI::IsMember({"all", "capture", "transform", "deliver"}))
      ->capture_default_str();
  command->add_option("--log-level", options->log_level, "The least level that is logged")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  command->add_option("--log-format", options->log_format, "Lines for people or for machines")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->callback(
      [options, &line] { line.run = [options, &line] { return Run(*options, line.components); }; });
}

}  // namespace millrace::cli
