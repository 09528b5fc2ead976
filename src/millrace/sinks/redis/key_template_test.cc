// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/key_template.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

Stream TestStream() {
  Stream stream;
  stream.name = "events";
  stream.columns =
      std::make_shared<Schema>(Schema{{"id", TypeKind::kInt64}, {"type", TypeKind::kText}});
  return stream;
}

std::string KeyOf(const char* text, int64_t id, const char* type) {
  const Stream stream = TestStream();
  RowBatch rows(stream.columns);
  rows.column(0).Append(id);
  if (type == nullptr) {
    rows.column(1).AppendNull();
  } else {
    rows.column(1).AppendText(type);
  }
  const auto bound = BoundKeyTemplate::Bind(*KeyTemplate::Parse(text), stream);
  Buffer to;
  bound->Append(rows, 0, to);
  return std::string(to.view());
}

TEST(KeyTemplate, Renders) {
  EXPECT_EQ(KeyOf("events", 1, "a"), "events");
  EXPECT_EQ(KeyOf("events:{type}", 1, "podcast"), "events:podcast");
  EXPECT_EQ(KeyOf("{id}{type}", -7, "x y"), "-7x y");
  EXPECT_EQ(KeyOf("{{tag}}:{id}:", 3, "x"), "{tag}:3:");
}

TEST(KeyTemplate, NullIsUnknown) { EXPECT_EQ(KeyOf("e:{type}", 1, nullptr), "e:unknown"); }

TEST(KeyTemplate, ListsItsColumns) {
  EXPECT_EQ(KeyTemplate::Parse("a:{x}:{y}{x}")->Columns(),
            (std::vector<std::string>{"x", "y", "x"}));
  EXPECT_TRUE(KeyTemplate::Parse("{{x}}")->Columns().empty());
}

TEST(KeyTemplate, RefusesWhatIsNone) {
  for (const char* text : {"", "a{", "a}", "a{}", "{a{b}}", "a{b", "{a}}"}) {
    EXPECT_EQ(KeyTemplate::Parse(text).status().code(), Code::kInvalidArgument) << text;
  }
}

TEST(KeyTemplate, RefusesAMissingColumn) {
  const Status status =
      BoundKeyTemplate::Bind(*KeyTemplate::Parse("a:{nope}"), TestStream()).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("nope"), std::string::npos);
}

}  // namespace
}  // namespace millrace::sinks
