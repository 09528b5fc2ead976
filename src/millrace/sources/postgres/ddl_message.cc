// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/ddl_message.h"

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

namespace millrace::sources::postgres {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
// PostgreSQL's own bound.
constexpr size_t kColumnsMax = 1'600;
// The bit of pg_event_trigger_table_rewrite_reason() for another type.
constexpr unsigned kRewriteValues = 4;

Status Unreadable() { return Corruption("a message of an ALTER cannot be read"); }

// The text of a value as PostgreSQL's protocol has it.
bool ReadText(const Json& json, std::optional<std::string>& text) {
  if (json.is_string()) {
    text = json.get<std::string>();
  } else if (json.is_boolean()) {
    text = std::string(json.get<bool>() ? "t" : "f");
  } else if (json.is_number_integer()) {
    text = json.dump();
  } else {
    text.reset();
    return json.is_null();
  }
  return true;
}

// Rows of `width` columns, of which the one at `oid_at` is the table's number.
Result<TextRows> ReadRows(const Json& message, const char* name, size_t width,
                          const std::string& oid, size_t rows_max) {
  const auto found = message.find(name);
  if (found == message.end() || !found->is_array() || found->size() > rows_max) {
    return Unreadable();
  }
  std::vector<TextRows::Row> rows;
  for (const Json& from : *found) {
    if (!from.is_array() || from.size() != width) {
      return Unreadable();
    }
    TextRows::Row& row = rows.emplace_back(width);
    for (size_t i = 0; i < width; ++i) {
      if (!ReadText(from[i], row[i])) {
        return Unreadable();
      }
    }
    if (row.front() != oid) {
      return Unreadable();
    }
  }
  return TextRows(std::move(rows));
}

// Numbers of columns: a list, or the text of an int2vector.
std::set<std::string> ReadNumbers(const Json& json) {
  std::set<std::string> numbers;
  if (json.is_array()) {
    for (const Json& number : json) {
      numbers.insert(number.dump());
    }
    return numbers;
  }
  std::string text = json.is_string() ? json.get<std::string>() : std::string();
  std::replace(text.begin(), text.end(), ' ', '\n');
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    numbers.insert(text.substr(at, end - at));
    at = end + 1;
  }
  return numbers;
}

// The columns that one of `publications` says are published; nothing if none says so: then it is
// all but generated ones.
std::optional<PublishedTable> ReadPublished(const Json& message, const TextRows& attributes,
                                            const std::vector<std::string>& publications) {
  const auto all = message.find("publications");
  if (all == message.end() || !all->is_object()) {
    return std::nullopt;
  }
  for (const std::string& name : publications) {
    const auto found = all->find(name);
    if (found == all->end() || !found->is_object()) {
      continue;
    }
    const Json list = found->value("columns", Json());
    const bool has_generated = found->value("generated", Json()) == "s";
    if (list.is_null() && !has_generated) {
      continue;
    }
    const std::set<std::string> numbers = ReadNumbers(list);
    PublishedTable published;
    published.columns.emplace();
    for (size_t i = 0; i < attributes.row_count(); ++i) {
      if (list.is_null() || numbers.contains(std::string(attributes.Text(i, 1)))) {
        published.columns->emplace_back(attributes.Text(i, 2));
      }
    }
    return published;
  }
  return std::nullopt;
}

Result<DdlMessage::Rewrite> ReadRewrite(const Json& json) {
  DdlMessage::Rewrite rewrite;
  const Json oids = json.value("oids", Json());
  const Json reason = json.value("reason", Json());
  const Json may_convert = json.value("may_convert", Json());
  if (!oids.is_array() || oids.size() > kColumnsMax || !reason.is_number_unsigned() ||
      !may_convert.is_boolean()) {
    return Unreadable();
  }
  for (const Json& oid : oids) {
    if (!oid.is_number_unsigned()) {
      return Unreadable();
    }
    rewrite.oids.push_back(oid.get<uint32_t>());
  }
  rewrite.may_convert = (reason.get<unsigned>() & kRewriteValues) != 0 && may_convert.get<bool>();
  return rewrite;
}

Result<CatalogTable> ReadTable(const Json& json, const std::vector<std::string>& publications) {
  std::optional<std::string> oid;
  if (!json.contains("oid") || !ReadText(json["oid"], oid) || !oid) {
    return Unreadable();
  }
  CatalogRows rows;
  MR_ASSIGN_OR_RETURN(rows.tables, ReadRows(json, "table", kTablesWidth, *oid, 1));
  MR_ASSIGN_OR_RETURN(rows.columns, ReadRows(json, "columns", kColumnsWidth, *oid, kColumnsMax));
  MR_ASSIGN_OR_RETURN(rows.attributes,
                      ReadRows(json, "attributes", kAttributesWidth, *oid, kColumnsMax));
  MR_ASSIGN_OR_RETURN(rows.keys, ReadRows(json, "keys", kKeysWidth, *oid, kDdlMessageMax));
  if (rows.tables.row_count() != 1) {
    return Unreadable();
  }
  std::optional<PublishedTable> published = ReadPublished(json, rows.attributes, publications);
  return ReadCatalogRows(rows, std::move(published));
}

}  // namespace

Result<DdlMessage> ParseDdlMessage(std::string_view content, std::string_view key,
                                   const std::vector<std::string>& publications) {
  if (content.size() > kDdlMessageMax) {
    return Unreadable();
  }
  const Json json = Json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Unreadable();
  }
  const Json written = json.value("key", Json());
  if (key.empty() || !written.is_string() || written.get_ref<const std::string&>() != key) {
    return PermissionDenied("a message of an ALTER has another key than the database");
  }
  if (json.value("format", Json()) != kFormat) {
    return Unsupported("a message of an ALTER is of a newer version's triggers");
  }
  DdlMessage message;
  if (const auto rewrite = json.find("rewrite"); rewrite != json.end() && rewrite->is_object()) {
    MR_ASSIGN_OR_RETURN(message.rewrite, ReadRewrite(*rewrite));
  } else {
    MR_ASSIGN_OR_RETURN(message.table, ReadTable(json, publications));
  }
  return message;
}

}  // namespace millrace::sources::postgres
