#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the last column of docs/CASES.md: which tests cover each case.

Python tests name their cases by `@pytest.mark.case(24, 26)`, C++ tests by a line `// Cases: 15, 17.`
right above TEST. `make docs` and `tools/case_table.py --write` write the column again; without --write
it exits 1 and says what differs.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs/CASES.md"
NOT_COVERED = "not covered yet"
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$")
CPP_TEST = re.compile(r"^// Cases?: ([\d, ]+)\.\nTEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.MULTILINE)


def case_numbers(decorator):
    """The numbers of a `pytest.mark.case(...)`, none of another decorator."""
    is_case = (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr == "case"
    )
    return [argument.value for argument in decorator.args] if is_case else []


def python_tests(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                for number in case_numbers(decorator):
                    yield number, node.name


def cpp_tests(path):
    for numbers, suite, name in CPP_TEST.findall(path.read_text(encoding="utf-8")):
        for number in numbers.split(","):
            yield int(number), f"{suite}.{name}"


def tests_by_case(root=ROOT):
    """{case: {file: [test, ...]}}, all in order."""
    found = {}
    files = [(path, python_tests) for path in root.glob("tests/**/*.py")]
    files += [(path, cpp_tests) for path in root.glob("src/**/*_test.cc")]
    for path, read in sorted(files):
        for number, name in read(path):
            names = found.setdefault(number, {}).setdefault(path.name, [])
            if name not in names:
                names.append(name)
    return found


def written(text, found):
    """The table as it has to stand, and the numbers of its rows."""
    lines, numbers = [], []
    for line in text.splitlines():
        if row := ROW.match(line):
            number, title = int(row[1]), row[2]
            numbers.append(number)
            files = found.get(number, {})
            tests = "; ".join(f"`{file}`: {', '.join(names)}" for file, names in files.items())
            line = f"| {number} | {title} | {tests or NOT_COVERED} |"
        lines.append(line)
    return "\n".join(lines) + "\n", numbers


def problems(write=False):
    """What is wrong with docs/CASES.md, a sentence each."""
    found = tests_by_case()
    current = TABLE.read_text(encoding="utf-8")
    text, numbers = written(current, found)
    result = [f"case {n} is no row of docs/CASES.md" for n in sorted(found) if n not in numbers]
    if numbers != sorted(set(numbers)):
        result.append("docs/CASES.md has rows out of order, or a number twice")
    if text != current and write:
        TABLE.write_text(text, encoding="utf-8")
    elif text != current:
        rows = zip(text.splitlines(), current.splitlines())
        result += [f"docs/CASES.md should say: {new}" for new, old in rows if new != old]
        result.append("run tools/case_table.py --write")
    return result


if __name__ == "__main__":
    found_problems = problems(write="--write" in sys.argv[1:])
    print("\n".join(found_problems), end="\n" if found_problems else "")
    sys.exit(1 if found_problems else 0)
