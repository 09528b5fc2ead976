# SPDX-License-Identifier: Apache-2.0
"""docs/CASES.md names the tests that the markers name."""

import case_table


def test_case_table_matches_the_markers():
    assert case_table.problems() == []


def test_case_table_knows_every_case():
    _, numbers = case_table.written(case_table.TABLE.read_text(encoding="utf-8"), {})
    assert numbers == list(range(1, 60))
