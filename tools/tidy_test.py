#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks of the text of the sources that no compiler makes: see STYLE.md.

    tools/tidy_test.py [ROOT]            text rules
    tools/tidy_test.py --format [ROOT]   that clang-format would change nothing

Prints `file:line: sentence` for each finding; exit 0 if there is none, 1 otherwise. A line that has
to break a rule says so in a comment: `tidy-ok: <rule>, <reason>`; the rules are those in brackets.
"""

import re
import subprocess
import sys
from pathlib import Path

# Of scripts. In C++, clang-format bounds what can be broken; a shell script's messages stay whole,
# so that they are found.
COLUMNS = 120
# A test's cases are many and independent.
FILE_LINES_MAX = 700
TEST_LINES_MAX = 1000
CODE = (".cc", ".h")
SCRIPTS = (".py", ".sh", ".cmake")
SKIPPED_FOLDERS = ("build", "var", "third_party", "node_modules", ".git")
# This file names what it forbids.
SKIPPED_FILES = ("tools/tidy_test.py", "tools/tidy_self_test.py", "LICENSE")

# Folders in which output of a program is its purpose, or failure must be told without a log.
MAY_PRINT = ("src/millrace/cli/", "src/millrace/sinks/stdout/", "src/millrace/main.cc")
# Folders that turn a library's exceptions into Status, and thread entries.
MAY_CATCH_ALL = ("src/millrace/clients/", "src/millrace/sql/duckdb/", "src/millrace/config/",
                 "src/millrace/storage/rocksdb/")
BAD_FOLDERS = ("utils", "util", "helpers", "misc", "core", "manager")

FORBIDDEN_WORDS = [
    (r"\b(?:FIXME|XXX|HACK)\b", "finish it, or open an issue"),
    (r"(?i)\bfor now\b|\bnot (?:yet )?implemented\b", "say what holds, or finish it"),
    (r"(?i)\b(?:blazing(?:ly)?|seamless(?:ly)?|world-class|cutting-edge|game-chang\w+|"
     r"state-of-the-art|effortless(?:ly)?|revolutionary)\b", "say what it does, with a number"),
    (r"(?<![\w.$}/])/(?:root|work|home/\w+)/", "no path of one machine"),
]


class File:
    """One file of the tree. `name` is its path from the root, with slashes."""

    def __init__(self, root, name):
        self.name = name
        self.path = root / name
        self.suffix = self.path.suffix
        self.text = self.path.read_bytes().decode("utf-8", errors="replace")
        self.lines = self.text.split("\n")

    @property
    def is_code(self):
        return self.suffix in CODE

    @property
    def is_script(self):
        return self.suffix in SCRIPTS or self.path.name in ("CMakeLists.txt", "Makefile")

    @property
    def is_test(self):
        return (self.path.stem.endswith(("_test", "_benchmark")) or "testing" in self.path.parts
                or self.name.startswith("tests/"))

    def find(self, rule, pattern, sentence):
        """A finding for each line that matches and does not carry `tidy-ok: <rule>`."""
        expression = re.compile(pattern)
        for number, line in enumerate(self.lines, 1):
            if expression.search(line) and f"tidy-ok: {rule}" not in line:
                yield f"{self.name}:{number}: {sentence} [{rule}]"


def check_layout(file):
    """What every text file keeps."""
    if file.path.name != "Makefile":
        yield from file.find("tab", r"\t", "a tab; indent with spaces")
    yield from file.find("blank", r"[ \t\r]$", "a blank at the end of the line")
    if file.text and not file.text.endswith("\n"):
        yield f"{file.name}:{len(file.lines)}: no line end at the end of the file [blank]"
    if file.is_code or file.is_script:
        yield from file.find("ascii", r"[^\x00-\x7f]", "a character outside ASCII; escape it")
    if file.is_script and file.suffix != ".sh":
        yield from file.find("columns", ".{%d}" % (COLUMNS + 1), f"longer than {COLUMNS} columns")
    yield from file.find("todo", r"\bTODO\b(?!\(#\d+\))", "a TODO without an issue; write TODO(#12)")
    for pattern, remedy in FORBIDDEN_WORDS:
        yield from file.find("word", pattern, f"a word that is not used here; {remedy}")


def check_code(file):
    """What C++ keeps."""
    if "SPDX-License-Identifier: Apache-2.0" not in file.lines[0]:
        yield f"{file.name}:1: the first line is not the SPDX licence line [spdx]"
    if file.suffix == ".h" and "#pragma once" not in file.lines:
        yield f"{file.name}:1: a header without #pragma once [pragma]"
    lines_max = TEST_LINES_MAX if file.is_test else FILE_LINES_MAX
    if len(file.lines) > lines_max:
        yield (f"{file.name}:{len(file.lines)}: longer than {lines_max} lines; "
               "a second concept hides in there [length]")
    if not file.name.startswith("src/millrace/"):
        return
    if not file.is_test and not file.name.startswith(MAY_PRINT):
        yield from file.find("print", r"\bstd::cout\b|(?<!\w)(?:printf|puts|putchar)\s*\(|"
                             r"\bfmt::print\s*\(\s*\"|"
                             r"\bfprintf\s*\(\s*stdout", "output to stdout; use the Logger")
    if not file.name.startswith(MAY_CATCH_ALL):
        yield from file.find("catch", r"catch\s*\(\s*\.\.\.\s*\)",
                             "catch (...) outside the folder of a library's wall")


def check_waits(file):
    """Of C++ tests. Those in Python look at other programs from outside, where nothing signals."""
    yield from file.find("sleep", r"\b(?:sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(",
                         "a test that sleeps; wait for the event")


def check_folders(root, names):
    """READMEs, CMake lists, folder names."""
    listed = {}
    for name in names:
        path = Path(name)
        if path.name == "CMakeLists.txt":
            listed[path.parent] = (root / name).read_text(encoding="utf-8")
            if name.startswith("src/millrace/") and path.parent != Path("src/millrace"):
                if (path.parent / "README.md").as_posix() not in names:
                    yield f"{name}:1: a module without README.md [readme]"
        if set(path.parts[:-1]) & set(BAD_FOLDERS):
            yield f"{name}:1: a folder that is named for no domain [folder]"
    for name in names:
        path = Path(name)
        if path.suffix != ".cc" or not name.startswith(("src/", "tests/", "fuzz/", "benchmarks/")):
            continue
        # By its path below a CMakeLists.txt, or from the root.
        in_list = any(f"${{CMAKE_SOURCE_DIR}}/{name}" in text for text in listed.values()) or any(
            re.search(rf"(?<![\w/]){re.escape(path.relative_to(folder).as_posix())}(?!\w)", text)
            for folder, text in listed.items() if path.is_relative_to(folder))
        if not in_list:
            yield f"{name}:1: not in a CMakeLists.txt, so it is never built [cmake]"


def tracked_files(root):
    """Names of the files under git, new ones included; without git, of all files."""
    git = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True, check=False)
    if git.returncode == 0:
        names = [name for name in git.stdout.decode().split("\0") if name]
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return sorted({name for name in names
                   if not set(Path(name).parts) & set(SKIPPED_FOLDERS) and (root / name).is_file()})


def is_text(name):
    return (Path(name).suffix in CODE + SCRIPTS + (".md", ".yaml", ".yml")
            or Path(name).name in ("CMakeLists.txt", "Makefile"))


def check_tree(root):
    names = tracked_files(root)
    findings = []
    for name in names:
        if not is_text(name) or name in SKIPPED_FILES:
            continue
        file = File(root, name)
        findings += check_layout(file)
        if file.is_code:
            findings += check_code(file)
        if file.is_test and file.is_code:
            findings += check_waits(file)
    findings += check_folders(root, names)
    return findings


def check_format(root, clang_format="clang-format-14"):
    """Findings of clang-format for C++ files, one a place."""
    names = [name for name in tracked_files(root) if name.endswith(CODE)]
    if not names:
        return []
    run = subprocess.run([clang_format, "--dry-run", "--Werror", *names], cwd=root,
                         capture_output=True, text=True, check=False)
    places = re.findall(r"^(\S+?):(\d+):\d+: error: code should be clang-formatted", run.stderr, re.M)
    findings = [f"{name}:{line}: clang-format would change this; run `make format`"
                for name, line in dict.fromkeys(places)]
    if run.returncode != 0 and not findings:
        findings = [f"clang-format: {run.stderr.strip()}"]
    return findings


def main():
    arguments = sys.argv[1:]
    wants_format = "--format" in arguments
    folders = [argument for argument in arguments if argument != "--format"]
    root = Path(folders[0]) if folders else Path(__file__).resolve().parent.parent
    findings = check_format(root) if wants_format else check_tree(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
