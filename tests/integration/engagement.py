# SPDX-License-Identifier: Apache-2.0
"""The engagement example under test: a source with an oracle, a pipeline, and what its sinks hold.

The oracle is SQL in PostgreSQL. A trigger logs each change of engagement_events as the output that it
must give, and finish() at the end of each transaction joins that transaction's entries with the
content of that moment: as of its commit, in commit order, which it makes that of several sessions by
letting them commit one by one. A rollback takes its entries along. The tables of the oracle are not
published.
"""

import json
import os
import time
import urllib.parse
import uuid
from datetime import datetime, timezone
from pathlib import Path

import psycopg2
import psycopg2.extras

from servers import Millrace

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("MILLRACE_PROGRAM", ROOT / "build/release/millrace")).absolute()

ORACLE = """
CREATE TABLE oracle (
  seq bigserial PRIMARY KEY, tx xid8 NOT NULL DEFAULT pg_current_xact_id(), committed bigint, op text NOT NULL,
  event_id bigint NOT NULL, content_id uuid, user_id uuid, event_type text, event_ts timestamptz,
  duration_ms integer, device text, raw_payload jsonb, content_slug text, content_title text,
  content_type text, length_seconds integer, publish_ts timestamptz,
  engagement_seconds float8, engagement_percent float8);
CREATE INDEX ON oracle (tx);
CREATE SEQUENCE oracle_commits;

CREATE FUNCTION oracle_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.id <> OLD.id) THEN
    INSERT INTO oracle (op, event_id) VALUES ('delete', OLD.id);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO oracle (op, event_id, content_id, user_id, event_type, event_ts, duration_ms, device,
                        raw_payload)
    VALUES ('upsert', NEW.id, NEW.content_id, NEW.user_id, NEW.event_type, NEW.event_ts,
            NEW.duration_ms, NEW.device, NEW.raw_payload);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER oracle AFTER INSERT OR UPDATE OR DELETE ON engagement_events
  FOR EACH ROW EXECUTE FUNCTION oracle_log();

CREATE FUNCTION oracle_finish() RETURNS void LANGUAGE plpgsql AS $$
DECLARE number bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(1);
  number := nextval('oracle_commits');
  UPDATE oracle o SET
    content_slug = c.slug, content_title = c.title, content_type = c.content_type,
    length_seconds = c.length_seconds, publish_ts = c.publish_ts,
    engagement_percent = round((100 * (o.duration_ms / 1000.0) / nullif(c.length_seconds, 0))::numeric, 2)
  FROM content c WHERE o.tx = pg_current_xact_id() AND c.id = o.content_id;
  UPDATE oracle SET engagement_seconds = duration_ms / 1000.0, committed = number
  WHERE tx = pg_current_xact_id();
END $$;
"""

CONFIG = """
pipeline: {pipeline}
data_dir: ./data
source:
  type: postgres
  url: {source}
  tables: [public.content, public.engagement_events]
  heartbeat_interval: 1s
streams:
  content_dim: {{from: public.content}}
  enriched_engagements:
    from: public.engagement_events
    lookup: [public.content]
    key: [event_id]
    sql: |
      SELECT e.id AS event_id, e.content_id, e.user_id, e.event_type, e.event_ts, e.duration_ms,
             e.device, e.raw_payload, c.slug AS content_slug, c.title AS content_title,
             c.content_type, c.length_seconds, c.publish_ts,
             e.duration_ms / 1000.0 AS engagement_seconds,
             round(100 * (e.duration_ms / 1000.0) / nullif(c.length_seconds, 0), 2)
               AS engagement_percent
      FROM engagement_events AS e LEFT JOIN content AS c ON c.id = e.content_id
sinks:
  warehouse:
    type: clickhouse
    url: {clickhouse}
    database: {database}
    batch: {{max_wait: 20ms}}
    tables:
      - {{stream: content_dim}}
      - {{stream: enriched_engagements, order_by: [event_ts, content_id, event_id]}}
  live:
    type: redis
    url: {redis}
    writes:
      - {{stream: enriched_engagements, xadd: "{prefix}enriched_events:{{content_type}}"}}
      - {{stream: content_dim, hset: "{prefix}content:{{id}}"}}
  events:
    type: kafka
    brokers: {kafka}
    topics:
      - {{stream: enriched_engagements, topic: {topic}, key: content_id, format: json}}
admin:
  listen: 127.0.0.1:{admin}
"""

COLUMNS = [
    "event_id", "content_id", "user_id", "event_type", "event_ts", "duration_ms", "device",
    "raw_payload", "content_slug", "content_title", "content_type", "length_seconds", "publish_ts",
    "engagement_seconds", "engagement_percent",
]  # fmt: skip
NUMBERS = {"event_id", "duration_ms", "length_seconds"}
FLOATS = {"engagement_seconds", "engagement_percent"}
TIMES = {"event_ts", "publish_ts"}


def to_time(text):
    """Seconds since 1970 of an ISO 8601 time or of ClickHouse's form, both UTC."""
    text = text.replace(" ", "T").rstrip("Z")
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def canonical(row):
    """A row of any origin, in values that compare."""
    result = {}
    for name in COLUMNS:
        value = row.get(name)
        if value is None:
            result[name] = None
        elif name in NUMBERS:
            result[name] = int(value)
        elif name in FLOATS:
            result[name] = round(float(value), 6)
        elif name in TIMES:
            result[name] = value.timestamp() if isinstance(value, datetime) else to_time(value)
        elif name == "raw_payload":
            result[name] = json.loads(value) if isinstance(value, str) else value
        else:
            result[name] = str(value)
    return result


def near(left, right):
    """Two canonical rows are one, but for how a half is rounded in engagement_percent."""
    for name in COLUMNS:
        a, b = left[name], right[name]
        if name == "engagement_percent" and a is not None and b is not None:
            if abs(a - b) > 0.0100001:
                return False
        elif a != b:
            return False
    return True


class Source:
    """The example's tables with the oracle, and one session that changes them."""

    def __init__(self, url, seed):
        import random

        self.url = url
        self.random = random.Random(seed)
        self.connection = psycopg2.connect(url)
        self.contents = []
        self.events = []
        schema = (ROOT / "examples/engagement/schema.sql").read_text(encoding="utf-8")
        self.execute(schema + ORACLE)
        self.connection.commit()

    def close(self):
        self.connection.close()

    def reconnect(self):
        """A session in place of one that broke: what it was committing is there or not."""
        self.connection.close()
        self.connection = psycopg2.connect(self.url)
        self.contents = [row[0] for row in self.execute("SELECT id::text FROM content ORDER BY id")]
        self.events = [row[0] for row in self.execute("SELECT id FROM engagement_events ORDER BY id")]
        self.connection.rollback()

    def execute(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else None

    def commit(self):
        self.execute("SELECT oracle_finish()")
        self.connection.commit()

    def rollback(self):
        self.connection.rollback()

    # Single changes, in the open transaction.

    def insert_content(self):
        content = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        self.execute(
            "INSERT INTO content VALUES (%s, %s, %s, %s, %s, %s)",
            (content, f"slug-{content[:13]}", self.text(30),
             self.random.choice(["podcast", "newsletter", "video", None]),
             self.random.choice([None, 0, 60, 3600, 777]), self.time()),
        )  # fmt: skip
        self.contents.append(content)
        return content

    def update_content(self, content):
        self.execute(
            "UPDATE content SET title = %s, length_seconds = %s, content_type = %s WHERE id = %s",
            (self.text(20), self.random.randrange(1, 5000),
             self.random.choice(["podcast", "newsletter", "video", None]), content),
        )  # fmt: skip

    def insert_event(self, content=None):
        rows = self.execute(
            "INSERT INTO engagement_events (content_id, user_id, event_type, event_ts, duration_ms,"
            " device, raw_payload) VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (content or (self.random.choice(self.contents) if self.random.random() < 0.95 else None),
             str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
             self.random.choice(["play", "pause", "finish", "click"]), self.time(),
             self.random.choice([None, self.random.randrange(0, 600000)]),
             self.random.choice(["ios", "android", "web", None, "quote \" tab \t \\ \u00e9\u4e2d"]),
             json.dumps({"n": self.random.random(), "s": self.text(10)})
             if self.random.random() < 0.8 else None),
        )  # fmt: skip
        self.events.append(rows[0][0])
        return rows[0][0]

    def update_event(self, event):
        self.execute(
            "UPDATE engagement_events SET duration_ms = %s, device = %s,"
            " event_ts = CASE WHEN %s THEN event_ts + interval '1 second' ELSE event_ts END,"
            " content_id = CASE WHEN %s THEN %s ELSE content_id END WHERE id = %s",
            (self.random.randrange(0, 600000), self.text(5), self.random.random() < 0.3,
             self.random.random() < 0.3, self.random.choice(self.contents), event),
        )  # fmt: skip

    def move_event(self, event):
        new = 10_000_000 + event
        self.execute("UPDATE engagement_events SET id = %s WHERE id = %s", (new, event))
        self.events.remove(event)
        self.events.append(new)

    def delete_event(self, event):
        self.execute("DELETE FROM engagement_events WHERE id = %s", (event,))
        self.events.remove(event)

    def delete_content(self):
        """One that no event names any more."""
        rows = self.execute(
            "DELETE FROM content WHERE id = (SELECT c.id FROM content c WHERE NOT EXISTS"
            " (SELECT FROM engagement_events e WHERE e.content_id = c.id) LIMIT 1) RETURNING id"
        )
        gone = {str(content) for (content,) in rows}
        self.contents = [content for content in self.contents if content not in gone]

    def random_transaction(self, changes=8):
        """Changes of every kind, a reference change among them; some roll back."""
        contents, events = list(self.contents), list(self.events)
        for _ in range(self.random.randrange(1, changes)):
            kind = self.random.random()
            if kind < 0.5 or not self.events:
                self.insert_event()
            elif kind < 0.65:
                self.update_event(self.random.choice(self.events))
            elif kind < 0.72:
                self.delete_event(self.random.choice(self.events))
            elif kind < 0.75:
                self.move_event(self.random.choice([e for e in self.events if e < 10_000_000] or self.events))
            elif kind < 0.85:
                self.update_content(self.random.choice(self.contents))
            elif kind < 0.95:
                # Named before it is changed again: the event sees what the transaction leaves.
                content = self.insert_content()
                self.insert_event(content)
                self.update_content(content)
            elif kind < 0.97:
                self.delete_content()
            else:
                self.execute("SAVEPOINT s")
                events_inside = list(self.events)
                self.insert_event()
                self.execute("ROLLBACK TO SAVEPOINT s")
                self.events = events_inside
        if self.random.random() < 0.1:
            self.rollback()
            self.contents, self.events = contents, events
        else:
            self.commit()

    def text(self, size):
        return "".join(self.random.choice("abcdefgh \u00fc") for _ in range(size))

    def time(self):
        return datetime.fromtimestamp(
            1_700_000_000 + self.random.randrange(0, 10_000_000_000_000) / 1e6, timezone.utc
        )

    # What the sinks must hold.

    def outputs(self):
        """Every output of enriched_engagements, in commit order."""
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute("SELECT * FROM oracle ORDER BY committed, seq")
            rows = cursor.fetchall()
        self.connection.rollback()
        return [(row["op"], canonical(row)) for row in rows]

    def contents_now(self):
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute("SELECT * FROM content ORDER BY id")
            rows = cursor.fetchall()
        self.connection.rollback()
        return [dict(row) for row in rows]


class Pipeline:
    """A pipeline of the example on servers of the test, with readers of its sinks."""

    def __init__(self, directory, name, source_url, clickhouse, redis_server, kafka, database, prefix,
                 topic, config=CONFIG):  # fmt: skip
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.clickhouse, self.redis, self.kafka = clickhouse, redis_server, kafka
        self.database, self.prefix, self.topic = database, prefix, topic
        self.config = self.directory / "millrace.yaml"
        self.process = Millrace(self.directory / "process", PROGRAM, self.config, die_with_parent=True)
        secret = clickhouse.users.get("default", "")
        address = urllib.parse.urlparse(clickhouse.url)
        self.config.write_text(
            config.format(
                pipeline=name, source=source_url,
                clickhouse=f"http://default:{secret}@{address.netloc}", database=database,
                redis=redis_server.url, prefix=prefix, kafka=kafka.brokers, topic=topic,
                admin=self.process.port,
            ),
            encoding="utf-8",
        )  # fmt: skip

    def status(self):
        return json.loads(self.process.get("/api/v1/status")[1])

    def wait_delivered(self, source, timeout=60):
        """Until all that is committed in `source` now is durable in every sink."""
        with psycopg2.connect(source.url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            target = int(cursor.fetchone()[0])
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            high, low = status["source"]["confirmed_lsn"].split("/")
            confirmed = (int(high, 16) << 32) + int(low, 16)
            if confirmed >= target and all(sink["lag_rows"] == 0 for sink in status["sinks"]):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not delivered within {timeout} s: {json.dumps(status)}")
            time.sleep(0.05)

    # Sinks

    def clickhouse_rows(self, table="enriched_engagements", final=True, where="1"):
        text = self.clickhouse.query(
            f"SELECT * FROM {self.database}.{table}{' FINAL' if final else ''} WHERE {where}"
            " FORMAT JSONEachRow",
            output_format_json_quote_64bit_integers=0,
            session_timezone="UTC",
        )
        return [json.loads(line) for line in text.splitlines()]

    def redis_entries(self):
        """All entries of all the stream's keys, in order of their version: (key, fields)."""
        import redis

        entries = []
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            for key in client.scan_iter(f"{self.prefix}enriched_events:*"):
                entries += [(key, fields) for _, fields in client.xrange(key)]
        return sorted(entries, key=lambda entry: (int(entry[1]["_version"]), "_deleted" not in entry[1]))

    def kafka_messages(self, topic=None):
        """Every message of a topic, ours unless given, that a read_committed consumer sees: (key, value)."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.kafka.brokers, "group.id": f"test-{uuid.uuid4().hex}",
            "isolation.level": "read_committed", "enable.partition.eof": True,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        })  # fmt: skip
        messages = []
        try:
            consumer.assign([TopicPartition(topic or self.topic, 0, 0)])
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                message = consumer.poll(1.0)
                if message is None:
                    continue
                if message.error():
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    return messages
                key = message.key().decode() if message.key() is not None else None
                value = json.loads(message.value()) if message.value() is not None else None
                messages.append((key, value))
            raise AssertionError("Kafka's topic was not read to its end within 60 s")
        finally:
            consumer.close()


def check_sinks(source, pipeline):
    """Every sink equals the oracle: nothing lost, doubled, reordered or torn."""
    for name in ("warehouse", "live", "events"):
        check_sink(source, pipeline, name)


def check_sink(source, pipeline, name):
    """One sink, by its name in the configuration, equals the oracle."""
    checks = {"warehouse": check_warehouse, "live": check_live, "events": check_events}
    checks[name](source, pipeline, source.outputs())


def check_warehouse(source, pipeline, outputs):
    final = {}
    for op, row in outputs:
        if op == "delete":
            final.pop(row["event_id"], None)
        else:
            final[row["event_id"]] = row

    rows = {}
    for row in pipeline.clickhouse_rows():
        assert row["event_id"] not in rows, f"event {row['event_id']} stands twice in ClickHouse"
        rows[row["event_id"]] = canonical(row)
    assert rows.keys() == final.keys()
    different = [key for key in final if not near(final[key], rows[key])]
    assert not different, f"{different[:3]}: {final[different[0]]} != {rows[different[0]]}"

    contents = {str(row["id"]): row for row in source.contents_now()}
    mirrored = {row["id"]: row for row in pipeline.clickhouse_rows("content_dim")}
    assert mirrored.keys() == contents.keys()
    for key, row in contents.items():
        for name in ("slug", "title", "content_type", "length_seconds"):
            assert mirrored[key][name] == row[name]
        assert to_time(mirrored[key]["publish_ts"]) == row["publish_ts"].timestamp()


def check_live(_, pipeline, outputs):
    check_log(outputs, [fields for _, fields in pipeline.redis_entries()], "Redis")
    for key, fields in pipeline.redis_entries():
        assert key == f"{pipeline.prefix}enriched_events:{fields.get('content_type', 'unknown')}"


def check_events(_, pipeline, outputs):
    # A delete whose topic key is not the stream's key has no tombstone behind it.
    messages = pipeline.kafka_messages()
    check_log(outputs, [value for _, value in messages], "Kafka")
    for key, value in messages:
        assert key == value.get("content_id")


def check_log(outputs, entries, where):
    """A log of outputs holds each exactly once, in commit order."""
    versions = [int(entry["_version"]) for entry in entries]
    assert versions == sorted(versions), f"{where}: not in commit order"
    assert len(entries) == len(outputs), f"{where}: {len(entries)} entries for {len(outputs)} outputs"
    for (op, row), entry in zip(outputs, entries):
        if op == "delete":
            assert entry.get("_deleted") in (True, "1", 1), f"{where}: no delete: {entry}"
            assert int(entry["event_id"]) == row["event_id"]
        else:
            assert "_deleted" not in entry
            assert near(row, canonical(entry)), f"{where}: {row} != {canonical(entry)}"


__all__ = ["Pipeline", "Source", "check_sink", "check_sinks"]
