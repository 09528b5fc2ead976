# SPDX-License-Identifier: Apache-2.0
# Shared by the repository's shell scripts; sourced, never run.
# shellcheck shell=bash

MILLRACE_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
MILLRACE_CACHE="${MILLRACE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/millrace}"
# shellcheck disable=SC2034  # used by the scripts that source this
PYTHON=/usr/bin/python3
export MILLRACE_ROOT MILLRACE_CACHE

# note TEXT: a line of progress for the person at the terminal.
note() { printf '%s\n' "==> $*"; }

# die TEXT: one sentence with the cause and the remedy, then exit 1.
die() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# run_logged NAME COMMAND...: sends the output to var/log/NAME.log and names it on failure.
run_logged() {
  local name="$1"
  shift
  local log="$MILLRACE_ROOT/var/log/$name.log"
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    printf '%s\n' "error: '$*' failed; the whole output is in $log" >&2
    return 1
  fi
}

# as_root COMMAND...: runs it as root, by sudo where we are not.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

can_be_root() {
  [ "$(id -u)" -eq 0 ] && return 0
  command -v sudo >/dev/null || return 1
  [ -t 0 ] || sudo -n true 2>/dev/null
}
