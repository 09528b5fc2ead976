#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who includes what under src/millrace: the wall around each third-party library, and the
direction in which modules depend on each other. STYLE.md says why.

    tools/check_layers.py [ROOT]

Prints `file:line: sentence` for each finding; exit 0 if there is none, 1 otherwise.
"""

import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')

# A library's headers, as a pattern, and the one module that may include them.
WALLS = [
    ("RocksDB", r"rocksdb/", "storage/rocksdb"),
    ("hiredis", r"hiredis/|hiredis\.h|sds\.h", "clients/redis"),
    ("librdkafka", r"librdkafka/|rdkafka", "clients/kafka"),
    ("libpq", r"libpq-fe\.h|libpq/|postgresql/|catalog/|postgres_ext\.h", "clients/postgres"),
    ("DuckDB", r"duckdb\.h|duckdb/", "sql/duckdb"),
    ("yaml-cpp", r"yaml-cpp/", "config"),
    ("spdlog", r"spdlog/", "telemetry"),
    ("prometheus-cpp", r"prometheus/", "telemetry"),
    ("libcurl", r"curl/", "clients/http"),
    ("cpp-httplib", r"httplib\.h", "admin"),
    ("CLI11", r"CLI/", "cli"),
]

BASE = ["common", "model", "telemetry", "config"]
CLIENTS = ["clients/http", "clients/postgres", "clients/redis", "clients/kafka"]
INTERFACES = ["sources", "storage", "sql", "sinks"]

# What each module may include besides itself. A folder that is not listed is a part of the nearest
# one above it that is, or, below an interface folder, one more concrete implementation of it.
ALLOWED = {
    "common": [],
    "model": ["common"],
    "telemetry": ["common", "model"],
    "config": ["common", "model", "telemetry"],
    **{client: BASE for client in CLIENTS},
    **{interface: BASE for interface in INTERFACES},
    "pipeline": BASE + INTERFACES,
    "admin": BASE + ["pipeline"],
}
# The top may include everything below it, but not what is named here beside it.
TOP = {"components": ["admin", "cli"], "cli": [], "main.cc": []}

# Of pipeline/, admin sees values only, so that it can take no lock of the engine.
ADMIN_PIPELINE_HEADERS = {"millrace/pipeline/status_snapshot.h"}


def module_of(path):
    """The module that a path relative to src/millrace belongs to."""
    parts = path.parts[:-1]
    if not parts:
        return path.name
    top = parts[0]
    if top in INTERFACES + ["clients"] and len(parts) > 1 and parts[1] != "testing":
        return f"{top}/{parts[1]}"
    return top


def is_test(path):
    return path.stem.endswith(("_test", "_benchmark")) or "testing" in path.parts


def may_include(module, other):
    if module == other:
        return True
    if module in TOP:
        return other not in TOP[module]
    if module in ALLOWED:
        return other in ALLOWED[module]
    parent = module.split("/")[0]
    if parent in INTERFACES:
        return other == parent or other in BASE or other.startswith("clients/")
    return False


def why_not(module, other):
    """One sentence for an include of `other` from `module` that is against the arrows."""
    if other in ("components", "cli", "admin", "main.cc"):
        return f"{module} may not include {other}, which stands above it"
    parent, other_parent = module.split("/")[0], other.split("/")[0]
    if "/" in other and other_parent in INTERFACES:
        if parent == other_parent and "/" in module:
            return (f"{module} may not include its sibling {other}; "
                    f"share code in {parent} or clients")
        return f"{module} may not include {other}: only components names a concrete class"
    return f"{module} may not include {other}; dependencies point down"


def check_include(path, module, header):
    """The sentence that says what is wrong with one include, or nothing."""
    for library, pattern, home in WALLS:
        if re.match(pattern, header) and module != home:
            return f"<{header}>: {library} may be included in {home} only"
    if header.startswith("nlohmann/") and path.suffix == ".h" and header != "nlohmann/json_fwd.hpp":
        return f"<{header}>: JSON is included in .cc files only; it makes every build slow"
    if not header.startswith("millrace/"):
        return None
    target = Path(header).relative_to("millrace")
    if not is_test(path) and is_test(target):
        return f'"{header}": production code never includes test code'
    other = module_of(target)
    # The pipeline is tested with the engine and the store that it runs with.
    if module == "pipeline" and is_test(path) and other.startswith(("sql/", "storage/")):
        return None
    if not may_include(module, other):
        return f'"{header}": {why_not(module, other)}'
    if module == "admin" and other == "pipeline" and header not in ADMIN_PIPELINE_HEADERS:
        return f'"{header}": admin sees the engine only as pipeline/status_snapshot.h'
    return None


def check_file(source, path):
    findings = []
    module = module_of(path)
    text = (source / path).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(1)
        sentence = check_include(path, module, header)
        if sentence is None and header.startswith("millrace/"):
            if not (source.parent / header).is_file():
                sentence = f'"{header}": there is no such file'
        if sentence is not None:
            findings.append(f"src/millrace/{path}:{number}: {sentence}")
    return findings


def check_tree(root):
    source = Path(root) / "src" / "millrace"
    findings = []
    for path in sorted(source.rglob("*")):
        if path.suffix in (".h", ".cc"):
            findings += check_file(source, path.relative_to(source))
    return findings


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    if not (root / "src" / "millrace").is_dir():
        print(f"{root}: there is no src/millrace", file=sys.stderr)
        return 2
    findings = check_tree(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
