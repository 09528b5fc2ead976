# SPDX-License-Identifier: Apache-2.0
"""Looks at the engagement pipeline that setup.sh started.

  first-results   waits until all three sinks have rows and prints a few of them
  smoke           writes marked rows into PostgreSQL and follows them into every sink

Reads the variables of var/local/env from the environment.
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import psycopg2
import redis
from confluent_kafka import Consumer, TopicPartition

TOPIC = "enriched_engagement_events"
FIRST_RESULTS_TIMEOUT = 120
# The whole smoke test stays below half a minute.
SMOKE_TIMEOUT = 20
CONTENT_TYPES = ("podcast", "newsletter", "video", "unknown")


def clickhouse(sql):
    request = urllib.request.Request(
        f"http://{os.environ['CLICKHOUSE_ADDRESS']}/",
        data=sql.encode(),
        headers={
            "X-ClickHouse-User": "millrace",
            "X-ClickHouse-Key": os.environ["CH_PASSWORD"],
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def redis_client():
    return redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=10)


def consumer():
    return Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "group.id": f"pipeline-check-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 3,
        }
    )


def partitions(reader):
    """The topic's partitions, each with its first and its next offset."""
    found = []
    topic = reader.list_topics(TOPIC, timeout=10).topics.get(TOPIC)
    for number in topic.partitions if topic and not topic.error else ():
        low, high = reader.get_watermark_offsets(TopicPartition(TOPIC, number), timeout=10)
        found.append((number, low, high))
    return found


# --- First results -------------------------------------------------------------------------------


def clickhouse_rows():
    return clickhouse(
        "SELECT event_id, event_type, content_type, content_title, engagement_seconds,"
        " engagement_percent FROM app.enriched_engagements ORDER BY event_id DESC LIMIT 3"
        " FORMAT PrettyCompactMonoBlock SETTINGS output_format_pretty_row_numbers = 0"
    ).splitlines()


def redis_rows():
    with redis_client() as client:
        for content_type in CONTENT_TYPES:
            entries = client.xrevrange(f"enriched_events:{content_type}", count=2)
            if entries:
                return [f"enriched_events:{content_type} {key} {fields}" for key, fields in entries]
    return []


def kafka_rows():
    reader = consumer()
    try:
        for number, low, high in partitions(reader):
            # A transaction's end takes an offset too, hence a few more than are shown.
            start = max(low, high - 20)
            reader.assign([TopicPartition(TOPIC, number, start)])
            values = []
            while len(values) < 2:
                message = reader.poll(3)
                if message is None:
                    break
                if not message.error():
                    values.append(f"{message.key().decode()} {message.value().decode()}")
            if values:
                return values
    finally:
        reader.close()
    return []


SINKS = (("ClickHouse", clickhouse_rows), ("Redis", redis_rows), ("Kafka", kafka_rows))


def first_results():
    deadline = time.monotonic() + FIRST_RESULTS_TIMEOUT
    for name, rows in SINKS:
        problem, found = "it has no rows", []
        while not found:
            try:
                found = rows()
            except Exception as error:  # pylint: disable=broad-except  # any client's, until the deadline
                problem = describe(error)
            if not found:
                if not is_alive():
                    sys.exit("error: Millrace has ended; see var/log/millrace.log, and run ./setup.sh again.")
                if time.monotonic() > deadline:
                    sys.exit(
                        f"error: no result came to {name} in {FIRST_RESULTS_TIMEOUT} s ({problem});"
                        " see var/log/millrace.log."
                    )
                time.sleep(0.3)
        print(f"{name}:")
        for row in found:
            print(f"  {row if len(row) <= 300 else row[:297] + '...'}")
    return 0


def is_alive():
    host, _, port = os.environ["MILLRACE_ADMIN_LISTEN"].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            return True
    except ConnectionRefusedError:
        return False


def describe(error):
    if isinstance(error, urllib.error.HTTPError):
        return error.read().decode().strip()
    return f"{type(error).__name__}: {error}"


# --- Smoke test ----------------------------------------------------------------------------------


class Smoke:
    def __init__(self):
        self.content = str(uuid.uuid4())
        self.user = str(uuid.uuid4())
        self.event = None
        self.passed = 0
        self.failed = 0
        self.reader = consumer()

    def check(self, name, condition):
        """Waits until `condition` gives a true value, and counts how that went."""
        started, problem = time.monotonic(), "it did not come true"
        while True:
            try:
                if condition():
                    self.passed += 1
                    print(f"ok      {name} ({time.monotonic() - started:.2f} s)", flush=True)
                    return
            except Exception as error:  # pylint: disable=broad-except  # any client's, until the deadline
                problem = describe(error)
            if time.monotonic() > self.deadline:
                self.failed += 1
                print(f"FAILED  {name}: {problem}", flush=True)
                return
            time.sleep(0.05)

    def run(self):
        self.deadline = time.monotonic() + SMOKE_TIMEOUT
        self.check("readyz is 200", self.is_ready)
        self.check("the topic exists", self.follow_topic)
        self.check("PostgreSQL takes a marked row", self.insert)
        self.check("ClickHouse has it, enriched", self.in_clickhouse)
        self.check("Redis has it", self.in_redis)
        self.check("Kafka has it", self.in_kafka)
        self.check("PostgreSQL deletes it", self.delete)
        self.check("ClickHouse has deleted it", self.gone_from_clickhouse)
        self.reader.close()
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0

    def is_ready(self):
        url = f"http://{os.environ['MILLRACE_ADMIN_LISTEN']}/readyz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200

    def follow_topic(self):
        ends = [TopicPartition(TOPIC, number, high) for number, _, high in partitions(self.reader)]
        self.reader.assign(ends)
        return ends

    def sql(self, statements):
        with psycopg2.connect(os.environ["DATABASE_URL"]) as connection:
            with connection.cursor() as cursor:
                for text, values in statements:
                    cursor.execute(text, values)
                return cursor.fetchone() if cursor.description else None

    def insert(self):
        self.event = self.sql(
            [
                ("INSERT INTO content VALUES (%s, %s, 'Smoke test', 'podcast', 100, now())",
                 (self.content, f"smoke-{self.content}")),
                ("INSERT INTO engagement_events (content_id, user_id, event_type, event_ts,"
                 " duration_ms, device, raw_payload)"
                 " VALUES (%s, %s, 'play', now(), 50000, 'smoke', '{}') RETURNING id",
                 (self.content, self.user)),
            ]
        )[0]  # fmt: skip
        return self.event

    def in_clickhouse(self):
        row = clickhouse(
            "SELECT content_title, engagement_seconds, engagement_percent FROM"
            f" app.enriched_engagements FINAL WHERE event_id = {int(self.event)} FORMAT TSV"
        )
        return row == "Smoke test\t50\t50\n"

    def in_redis(self):
        with redis_client() as client:
            entries = client.xrevrange("enriched_events:podcast", count=20000)
        return any(fields.get("user_id") == self.user for _, fields in entries)

    def in_kafka(self):
        for message in self.reader.consume(1000, timeout=0.2):
            if not message.error() and message.value():
                if json.loads(message.value()).get("user_id") == self.user:
                    return True
        return False

    def delete(self):
        self.sql(
            [
                ("DELETE FROM engagement_events WHERE id = %s", (self.event,)),
                ("DELETE FROM content WHERE id = %s", (self.content,)),
            ]
        )
        return True

    def gone_from_clickhouse(self):
        event = clickhouse(
            f"SELECT count() FROM app.enriched_engagements FINAL WHERE event_id = {int(self.event)}"
        )
        content = clickhouse(
            f"SELECT count() FROM app.content_dim FINAL WHERE id = '{self.content}'"
        )
        return (event, content) == ("0\n", "0\n")


def main(arguments):
    if arguments == ["first-results"]:
        return first_results()
    if arguments == ["smoke"]:
        return Smoke().run()
    print(__doc__.strip(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
