// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/clients/http/http_client.h"
#include "millrace/common/status.h"

namespace millrace::sinks::clickhouse {

// The Code of a ClickHouse exception code; kUnavailable, worth another try, where nothing else is
// known.
Code CodeOfException(int exception_code);

// What an answer says: Ok, or the exception in one line of at most 300 characters. Sentences that
// may quote row values are left out; the name of the exception stays. An answer that does not come
// from ClickHouse (a proxy's page with status 200) is kUnavailable: nothing was delivered.
Status StatusOfResponse(const http::HttpResponse& response);

}  // namespace millrace::sinks::clickhouse
