# SPDX-License-Identifier: Apache-2.0
"""Half a minute of tests/chaos/random_faults.py."""

import sys

import pytest

from engagement import ROOT

sys.path.insert(0, str(ROOT / "tests" / "chaos"))

import random_faults  # noqa: E402


@pytest.mark.case(5, 11, 54, 55, 56, 57, 59)
def test_random_faults_of_every_peer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    for folder in (directory, directory.parent):
        folder.chmod(0o755)  # PostgreSQL runs as another user
    run = random_faults.perform(directory, seconds=30, seed=20261123)
    assert run.difference.lines == []
    assert run.summary["faults"] >= 10 and run.summary["outputs"] > 100
