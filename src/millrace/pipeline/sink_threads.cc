// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/sink_threads.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/backoff.h"
#include "millrace/pipeline/thread_name.h"

namespace millrace::pipeline {

SinkThreads::SinkThreads(const config::PipelineConfig& config,
                         std::vector<const sinks::SinkType*> types, storage::Store& store,
                         const StreamBoard& streams, DeadLetters& dead_letters,
                         telemetry::PipelineMetrics& metrics, telemetry::Logger log,
                         std::function<void(Status)> fail)
    : config_(config),
      types_(std::move(types)),
      store_(store),
      streams_(streams),
      dead_letters_(dead_letters),
      metrics_(metrics),
      log_(std::move(log)),
      fail_(std::move(fail)),
      running_(config.sinks.size()),
      planned_(config.sinks.size()) {}

std::vector<sinks::StreamUse> SinkThreads::Uses() const {
  std::vector<sinks::StreamUse> uses;
  for (size_t i = 0; i < config_.sinks.size(); ++i) {
    for (sinks::StreamUse& use : types_[i]->uses(config_.sinks[i].section)) {
      uses.push_back(std::move(use));
    }
  }
  return uses;
}

Status SinkThreads::Plan(const StreamPlan& plan, std::set<std::string>& at_fault) {
  for (size_t i = 0; i < config_.sinks.size(); ++i) {
    std::set<std::string> streams;
    for (const sinks::StreamUse& use : types_[i]->uses(config_.sinks[i].section)) {
      if (plan.by_name.contains(use.stream)) {
        streams.insert(use.stream);
      }
    }
    planned_[i].reset();
    if (running_[i] != nullptr && running_[i]->streams == streams) {
      continue;
    }
    if (Status made = Make(i, plan, streams); !made.ok()) {
      at_fault = std::move(streams);
      return made.WithContext(fmt::format("sink '{}'", config_.sinks[i].name));
    }
  }
  return Status::Ok();
}

Status SinkThreads::Make(size_t number, const StreamPlan& plan, std::set<std::string> streams) {
  const config::SinkConfig& sink_config = config_.sinks[number];
  const sinks::SinkType& type = *types_[number];
  const telemetry::Logger log = log_.With("sink", sink_config.name);
  SinkWriter::Options options;
  options.name = sink_config.name;
  options.type = sink_config.type;
  options.limits = sink_config.batch;
  options.backoff = {sink_config.retry_wait_min, sink_config.retry_wait_max};
  if (config_.source.heartbeat_interval.count() > 0) {
    options.probe_interval = config_.source.heartbeat_interval;
  }

  auto deliveries = std::make_unique<StoredDeliveryLog>(store_, sink_config.name);
  sinks::SinkContext context;
  context.pipeline = config_.pipeline;
  context.name = sink_config.name;
  context.instance_id = store_.instance_id();
  context.delivery_log = deliveries.get();
  context.find_stream = [this](StreamId id, SchemaVersion version) {
    return store_.FindStream(id, version);
  };
  context.log = log;
  for (const std::string& name : streams) {
    const StreamPtr& stream = plan.by_name.at(name);
    context.streams[name] = stream;
    options.streams.insert(stream->id);
  }
  for (sinks::StreamUse& use : type.uses(sink_config.section)) {
    if (const auto stream = plan.by_name.find(use.stream); stream != plan.by_name.end()) {
      auto& sets = options.newest_by[stream->second->id];
      std::move(use.newest_by.begin(), use.newest_by.end(), std::back_inserter(sets));
    }
  }
  for (const config::StreamConfig& stream : config_.streams) {
    const auto planned = plan.by_name.find(stream.name);
    if (planned != plan.by_name.end() && stream.on_error == config::OnError::kDeadLetter) {
      options.dead_letter_streams.insert(planned->second->id);
    }
  }
  MR_ASSIGN_OR_RETURN(std::unique_ptr<sinks::Sink> sink,
                      type.make(sink_config.section, std::move(context)));
  auto entry = std::make_unique<Entry>();
  entry->streams = std::move(streams);
  entry->writer =
      std::make_unique<SinkWriter>(std::move(options), std::move(sink), std::move(deliveries),
                                   store_, streams_, dead_letters_, metrics_, log);
  planned_[number] = std::move(entry);
  return Status::Ok();
}

void SinkThreads::Start() {
  // At once for all: each may take a moment to let go of its target.
  for (size_t i = 0; i < planned_.size(); ++i) {
    if (planned_[i] != nullptr && running_[i] != nullptr) {
      running_[i]->stop.request_stop();
      running_[i]->drain.request_stop();
    }
  }
  for (size_t i = 0; i < planned_.size(); ++i) {
    if (planned_[i] == nullptr) {
      continue;
    }
    if (running_[i] != nullptr) {
      running_[i]->thread.join();
      planned_[i]->writer->GoOnCounting(running_[i]->writer->GetProgress());
    }
    running_[i] = std::move(planned_[i]);
    Entry& entry = *running_[i];
    entry.thread = std::jthread([this, &entry] {
      NameThread("mr-sink-" + entry.writer->options().name);
      fail_(entry.writer->Run(entry.stop.get_token(), entry.drain.get_token()));
    });
  }
}

void SinkThreads::Stop(std::stop_token failed, std::chrono::steady_clock::time_point deadline) {
  for (const EntryPtr& entry : running_) {
    if (entry != nullptr) {
      entry->drain.request_stop();
    }
  }
  const auto delivered_all = [&] {
    return std::all_of(running_.begin(), running_.end(), [](const EntryPtr& entry) {
      return entry == nullptr || entry->writer->GetProgress().state == "stopped";
    });
  };
  while (!delivered_all() && std::chrono::steady_clock::now() < deadline &&
         WaitUnlessStopped(std::chrono::milliseconds(10), failed)) {
  }
  for (const EntryPtr& entry : running_) {
    if (entry != nullptr) {
      entry->stop.request_stop();
    }
  }
  for (const EntryPtr& entry : running_) {
    if (entry != nullptr) {
      entry->thread.join();
    }
  }
}

std::vector<const SinkWriter*> SinkThreads::writers() const {
  std::vector<const SinkWriter*> writers;
  for (const EntryPtr& entry : running_) {
    if (entry != nullptr) {
      writers.push_back(entry->writer.get());
    }
  }
  return writers;
}

}  // namespace millrace::pipeline
