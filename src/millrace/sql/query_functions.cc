// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/query_functions.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

namespace millrace::sql {
namespace {

// Names that stand for the time of the run. Each list is sorted.
constexpr std::string_view kClock[] = {
    "ago",
    "current_date",
    "current_localtime",
    "current_localtimestamp",
    "current_time",
    "current_timestamp",
    "get_current_time",
    "get_current_timestamp",
    "localtime",
    "localtimestamp",
    "now",
    "today",
    "transaction_timestamp",
};

constexpr std::string_view kRandom[] = {
    "gen_random_uuid", "random", "setseed", "uuid", "uuidv4", "uuidv7",
};

constexpr std::string_view kSequence[] = {"currval", "nextval"};

constexpr std::string_view kManyRows[] = {
    "generate_subscripts",
    "regexp_split_to_table",
    "unlist",
    "unnest",
};

constexpr std::string_view kEnvironment[] = {
    "col_description",
    "current_catalog",
    "current_connection_id",
    "current_database",
    "current_query",
    "current_query_id",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_transaction_id",
    "current_user",
    "error",
    "format_type",
    "get_block_size",
    "getenv",
    "getvariable",
    "glob",
    "in_search_path",
    "json_deserialize_sql",
    "json_execute_serialized_sql",
    "json_serialize_plan",
    "json_serialize_sql",
    "obj_description",
    "parse_duckdb_log_message",
    "query",
    "query_table",
    "session_user",
    "shobj_description",
    "stats",
    "txid_current",
    "user",
    "vector_type",
    "version",
    "which_secret",
    "write_log",
};

constexpr std::string_view kEnvironmentPrefixes[] = {
    "__internal_", "duckdb_", "has_",    "icu_sort_key", "inet_",
    "parquet_",    "pg_",     "pragma_", "read_",        "sniff_",
};

constexpr std::string_view kAggregates[] = {
    "any_value",
    "approx_count_distinct",
    "approx_quantile",
    "approx_top_k",
    "arbitrary",
    "arg_max",
    "arg_max_null",
    "arg_min",
    "arg_min_null",
    "argmax",
    "argmin",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bitstring_agg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "count_if",
    "count_star",
    "countif",
    "covar_pop",
    "covar_samp",
    "entropy",
    "favg",
    "first",
    "fsum",
    "geomean",
    "geometric_mean",
    "group_concat",
    "histogram",
    "histogram_exact",
    "json_group_array",
    "json_group_object",
    "json_group_structure",
    "kahan_sum",
    "kurtosis",
    "kurtosis_pop",
    "last",
    "list",
    "listagg",
    "mad",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "product",
    "quantile",
    "quantile_cont",
    "quantile_disc",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "reservoir_quantile",
    "sem",
    "skewness",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "sum_no_overflow",
    "sumkahan",
    "var_pop",
    "var_samp",
    "variance",
    "wavg",
    "weighted_avg",
};

constexpr std::string_view kLambdaTakers[] = {
    "apply",      "array_apply", "array_filter", "array_reduce",   "array_transform", "filter",
    "list_apply", "list_filter", "list_reduce",  "list_transform", "reduce",
};

static_assert(std::ranges::is_sorted(kClock));
static_assert(std::ranges::is_sorted(kEnvironment));
static_assert(std::ranges::is_sorted(kAggregates));
static_assert(std::ranges::is_sorted(kLambdaTakers));

bool Contains(std::span<const std::string_view> list, std::string_view name) {
  return std::ranges::binary_search(list, name);
}

bool IsEnvironment(std::string_view name) {
  if (name == "pg_typeof" || name == "pg_size_pretty") {
    return false;
  }
  return Contains(kEnvironment, name) ||
         std::ranges::any_of(kEnvironmentPrefixes,
                             [name](std::string_view prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::string ToLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return lower;
}

std::string RefusalOfFunction(std::string_view function, size_t arguments) {
  const std::string name = ToLower(function);
  // age(t) counts from today; age(a, b) does not.
  if (Contains(kClock, name) || (name == "age" && arguments == 1)) {
    return fmt::format(
        "{}() is not deterministic: a row that is computed again must come out the same; use "
        "_commit_ts, the time at which the row's transaction committed",
        name);
  }
  if (Contains(kRandom, name)) {
    return fmt::format(
        "{}() is not deterministic: a row that is computed again must come out the same; derive "
        "the value from the row's columns, as md5() does, or from _commit_ts",
        name);
  }
  if (Contains(kSequence, name)) {
    return fmt::format(
        "{}() is not deterministic: a row that is computed again must come out the same; take the "
        "number from a column of the source, or order by _commit_ts",
        name);
  }
  if (Contains(kAggregates, name)) {
    return fmt::format(
        "{}() is an aggregate, but this query gives one row for each driving row: remove it, or "
        "aggregate in another stream that reads this one",
        name);
  }
  if (Contains(kManyRows, name)) {
    return fmt::format(
        "{}() gives several rows for one driving row: keep the list as one value, or split it in "
        "the target",
        name);
  }
  if (IsEnvironment(name)) {
    return fmt::format(
        "{}() reaches outside of the row (files, settings or the engine itself): use columns of "
        "the driving relation and its lookups only",
        name);
  }
  return {};
}

bool TakesLambda(std::string_view name) { return Contains(kLambdaTakers, ToLower(name)); }

}  // namespace millrace::sql
