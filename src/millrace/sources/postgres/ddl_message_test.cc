// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/ddl_message.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "millrace/sources/postgres/testing/captured_command.h"
#include "millrace/sources/postgres/testing/model_table.h"

namespace millrace::sources::postgres {
namespace {

using testing::CapturedCommand;
using testing::CapturedRewrite;
using ::testing::ElementsAre;
using testing::kTestKey;
using testing::ModelTable;
using testing::NamesOf;

Code CodeOf(std::string_view content, std::string_view key = kTestKey) {
  return ParseDdlMessage(content, key, {"p"}).status().code();
}

TEST(DdlMessage, HasTheTableAsTheCatalogHadIt) {
  ModelTable model({"id", "a", "b"});
  model.Drop("a");
  model.Add("c", kTextOid, "it's");
  const auto message = ParseDdlMessage(CapturedCommand(model).dump(), kTestKey, {"p"});
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  ASSERT_TRUE(message->table && !message->rewrite);
  const CatalogTable expected = model.Catalog();
  const CatalogTable& found = *message->table;
  EXPECT_THAT(NamesOf(found.source), ElementsAre("id", "b", "c"));
  EXPECT_EQ(found.source.columns, expected.source.columns);
  EXPECT_EQ(found.source.types, expected.source.types);
  EXPECT_EQ(found.source.attnum_max, 4);
  EXPECT_EQ(found.source.file_node, expected.source.file_node);
  EXPECT_EQ(*found.source.table->columns, *expected.source.table->columns);
  EXPECT_THAT(found.source.table->primary_key, ElementsAre(0));
}

TEST(DdlMessage, LeavesOutWhatIsNotPublished) {
  ModelTable model({"id", "a", "b"});
  auto json = CapturedCommand(model);
  json["publications"] = {{"p", {{"columns", {1, 3}}, {"generated", nullptr}}},
                          {"other", {{"columns", {1, 2}}}}};
  EXPECT_THAT(NamesOf(ParseDdlMessage(json.dump(), kTestKey, {"p"})->table->source),
              ElementsAre("id", "b"));
  // The text of an int2vector.
  json["publications"]["p"]["columns"] = "1 2";
  EXPECT_THAT(NamesOf(ParseDdlMessage(json.dump(), kTestKey, {"p"})->table->source),
              ElementsAre("id", "a"));
  // Generated columns are published if the publication says so.
  json["publications"] = {{"p", {{"columns", nullptr}, {"generated", "n"}}}};
  json["columns"][2][13] = true;
  EXPECT_THAT(NamesOf(ParseDdlMessage(json.dump(), kTestKey, {"p"})->table->source),
              ElementsAre("id", "a"));
  json["publications"]["p"]["generated"] = "s";
  EXPECT_THAT(NamesOf(ParseDdlMessage(json.dump(), kTestKey, {"p"})->table->source),
              ElementsAre("id", "a", "b"));
}

TEST(DdlMessage, SaysWhyATableIsWrittenAnew) {
  const auto converted = ParseDdlMessage(CapturedRewrite({7, 8}, 4, true).dump(), kTestKey, {});
  ASSERT_TRUE(converted.ok() && converted->rewrite);
  EXPECT_THAT(converted->rewrite->oids, ElementsAre(7, 8));
  EXPECT_TRUE(converted->rewrite->may_convert);
  for (const auto& other : {CapturedRewrite({7}, 4, false), CapturedRewrite({7}, 2, true)}) {
    EXPECT_FALSE(ParseDdlMessage(other.dump(), kTestKey, {})->rewrite->may_convert);
  }
}

TEST(DdlMessage, OthersCannotWriteOne) {
  const std::string content = CapturedCommand(ModelTable({"id"})).dump();
  EXPECT_EQ(CodeOf(content), Code::kOk);
  EXPECT_EQ(CodeOf(content, "another"), Code::kPermissionDenied);
  EXPECT_EQ(CodeOf(content, ""), Code::kPermissionDenied);
  EXPECT_EQ(CodeOf("{}"), Code::kPermissionDenied);
}

TEST(DdlMessage, AnythingElseIsRefused) {
  const auto good = CapturedCommand(ModelTable({"id", "a"}));
  for (const char* text : {"", "[]", "{\"key\":", "null", "\xff"}) {
    EXPECT_EQ(CodeOf(text), Code::kCorruption) << text;
  }
  auto other_format = good;
  other_format["format"] = 2;
  EXPECT_EQ(CodeOf(other_format.dump()), Code::kUnsupported);
  for (const char* name : {"oid", "table", "columns", "attributes", "keys"}) {
    auto without = good;
    without.erase(name);
    EXPECT_EQ(CodeOf(without.dump()), Code::kCorruption) << name;
    auto strange = good;
    strange[name] = {{{"a", 1}}};
    EXPECT_EQ(CodeOf(strange.dump()), Code::kCorruption) << name;
  }
  // Rows of another table, and rows that are too short.
  auto foreign = good;
  foreign["columns"][1][0] = "4711";
  EXPECT_EQ(CodeOf(foreign.dump()), Code::kCorruption);
  auto cut = good;
  cut["keys"][0].erase(4);
  EXPECT_EQ(CodeOf(cut.dump()), Code::kCorruption);
  EXPECT_EQ(CodeOf(std::string(kDdlMessageMax + 1, ' ')), Code::kCorruption);
}

}  // namespace
}  // namespace millrace::sources::postgres
