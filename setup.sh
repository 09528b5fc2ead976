#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh Debian 12 to a running pipeline: packages, build, local servers, the example's tables,
# Millrace and a generator. Everything listens on loopback and keeps its state under var/. Run again,
# it repairs what is missing and changes nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tools/lib.sh
source tools/lib.sh

LOCAL="$MILLRACE_ROOT/var/local"
ENV_FILE="$LOCAL/env"
PROGRAM="$MILLRACE_ROOT/build/release/millrace"
SERVERS=(postgres redis clickhouse kafka)
PIPELINE=(millrace generator)

usage() {
  cat <<'END'
usage: ./setup.sh [--deps | --stop | --clean]
  (nothing)  install, build and start everything; again: a no-op in seconds
  --deps     install packages and downloads only
  --stop     stop all that it started; data stays
  --clean    stop all, and remove its data and replication slot
environment: MILLRACE_POSTGRES_PORT (55432), MILLRACE_REDIS_PORT (56379),
  MILLRACE_CLICKHOUSE_PORT (58123), MILLRACE_CLICKHOUSE_TCP_PORT (59000), MILLRACE_KAFKA_PORT (59092),
  MILLRACE_KAFKA_CONTROLLER_PORT (59093), MILLRACE_ADMIN_PORT (7070),
  MILLRACE_GENERATOR_RATE (1000 events/s), MILLRACE_CACHE (~/.cache/millrace)
END
}

servers() { tools/servers.sh "$@" --dir "$LOCAL"; }

# --- Preflight: what would make a later step fail, before anything is done -----------------------

free_mib() {
  local dir="$1"
  while [ ! -d "$dir" ]; do dir="$(dirname "$dir")"; done
  df --output=avail -m "$dir" | tail -n 1 | tr -d ' '
}

require_disk() {
  local have
  have="$(free_mib "$1")"
  [ "$have" -ge "$2" ] || die "$1 needs $2 MiB of free disk for $3 and has $have MiB: free some, or $4."
}

require_memory() {
  local have
  have="$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)"
  [ "$have" -ge "$1" ] || die "$2 needs $1 MiB of free memory and this machine has $have MiB: end other programs or use a larger machine."
}

require_network() {
  local route proxy
  route="$(awk 'NR > 1 && $1 != "lo"' /proc/net/route /proc/net/ipv6_route 2>/dev/null | grep -v ' lo$' | head -n 1 || true)"
  proxy="${http_proxy:-}${https_proxy:-}${HTTP_PROXY:-}${HTTPS_PROXY:-}"
  [ -n "$route$proxy" ] || die "packages have to be fetched and this machine has no network: connect it, or set http_proxy and https_proxy."
}

require_ports() {
  if [ -x "$PYTHON" ]; then
    servers ports "${SERVERS[@]}" millrace || die "a port that is needed is taken: stop that program, or set the MILLRACE_..._PORT variable that ./setup.sh --help lists."
  fi
}

preflight_deps() {
  tools/deps.sh --check >/dev/null 2>&1 && return 0
  require_network
  require_disk "$MILLRACE_CACHE" 2500 "downloads" "set MILLRACE_CACHE to a folder on a larger disk"
  require_disk /usr 2000 "packages" "use a machine with a larger disk"
  [ -z "$(tools/deps.sh --list-missing)" ] || can_be_root ||
    die "packages have to be installed and that needs root: run this as root or as a user with sudo."
}

preflight_run() {
  if [ -x "$PROGRAM" ]; then
    require_disk "$MILLRACE_ROOT" 1000 "the servers' data" "move the repository to a larger disk"
    everything_is_up || require_memory 1500 "running the servers"
  else
    require_disk "$MILLRACE_ROOT" 4000 "the build and the servers' data" "move the repository to a larger disk"
    require_memory 2500 "building"
  fi
  require_ports
}

# --- Steps ---------------------------------------------------------------------------------------

everything_is_up() { servers status "${SERVERS[@]}" "${PIPELINE[@]}" >/dev/null 2>&1; }

build() {
  [ -f CMakeLists.txt ] || die "there is no CMakeLists.txt beside setup.sh: run it in a complete copy of the repository."
  if [ ! -f build/release/build.ninja ]; then
    note "configuring the build"
    run_logged configure cmake --preset release || exit 1
  fi
  [ -x "$PROGRAM" ] || note "building; the first time takes some minutes (var/log/build.log shows it)"
  run_logged build cmake --build --preset release || exit 1
}

# The password is made once; the addresses are those of the servers as they run.
write_env() {
  local password
  password="$(sed -n 's/^CH_PASSWORD=//p' "$ENV_FILE" 2>/dev/null || true)"
  [ -n "$password" ] || password="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
  mkdir -p "$LOCAL"
  (
    umask 077
    { servers env && echo "CH_PASSWORD=$password"; } >"$ENV_FILE.part"
  )
  mv -f "$ENV_FILE.part" "$ENV_FILE"
  load_env
}

load_env() {
  set -a
  # shellcheck disable=SC1090
  source "$ENV_FILE"
  set +a
}

link_logs() {
  local name
  mkdir -p var/log
  for name in "${SERVERS[@]}" "${PIPELINE[@]}"; do
    ln -sfn "../local/$name/server.log" "var/log/$name.log"
  done
}

load_tables() {
  run_logged schema env PGOPTIONS='-c client_min_messages=warning' \
    psql -X -q -v ON_ERROR_STOP=1 -d "$DATABASE_URL" -f examples/engagement/schema.sql || exit 1
  curl -fsS -o /dev/null -H 'X-ClickHouse-User: millrace' -H "X-ClickHouse-Key: $CH_PASSWORD" \
    --data-binary 'CREATE DATABASE IF NOT EXISTS app' "http://$CLICKHOUSE_ADDRESS/" ||
    die "ClickHouse refused to create database app: see var/log/clickhouse.log."
}

# A program that was built after it was started runs again as what was built.
restart_if_rebuilt() {
  local state="$LOCAL/millrace/server.json"
  if [ -f "$state" ] && [ "$PROGRAM" -nt "$state" ]; then
    servers stop "${PIPELINE[@]}" >/dev/null
  fi
}

show_addresses() {
  cat <<END

Addresses
  PostgreSQL  $DATABASE_URL
  ClickHouse  http://$CLICKHOUSE_ADDRESS  (user millrace, password CH_PASSWORD in var/local/env)
  Redis       $REDIS_URL
  Kafka       kafka://$KAFKA_BROKERS
  Millrace    http://$MILLRACE_ADMIN_LISTEN  (/metrics /readyz /api/v1/status)
Variables: var/local/env. Logs: var/log. Stop: ./setup.sh --stop
END
}

start_all() {
  local was_up=false
  if everything_is_up; then was_up=true; fi
  link_logs
  write_env
  $was_up || note "starting the servers"
  servers start "${SERVERS[@]}" >var/log/servers.log || die "a server did not start: see the lines above."
  write_env
  load_tables
  restart_if_rebuilt
  if everything_is_up; then
    note "everything is up"
  else
    note "starting Millrace and the generator"
    servers start "${PIPELINE[@]}" >>var/log/servers.log || die "the pipeline did not start: see the lines above."
  fi
  if ! $was_up; then
    note "first results"
    "$PYTHON" -B tools/pipeline_check.py first-results || exit 1
  fi
  show_addresses
}

stop_all() {
  if [ ! -d "$LOCAL" ] || [ ! -x "$PYTHON" ]; then
    note "nothing was started"
    return 0
  fi
  if [ -f "$ENV_FILE" ]; then load_env; fi
  servers stop generator
  servers stop millrace
  servers stop "${SERVERS[@]}"
}

# The slot goes with the database that it is in.
clean_all() {
  if [ -d "$LOCAL" ] && [ -x "$PYTHON" ]; then
    servers clean "${PIPELINE[@]}" "${SERVERS[@]}" >/dev/null
  fi
  rm -rf "$LOCAL" var/engagement var/log
  note "removed var/local, var/engagement and var/log"
}

lock() {
  mkdir -p var
  exec 9>var/setup.lock
  flock -n 9 || die "another ./setup.sh is at work here: wait until it has ended."
}

main() {
  case "${1:-}" in
    '')
      preflight_deps
      preflight_run
      lock
      tools/deps.sh
      build
      start_all
      ;;
    --deps)
      preflight_deps
      lock
      tools/deps.sh
      note "packages and downloads are complete"
      ;;
    --stop) lock && stop_all ;;
    --clean) lock && clean_all ;;
    -h | --help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"
