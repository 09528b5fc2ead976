# SPDX-License-Identifier: Apache-2.0
"""The servers themselves do what the other tests build on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from servers import ClickHouse, Kafka, Postgres, Redis, ServerError

CLASSES = [Postgres, Redis, ClickHouse, Kafka]


def wait_for(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.05)


# --- PostgreSQL ----------------------------------------------------------------------------------


def test_postgres_decodes_logically_as_role_app(postgres, database, unique_name):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW wal_level")
        assert cursor.fetchone() == ("logical",)
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        cursor.execute("CREATE PUBLICATION p FOR TABLE t")
    postgres.sql(
        f"SELECT pg_create_logical_replication_slot('{unique_name}', 'pgoutput')",
        database=unique_name,
        user="app",
    )
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")
    changes = postgres.sql(
        f"SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{unique_name}', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'p')",
        database=unique_name,
    )
    assert int(changes[0]) >= 3


def test_postgres_keeps_committed_rows_over_kill(tmp_path):
    with Postgres(tmp_path / "postgres", die_with_parent=True) as server:
        server.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (7)")
        port = server.port
        server.kill()
        assert not server.is_running()
        server.start()
        assert server.port == port
        assert server.sql("SELECT id FROM t") == ["7"]


def test_postgres_starts_over_a_lock_file_of_a_reused_pid(tmp_path):
    with Postgres(tmp_path / "postgres", die_with_parent=True) as server:
        server.kill()
        lock = server.data / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        server.start()
        assert server.sql("SELECT 1") == ["1"]


def test_drop_database_takes_its_slots_along(postgres):
    postgres.create_database("dropped")
    postgres.sql("SELECT pg_create_logical_replication_slot('gone', 'pgoutput')", "dropped")
    postgres.drop_database("dropped")
    assert postgres.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'gone'") == []


# --- Redis ---------------------------------------------------------------------------------------


def test_redis_keeps_flushed_writes_over_kill(tmp_path):
    arguments = ["--appendfsync", "always"]
    with Redis(tmp_path / "redis", die_with_parent=True, arguments=arguments) as server:
        with redis.Redis.from_url(server.url) as client:
            client.xadd("stream", {"field": "value"})
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.xlen("stream") == 1


# --- ClickHouse ----------------------------------------------------------------------------------


def test_clickhouse_drops_a_repeated_insert_token(clickhouse, clickhouse_database):
    table = f"{clickhouse_database}.t"
    clickhouse.query(
        f"CREATE TABLE {table} (id Int64) ENGINE = MergeTree ORDER BY id"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )
    for token in ("one", "one", "two"):
        clickhouse.query(
            f"INSERT INTO {table} FORMAT TSV",
            body="1\n2\n",
            async_insert=0,
            insert_deduplicate=1,
            insert_deduplication_token=token,
        )
    assert clickhouse.query(f"SELECT count() FROM {table}") == "4\n"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_clickhouse_keeps_rows_and_tokens(tmp_path, end):
    with ClickHouse(tmp_path / "clickhouse", die_with_parent=True) as server:
        server.query("CREATE DATABASE app")
        server.query(
            "CREATE TABLE app.t (id Int64) ENGINE = MergeTree ORDER BY id"
            " SETTINGS non_replicated_deduplication_window = 1000"
        )
        insert = "INSERT INTO app.t FORMAT TSV"
        server.query(insert, body="1\n", insert_deduplication_token="one")
        getattr(server, end)()
        server.start()
        server.query(insert, body="1\n", insert_deduplication_token="one")
        assert server.query("SELECT count() FROM app.t") == "1\n"


def test_clickhouse_checks_passwords_and_grants(tmp_path):
    users = {"millrace": "s<cr&t", "reader": "r"}
    grants = {"reader": ["GRANT SELECT ON app.*"]}
    directory = tmp_path / "clickhouse"
    with ClickHouse(directory, die_with_parent=True, users=users, grants=grants) as server:
        assert server.query("SELECT currentUser()", user="millrace") == "millrace\n"
        with pytest.raises(ServerError, match="AUTHENTICATION_FAILED"):
            server.query("SELECT 1", user="nobody")
        server.query("CREATE DATABASE app", user="millrace")
        with pytest.raises(ServerError, match="ACCESS_DENIED"):
            server.query("CREATE DATABASE other", user="reader")


def test_clickhouse_watchdog_starts_it_again(tmp_path):
    with ClickHouse(tmp_path / "clickhouse", die_with_parent=True, watchdog=True) as server:
        watchdog = server.pid
        children = Path(f"/proc/{watchdog}/task/{watchdog}/children")
        first = children.read_text().split()
        os.kill(int(first[0]), signal.SIGKILL)
        wait_for(lambda: children.read_text().split() not in ([], first))
        server.wait_ready()
        assert server.pid == watchdog


# --- Kafka ---------------------------------------------------------------------------------------


def create_topic(server, name):
    admin = AdminClient({"bootstrap.servers": server.brokers})
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result()


def transactional_producer(server, name):
    producer = Producer({"bootstrap.servers": server.brokers, "transactional.id": name})
    producer.init_transactions(30)
    return producer


def read_committed(server, topic, count):
    consumer = Consumer(
        {
            "bootstrap.servers": server.brokers,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
        }
    )
    consumer.subscribe([topic])
    values, deadline = [], time.monotonic() + 30
    try:
        while len(values) < count:
            assert time.monotonic() < deadline, f"{topic} has {len(values)} of {count} messages"
            message = consumer.poll(0.5)
            if message is not None and not message.error():
                values.append(message.value().decode())
    finally:
        consumer.close()
    return values


def test_kafka_shows_committed_transactions_only(kafka, topic_prefix):
    topic = topic_prefix + "t"
    create_topic(kafka, topic)
    producer = transactional_producer(kafka, topic)
    for value, ends in (("a", "commit"), ("b", "abort"), ("c", "commit")):
        producer.begin_transaction()
        producer.produce(topic, value)
        # An abort shows nothing unless its message was written; and librdkafka 2.0 gives up for good
        # if it aborts while the broker still ends the transaction before.
        assert producer.flush(30) == 0
        getattr(producer, f"{ends}_transaction")(30)
    assert read_committed(kafka, topic, 2) == ["a", "c"]


def test_kafka_fences_the_older_producer(kafka, topic_prefix):
    topic = topic_prefix + "t"
    create_topic(kafka, topic)
    older = transactional_producer(kafka, topic)
    older.begin_transaction()
    older.produce(topic, "old")
    newer = transactional_producer(kafka, topic)
    with pytest.raises(KafkaException):
        older.commit_transaction(30)
    newer.begin_transaction()
    newer.produce(topic, "new")
    newer.commit_transaction(30)
    assert read_committed(kafka, topic, 1) == ["new"]


def test_kafka_keeps_messages_over_kill(tmp_path):
    with Kafka(tmp_path / "kafka", die_with_parent=True) as server:
        create_topic(server, "t")
        producer = transactional_producer(server, "t")
        producer.begin_transaction()
        producer.produce("t", "kept")
        producer.commit_transaction(30)
        server.kill()
        server.start()
        assert read_committed(server, "t", 1) == ["kept"]


# --- All -----------------------------------------------------------------------------------------


def test_another_object_finds_the_running_server(tmp_path):
    with Redis(tmp_path / "redis", die_with_parent=True) as server:
        other = Redis(tmp_path / "redis")
        assert (other.pid, other.port) == (server.pid, server.port)
        other.stop()
        assert not server.is_running()


def test_taken_port_is_named_with_its_owner(tmp_path, redis_server):
    with pytest.raises(ServerError, match=f"port {redis_server.port}.*redis-server.*choose another"):
        Redis(tmp_path / "redis", port=redis_server.port).start()


def test_failed_start_shows_the_log(tmp_path):
    with pytest.raises(ServerError, match="no-such-option"):
        Redis(tmp_path / "redis", arguments=["--no-such-option", "1"]).start()


@pytest.mark.parametrize("server_class", CLASSES)
def test_servers_die_with_the_test_run(tmp_path, server_class):
    """A killed test run leaves no server behind."""
    program = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).resolve().parents[2] / "tools")!r})
        from servers import {server_class.__name__}
        {server_class.__name__}({str(tmp_path / "server")!r}, die_with_parent=True).start()
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        server = server_class(tmp_path / "server")
        assert server.is_running()
        parent.kill()
    wait_for(lambda: not server.is_running())
