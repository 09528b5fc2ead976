# SPDX-License-Identifier: Apache-2.0
"""Random values of every type, from PostgreSQL to ClickHouse, Kafka and Redis, by snapshot and stream.

The seed is printed; MILLRACE_TEST_SEED sets another one. Values compare with PostgreSQL's own text, read
in a session whose settings are pinned here, while role and database of the pipeline have hostile ones.
"""

import json
import os
import random
import urllib.parse
import uuid

import psycopg2
import pytest
import type_values
from servers import Millrace, wait_for
from servers.process import free_port

from engagement import PROGRAM

SEED = int(os.environ.get("MILLRACE_TEST_SEED", "20260607"))
RANDOM_ROWS = 120
# Rows of the stream are copies of the snapshot's, so far apart.
STREAM_IDS = 1_000_000
PINNED = (
    "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'UTC';"
    " SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';"
    " SET search_path = ''; SET client_encoding = 'UTF8'; SET quote_all_identifiers = off;"
    " SET standard_conforming_strings = on; SET array_nulls = on; SET xmloption = content;"
    " SET default_transaction_read_only = off"
)
CONFIG = """\
pipeline: {name}
data_dir: ./data
source: {{type: postgres, url: "{url}", tables: [public.narrow, public.wide], heartbeat_interval: 1s}}
streams:
  narrow: {{from: public.narrow}}
  wide: {{from: public.wide}}
sinks:
  warehouse:
    type: clickhouse
    url: {clickhouse}
    database: {database}
    tables:
      - {{stream: narrow}}
      - {{stream: wide, as: {{{as_string}}}}}
  live:
    type: redis
    url: {redis}
    writes:
      - {{stream: narrow, hset: "{prefix}narrow:{{id}}"}}
      - {{stream: wide, hset: "{prefix}wide:{{id}}"}}
  events:
    type: kafka
    brokers: {kafka}
    topics:
      - {{stream: narrow, topic: {topic}narrow, key: id, format: json}}
      - {{stream: wide, topic: {topic}wide, key: id, format: json}}
admin: {{listen: "127.0.0.1:{port}"}}
"""


class Source:
    """Tables `narrow` and `wide`, and what PostgreSQL says that they hold."""

    def __init__(self, postgres, database):
        self.connection = psycopg2.connect(postgres.dsn(database, "postgres"))
        self.connection.autocommit = True
        self.sql(PINNED)
        self.version = self.connection.server_version // 10000
        self.sql("SET search_path = public")
        self.sql(type_values.PREPARE)
        self.tables = {
            "narrow": [c for c in type_values.COLUMNS if c.since <= self.version],
            "wide": type_values.WIDE_COLUMNS,
        }
        for table, columns in self.tables.items():
            listed = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self.sql(f'CREATE TABLE {table} (id int PRIMARY KEY, {listed})')
            self.sql(f'ALTER TABLE {table} OWNER TO app')
        for key, value in type_values.HOSTILE_SETTINGS.items():
            self.sql(f'ALTER ROLE app IN DATABASE "{database}" SET {key} = {value}')
        self.sql(f'ALTER DATABASE "{database}" SET lc_numeric = \'C\'')
        self.sql("SET search_path = ''")

    def sql(self, text, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []

    def fill(self, rng):
        for table, columns in self.tables.items():
            edges = max(len(column.edges) for column in columns)
            for row in range(edges + RANDOM_ROWS):
                values = []
                for column in columns:
                    if row < len(column.edges):
                        values.append(column.edges[row])
                    else:
                        values.append(None if rng.random() < 0.1 else column.draw(rng))
                casts = ", ".join(f"%s::{column.sql_type}" for column in columns)
                self.insert(table, f"SELECT {row + 1}, {casts}", values)
            self.insert(table, "VALUES (0)")

    def insert(self, table, what, values=None):
        names = ["id", *(column.name for column in self.tables[table])] if values else ["id"]
        self.sql(f'INSERT INTO public.{table} ({", ".join(names)}) {what}', values)

    def copy(self):
        """Every row once more, for the stream."""
        for table, columns in self.tables.items():
            names = ", ".join(column.name for column in columns)
            self.sql(f'INSERT INTO public.{table} (id, {names})'
                     f' SELECT id + {STREAM_IDS}, {names} FROM public.{table} ORDER BY id')  # fmt: skip

    def printed(self, table):
        """For each id, each column as PostgreSQL prints it; of arrays a JSON array of such texts."""
        shown = []
        for column in self.tables[table]:
            # IS NOT NULL would be false of a row of NULLs.
            # format() calls the type's output function; a cast of char(n) to text would cut blanks.
            show = "format('%%s', {0})".format
            if column.form == "array":
                text = (f"to_json(ARRAY(SELECT CASE WHEN e IS DISTINCT FROM NULL THEN {show('e')} END FROM"
                        f" unnest({column.name}) WITH ORDINALITY AS u(e, n) ORDER BY n))::text")  # fmt: skip
            else:
                text = show(column.name)
            shown.append(f"CASE WHEN {column.name} IS DISTINCT FROM NULL THEN {text} END")
        rows = self.sql(f'SELECT id, {", ".join(shown)} FROM public.{table}', ())
        return {row[0]: row[1:] for row in rows}


class Sinks:
    """A pipeline of both tables into every sink, and readers of these."""

    def __init__(self, directory, postgres, database, clickhouse, clickhouse_database, redis_server,
                 redis_prefix, kafka, topic_prefix):  # fmt: skip
        self.clickhouse, self.database = clickhouse, clickhouse_database
        self.redis, self.prefix = redis_server, redis_prefix
        self.kafka, self.topic = kafka, topic_prefix
        self.process = Millrace(directory / "process", PROGRAM, directory / "millrace.yaml",
                                free_port(), die_with_parent=True)  # fmt: skip
        secret = clickhouse.users.get("default", "")
        address = urllib.parse.urlparse(clickhouse.url)
        as_string = ", ".join(f"{column.name}: string" for column in type_values.WIDE_COLUMNS)
        (directory / "millrace.yaml").write_text(
            CONFIG.format(
                name=database[-30:].lstrip("_0123456789"), url=postgres.dsn(database),
                clickhouse=f"http://default:{secret}@{address.netloc}", database=clickhouse_database,
                as_string=as_string, redis=redis_server.url, prefix=redis_prefix,
                kafka=kafka.brokers, topic=topic_prefix, port=self.process.port,
            ),
            encoding="utf-8",
        )  # fmt: skip

    def wait(self, source):
        """Until all that is committed is in every sink."""
        ((target,),) = source.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")

        def is_delivered():
            status = json.loads(self.process.get("/api/v1/status")[1])
            high, low = status["source"]["confirmed_lsn"].split("/")
            confirmed = (int(high, 16) << 32) + int(low, 16)
            return confirmed >= target and all(sink["lag_rows"] == 0 for sink in status["sinks"])

        wait_for(is_delivered, "everything is delivered", 60)

    def clickhouse_rows(self, table, columns):
        """For each id, each column as JSON; bytes in hexadecimal."""
        shown = []
        for column in columns:
            if column.form == "bytes":
                shown.append(f"hex({column.name})")
            elif column.element == "bytes":
                shown.append(f"arrayMap(e -> hex(e), {column.name})")
            else:
                shown.append(column.name)
        text = self.clickhouse.query(
            f"SELECT id, {', '.join(shown)} FROM {self.database}.{table} FINAL"
            " FORMAT JSONCompactEachRow",
            output_format_json_quote_64bit_integers=0,
            output_format_json_quote_decimals=1,
            output_format_json_quote_denormals=1,
            output_format_decimal_trailing_zeros=1,
            session_timezone="UTC",
        )
        rows = [type_values.load_json(line) for line in text.splitlines()]
        assert len({row[0] for row in rows}) == len(rows), "a row stands twice"
        return {int(row[0]): row[1:] for row in rows}

    def kafka_rows(self, table):
        """For each id the fields of its one message."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.kafka.brokers, "group.id": uuid.uuid4().hex,
            "isolation.level": "read_committed", "enable.partition.eof": True,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        })  # fmt: skip
        rows = {}
        try:
            consumer.assign([TopicPartition(f"{self.topic}{table}", 0, 0)])
            while True:
                message = consumer.poll(30.0)
                assert message is not None, "Kafka's topic was not read to its end within 30 s"
                if message.error():
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    return rows
                fields = dict(type_values.load_json(message.value().decode("utf-8")))
                assert int(fields["id"]) not in rows, "a row came twice"
                rows[int(fields["id"])] = fields
        finally:
            consumer.close()

    def redis_rows(self, table):
        """For each id the fields of its hash, as bytes."""
        import redis

        with redis.Redis.from_url(self.redis.url) as client:
            keys = list(client.scan_iter(f"{self.prefix}{table}:*", count=1000))
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hgetall(key)
                return {int(key.rsplit(b":", 1)[1]): fields for key, fields in zip(keys, pipeline.execute())}


def in_clickhouse(column, printed, is_string):
    """(form, value) of what ClickHouse's JSON output must show."""
    form, element = column.form, column.element
    want = type_values.as_json(form, printed, element)
    if form == "array" and not is_string:
        # The one exception: there is no NULL array.
        elements = [] if printed is None else json.loads(printed)
        return form, [clickhouse_value(element, value) for value in elements]
    if is_string:
        return "text", want if not isinstance(want, list) else json.dumps(want, separators=(",", ":"))
    return form, clickhouse_value(form, printed)


def clickhouse_value(form, printed):
    if printed is None or form == "json":
        return printed  # JSON is kept as its text, to the letter
    want = type_values.as_json(form, printed)
    if form == "bytes":
        return printed[2:].upper()
    if form in ("timestamp", "timestamptz"):
        day, clock = want.rstrip("Z").split("T")
        whole, _, fraction = clock.partition(".")
        return f"{day} {whole}.{fraction:0<6}"
    if want in ("Infinity", "-Infinity", "NaN") and form in ("float4", "float8"):
        return {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}[want]
    return want


def redis_text(column, printed):
    """The bytes of the hash's field; nothing for NULL."""
    if printed is None:
        return None
    form = column.form
    want = type_values.as_json(form, printed, column.element)
    if form == "bool":
        return b"true" if want else b"false"
    if form == "json":
        return printed.encode()
    return want.encode()


def differences(table, columns, printed, sinks):
    """One line for each value that is not in a sink as PostgreSQL has it."""
    clickhouse = sinks.clickhouse_rows(table, columns)
    kafka = sinks.kafka_rows(table)
    live = sinks.redis_rows(table)
    for rows in (clickhouse, kafka, live):
        assert rows.keys() == printed.keys()
    for row, texts in printed.items():
        for number, (column, text) in enumerate(zip(columns, texts)):
            place = f"{table}.{column.name} of row {row}"
            form, want = in_clickhouse(column, text, table == "wide")
            have = clickhouse[row][number]
            if not type_values.same(form, want, have, column.element):
                yield f"ClickHouse: {place}: {want!r} is {have!r}"
            want = type_values.as_json(column.form, text, column.element)
            have = kafka[row][column.name]
            if not type_values.same(column.form, want, have, column.element):
                yield f"Kafka: {place}: {want!r} is {have!r}"
            have = live[row].get(column.name.encode())
            if column.form in ("array", "float4", "float8") and have is not None:
                bare = have.decode()
                is_word = bare in ("NaN", "Infinity", "-Infinity")
                value = bare if is_word else type_values.load_json(bare)
                if type_values.same(column.form, want, value, column.element):
                    continue
            elif have == redis_text(column, text):
                continue
            yield f"Redis: {place}: {want!r} is {have!r}"


@pytest.fixture
def sinks(tmp_path, postgres, database, unique_name, clickhouse, clickhouse_database, redis_server,
          redis_prefix, kafka, topic_prefix):  # fmt: skip
    sinks = Sinks(tmp_path, postgres, unique_name, clickhouse, clickhouse_database, redis_server,
                  redis_prefix, kafka, topic_prefix)  # fmt: skip
    yield sinks
    sinks.process.kill()


@pytest.mark.case(48, 49, 50, 52)
def test_every_value_arrives_as_postgres_has_it(sinks, postgres, unique_name):
    print(f"seed {SEED}: MILLRACE_TEST_SEED={SEED} repeats it")
    source = Source(postgres, unique_name)
    source.fill(random.Random(SEED))
    sinks.process.start()
    source.copy()
    # What a type gains while the pipeline runs.
    source.sql("ALTER TYPE public.mood ADD VALUE 'new'")
    source.sql("ALTER TYPE public.mood RENAME VALUE 'ok' TO 'fine'")
    source.sql('INSERT INTO public.narrow (id, en, aen) VALUES'
               " (-1, 'new', ARRAY['fine', 'new']::public.mood[])")  # fmt: skip
    sinks.wait(source)
    found = []
    for table, columns in source.tables.items():
        printed = source.printed(table)
        for row, texts in printed.items():
            # What came before an enum's value got its name keeps the old one.
            if -1 < row:
                printed[row] = tuple(was_ok(column, text) for column, text in zip(columns, texts))
        found += differences(table, columns, printed, sinks)
    source.connection.close()
    assert not found, f"{len(found)} values differ, seed {SEED}:\n" + "\n".join(found[:40])


def was_ok(column, text):
    if text is None or column.sql_type.rstrip("[]") not in ("public.mood", "public.moods"):
        return text
    if column.form == "array":
        return json.dumps(["ok" if value == "fine" else value for value in json.loads(text)])
    return "ok" if text == "fine" else text
