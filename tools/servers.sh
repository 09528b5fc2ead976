#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Starts, stops, kills and shows real servers on loopback; --help tells the rest.
set -euo pipefail
exec env PYTHONPATH="$(dirname "${BASH_SOURCE[0]}")" PYTHONDONTWRITEBYTECODE=1 \
  /usr/bin/python3 -m servers "$@"
