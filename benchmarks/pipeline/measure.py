# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks read of processes and of this machine, by /proc."""

import os
import platform
import subprocess
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    ticks = sum(int(field) for field in fields[11:15])  # with children that have ended
    return ticks / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid):
    """Of a process and its descendants."""
    total = cpu_seconds(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            total += tree_cpu_seconds(int(child))
    return total


def peak_rss_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmHWM")


def written_mib(pid):
    for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1]) / 2**20
    raise ValueError("no write_bytes")


def circumstances(command):
    """The line above a table: machine, commit, date and command."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    return (f"Machine: {os.cpu_count()} cores ({model}); all servers on it. Commit {commit}."
            f" {date.today()}. Command: `{command}`.")  # fmt: skip
