// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sql/duckdb/duckdb_engine.h"
#include "millrace/sql/duckdb/text_values.h"

// Runs tests/sql/*.test; tests/sql/README.md has the format.

namespace millrace::sql {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kFirstCommit = 1704067200000000;  // 2024-01-01T00:00:00Z

struct Relation {
  QueryInput input;
  std::vector<std::string> rows;
};

struct Case {
  std::string name;
  int line = 0;
  Relation driving;
  std::vector<Relation> lookups;
  std::string sql;
  std::vector<std::string> joins;
  std::string lineage;
  Relation result;
  std::string error;
};

std::string Trim(std::string text) {
  text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<std::string> Split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at = 0; (at = text.find(separator, begin)) != std::string::npos;) {
    parts.push_back(Trim(text.substr(begin, at - begin)));
    begin = at + separator.size();
  }
  parts.push_back(Trim(text.substr(begin)));
  return parts;
}

// "(a, b)", by commas outside of inner brackets; what stands behind goes to `rest`.
std::vector<std::string> Bracket(const std::string& text, std::string* rest) {
  std::vector<std::string> parts(1);
  int depth = 0;
  size_t i = text.find('(');
  for (; i < text.size(); ++i) {
    const char c = text[i];
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (depth == 0) {
      break;
    }
    if (c == ',' && depth == 1) {
      parts.emplace_back();
    } else if (c != '(' || depth > 1) {
      parts.back() += c;
    }
  }
  *rest = text.substr(std::min(i + 1, text.size()));
  for (std::string& part : parts) {
    part = Trim(part);
  }
  return parts;
}

// `public.content (id uuid not null, ...) key (id)`
Relation ParseRelation(const std::string& text) {
  Relation relation;
  const std::string name = Trim(text.substr(0, text.find('(')));
  const size_t dot = name.find('.');
  relation.input.schema = dot == std::string::npos ? "" : name.substr(0, dot);
  relation.input.name = dot == std::string::npos ? name : name.substr(dot + 1);
  Schema schema;
  std::string rest;
  for (std::string field : Bracket(text, &rest)) {
    bool nullable = true;
    if (field.ends_with(" not null")) {
      nullable = false;
      field.resize(field.size() - 9);
    }
    const size_t blank = field.rfind(' ');
    const auto type = ParseType(field.substr(blank + 1));
    EXPECT_TRUE(type.has_value()) << field;
    schema.push_back({field.substr(0, blank), type.value_or(DataType()), nullable});
  }
  while (rest.find("key") != std::string::npos) {
    std::vector<uint32_t> key;
    for (const std::string& column : Bracket(std::string(rest), &rest)) {
      for (uint32_t i = 0; i < schema.size(); ++i) {
        if (schema[i].name == column) {
          key.push_back(i);
        }
      }
    }
    relation.input.keys.push_back(key);
  }
  relation.input.columns = std::make_shared<Schema>(schema);
  return relation;
}

std::vector<Case> ReadCases(const std::filesystem::path& path) {
  std::vector<Case> cases;
  std::ifstream file(path);
  std::string line;
  std::vector<std::string>* rows = nullptr;
  bool in_query = false;
  for (int number = 1; std::getline(file, line); ++number) {
    const size_t blank = std::min(line.find(' '), line.size());
    const std::string word = line.substr(0, blank);
    const std::string rest = blank == line.size() ? "" : line.substr(blank + 1);
    if (line.empty() || line[0] == '#') {
      continue;
    }
    if (word == "case") {
      cases.push_back({.name = rest, .line = number});
      rows = nullptr;
    } else if (word == "driving") {
      cases.back().driving = ParseRelation(rest);
      rows = &cases.back().driving.rows;
    } else if (word == "lookup") {
      cases.back().lookups.push_back(ParseRelation(rest));
      rows = &cases.back().lookups.back().rows;
    } else if (word == "query") {
      in_query = true;
    } else if (word == "joins") {
      cases.back().joins.push_back(rest);
      in_query = false;
    } else if (word == "lineage") {
      cases.back().lineage = rest;
      in_query = false;
    } else if (word == "result") {
      in_query = false;
      cases.back().result = ParseRelation("result " + rest);
      rows = &cases.back().result.rows;
    } else if (word == "error") {
      in_query = false;
      cases.back().error = rest;
    } else if (in_query) {
      cases.back().sql += line + "\n";
    } else if (rows != nullptr) {
      rows->push_back(line);
    } else {
      ADD_FAILURE() << path << ":" << number << ": stray line: " << line;
    }
  }
  return cases;
}

RowBatch ParseRows(const Relation& relation, size_t begin, size_t end) {
  RowBatch batch(relation.input.columns);
  for (size_t i = begin; i < end; ++i) {
    const std::vector<std::string> cells = Split(relation.rows[i], " | ");
    EXPECT_EQ(cells.size(), batch.column_count()) << relation.rows[i];
    for (size_t c = 0; c < cells.size(); ++c) {
      EXPECT_TRUE(AppendParsed(cells[c], &batch.column(c))) << relation.rows[i] << ": " << cells[c];
    }
  }
  return batch;
}

std::string FormatRow(const RowBatch& rows, size_t row) {
  std::vector<std::string> cells;
  for (size_t c = 0; c < rows.column_count(); ++c) {
    cells.push_back(FormatValue(rows.column(c), row));
  }
  return fmt::format("{}", fmt::join(cells, " | "));
}

std::string FormatSchema(const Schema& schema) {
  std::string text;
  for (const Field& field : schema) {
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", field.name, field.type.ToString(),
                        field.nullable ? "" : " not null");
  }
  return text;
}

class TextTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto engine = MakeDuckDbEngine({});
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    engine_ = std::move(engine).value();
  }

  // Runs the case in batches of `size` rows.
  Result<std::vector<std::string>> Run(PreparedQuery& query, const Case& test, size_t size) {
    std::vector<RowBatch> lookups;
    std::vector<const RowBatch*> pointers;
    for (const Relation& lookup : test.lookups) {
      lookups.push_back(ParseRows(lookup, 0, lookup.rows.size()));
    }
    for (const RowBatch& lookup : lookups) {
      pointers.push_back(&lookup);
    }
    std::vector<std::string> rows;
    const size_t all = test.driving.rows.size();
    for (size_t begin = 0; begin < all; begin += size) {
      const size_t end = std::min(begin + size, all);
      const RowBatch driving = ParseRows(test.driving, begin, end);
      std::vector<int64_t> commit_ts;
      for (size_t i = begin; i < end; ++i) {
        commit_ts.push_back(kFirstCommit + static_cast<int64_t>(i + 1) * 1000000);
      }
      MR_ASSIGN_OR_RETURN(const QueryResult result, query.Run(driving, commit_ts, pointers));
      EXPECT_EQ(result.driving_row.size(), result.rows.row_count());
      EXPECT_TRUE(std::ranges::is_sorted(result.driving_row));
      for (size_t i = 0; i < result.rows.row_count(); ++i) {
        rows.push_back(FormatRow(result.rows, i));
      }
    }
    return rows;
  }

  void Check(const Case& test) {
    QuerySpec spec{.sql = test.sql, .driving = test.driving.input};
    for (const Relation& lookup : test.lookups) {
      spec.lookups.push_back(lookup.input);
    }
    auto query = engine_->Prepare(spec);
    if (!query.ok()) {
      ASSERT_FALSE(test.error.empty()) << query.status().ToString();
      EXPECT_EQ(query.error().code(), Code::kInvalidArgument);
      EXPECT_THAT(query.error().message(), HasSubstr(test.error));
      return;
    }
    if (!test.error.empty()) {
      const auto rows = Run(**query, test, SIZE_MAX / 2);
      ASSERT_FALSE(rows.ok()) << "gave " << (*query)->columns()->size() << " columns";
      EXPECT_EQ(rows.error().code(), Code::kInvalidArgument);
      EXPECT_THAT(rows.error().message(), HasSubstr(test.error));
      return;
    }
    EXPECT_EQ(FormatSchema(*(*query)->columns()), FormatSchema(*test.result.input.columns));
    CheckJoins(**query, test);
    for (const size_t size : {size_t{1}, size_t{7}, SIZE_MAX / 2}) {
      const auto rows = Run(**query, test, size);
      ASSERT_TRUE(rows.ok()) << rows.status().ToString();
      EXPECT_EQ(*rows, test.result.rows) << "in batches of " << size;
    }
  }

  static void CheckJoins(const PreparedQuery& query, const Case& test) {
    for (size_t i = 0; i < test.joins.size(); ++i) {
      const LookupJoin& join = query.joins()[i];
      EXPECT_EQ(fmt::format("{} = {}", fmt::join(join.lookup_columns, " "),
                            fmt::join(join.driving_columns, " ")),
                test.joins[i]);
    }
    if (!test.lineage.empty()) {
      EXPECT_EQ(fmt::format("{}", fmt::join(query.driving_columns(), " ")), test.lineage);
    }
  }

  std::unique_ptr<SqlEngine> engine_;
};

std::vector<std::string> Files() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(MILLRACE_SQL_TESTS)) {
    if (entry.path().extension() == ".test") {
      names.push_back(entry.path().stem());
    }
  }
  std::ranges::sort(names);
  return names;
}

TEST_P(TextTest, CasesHold) {
  const auto cases = ReadCases(std::filesystem::path(MILLRACE_SQL_TESTS) / (GetParam() + ".test"));
  ASSERT_FALSE(cases.empty());
  for (const Case& test : cases) {
    SCOPED_TRACE(fmt::format("{}.test:{}: {}", GetParam(), test.line, test.name));
    Check(test);
  }
}

INSTANTIATE_TEST_SUITE_P(Sql, TextTest, ::testing::ValuesIn(Files()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace millrace::sql
