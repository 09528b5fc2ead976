// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/query_check.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sql/duckdb/duckdb_engine.h"
#include "millrace/sql/query_functions.h"

// What a query may be, with the real parser: it needs one.

namespace millrace::sql {
namespace {

using ::testing::HasSubstr;

QuerySpec Spec(std::string sql, bool with_lookup = true) {
  QuerySpec spec;
  spec.sql = std::move(sql);
  spec.driving = {
      .schema = "public",
      .name = "events",
      .columns = std::make_shared<Schema>(Schema{{"id", TypeKind::kInt64, false},
                                                 {"content_id", TypeKind::kUuid},
                                                 {"n", TypeKind::kInt32},
                                                 {"s", TypeKind::kText},
                                                 {"tags", DataType::List(TypeKind::kText)},
                                                 {"f", TypeKind::kFloat64},
                                                 {"ts", TypeKind::kTimestampTz}})};
  if (with_lookup) {
    spec.lookups.push_back(
        {.schema = "public",
         .name = "content",
         .columns = std::make_shared<Schema>(Schema{{"id", TypeKind::kUuid, false},
                                                    {"slug", TypeKind::kText, false},
                                                    {"a", TypeKind::kInt32, false},
                                                    {"b", TypeKind::kInt32, false},
                                                    {"f", TypeKind::kFloat64, false}}),
         .keys = {{0}, {1}, {2, 3}, {4}}});
  }
  return spec;
}

struct Refusal {
  const char* sql;
  const char* sentence;
  bool with_lookup = false;
};

class QueryCheckTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto engine = MakeDuckDbEngine({});
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    engine_ = std::move(engine).value().release();
  }
  static void TearDownTestSuite() {
    delete engine_;
    engine_ = nullptr;
  }
  static void ExpectRefused(const Refusal& refusal) {
    const auto query = engine_->Prepare(Spec(refusal.sql, refusal.with_lookup));
    ASSERT_FALSE(query.ok()) << refusal.sql;
    EXPECT_EQ(query.error().code(), Code::kInvalidArgument)
        << refusal.sql << ": " << query.error().ToString();
    EXPECT_THAT(query.error().message(), HasSubstr(refusal.sentence)) << refusal.sql;
  }
  static SqlEngine* engine_;
};
SqlEngine* QueryCheckTest::engine_ = nullptr;

TEST_F(QueryCheckTest, AcceptsRowByRowQueries) {
  for (const char* sql : {
           "SELECT id FROM events", "SELECT * FROM public.events e WHERE e.n > 1 OR s IS NULL",
           "FROM events", "SELECT id FROM events;",
           "SELECT id, now AS x FROM (SELECT 1)",  // refused below; see the table
       }) {
    const auto query = engine_->Prepare(Spec(sql, false));
    EXPECT_EQ(query.ok(), std::string_view(sql).find("(SELECT") == std::string_view::npos)
        << sql << ": " << query.status().ToString();
  }
  for (const char* sql : {
           "SELECT e.id, c.slug FROM events e LEFT JOIN content c ON c.id = e.content_id",
           "SELECT e.id FROM events e JOIN public.content ON (e.s = content.slug)",
           "SELECT e.id FROM events e INNER JOIN content c ON content_id = c.id WHERE c.a > 1",
           "SELECT e.id FROM events e LEFT JOIN content c ON ((e.n = b) AND (c.a = e.n))",
       }) {
    const auto query = engine_->Prepare(Spec(sql));
    EXPECT_TRUE(query.ok()) << sql << ": " << query.status().ToString();
  }
}

TEST_F(QueryCheckTest, RefusesOtherShapes) {
  for (const Refusal& refusal : std::vector<Refusal>{
           {"", "one SELECT statement, and this has 0"},
           {"SELECT 1; SELECT 2", "one SELECT statement, and this has 2: make a stream of each"},
           {"SELECT", "SQL SELECT clause without selection list"},
           {"SELECT id FROM events WHERE\n  (n = ", "line 2, column 8: SQL syntax error"},
           {"SELECT 1", "there is no FROM: write FROM public.events"},
           {"SELECT id FROM other", "line 1, column 16: relation 'other' is neither the driving"},
           {"SELECT id FROM shop.events", "relation 'shop.events' is neither"},
           {"SELECT id FROM db.public.events", "is neither"},
           {"SELECT id FROM 'events.csv'", "relation 'events.csv' is neither"},
           {"SELECT e.id FROM events e, events f", "a comma or CROSS JOIN"},
           {"SELECT e.id FROM events e JOIN events f ON e.id = f.id", "occurs twice"},
           {"SELECT id FROM (SELECT * FROM events)", "a subquery in FROM"},
           {"SELECT id FROM (VALUES (1)) t(id)", "in FROM is not allowed"},
           {"SELECT id FROM range(3) t(id)", "a table function in FROM"},
           {"WITH events AS (SELECT 1 AS id) SELECT id FROM events", "WITH is not allowed"},
           {"WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 2) SELECT id FROM events",
            "WITH is not allowed"},
           {"SELECT id FROM events UNION ALL SELECT id FROM events", "UNION, INTERSECT"},
           {"SELECT n FROM events GROUP BY n", "GROUP BY and HAVING"},
           {"SELECT n, count(*) FROM events GROUP BY ALL", "GROUP BY and HAVING"},
           {"SELECT n FROM events HAVING true", "GROUP BY and HAVING"},
           {"SELECT count(*) FROM events", "count_star() is an aggregate"},
           {"SELECT 1 + Sum(n) FROM events", "line 1, column 12: sum() is an aggregate"},
           {"SELECT id FROM events WHERE max(n) = 1", "max() is an aggregate"},
           {"SELECT DISTINCT id FROM events", "DISTINCT is not allowed"},
           {"SELECT id FROM events ORDER BY id", "ORDER BY is not allowed"},
           {"SELECT id FROM events LIMIT 3", "LIMIT and OFFSET"},
           {"SELECT id FROM events OFFSET 3", "LIMIT and OFFSET"},
           {"SELECT id FROM events LIMIT 10%", "LIMIT and OFFSET"},
           {"SELECT row_number() OVER () FROM events", "window function row_number()"},
           {"SELECT sum(n) OVER () FROM events", "window function sum()"},
           {"SELECT id FROM events QUALIFY row_number() OVER () = 1", "QUALIFY"},
           {"SELECT id FROM events USING SAMPLE 3", "USING SAMPLE"},
           {"SELECT id FROM events TABLESAMPLE 10%", "TABLESAMPLE"},
           {"SELECT (SELECT 1) FROM events", "a subquery is not allowed"},
           {"SELECT id FROM events WHERE EXISTS (SELECT 1)", "a subquery is not allowed"},
           {"SELECT id FROM events WHERE id IN (SELECT 1)", "a subquery is not allowed"},
           {"SELECT unnest(tags) FROM events", "unnest() gives several rows"},
           {"SELECT COLUMNS('.*') FROM events", "COLUMNS(...) is not allowed"},
           {"SELECT coalesce(*COLUMNS('.*')) FROM events", "not allowed"},
           {"SELECT $1 FROM events", "parameters such as $1"},
           {"SELECT ? FROM events", "parameters such as $1"},
           {"SELECT #1 FROM events", "parameters such as $1, #1"},
           {"PIVOT events ON n USING sum(id)", "one SELECT"},
           {"DESCRIBE events", "not allowed"},
           {"SUMMARIZE events", "not allowed"},
           {"SHOW TABLES", "not allowed"},
           {"SELECT upper(s ORDER BY s) FROM events", "belong to aggregates"},
           {"SELECT id FROM events e(x)", "column lists"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST_F(QueryCheckTest, RefusesUnknownNames) {
  for (const Refusal& refusal : std::vector<Refusal>{
           {"SELECT idd FROM events", "line 1, column 8: there is no column 'idd'"},
           {"SELECT e.idd FROM events e", "relation e has no column 'idd'"},
           {"SELECT events.id FROM events e", "there is no relation 'events' in FROM"},
           {"SELECT x.id FROM events", "there is no relation 'x'"},
           {"SELECT e FROM events e", "'e' is a relation, not a column"},
           {"SELECT e.n.x FROM events e", "column 'n' has no fields"},
           {"SELECT x.* FROM events", "there is no relation 'x'"},
           {"SELECT * EXCLUDE nope FROM events", "names 'nope', which * does not have"},
           {"SELECT millrace_row FROM events", "there is no column 'millrace_row'"},
           {"SELECT nosuch(id) FROM events", "nosuch"},
           {"SELECT id, id FROM events", "two columns of the result are called 'id'"},
           {"SELECT id + s::DATE FROM events", "No function matches"},
           {"SELECT id, c.ID FROM events JOIN content c ON c.slug = s", "column 'id' is in both",
            true},
           {"SELECT events.id, c.ID FROM events JOIN content c ON c.slug = s",
            "two columns of the result", true},
       }) {
    ExpectRefused(refusal);
  }
}

TEST_F(QueryCheckTest, RefusesOtherJoins) {
  for (Refusal refusal : std::vector<Refusal>{
           {"SELECT e.id FROM events e", "lookup 'public.content' is not joined"},
           {"SELECT e.id FROM content c JOIN events e ON c.id = e.content_id",
            "FROM begins with the lookup 'content'"},
           {"SELECT e.id FROM events e RIGHT JOIN content c ON c.id = e.content_id", "RIGHT JOIN"},
           {"SELECT e.id FROM events e FULL JOIN content c ON c.id = e.content_id", "JOIN is not"},
           {"SELECT e.id FROM events e SEMI JOIN content c ON c.id = e.content_id", "SEMI JOIN"},
           {"SELECT e.id FROM events e ANTI JOIN content c ON c.id = e.content_id", "ANTI JOIN"},
           {"SELECT e.id FROM events e ASOF JOIN content c ON c.a >= e.n", "ASOF JOIN"},
           {"SELECT e.id FROM events e POSITIONAL JOIN content c", "POSITIONAL JOIN"},
           {"SELECT e.id FROM events e NATURAL JOIN content c", "NATURAL JOIN"},
           {"SELECT e.id FROM events e CROSS JOIN content c", "CROSS JOIN"},
           {"SELECT e.id FROM events e, content c WHERE c.id = e.content_id", "a comma or CROSS"},
           {"SELECT e.id FROM events e JOIN content c USING (id)", "USING is not allowed"},
           {"SELECT e.id FROM events e JOIN content c ON true", "by equalities of its key"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.content_id OR c.a = 1",
            "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.id > e.content_id", "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.slug = upper(e.s)", "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.slug = 'x'", "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.content_id AND c.a > 1",
            "put other conditions into WHERE or CASE"},
           {"SELECT e.id FROM events e JOIN content c ON c.a = c.b", "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.id IS NOT DISTINCT FROM e.content_id",
            "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.slug = e._commit_ts", "by equalities"},
           {"SELECT e.id FROM events e JOIN content c ON c.a = e.n",
            "not compare exactly a key of lookup 'public.content': compare (id) or (slug) or (a, "
            "b)"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.content_id AND c.slug = e.s",
            "does not compare exactly a key"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.content_id AND c.id = "
            "e.content_id",
            "c.id is compared twice"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.s",
            "compares public.content.id (uuid) with public.events.s (text)"},
           {"SELECT e.id FROM events e JOIN content c ON c.f = e.f",
            "whose type float64 is no key"},
           {"SELECT e.id FROM events e JOIN content c ON c.id = e.content_id JOIN content d ON "
            "d.id = "
            "e.content_id",
            "joined twice"},
           {"SELECT e.id FROM events e JOIN content e ON e.id = e.content_id", "called 'e'"},
           {"SELECT e.id FROM events e JOIN (SELECT * FROM content) c ON c.id = e.content_id",
            "a subquery in FROM"},
           {"SELECT e.id FROM events e JOIN LATERAL (SELECT 1) c ON true", "not allowed"},
       }) {
    refusal.with_lookup = true;
    ExpectRefused(refusal);
  }
}

TEST_F(QueryCheckTest, RefusesWhatIsNotDeterministic) {
  for (const char* call : {"now()",
                           "NOW()",
                           "current_timestamp",
                           "current_date",
                           "localtimestamp",
                           "localtime",
                           "today()",
                           "get_current_timestamp()",
                           "transaction_timestamp()",
                           "age(ts)",
                           "current_localtimestamp()",
                           "ago(INTERVAL 1 DAY)",
                           "random()",
                           "uuid()",
                           "gen_random_uuid()",
                           "uuidv7()",
                           "setseed(0.5)",
                           "nextval('x')",
                           "main.now()",
                           "coalesce(ts, now())",
                           "list_transform(tags, lambda t: t || now()::VARCHAR)",
                           "CASE WHEN n > random() THEN 1 END"}) {
    for (const std::string& sql :
         {std::string("SELECT ") + call + " AS x FROM events",
          std::string("SELECT id FROM events WHERE (") + call + ") IS NULL"}) {
      ExpectRefused({sql.c_str(), "is not deterministic"});
      ExpectRefused({sql.c_str(), "_commit_ts"});
    }
  }
  EXPECT_TRUE(engine_->Prepare(Spec("SELECT age(ts, ts) AS a FROM events", false)).ok());
}

TEST_F(QueryCheckTest, UserSqlCannotReachOut) {
  for (const char* sql : {"COPY events TO '/tmp/x.csv'",
                          "COPY (SELECT 1) TO '/tmp/x'",
                          "ATTACH '/tmp/x.db' AS x",
                          "INSTALL httpfs",
                          "LOAD httpfs",
                          "SET threads=4",
                          "SET enable_external_access=true",
                          "RESET threads",
                          "PRAGMA database_list",
                          "PRAGMA threads=3",
                          "CREATE TABLE t(a INT)",
                          "CREATE TABLE t AS SELECT * FROM events",
                          "DROP TABLE events",
                          "INSERT INTO events VALUES (1)",
                          "UPDATE events SET id = 1",
                          "DELETE FROM events",
                          "EXPORT DATABASE '/tmp/x'",
                          "IMPORT DATABASE '/tmp/x'",
                          "CALL pragma_version()",
                          "EXPLAIN SELECT 1",
                          "BEGIN",
                          "CHECKPOINT",
                          "USE main",
                          "VACUUM",
                          "EXECUTE x",
                          "DETACH memory",
                          "CREATE SECRET s (TYPE s3)",
                          "SELECT * FROM read_csv('/etc/passwd')",
                          "SELECT * FROM read_text('/etc/passwd')",
                          "SELECT * FROM '/etc/passwd'",
                          "SELECT * FROM glob('/*')",
                          "SELECT * FROM duckdb_settings()",
                          "SELECT * FROM millrace_scan_0()",
                          "SELECT * FROM duckdb_secrets()",
                          "SELECT * FROM query('SELECT 1')",
                          "SELECT * FROM information_schema.tables",
                          "SELECT * FROM sqlite_master",
                          "SELECT id FROM events; COPY events TO '/tmp/x'",
                          "SELECT getenv('HOME') FROM events",
                          "SELECT current_setting('threads') FROM events",
                          "SELECT getvariable('x') FROM events",
                          "SELECT current_user FROM events",
                          "SELECT version() FROM events",
                          "SELECT current_database() FROM events",
                          "SELECT pg_conf_load_time() FROM events",
                          "SELECT json_serialize_plan('SELECT 1') FROM events",
                          "SELECT write_log('x') FROM events",
                          "SELECT get_block_size('x') FROM events",
                          "SELECT format_type(1, 2) FROM events",
                          "SELECT error('x') FROM events",
                          "SELECT read_text('/etc/passwd') FROM events"}) {
    const auto query = engine_->Prepare(Spec(sql, false));
    ASSERT_FALSE(query.ok()) << sql;
    EXPECT_EQ(query.error().code(), Code::kInvalidArgument)
        << sql << ": " << query.error().ToString();
  }
}

TEST_F(QueryCheckTest, RefusesColumnsThatDifferInCaseOnly) {
  QuerySpec spec = Spec("SELECT 1 AS x FROM events", false);
  spec.driving.columns =
      std::make_shared<Schema>(Schema{{"Id", TypeKind::kInt64}, {"id", TypeKind::kInt64}});
  EXPECT_THAT(engine_->Prepare(spec).status().message(),
              HasSubstr("columns 'Id' and 'id' of public.events differ in case only"));
}

TEST_F(QueryCheckTest, RefusesLongAndDeepSql) {
  EXPECT_THAT(
      engine_->Prepare(Spec("SELECT '" + std::string(kMaxSqlBytes, 'x') + "' FROM events", false))
          .status()
          .message(),
      HasSubstr("at most 262144 are read"));
  std::string deep = "SELECT 1";
  for (int i = 0; i < 20000; ++i) {
    deep += "+1";
  }
  EXPECT_EQ(engine_->Prepare(Spec(deep + " AS x FROM events", false)).status().code(),
            Code::kInvalidArgument);
  std::string nested = "SELECT ";
  nested.append(50000, '(').append("1").append(50000, ')').append(" AS x FROM events");
  EXPECT_FALSE(engine_->Prepare(Spec(nested, false)).ok());
}

TEST(CheckShapeTest, SaysWhatTheSqlAloneTells) {
  const std::vector<std::string> lookups = {"public.content"};
  EXPECT_TRUE(CheckShape("SELECT e.id, c.x, any_name FROM events e LEFT JOIN public.content c ON "
                         "c.id = e.content_id AND k = e.k WHERE some_column > 1",
                         "public.events", lookups)
                  .ok());
  EXPECT_TRUE(CheckShape("SELECT * FROM s", "s", {}).ok());
  const auto refused = [&](const char* sql, const char* sentence) {
    const Status status = CheckShape(sql, "public.events", lookups);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << sql;
    EXPECT_THAT(status.message(), HasSubstr(sentence)) << sql;
  };
  refused("SELECT id FRM events", "line 1, column ");
  refused("SELECT id FROM events", "lookup 'public.content' is not joined");
  refused("SELECT now() FROM events e JOIN content c ON c.id = e.cid",
          "line 1, column 8: now() is not deterministic");
  refused("SELECT current_date FROM events e JOIN content c ON c.id = e.cid", "not deterministic");
  refused("SELECT e.id FROM events e JOIN content c ON c.id = c.cid", "by equalities");
  refused("SELECT e.id FROM events e JOIN content c ON c.id > e.cid", "by equalities");
  refused("SELECT e.id FROM events e JOIN content c ON c.id = e.cid JOIN other o ON o.id = e.x",
          "relation 'other' is neither");
  refused("SELECT sum(e.x) FROM events e JOIN content c ON c.id = e.cid", "is an aggregate");
}

}  // namespace
}  // namespace millrace::sql
