// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/reference_docs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/config/testing/example_config.h"

namespace millrace::config {
namespace {

using ::testing::HasSubstr;

// Every field of every depth, by name.
void ExpectFields(const std::string& page, const std::vector<FieldSpec>& fields) {
  for (const FieldSpec& field : fields) {
    EXPECT_THAT(page, HasSubstr("| `" + field.name + "` |"));
    EXPECT_FALSE(field.description.empty()) << field.name;
    ExpectFields(page, field.fields);
    for (const FieldSpec& variant : field.variants) {
      EXPECT_THAT(page, HasSubstr("of type " + variant.name + "\n"));
      ExpectFields(page, variant.fields);
    }
  }
}

TEST(ReferenceDocsTest, EveryOptionIsOnThePage) {
  const auto types = testing::ExampleSinkTypes();
  ExpectFields(ConfigReference(types), PipelineFields(types));
}

TEST(ReferenceDocsTest, ARowSaysWhatTheSpecSays) {
  const std::string page = ConfigReference(testing::ExampleSinkTypes());
  EXPECT_THAT(page, HasSubstr("\n## `storage`\n"));
  EXPECT_THAT(page, HasSubstr("\n### `sinks.NAME` of type clickhouse\n"));
  EXPECT_THAT(page, HasSubstr("\n#### `sinks.NAME.tables[]`\n"));
  EXPECT_THAT(page, HasSubstr("| `mode` | `initial`, `never` or `when_needed` | `initial` |"));
  EXPECT_THAT(page, HasSubstr("| `max_bytes` | size | `50GiB` |"));
  EXPECT_THAT(page, HasSubstr("| `type` | `clickhouse`, `redis` or `kafka` | required |"));
}

}  // namespace
}  // namespace millrace::config
