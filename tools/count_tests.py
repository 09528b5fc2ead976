# SPDX-License-Identifier: Apache-2.0
"""Prints how many tests a JUnit file has run and how many of them failed; skipped ones do not count.

  count_tests.py FILE
"""

import sys
import xml.etree.ElementTree as ElementTree


def main(path):
    ran = failed = 0
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"error: {path} cannot be read: {error}", file=sys.stderr)
        return 1
    for case in cases:
        if case.find("skipped") is not None:
            continue
        ran += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
    print(ran, failed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
