// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/testing/captured_command.h"

#include <string>

#include <nlohmann/json.hpp>

namespace millrace::sources::postgres::testing {

nlohmann::json CapturedCommand(const ModelTable& model) {
  const CatalogTable catalog = model.Catalog();
  const Table& table = *catalog.source.table;
  const std::string oid = std::to_string(table.oid);
  nlohmann::json columns = nlohmann::json::array();
  nlohmann::json attributes = nlohmann::json::array();
  for (const ModelTable::ModelColumn& column : model.columns()) {
    nlohmann::json missing;
    if (column.missing) {
      missing = *column.missing;
    }
    attributes.push_back({oid, column.attnum, column.name, column.is_dropped, false, missing,
                          std::to_string(column.xid)});
    if (!column.is_dropped) {
      const std::string type = std::to_string(column.type);
      columns.push_back({oid, column.attnum, column.name, column.not_null,
                         column.type == kTextOid ? "x" : "p", type, column.typmod, type,
                         column.typmod, 0, false, false, false, false});
    }
  }
  const nlohmann::json row = {oid,
                              table.schema,
                              table.name,
                              "r",
                              "p",
                              "d",
                              true,
                              true,
                              false,
                              false,
                              std::to_string(catalog.source.file_node)};
  const nlohmann::json key = {oid, true, false, true, "1"};
  return {{"format", 1},
          {"key", kTestKey},
          {"oid", table.oid},
          {"table", nlohmann::json::array({row})},
          {"columns", columns},
          {"attributes", attributes},
          {"keys", nlohmann::json::array({key})},
          {"publications", nullptr}};
}

nlohmann::json CapturedRewrite(const std::vector<uint32_t>& oids, int reason, bool may_convert) {
  return {{"format", 1},
          {"key", kTestKey},
          {"rewrite", {{"oids", oids}, {"reason", reason}, {"may_convert", may_convert}}}};
}

}  // namespace millrace::sources::postgres::testing
