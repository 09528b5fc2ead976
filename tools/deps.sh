#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building, running and testing need: Debian's packages (tools/packages.txt) and the
# pinned downloads (third_party/downloads.lock). A second run changes nothing and uses no network.
#   tools/deps.sh                  both
#   tools/deps.sh --packages       Debian's packages only
#   tools/deps.sh --downloads      pinned downloads only
#   tools/deps.sh --check          exit 0 if nothing is missing, else name it and exit 1
#   tools/deps.sh --list-missing   print the packages that are missing
#   tools/deps.sh --print-sha256   fetch and print the sha256 of each download, for raising a version
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PACKAGES_FILE="$MILLRACE_ROOT/tools/packages.txt"
LOCK_FILE="$MILLRACE_ROOT/third_party/downloads.lock"
KAFKA_POM="$MILLRACE_ROOT/third_party/kafka/pom.xml"
KAFKA_JARS="$MILLRACE_ROOT/third_party/kafka/jars.sha256"
MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy
POSTGRES_VERSIONS=(14 16 17 18) # beside Debian's
FETCH_TRIES=3
FETCH_TIMEOUT=900 # seconds for one try; the largest download is 180 MB

# --- Debian's packages ---------------------------------------------------------------------------

wanted_packages() {
  local package condition _rest
  while read -r package condition _rest; do
    case "$package" in '' | '#'*) continue ;; esac
    case "$condition" in
      unless=*) command -v "${condition#unless=}" >/dev/null && continue ;;
    esac
    echo "$package"
  done <"$PACKAGES_FILE"
}

missing_packages() {
  local wanted installed
  wanted="$(wanted_packages | sort -u)"
  # shellcheck disable=SC2086  # one word a package
  installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
    awk '$1 == "installed" { print $2 }' | sort -u)" || true
  comm -23 <(echo "$wanted") <(echo "$installed")
}

# Debian starts a server when its package is installed, and again at boot. Millrace runs instances
# of its own, so servers that come in by this script are neither started nor enabled.
POLICY=/usr/sbin/policy-rc.d
CREATECLUSTER=/etc/postgresql-common/createcluster.d/millrace.conf
policy_is_ours=false

hold_back_servers() {
  if [ ! -e "$POLICY" ]; then
    printf '#!/bin/sh\n# Written by tools/deps.sh, which removes it.\nexit 101\n' |
      as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
    policy_is_ours=true
  fi
  as_root mkdir -p "$(dirname "$CREATECLUSTER")"
  echo 'create_main_cluster = false' | as_root tee "$CREATECLUSTER" >/dev/null
}

release_servers() {
  if $policy_is_ours || grep -qs 'Written by tools/deps.sh' "$POLICY"; then
    as_root rm -f "$POLICY"
  fi
  as_root rm -f "$CREATECLUSTER"
  policy_is_ours=false
}

install_packages() {
  local missing
  missing="$(missing_packages | tr '\n' ' ')"
  [ -z "${missing// /}" ] && return 0
  can_be_root || die "these packages are missing and installing them needs root: ask the machine's" \
    "administrator to run 'apt-get install $missing', then run this again."
  note "installing packages: $missing"
  trap release_servers EXIT
  hold_back_servers
  local redis_is_new=false
  case " $missing " in *' redis-server '*) redis_is_new=true ;; esac
  apt_get update || die "apt-get update failed: check the network and /etc/apt/sources.list, then run this again."
  # shellcheck disable=SC2086
  apt_get install --no-install-recommends $missing ||
    die "apt-get could not install: $missing; see the log named above, correct it and run this again."
  if $redis_is_new && command -v systemctl >/dev/null; then
    as_root systemctl disable --quiet redis-server 2>/dev/null || true
  fi
  release_servers
  trap - EXIT
  missing="$(missing_packages | tr '\n' ' ')"
  [ -z "${missing// /}" ] || die "apt-get said it had installed them, yet these are missing: $missing"
}

apt_get() {
  run_logged "apt-$1" as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -y -q \
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"
}

# --- Pinned downloads ----------------------------------------------------------------------------

# lock_field NAME COLUMN (2 client, 3 spec, 4 sha256)
lock_field() {
  awk -v name="$1" -v column="$2" '$1 == name { print $column }' "$LOCK_FILE"
}

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

# retry COMMAND...: tries again after a failure, since a registry that times out may answer later.
retry() {
  local try
  for ((try = 1; try <= FETCH_TRIES; try++)); do
    timeout "$FETCH_TIMEOUT" "$@" && return 0
    [ "$try" -lt "$FETCH_TRIES" ] && sleep $((try * 3))
  done
  return 1
}

require_client() {
  command -v "$1" >/dev/null ||
    die "'$1' is not on PATH; run tools/deps.sh --packages first, which installs it."
}

# fetch_npm NAME DIR: leaves the unpacked package in DIR/package.
fetch_npm() {
  local name="$1" dir="$2" spec want got archive
  spec="$(lock_field "$name" 3)"
  want="$(lock_field "$name" 4)"
  require_client npm
  note "fetching $spec"
  run_logged "fetch-$name" retry npm pack --silent --pack-destination "$dir" "$spec" ||
    die "could not fetch $spec with npm after $FETCH_TRIES tries: check the network and npm's settings, then run this again."
  archive="$(find "$dir" -maxdepth 1 -name '*.tgz' | head -n 1)"
  got="$(sha256_of "$archive")"
  if $print_sha256; then
    echo "$name $got"
  elif [ "$got" != "$want" ]; then
    die "$spec has sha256 $got but third_party/downloads.lock says $want: the download is not what was pinned and is not used."
  fi
  tar -xzf "$archive" -C "$dir"
  rm -f "$archive"
}

# place FILE TARGET: moves it into the cache under a temporary name, then renames it.
place() {
  mkdir -p "$(dirname "$2")"
  mv "$1" "$2.part.$$"
  chmod u+w,a+r "$2.part.$$"
  mv -f "$2.part.$$" "$2"
}

stamp() {
  echo "$2" >"$1.part.$$"
  mv -f "$1.part.$$" "$1"
}

# is_current STAMP SHA FILE...
is_current() {
  local stamp_file="$1" sha="$2" file
  shift 2
  [ -f "$stamp_file" ] && [ "$(cat "$stamp_file")" = "$sha" ] || return 1
  for file in "$@"; do [ -s "$file" ] || return 1; done
}

# npm_part NAME STAMP FILE_IN_PACKAGE TARGET
npm_part() {
  local name="$1" stamp_file="$2" file="$3" target="$4" sha work
  sha="$(lock_field "$name" 4)"
  $print_sha256 || ! is_current "$stamp_file" "$sha" "$target" || return 0
  $check_only && die "$target is missing or another version: run tools/deps.sh."
  work="$(mktemp -d "$MILLRACE_CACHE/fetch.XXXXXX")"
  fetch_npm "$name" "$work"
  if ! $print_sha256; then
    [ -f "$work/package/$file" ] || die "$(lock_field "$name" 3) has no file $file: correct tools/deps.sh to match the version in the lock file."
    rm -f "$stamp_file"
    place "$work/package/$file" "$target"
    stamp "$stamp_file" "$sha"
  fi
  rm -rf "$work"
}

kafka_files() { awk -v dir="$MILLRACE_CACHE/kafka/libs/" '{ print dir $2 }' "$KAFKA_JARS"; }

fetch_kafka() {
  local dir="$1" spec
  spec="$(lock_field kafka 3)"
  require_client mvn
  require_client java
  note "fetching $spec and what it needs"
  run_logged fetch-kafka retry mvn -q -B -f "$KAFKA_POM" -Dmaven.repo.local="$dir/repository" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/libs" ||
    die "could not fetch $spec with mvn after $FETCH_TRIES tries: check the network and maven's settings, then run this again."
}

kafka_part() {
  local sha work stamp_file="$MILLRACE_CACHE/kafka/stamp"
  local -a jars
  sha="$(lock_field kafka 4)"
  mapfile -t jars < <(kafka_files)
  $print_sha256 || ! is_current "$stamp_file" "$sha" "${jars[@]}" || return 0
  $check_only && die "$MILLRACE_CACHE/kafka is missing or another version: run tools/deps.sh."
  $print_sha256 || [ "$(sha256_of "$KAFKA_JARS")" = "$sha" ] ||
    die "third_party/kafka/jars.sha256 is not the list that third_party/downloads.lock pins: restore one of them."
  work="$(mktemp -d "$MILLRACE_CACHE/fetch.XXXXXX")"
  fetch_kafka "$work"
  if $print_sha256; then
    (cd "$work/libs" && sha256sum -- *.jar | LC_ALL=C sort -k2)
  else
    verify_jars "$work/libs"
    mkdir -p "$MILLRACE_CACHE/kafka"
    rm -rf "$stamp_file" "$MILLRACE_CACHE/kafka/libs"
    mv "$work/libs" "$MILLRACE_CACHE/kafka/libs"
    stamp "$stamp_file" "$sha"
  fi
  rm -rf "$work"
}

# postgres_part MAJOR REPOSITORY
postgres_part() {
  local name="postgres-$1" repository="$2" target="$MILLRACE_CACHE/postgres/$1" spec want got jar work
  spec="$(lock_field "$name" 3)"
  want="$(lock_field "$name" 4)"
  $print_sha256 || ! is_current "$target/stamp" "$want" "$target/bin/postgres" || return 0
  $check_only && die "$target is missing or another version: run tools/deps.sh."
  require_client mvn
  require_client java
  note "fetching $spec"
  work="$(mktemp -d "$MILLRACE_CACHE/fetch.XXXXXX")"
  run_logged "fetch-$name" retry mvn -q -B -Dmaven.repo.local="$repository" "$MAVEN_COPY" \
    -Dartifact="$spec" -DoutputDirectory="$work" ||
    die "could not fetch $spec with mvn after $FETCH_TRIES tries: check the network and maven's settings, then run this again."
  jar="$(find "$work" -maxdepth 1 -name '*.jar')"
  got="$(sha256_of "$jar")"
  if $print_sha256; then
    echo "$name $got"
  else
    [ "$got" = "$want" ] ||
      die "$spec has sha256 $got but third_party/downloads.lock says $want: the download is not what was pinned and is not used."
    unpack_postgres "$jar" "$work/unpacked"
    echo "$want" >"$work/unpacked/stamp"
    mkdir -p "$MILLRACE_CACHE/postgres"
    rm -rf "$target"
    mv "$work/unpacked" "$target"
  fi
  rm -rf "$work"
}

# unpack_postgres JAR DIR: the jar holds one .txz of bin, lib and share.
unpack_postgres() {
  mkdir "$2"
  "$PYTHON" -m zipfile -e "$1" "$1.d"
  "$PYTHON" -m tarfile -e "$1.d"/*.txz "$2"
  chmod -R u+w,a+rX "$2"
}

verify_jars() {
  local problem
  problem="$(cd "$1" && sha256sum --check --quiet --strict "$KAFKA_JARS" 2>&1)" ||
    die "Kafka's jars are not those that third_party/kafka/jars.sha256 pins, and are not used: ${problem//$'\n'/; }"
  problem="$(comm -13 <(awk '{ print $2 }' "$KAFKA_JARS" | sort) <(cd "$1" && printf '%s\n' *.jar | sort))"
  [ -z "$problem" ] ||
    die "Kafka came with jars that third_party/kafka/jars.sha256 does not list, and is not used: ${problem//$'\n'/; }"
}

install_downloads() {
  mkdir -p "$MILLRACE_CACHE" || die "cannot make the cache folder $MILLRACE_CACHE: set MILLRACE_CACHE to one that you may write."
  exec 8>"$MILLRACE_CACHE/lock"
  flock -w 1800 8 || die "another tools/deps.sh has held $MILLRACE_CACHE/lock for half an hour: end it and run this again."
  rm -rf "$MILLRACE_CACHE"/fetch.* # what a killed run left
  local duckdb="$MILLRACE_CACHE/duckdb" chdb="$MILLRACE_CACHE/chdb"
  npm_part duckdb-library "$duckdb/stamp-library" libduckdb.so "$duckdb/lib/libduckdb.so"
  npm_part duckdb-header "$duckdb/stamp-header" src/duckdb/src/include/duckdb.h "$duckdb/include/duckdb.h"
  npm_part chdb-library "$chdb/stamp" libchdb.so "$chdb/lib/libchdb.so"
  kafka_part
  local major
  for major in "${POSTGRES_VERSIONS[@]}"; do
    postgres_part "$major" "$MILLRACE_CACHE/fetch.maven"
  done
  rm -rf "$MILLRACE_CACHE/fetch.maven"
  exec 8>&-
}

main() {
  local packages=true downloads=true
  check_only=false
  print_sha256=false
  case "${1:-}" in
    '') ;;
    --packages) downloads=false ;;
    --downloads) packages=false ;;
    --check) check_only=true ;;
    --list-missing)
      missing_packages
      return
      ;;
    --print-sha256) print_sha256=true packages=false ;;
    *) die "unknown option '$1': use --packages, --downloads, --check, --list-missing or --print-sha256." ;;
  esac
  [ "$(uname -m)" = x86_64 ] || die "the pinned downloads are for x86_64 and this machine is $(uname -m)."
  command -v dpkg-query >/dev/null || die "this is not a Debian system: install what tools/packages.txt lists by hand."
  if $check_only; then
    local missing
    missing="$(missing_packages | tr '\n' ' ')"
    [ -z "${missing// /}" ] || die "packages are missing: $missing; run tools/deps.sh."
  elif $packages; then
    install_packages
  fi
  if $downloads; then install_downloads; fi
}

main "$@"
