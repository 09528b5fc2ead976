// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "millrace/model/data_type.h"
#include "millrace/sql/duckdb/handles.h"

namespace millrace::sql {

// The type that a column has in SQL.
DuckType ToDuckType(const DataType& type);

// The type of a column that SQL gives; nothing for those that have no counterpart.
std::optional<DataType> FromDuckType(duckdb_logical_type type);

// STRUCT, MAP and lists of them: they leave as JSON text.
bool IsNested(duckdb_logical_type type);

// How DuckDB writes the type, without its parts: "TIME WITH TIME ZONE".
std::string DuckTypeName(duckdb_logical_type type);

// The 16 bytes of a UUID in printed order, and DuckDB's integer for it.
void UuidToDuck(const char* uuid, char* duck);
void UuidFromDuck(const char* duck, char* uuid);

}  // namespace millrace::sql
