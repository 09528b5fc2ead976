#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Faults of every peer, of every connection and of Millrace itself, several at once, under load; then every
row of every target is compared.

    tests/chaos/random_faults.py [--seconds 1800] [--seed N] [--kinds redis,link] [--report FILE]

`make chaos` runs it. Faults come in rounds, drawn from the seed that is printed; when they fall is not
repeated by it. After each round the load pauses until all is delivered, within a bound, and the rows of
what hides no double are counted. At the end every target is compared with the oracle in PostgreSQL, row by
row; exit 1 if a row is lost, doubled or wrong, with its key and the folder that keeps everything.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tools", "tests/integration", "tests/chaos"):
    sys.path.insert(0, str(ROOT / folder))

from chaos_compare import compare  # noqa: E402
from chaos_faults import Broken, Chaos, Faults  # noqa: E402
from chaos_load import Load  # noqa: E402
from chaos_rig import PEERS, Rig  # noqa: E402

FAULTS_IN_A_ROUND = 12
DELIVERY_SECONDS = 150  # more than a Kafka transaction's timeout and a request's together
CALM_SECONDS = 8


class Tail:
    """How long Redis's log was at each moment."""

    def __init__(self, directory):
        self._directory = directory
        self._sizes = deque(maxlen=100)

    def look(self):
        paths = sorted(self._directory.glob("*.incr.aof"))
        if paths:
            self._sizes.append((time.monotonic(), paths[-1], paths[-1].stat().st_size))

    def since(self, seconds):
        """The newest file, and its size so many seconds ago; nothing if it is younger."""
        sizes = list(self._sizes)
        if not sizes:
            return None, 0
        newest = sizes[-1][1]
        for at, path, size in reversed(sizes):
            if path == newest and at <= time.monotonic() - seconds:
                return newest, size
        return None, 0


class Sampler(threading.Thread):
    """Counts, each second, whether changes flow into every sink while nothing disturbs a peer, a connection
    or the machine. A kill or restart of Millrace itself counts against it, and so does the time that it
    takes to recover after a disturbance has ended."""

    def __init__(self, rig, chaos, tail):
        super().__init__(daemon=True)
        self._rig = rig
        self._chaos = chaos
        self._tail = tail
        self._ends = threading.Event()
        self.load_runs = threading.Event()
        self.undisturbed = 0
        self.flowing = 0

    def stop(self):
        self._ends.set()
        self.join()

    def run(self):
        before, was_calm = None, False
        while not self._ends.is_set():
            is_calm = self.load_runs.is_set() and not self._disturbed()
            for _ in range(5):
                self._tail.look()
                self._ends.wait(0.2)
                is_calm = is_calm and self.load_runs.is_set() and not self._disturbed()
            rows = self._rows()
            if is_calm and was_calm:
                self.undisturbed += 1
                self.flowing += self._all_grew(before, rows)
            before, was_calm = rows, is_calm

    def _disturbed(self):
        return self._chaos.disturbs() - {"millrace"} or self._chaos.millrace_is_stopped

    def _rows(self):
        try:
            status = json.loads(self._rig.process.get("/api/v1/status", timeout=1)[1])
            return {sink["name"]: sink["rows"] for sink in status["sinks"]}
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return None

    @staticmethod
    def _all_grew(before, rows):
        """A new process counts from 0."""
        if not rows:
            return False
        return all(count > 0 and count != (before or {}).get(name, 0) for name, count in rows.items())


class Run:
    """One whole run; what it found is in `summary`."""

    def __init__(self, rig, seconds, kinds, say):
        self.rig = rig
        self.seconds = seconds
        self.say = say
        self.tail = Tail(rig.peers["redis"].data / "appendonlydir")
        self.chaos = Chaos(rig, Faults(rig, random.Random(rig.seed), self.tail), kinds, say)
        self.recoveries = []
        self.difference = None
        self.summary = {}

    def run(self):
        """Raises Broken if something stands still or ends; otherwise the difference says what it was."""
        sampler = Sampler(self.rig, self.chaos, self.tail)
        begin = time.monotonic()
        with Load(self.rig.source.url, self.rig.seed) as load:
            sampler.load_runs.set()
            sampler.start()
            try:
                self._rounds(load, sampler, begin + self.seconds)
            finally:
                sampler.stop()
                load.resume()
        self._deliver()
        self.difference = compare(self.rig)
        self.summary = {
            "seed": self.rig.seed,
            "seconds": round(time.monotonic() - begin),
            "transactions": load.transactions,
            "outputs": self.difference.rows["Kafka enriched_engagements"],
            "rows compared": sum(self.difference.rows.values()),
            "faults": self.chaos.counts.total(),
            "lost": self.difference.total("lost"),
            "doubled": self.difference.total("doubled"),
            "wrong": self.difference.total("wrong"),
            "starts of Millrace": self.rig.launches,
            "of them after a full disk had ended it": self.chaos.ended_on_full_disk,
            "undisturbed seconds": sampler.undisturbed,
            "of them with changes flowing into every sink": sampler.flowing,
        }

    def _rounds(self, load, sampler, end):
        while time.monotonic() < end:
            self.chaos.run_faults(FAULTS_IN_A_ROUND, end)
            load.check()
            sampler.load_runs.clear()
            load.pause()
            self._deliver()
            self._check_counts()
            load.resume()
            sampler.load_runs.set()
            self.chaos.rest(CALM_SECONDS)

    def _deliver(self):
        """Everything, within a bound, once nothing disturbs."""
        begin = time.monotonic()
        self.rig.wait_delivered(DELIVERY_SECONDS, self.chaos.watch)
        self.recoveries.append(time.monotonic() - begin)
        self.say(f"delivered after {self.recoveries[-1]:.1f} s")

    def _check_counts(self):
        wrong = [f"{name}: {found} rows, not {wanted}"
                 for name, (wanted, found) in self.rig.counts().items() if wanted != found]  # fmt: skip
        if wrong:
            self.difference = compare(self.rig)
            raise Broken("; ".join(wrong))

    def lines(self):
        """The summary as a table of Markdown."""
        recoveries = sorted(self.recoveries)
        flowing, undisturbed = list(self.summary.values())[-1], self.summary["undisturbed seconds"]
        rows = [f"| {name} | {value:,} |" if name != "seed" else f"| seed | {value} |"
                for name, value in self.summary.items()]  # fmt: skip
        rows.append(f"| share | {100 * flowing / max(1, undisturbed):.2f} % |")
        rows.append(f"| seconds from the end of a round's faults until all was delivered, median | "
                    f"{recoveries[len(recoveries) // 2]:.1f} |")  # fmt: skip
        rows.append(f"| the longest | {recoveries[-1]:.1f} |")
        return ["| | |", "| --- | --- |", *rows]

    def fault_lines(self):
        return ["| fault | times |", "| --- | --- |"] + [
            f"| {kind} | {count} |" for kind, count in sorted(self.chaos.counts.items())
        ]


def report(run, command):
    """What the committed report holds."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT,
                            check=False).stdout.strip()  # fmt: skip
    disk = "a tmpfs" if run.rig.disk.is_mounted else "refused writes"
    head = [
        f"# Random faults, {time.strftime('%Y-%m-%d')}", "",
        f"Machine: {os.cpu_count()} cores; all servers on it. Commit {commit}. Command: `{command}`. The full disk"
        f" is {disk}.", "",
        "Compared row by row at the end: the rows of ClickHouse, among them a plain MergeTree and the targets of"
        " materialized views without FINAL, the entries of Redis' streams and its hashes, and the messages that a"
        " read_committed consumer of Kafka sees. A second flows if every sink took rows in it; seconds in which a"
        " peer, a connection, the disk or the clock is disturbed or Millrace is stopped by SIGSTOP do not count,"
        " those in which it was killed do, and so do those after a disturbance.", "",
    ]  # fmt: skip
    head = [line for text in head for line in textwrap.wrap(text, 115) or [""]]
    return "\n".join([*head, *run.lines(), "", *run.fault_lines(), ""])


def perform(directory, seconds, seed, kinds=(), show=None):
    """Runs on servers of its own below `directory` and returns the Run; `show` takes each line of its course."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with open(Path(directory) / "faults.log", "a", encoding="utf-8") as log:

        def say(text):
            line = f"{time.strftime('%H:%M:%S')} {time.monotonic() - begin:7.1f} {text}"
            print(line, file=log, flush=True)
            if show is not None:
                show(line)

        with Rig(directory, seed) as rig:
            say(f"seed {seed}")
            run = Run(rig, seconds, kinds, say)
            try:
                run.run()
            except BaseException as error:
                say(f"failed: {error!r}")
                rig.keeps_disk = True
                raise
            finally:
                for line in run.difference.lines if run.difference else ():
                    say(line)
            rig.keeps_disk = bool(run.difference.lines)
            run.text = report(run, f"tests/chaos/random_faults.py --seconds {seconds:g} --seed {seed}"
                              + (f" --kinds {','.join(kinds)}" if kinds else ""))  # fmt: skip
    return run


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kinds", default="",
                        help="only faults whose name has one of these words in it: "
                        f"{', '.join(PEERS)}, link, kill, ...")  # fmt: skip
    parser.add_argument("--report", type=Path, help="a Markdown file to write")
    parser.add_argument("--quiet", action="store_true", help="does not show each fault")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    directory = Path(tempfile.mkdtemp(prefix="millrace-faults-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user
    print(f"seed {seed}, {options.seconds:g} s, in {directory}", flush=True)
    show = None if options.quiet else (lambda line: print(line, flush=True))
    kinds = [kind for kind in options.kinds.split(",") if kind]
    try:
        run = perform(directory, options.seconds, seed, kinds, show)
    except AssertionError as error:
        print(f"FAILED with seed {seed}: {error}\neverything is in {directory}", flush=True)
        return 1
    print(run.text, flush=True)
    if options.report is not None:
        options.report.write_text(run.text, encoding="utf-8")
    if run.difference.lines:
        print("\n".join(run.difference.lines))
        print(f"FAILED with seed {seed}: everything is in {directory}", flush=True)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
