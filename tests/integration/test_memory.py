# SPDX-License-Identifier: Apache-2.0
"""The memory benchmark on few rows: it runs, and large rows stay within the bound of a small one."""

import subprocess
import sys

from engagement import PROGRAM, ROOT


def test_memory_stays_within_its_bound():
    command = [sys.executable, ROOT / "benchmarks/pipeline/memory_bench.py", "--rows", "20000",
               "--row-bytes", "20000000", "--program", PROGRAM]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("| ok |") == 4
