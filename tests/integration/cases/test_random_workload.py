# SPDX-License-Identifier: Apache-2.0
"""A minute of tests/chaos/random_workload.py with a fixed seed."""

import sys

import pytest

from engagement import ROOT

sys.path.insert(0, str(ROOT / "tests" / "chaos"))

import random_workload  # noqa: E402


@pytest.mark.since(18)
@pytest.mark.case(2, 3, 5, 6, 20, 24, 27, 28, 44, 47)
def test_random_workload_with_kills(mirror):
    committed, disturbances = random_workload.run(mirror, seconds=60, seed=20240229)
    assert committed > 200 and disturbances > 20
