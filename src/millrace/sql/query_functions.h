// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace::sql {

// The sentence that says why a query may not call the function `name` with `arguments` arguments,
// and what to do instead; empty if it may. Names are compared without regard to case.
//
// Refused are: what is not deterministic, aggregates, what reads the system or its settings, and
// what gives several rows. The lists follow DuckDB 1.4; a test compares them with the catalog of
// the engine.
std::string RefusalOfFunction(std::string_view name, size_t arguments);

// Whether the second argument of `name` is a lambda when it is written with an arrow, which is the
// JSON operator everywhere else.
bool TakesLambda(std::string_view name);

std::string ToLower(std::string_view text);

}  // namespace millrace::sql
