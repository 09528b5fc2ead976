// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/dead_letter_desk.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "millrace/common/buffer.h"
#include "millrace/model/value_text.h"
#include "millrace/sinks/json_row.h"

namespace millrace::pipeline {

namespace {

using Json = nlohmann::ordered_json;
using storage::DeadLetter;
using storage::DeadLetterId;

constexpr size_t kPageMax = 1'000;

std::string_view StateName(DeadLetter::State state) {
  switch (state) {
    case DeadLetter::State::kOpen:
      return "open";
    case DeadLetter::State::kRetryAsked:
      return "retry asked";
    case DeadLetter::State::kSentAgain:
      return "sent again";
    case DeadLetter::State::kSuperseded:
      return "superseded";
  }
  return "";
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string TimeText(TimestampMicros at) {
  Buffer text;
  AppendTimestamp(text, at, "Z");
  return std::string(text.view());
}

Json LetterJson(const DeadLetter& letter, const std::string& stream,
                const std::map<std::string, std::string>& tables) {
  const auto table = tables.find(stream);
  return {{"id", letter.id.value()},
          {"time", TimeText(letter.at)},
          {"state", StateName(letter.state)},
          {"stream", stream},
          {"sink", letter.sink},
          {"table", table == tables.end() ? "" : table->second},
          {"reason", letter.reason}};
}

Result<LetterSelection> ReadSelection(const Json& request) {
  LetterSelection selection;
  selection.all = request.value("all", false);
  selection.stream = request.value("stream", "");
  for (const Json& id : request.value("ids", Json::array())) {
    selection.ids.emplace_back(id.get<uint64_t>());
  }
  if ((selection.all ? 1 : 0) + (selection.stream.empty() ? 0 : 1) +
          (selection.ids.empty() ? 0 : 1) !=
      1) {
    return InvalidArgument("name the dead letters by their ids, or by their stream, or say all");
  }
  return selection;
}

// The rest of a JSON object as it is: the row is not read and written again, so that numbers stay
// exact.
std::string WithRow(Json letter, const OutputRecord& record) {
  letter["offset"] = record.first.value();
  std::string text = Dump(letter);
  Buffer row;
  sinks::JsonRowEncoder().Append(*record.batches.front(), 0, row);
  text.back() = ',';
  return text.append("\"row\":").append(row.view()).append("}");
}

}  // namespace

DeadLetterDesk::Names DeskNames(const config::PipelineConfig& config) {
  DeadLetterDesk::Names names;
  for (const config::SinkConfig& sink : config.sinks) {
    names.sinks.insert(sink.name);
  }
  for (const config::StreamConfig& stream : config.streams) {
    names.tables[stream.name] = stream.from.text;
  }
  return names;
}

// NOLINTNEXTLINE(bugprone-exception-escape): what is thrown is caught
Result<std::string> DeadLetterDesk::Answer(std::string_view text) try {
  const Json request = Json::parse(text);
  const std::string what = request.at("do").get<std::string>();
  if (what == "list") {
    const size_t limit = std::min(request.value("limit", kPageMax), kPageMax);
    MR_ASSIGN_OR_RETURN(const auto page,
                        letters_.List(DeadLetterId(request.value("after", uint64_t{0})), limit,
                                      request.value("stream", "")));
    Json list = Json::array();
    for (const DeadLetters::Named& letter : page.letters) {
      list.push_back(LetterJson(letter.letter, letter.stream, names_.tables));
    }
    return Dump({{"letters", std::move(list)}, {"last", page.last.value()}});
  }
  if (what == "show") {
    std::string list;
    for (const Json& id : request.at("ids")) {
      MR_ASSIGN_OR_RETURN(const DeadLetters::Named found,
                          letters_.Find(DeadLetterId(id.get<uint64_t>())));
      MR_ASSIGN_OR_RETURN(const OutputRecord row, letters_.ReadRow(found.letter.id));
      list.append(list.empty() ? "" : ",")
          .append(WithRow(LetterJson(found.letter, found.stream, names_.tables), row));
    }
    return "{\"letters\":[" + list + "]}";
  }
  if (what != "retry" && what != "drop") {
    return InvalidArgument("\"do\" is one of list, show, retry, drop");
  }
  MR_ASSIGN_OR_RETURN(const LetterSelection selection, ReadSelection(request));
  MR_ASSIGN_OR_RETURN(
      const DeadLetters::Outcome outcome,
      what == "retry" ? letters_.Retry(selection, names_.sinks) : letters_.Drop(selection));
  if (what == "retry" && outcome.changed != 0 && retry_asked_) {
    retry_asked_();
  }
  return Dump({{"changed", outcome.changed}, {"superseded", outcome.superseded}});
} catch (const nlohmann::json::exception&) {
  return InvalidArgument(
      "send {\"do\": \"list\"}, {\"do\": \"show\", \"ids\": [ID]}, or \"retry\" or \"drop\" with "
      "\"ids\", \"stream\" or \"all\"");
}

}  // namespace millrace::pipeline
