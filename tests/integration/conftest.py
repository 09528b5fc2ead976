# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests: real servers, and a place of its own in them for each test.

The servers start when the first test asks for them and end with the test run, also when it is
killed. A test that kills or reconfigures a server starts one of its own instead.
"""

import re
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from servers import ClickHouse, Kafka, Postgres, Redis  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "case(number, ...): the cases of docs/CASES.md that it covers")


def _started(server):
    server.start()
    yield server
    server.stop(timeout=10)


@pytest.fixture(scope="session")
def servers_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres(servers_dir):
    yield from _started(Postgres(servers_dir / "postgres", die_with_parent=True))


@pytest.fixture(scope="session")
def redis_server(servers_dir):
    yield from _started(Redis(servers_dir / "redis", die_with_parent=True))


@pytest.fixture(scope="session")
def clickhouse(servers_dir):
    server = ClickHouse(servers_dir / "clickhouse", die_with_parent=True, watchdog=True)
    yield from _started(server)


@pytest.fixture(scope="session")
def kafka(servers_dir):
    yield from _started(Kafka(servers_dir / "kafka", die_with_parent=True))


@pytest.fixture
def unique_name(request):
    """A name that no other test has and that every server takes: [a-z][a-z0-9_]{0,39}."""
    stem = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower())[:28].strip("_")
    return f"{stem}_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def database(postgres, unique_name):
    """The URL of an empty database that role `app` owns; its slots go with it."""
    yield postgres.create_database(unique_name)
    postgres.drop_database(unique_name)


@pytest.fixture
def clickhouse_database(clickhouse, unique_name):
    """The name of an empty database."""
    clickhouse.query(f"CREATE DATABASE {unique_name}")
    yield unique_name
    clickhouse.query(f"DROP DATABASE {unique_name} SYNC")


@pytest.fixture
def redis_prefix(redis_server, unique_name):
    """A key prefix; its keys are removed after the test."""
    import redis

    yield f"{unique_name}:"
    with redis.Redis.from_url(redis_server.url) as client:
        for key in client.scan_iter(f"{unique_name}:*"):
            client.delete(key)


@pytest.fixture
def topic_prefix(kafka, unique_name):
    """A prefix for topics; its topics are removed after the test."""
    from confluent_kafka.admin import AdminClient

    yield f"{unique_name}_"
    admin = AdminClient({"bootstrap.servers": kafka.brokers})
    topics = [name for name in admin.list_topics(timeout=10).topics if name.startswith(unique_name)]
    if topics:
        for future in admin.delete_topics(topics).values():
            future.result()
