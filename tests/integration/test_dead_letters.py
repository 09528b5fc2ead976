# SPDX-License-Identifier: Apache-2.0
"""Rows that a sink cannot take are kept, others are delivered, and a retry comes once."""

import json
import signal
import subprocess
import time
from collections import Counter

import psycopg2
import pytest
import redis as redis_client

from engagement import PROGRAM, Pipeline

CONFIG = """
pipeline: {pipeline}
data_dir: ./data
source:
  type: postgres
  url: {source}
  tables: [public.notes]
  heartbeat_interval: 1s
streams:
  notes: {{from: public.notes, on_error: dead_letter}}
sinks:
  warehouse:
    type: clickhouse
    url: {clickhouse}
    database: {database}
    batch: {{max_wait: 20ms}}
    tables: [{{stream: notes}}]
  live:
    type: redis
    url: {redis}
    writes:
      - {{stream: notes, hset: "{prefix}note:{{id}}"}}
      - {{stream: notes, xadd: "{prefix}log"}}
  events:
    type: kafka
    brokers: {kafka}
    topics: [{{stream: notes, topic: {topic}, key: id}}]
admin:
  listen: 127.0.0.1:{admin}
"""
SECRET = "not-for-the-log"
TOO_LATE = "2999-01-01"  # ClickHouse holds times up to 2299
TOO_LONG = 1_100_000  # Kafka's topics take 1 MB


class Notes:
    """A pipeline of one table, and what its sinks hold of it."""

    def __init__(self, *arguments):
        self.pipeline = Pipeline(*arguments, config=CONFIG)
        self.process = self.pipeline.process
        self.redis = redis_client.Redis.from_url(self.pipeline.redis.url, decode_responses=True)
        self.connection = psycopg2.connect(arguments[2])
        self.connection.autocommit = True
        self.sql("CREATE TABLE notes (id int PRIMARY KEY, at timestamptz, text text)")
        self.url = arguments[2]

    def close(self):
        self.process.kill()
        self.connection.close()
        self.redis.close()

    def sql(self, statement, *parameters):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    def insert(self, number, at="2024-01-01", text=SECRET):
        self.sql("INSERT INTO notes VALUES (%s, %s, %s)", number, at, text)

    def wait(self):
        self.pipeline.wait_delivered(self)

    def dlq(self, *arguments):
        result = subprocess.run([PROGRAM, "dlq", "-c", self.pipeline.config, *arguments],
                                capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    def letters(self):
        """Sink and state of each."""
        lines = map(json.loads, self.dlq("list", "--json").splitlines())
        return sorted((line["sink"], line["state"]) for line in lines)

    def in_clickhouse(self):
        """Ids, each as often as it is there: nothing hides a double."""
        return Counter(row["id"] for row in self.pipeline.clickhouse_rows("notes", final=False))

    def in_redis(self):
        hashes = {int(key.rsplit(":", 1)[1]) for key in self.redis.scan_iter(f"{self.pipeline.prefix}note:*")
                  if self.redis.type(key) == "hash"}  # fmt: skip
        entries = Counter(int(fields["id"]) for _, fields in self.redis.xrange(f"{self.pipeline.prefix}log"))
        return hashes, entries

    def in_kafka(self):
        return Counter(value["id"] for _, value in self.pipeline.kafka_messages() if value is not None)

    def take_long_messages(self):
        from confluent_kafka.admin import AdminClient, ConfigResource

        topic = ConfigResource("topic", self.pipeline.topic, set_config={"max.message.bytes": "10000000"})
        admin = AdminClient({"bootstrap.servers": self.pipeline.kafka.brokers})
        for future in admin.alter_configs([topic]).values():
            future.result()


@pytest.fixture
def notes(tmp_path, database, unique_name, clickhouse, redis_server, kafka, clickhouse_database,
          redis_prefix, topic_prefix):  # fmt: skip
    notes = Notes(tmp_path, f"dlq_{unique_name[-8:]}", database, clickhouse, redis_server, kafka,
                  clickhouse_database, redis_prefix, f"{topic_prefix}notes")  # fmt: skip
    yield notes
    notes.close()


def spoil(notes):
    """A row that each of the sinks refuses, and no other does, among good ones."""
    notes.redis.rpush(f"{notes.pipeline.prefix}note:3", "another type")
    notes.sql(
        "INSERT INTO notes SELECT n, CASE n WHEN 2 THEN %s ELSE '2024-01-01' END::timestamptz,"
        " CASE n WHEN 4 THEN repeat('x', %s) ELSE %s END FROM generate_series(1, 6) n",
        TOO_LATE, TOO_LONG, SECRET,
    )  # fmt: skip


@pytest.mark.case(58)
def test_a_row_that_one_sink_refuses_is_kept_for_it_alone(notes):
    notes.process.start()
    spoil(notes)
    notes.wait()
    assert notes.in_clickhouse() == Counter([1, 3, 4, 5, 6])
    assert notes.in_redis() == ({1, 2, 4, 5, 6}, Counter([1, 2, 4, 5, 6]))
    assert notes.in_kafka() == Counter([1, 2, 3, 5, 6])
    open_letters = [("events", "open"), ("live", "open"), ("warehouse", "open")]
    assert notes.letters() == open_letters
    (stream,) = notes.pipeline.status()["streams"]
    assert stream["dead_letters"] == 3
    listed = notes.dlq("list")
    assert len(listed.splitlines()) == 3 and "public.notes" in listed and "column 'at'" in listed
    assert SECRET not in listed + notes.process.log_path.read_text()

    # A kill changes nothing, and data_dir answers while nothing runs.
    notes.process.kill()
    assert notes.letters() == open_letters
    shown = json.loads(notes.dlq("export", "--stream", "notes").splitlines()[0])
    assert shown["row"]["text"] and shown["row"]["id"] in (2, 3, 4)
    notes.process.start()
    notes.wait()
    assert notes.letters() == open_letters

    # The rows can be taken now, but for one, which changes at the source instead.
    notes.redis.delete(f"{notes.pipeline.prefix}note:3")
    notes.take_long_messages()
    notes.process.stop()  # the sink learns the topic's limit when it connects
    notes.process.start()
    notes.sql("UPDATE notes SET at = '2024-02-02' WHERE id = 2")
    notes.wait()
    assert notes.letters() == [("events", "open"), ("live", "open"), ("warehouse", "superseded")]
    assert notes.dlq("retry", "--all").startswith("2 will be delivered again; 1 superseded")
    notes.wait()
    twice = Counter([1, 2, 2, 3, 4, 5, 6])  # its insert and its update
    assert notes.in_clickhouse() == Counter([1, 2, 3, 4, 5, 6])
    assert notes.in_redis() == ({1, 2, 3, 4, 5, 6}, twice)
    assert notes.in_kafka() == twice
    assert notes.letters() == []


@pytest.mark.case(58)
def test_a_retry_of_a_stopped_pipeline_and_a_drop(notes):
    notes.process.start()
    spoil(notes)
    notes.wait()
    notes.process.stop()
    notes.redis.delete(f"{notes.pipeline.prefix}note:3")
    ids = {line["sink"]: str(line["id"]) for line in map(json.loads, notes.dlq("list", "--json").splitlines())}
    assert "when the pipeline runs" in notes.dlq("retry", ids["live"])
    assert notes.dlq("drop", ids["warehouse"], ids["events"]) == "2 dropped\n"
    notes.process.start()
    notes.wait()
    assert notes.letters() == []
    assert notes.in_clickhouse() == Counter([1, 3, 4, 5, 6])
    assert notes.in_redis() == ({1, 2, 3, 4, 5, 6}, Counter([1, 2, 3, 4, 5, 6]))
    assert notes.in_kafka() == Counter([1, 2, 3, 5, 6])


@pytest.mark.case(58, 59)
@pytest.mark.parametrize("failpoint, passes", [
    ("dead_letters.before_keep", 1), ("dead_letters.after_keep", 1), ("dead_letters.after_keep", 3),
])  # fmt: skip
def test_crash_while_a_letter_is_kept(notes, failpoint, passes):
    notes.process.environment = {"MILLRACE_FAILPOINT": f"{failpoint}:{passes}"}
    notes.process.start()
    spoil(notes)
    assert notes.process.wait_exit(30) == -signal.SIGKILL
    notes.process.environment = {}
    notes.process.start()
    notes.wait()
    assert notes.letters() == [("events", "open"), ("live", "open"), ("warehouse", "open")]
    assert notes.in_clickhouse() == Counter([1, 3, 4, 5, 6])
    assert notes.in_redis() == ({1, 2, 4, 5, 6}, Counter([1, 2, 4, 5, 6]))
    assert notes.in_kafka() == Counter([1, 2, 3, 5, 6])


@pytest.mark.case(58, 59)
@pytest.mark.parametrize("failpoint", [
    "dead_letters.before_send_again", "dead_letters.after_send_again", "sink_writer.after_deliver",
])  # fmt: skip
def test_crash_while_a_letter_is_sent_again(notes, failpoint):
    notes.process.start()
    spoil(notes)
    notes.wait()
    notes.process.stop()
    notes.redis.delete(f"{notes.pipeline.prefix}note:3")
    notes.dlq("retry", "--all")
    notes.process.environment = {"MILLRACE_FAILPOINT": f"{failpoint}:1"}
    notes.process.launch()
    assert notes.process.wait_exit(30) == -signal.SIGKILL
    notes.process.environment = {}
    notes.process.start()
    notes.wait()
    # What is refused again is a letter again.
    deadline = time.monotonic() + 10
    while notes.letters() != [("events", "open"), ("warehouse", "open")]:
        assert time.monotonic() < deadline, notes.letters()
        time.sleep(0.1)
    assert notes.in_redis() == ({1, 2, 3, 4, 5, 6}, Counter([1, 2, 3, 4, 5, 6]))
    assert notes.in_clickhouse() == Counter([1, 3, 4, 5, 6])
    assert notes.in_kafka() == Counter([1, 2, 3, 5, 6])
