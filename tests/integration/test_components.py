# SPDX-License-Identifier: Apache-2.0
"""The test programs of source and sinks, each on a real server; each of their cases is one test.

A program runs once, when the first of its cases is asked for. One that is not built, or that ends
before a case, fails the cases; nothing is skipped.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field

import pytest
from servers import ClickHouse, Redis

from engagement import PROGRAM

BUILD = PROGRAM.parent / "src/millrace"
TIMEOUT = 240
TAIL = 4000


@pytest.fixture(scope="module")
def own_redis(servers_dir):
    """The program changes its settings."""
    with Redis(servers_dir / "components_redis", die_with_parent=True) as server:
        yield server.url


# All that would make one INSERT several blocks, or a repeated one new.
HOSTILE = {
    "async_insert": 1, "wait_for_async_insert": 0, "insert_deduplicate": 0,
    "deduplicate_insert": "disable", "deduplicate_blocks_in_dependent_materialized_views": 0,
    "use_strict_insert_block_limits": 1, "max_insert_block_size": 100, "max_block_size": 100,
    "max_insert_block_size_bytes": 1000, "min_insert_block_size_rows": 10,
    "min_insert_block_size_bytes": 100, "max_insert_threads": 4,
    "max_partitions_per_insert_block": 2, "materialized_views_ignore_errors": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def own_clickhouse(servers_dir):
    """The program cuts connections, at which a ClickHouse may abort some seconds later, and kills it.

    User `hostile` has the settings above; `fixed` may not change one of them, and `reader` none.
    """
    users = dict.fromkeys(("hostile", "fixed", "reader"), "")
    profiles = {"hostile": HOSTILE, "fixed": {"async_insert": (1,)}, "reader": {"readonly": 1}}
    with ClickHouse(servers_dir / "components_clickhouse", die_with_parent=True, watchdog=True,
                    users=users, profiles=profiles) as server:  # fmt: skip
        yield server


@dataclass
class TestProgram:
    """A GoogleTest program, and where it learns of its server."""

    __test__ = False

    path: str
    variable: str
    server: str  # the fixture, and how its address is got of it
    address: object
    pid_variable: str = ""  # for a program that kills its server
    output: str = field(default=None, init=False)
    ending: str = field(default="", init=False)

    @property
    def name(self):
        return self.path.rpartition("/")[2]

    def cases(self):
        """Its cases; the program itself if it cannot say, so that there is a test to fail."""
        try:
            result = subprocess.run(
                [BUILD / self.path, "--gtest_list_tests"],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return [None]
        suite, names = "", []
        for line in result.stdout.splitlines():
            name = line.partition("#")[0].rstrip()
            if name.startswith("  "):
                names.append(suite + name.strip())
            elif name.endswith("."):
                suite = name
        return names or [None]

    def run(self, server):
        if self.output is not None:
            return
        command = [BUILD / self.path, "--gtest_color=no"]
        environment = {**os.environ, self.variable: self.address(server)}
        if self.pid_variable:
            environment[self.pid_variable] = str(server.pid)
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as child:  # fmt: skip
            try:
                output = child.communicate(timeout=TIMEOUT)[0]
            except subprocess.TimeoutExpired:
                child.kill()
                output = child.communicate()[0]
                self.ending = f"it was killed after {TIMEOUT} s"
        self.ending = self.ending or f"its exit status was {child.returncode}"
        self.output = output.decode(errors="replace")

    def check(self, case):
        """Raises with the case's output unless it passed."""
        if re.search(rf"\[ +OK \] {re.escape(case)} \(", self.output):
            return
        begin = self.output.find(f"[ RUN      ] {case}\n")
        if begin < 0:
            raise AssertionError(
                f"{self.name} did not come to {case}: {self.ending}\n{self.output[-TAIL:]}"
            )
        end = re.compile(rf"\[  (FAILED|SKIPPED) +\] {re.escape(case)}\b")
        failed = end.search(self.output, begin)
        text = self.output[begin : failed.end() if failed else None]
        ending = "" if failed else f"\n{self.name} ended within it: {self.ending}"
        raise AssertionError(text[-TAIL:] + ending)


PROGRAMS = [
    TestProgram("sources/postgres/sources_postgres_integration_test", "MILLRACE_TEST_POSTGRES_URL",
                "postgres", lambda server: server.superuser_url),
    TestProgram("sinks/redis/sinks_redis_integration_test", "MILLRACE_TEST_REDIS_URL",
                "own_redis", str),
    TestProgram("sinks/kafka/sinks_kafka_integration_test", "MILLRACE_TEST_KAFKA_BROKERS",
                "kafka", lambda server: server.brokers),
    TestProgram("sinks/clickhouse/sinks_clickhouse_integration_test",
                "MILLRACE_TEST_CLICKHOUSE_URL", "own_clickhouse", lambda server: server.url,
                "MILLRACE_TEST_CLICKHOUSE_PID"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "case"),
    [
        pytest.param(program, case, id=f"{program.name}-{case or 'built'}")
        for program in PROGRAMS
        for case in program.cases()
    ],
)
def test_component(program, case, request):
    assert case is not None, f"{BUILD / program.path} is not built, or it lists no case"
    program.run(request.getfixturevalue(program.server))
    program.check(case)


def test_all_programs_are_known():
    """A new program of this kind is added above, or it would never run."""
    built = {path.name for path in BUILD.rglob("*_integration_test") if path.is_file()}
    assert built <= {program.name for program in PROGRAMS}
