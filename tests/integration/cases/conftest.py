# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the case suite: each test runs on several versions of PostgreSQL.

A test that asks for `mirror` or `postgres` runs on 15 and 18, with `@pytest.mark.smoke` on 14, 16 and
17 too. `@pytest.mark.since(16)` leaves older ones out. MILLRACE_TEST_POSTGRES_VERSIONS=18 narrows a run
by hand. One server a version serves all tests; a test that needs settings of its own, or ends its
server, starts another with servers.Postgres.
"""

import os

import pytest
from servers import Postgres

from harness import Mirror

FULL = (15, 18)
SMOKE = (14, 16, 17)
# Small, so that a transaction of some hundred rows is streamed or spilled.
SETTINGS = {"logical_decoding_work_mem": "64kB", "max_prepared_transactions": "10", "fsync": "off"}


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: runs on every version of PostgreSQL")
    config.addinivalue_line("markers", "since(version): what it tests came with this PostgreSQL")


def pytest_generate_tests(metafunc):
    if "postgres" not in metafunc.fixturenames:
        return
    markers = {mark.name: mark for mark in metafunc.definition.iter_markers()}
    versions = FULL + SMOKE if "smoke" in markers else FULL
    chosen = os.environ.get("MILLRACE_TEST_POSTGRES_VERSIONS")
    if chosen:
        versions = [int(version) for version in chosen.split(",")]
    first = markers["since"].args[0] if "since" in markers else 0
    versions = [version for version in versions if version >= first]
    ids = [f"pg{version}" for version in versions]
    metafunc.parametrize("postgres", versions, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres(servers_dir, request):
    server = Postgres(servers_dir / f"postgres-{request.param}", die_with_parent=True,
                      settings=SETTINGS, version=request.param)  # fmt: skip
    server.start()
    yield server
    server.stop(timeout=10)


@pytest.fixture
def mirror(tmp_path, postgres, database, unique_name, clickhouse, clickhouse_database):
    """A database of its own and a pipeline that mirrors tables of it into ClickHouse."""
    mirror = Mirror(tmp_path, postgres, unique_name, clickhouse, clickhouse_database)
    yield mirror
    mirror.close()
