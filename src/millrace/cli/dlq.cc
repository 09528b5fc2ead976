// SPDX-License-Identifier: Apache-2.0
// millrace dlq -c FILE list|show|retry|drop|export
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/admin/status_client.h"
#include "millrace/cli/command.h"
#include "millrace/components/registry.h"
#include "millrace/pipeline/dead_letter_desk.h"

namespace millrace::cli {

namespace {

using Json = nlohmann::ordered_json;

// What one request names; the server takes requests of 8 KiB.
constexpr size_t kIdsAtATime = 200;
constexpr size_t kRowsAtATime = 20;

struct DlqOptions {
  std::string file;
  std::vector<uint64_t> ids;
  std::string stream;
  bool all = false;
  bool json = false;
};

// Answers from a running pipeline where there is one, otherwise from its data_dir.
class Desk {
 public:
  static Result<std::unique_ptr<Desk>> Make(const config::PipelineConfig& config) {
    auto desk = std::unique_ptr<Desk>(new Desk(config));
    Result<std::optional<components::StoredDeadLetters>> stored =
        components::OpenDeadLetters(config);
    if (!stored.ok() && stored.status().code() == Code::kFailedPrecondition) {
      MR_RETURN_IF_ERROR(CheckCanBeAsked(config));
      return desk;  // it runs
    }
    if (!stored.ok()) {
      return stored.status();
    }
    if (!stored->has_value()) {
      return FailedPrecondition(
          fmt::format("data_dir {} does not exist, so that there are no dead letters: look at "
                      "`data_dir` in the configuration",
                      config.data_dir));
    }
    desk->stored_ = std::move(**stored);
    desk->local_ = std::make_unique<pipeline::DeadLetterDesk>(*desk->stored_.letters,
                                                              pipeline::DeskNames(config), nullptr);
    return desk;
  }

  bool is_running() const { return local_ == nullptr; }

  Result<Json> Ask(const Json& request) {
    const std::string text = request.dump();
    const Result<std::string> answer =
        local_ != nullptr ? local_->Answer(text)
                          : admin::RequestDeadLetters(config_.admin.host, config_.admin.port,
                                                      config_.admin.token, text);
    if (!answer.ok()) {
      return answer.status();
    }
    Json json = Json::parse(*answer, nullptr, false);
    if (!json.is_object()) {
      return Corruption("the pipeline's answer about dead letters is not JSON");
    }
    return json;
  }

 private:
  explicit Desk(const config::PipelineConfig& config) : config_(config) {}

  const config::PipelineConfig& config_;
  components::StoredDeadLetters stored_;
  std::unique_ptr<pipeline::DeadLetterDesk> local_;  // null: a pipeline runs, and is asked
};

std::string Text(const Json& letter, const char* name) {
  return letter.contains(name) && letter[name].is_string() ? letter[name].get<std::string>() : "";
}

uint64_t IdOf(const Json& letter) {
  return letter.contains("id") && letter["id"].is_number_unsigned() ? letter["id"].get<uint64_t>()
                                                                    : 0;
}

// Calls `take` with each letter that `options` select, all where they select nothing.
Status ForEachLetter(Desk& desk, const DlqOptions& options,
                     const std::function<Status(const Json&)>& take) {
  uint64_t after = 0;
  do {
    MR_ASSIGN_OR_RETURN(const Json page,
                        desk.Ask({{"do", "list"}, {"after", after}, {"stream", options.stream}}));
    for (const Json& letter : page.value("letters", Json::array())) {
      MR_RETURN_IF_ERROR(take(letter));
    }
    after = page.value("last", uint64_t{0});
  } while (after != 0);
  return Status::Ok();
}

Status List(Desk& desk, const DlqOptions& options) {
  size_t count = 0;
  MR_RETURN_IF_ERROR(ForEachLetter(desk, options, [&](const Json& letter) {
    ++count;
    if (options.json) {
      std::printf("%s\n", letter.dump().c_str());
      return Status::Ok();
    }
    const std::string state = Text(letter, "state");
    fmt::print("{}  {}  {}  {}  {}  {}{}\n", IdOf(letter), Text(letter, "time"),
               Text(letter, "stream"), Text(letter, "sink"), Text(letter, "table"),
               state == "open" ? "" : "(" + state + ") ", Text(letter, "reason"));
    return Status::Ok();
  }));
  if (count == 0 && !options.json) {
    std::puts("There are no dead letters.");
  }
  return Status::Ok();
}

Status PrintRows(Desk& desk, const std::vector<uint64_t>& ids, bool as_lines) {
  for (size_t begin = 0; begin < ids.size(); begin += kRowsAtATime) {
    const std::vector<uint64_t> some(
        ids.begin() + static_cast<ptrdiff_t>(begin),
        ids.begin() + static_cast<ptrdiff_t>(std::min(begin + kRowsAtATime, ids.size())));
    MR_ASSIGN_OR_RETURN(const Json answer, desk.Ask({{"do", "show"}, {"ids", some}}));
    for (const Json& letter : answer.value("letters", Json::array())) {
      std::printf("%s\n", letter.dump(as_lines ? -1 : 2).c_str());
    }
  }
  return Status::Ok();
}

Status Show(Desk& desk, const DlqOptions& options) {
  if (options.ids.empty()) {
    return InvalidArgument("name the dead letters: millrace dlq -c FILE show ID...");
  }
  return PrintRows(desk, options.ids, options.json);
}

// A line of JSON for each, with its row.
Status Export(Desk& desk, const DlqOptions& options) {
  std::vector<uint64_t> ids = options.ids;
  if (ids.empty()) {
    MR_RETURN_IF_ERROR(ForEachLetter(desk, options, [&](const Json& letter) {
      ids.push_back(IdOf(letter));
      return Status::Ok();
    }));
  }
  return PrintRows(desk, ids, true);
}

// Sends the selection, in pieces where it names ids, and adds up the answers.
Result<std::pair<uint64_t, uint64_t>> Change(Desk& desk, const char* what,
                                             const DlqOptions& options) {
  uint64_t changed = 0;
  uint64_t superseded = 0;
  for (size_t begin = 0; begin == 0 || begin < options.ids.size(); begin += kIdsAtATime) {
    const auto first = options.ids.begin() + static_cast<ptrdiff_t>(begin);
    const auto last = options.ids.begin() +
                      static_cast<ptrdiff_t>(std::min(begin + kIdsAtATime, options.ids.size()));
    MR_ASSIGN_OR_RETURN(const Json answer, desk.Ask({{"do", what},
                                                     {"ids", std::vector<uint64_t>(first, last)},
                                                     {"stream", options.stream},
                                                     {"all", options.all}}));
    changed += answer.value("changed", uint64_t{0});
    superseded += answer.value("superseded", uint64_t{0});
  }
  return std::pair(changed, superseded);
}

Status Retry(Desk& desk, const DlqOptions& options) {
  MR_ASSIGN_OR_RETURN(const auto counts, Change(desk, "retry", options));
  fmt::print("{} will be delivered again{}; {} superseded by later rows of their keys, dropped\n",
             counts.first, desk.is_running() ? "" : " when the pipeline runs", counts.second);
  return Status::Ok();
}

Status Drop(Desk& desk, const DlqOptions& options) {
  MR_ASSIGN_OR_RETURN(const auto counts, Change(desk, "drop", options));
  fmt::print("{} dropped\n", counts.first);
  return Status::Ok();
}

}  // namespace

void AddDlqCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command =
      app.add_subcommand("dlq", "The dead letters: rows that a sink could not take");
  auto options = std::make_shared<DlqOptions>();
  AddConfigOption(*command, options->file);
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* description, bool takes_ids, bool takes_all,
                       Status (*run)(Desk&, const DlqOptions&)) {
    CLI::App* part = command->add_subcommand(name, description);
    CLI::Option* ids = nullptr;
    if (takes_ids) {
      ids = part->add_option("id", options->ids, "Dead letters by id")->option_text("ID...");
    }
    CLI::Option* stream =
        part->add_option("--stream", options->stream, "Those of a stream")->option_text("STREAM");
    if (ids != nullptr) {
      stream->excludes(ids);
    }
    if (takes_all) {
      part->add_flag("--all", options->all, "All of them")->excludes(ids)->excludes(stream);
    } else {
      part->add_flag("--json", options->json, "A line of JSON for each");
    }
    part->callback([options, run, &line] {
      line.run = [options, run, &line] {
        const auto config = LoadConfig(options->file, line.components);
        if (!config) {
          return kExitUsage;
        }
        const Result<std::unique_ptr<Desk>> desk = Desk::Make(*config);
        const Status status = desk.ok() ? run(**desk, *options) : desk.status();
        if (status.ok()) {
          return kExitFine;
        }
        const int failed = Fail(status);
        return status.code() == Code::kInvalidArgument ? kExitUsage : failed;
      };
    });
  };
  add("list", "A line each: id, time, stream, sink, table, reason", false, false, List);
  add("show", "With the row", true, false, Show);
  add("export", "Lines of JSON with the rows, all without an ID or stream", true, false, Export);
  add("retry", "Deliver again, unless a later row of the key has come", true, true, Retry);
  add("drop", "Forget", true, true, Drop);
}

}  // namespace millrace::cli
