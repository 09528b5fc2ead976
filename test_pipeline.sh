#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs and builds what the tests need, runs every test, and ends with `N passed, N failed`.
#   ./test_pipeline.sh           unit tests, then integration tests against real servers
#   ./test_pipeline.sh --smoke   checks the pipeline that ./setup.sh started, in less than 30 s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tools/lib.sh
source tools/lib.sh

RESULTS="$MILLRACE_ROOT/build/test-results"
UNIT_TIMEOUT=1200
INTEGRATION_TIMEOUT=3000
passed=0
failed=0

finish() {
  printf '%s\n' "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] && exit 0
  exit 1
}

# Counts a step that ended before any test could run.
give_up() {
  printf '%s\n' "error: $*" >&2
  failed=$((failed + 1))
  finish
}

# count NAME STATUS FILE: adds a JUnit file's tests. A runner that ends badly without a failed test
# (it crashed or was cut off), and one that ran no test, are a failure.
count() {
  local name="$1" status="$2" file="$3" ran=0 bad=0 counts
  if counts="$("$PYTHON" -B tools/count_tests.py "$file")"; then
    read -r ran bad <<<"$counts"
  fi
  if [ "$ran" -eq 0 ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
    echo "error: the $name tests ended with status $status after $ran tests" >&2
    bad=$((bad + 1))
    ran=$((ran + 1))
  fi
  passed=$((passed + ran - bad))
  failed=$((failed + bad))
}

run_unit_tests() {
  local status=0 file="$RESULTS/unit.xml"
  note "unit tests"
  rm -f "$file"
  timeout --kill-after=30 "$UNIT_TIMEOUT" ctest --preset release --output-junit "$file" || status=$?
  count unit "$status" "$file"
}

run_integration_tests() {
  local status=0 file="$RESULTS/integration.xml"
  note "integration tests"
  rm -f "$file"
  timeout --kill-after=30 "$INTEGRATION_TIMEOUT" "$PYTHON" -B -m pytest -q -ra -p no:cacheprovider \
    --junitxml="$file" tests/integration || status=$?
  count integration "$status" "$file"
}

run_all() {
  tools/deps.sh || give_up "what the tests need could not be installed"
  [ -f CMakeLists.txt ] || give_up "there is no CMakeLists.txt beside test_pipeline.sh: run it in a complete copy of the repository"
  note "building"
  run_logged configure cmake --preset release || give_up "the build could not be configured"
  run_logged build cmake --build --preset release || give_up "the build failed"
  mkdir -p "$RESULTS"
  run_unit_tests
  run_integration_tests
  finish
}

smoke() {
  local env_file="$MILLRACE_ROOT/var/local/env"
  [ -f "$env_file" ] || give_up "no pipeline was started here: run ./setup.sh first"
  set -a
  # shellcheck disable=SC1090
  source "$env_file"
  set +a
  exec timeout --kill-after=2 28 "$PYTHON" -B tools/pipeline_check.py smoke
}

case "${1:-}" in
  '') run_all ;;
  --smoke) smoke ;;
  *)
    echo "usage: ./test_pipeline.sh [--smoke]" >&2
    exit 2
    ;;
esac
