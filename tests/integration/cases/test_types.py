# SPDX-License-Identifier: Apache-2.0
"""Random values of every type, from PostgreSQL to ClickHouse, Kafka and Redis, by snapshot and stream.

The seed is printed; MILLRACE_TEST_SEED sets another one. Values compare with PostgreSQL's own text, read
in a session whose settings are pinned here, while role and database of the pipeline have hostile ones.
"""

import json
import os
import random
import uuid

import pytest
import type_values

SEED = int(os.environ.get("MILLRACE_TEST_SEED", "20260607"))
RANDOM_ROWS = 120
# Rows of the stream are copies of the snapshot's, so far apart.
STREAM_IDS = 1_000_000
PINNED = (
    "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'UTC';"
    " SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';"
    " SET search_path = ''"
)


TABLES = ("narrow", "wide")


class Source:
    """Tables `narrow` and `wide`, and what PostgreSQL says that they hold."""

    def __init__(self, mirror):
        session = mirror.new_session("postgres")
        self.connection = session.connection
        self.sql(PINNED)
        self.sql("SET search_path = public")
        self.sql(type_values.PREPARE)
        self.tables = {
            "narrow": [c for c in type_values.COLUMNS if c.since <= mirror.version],
            "wide": [c for c in type_values.WIDE_COLUMNS if c.since <= mirror.version],
        }
        for table, columns in self.tables.items():
            listed = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self.sql(f'CREATE TABLE {table} (id int PRIMARY KEY, {listed})')
            self.sql(f'ALTER TABLE {table} OWNER TO app')
        for key, value in type_values.HOSTILE_SETTINGS.items():
            self.sql(f'ALTER ROLE app IN DATABASE "{mirror.database}" SET {key} = {value}')
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
    """The pipeline of both tables into every sink, and readers of these."""

    def __init__(self, mirror, redis_server, redis_prefix, kafka, topic_prefix):
        self.mirror = mirror
        self.clickhouse, self.database = mirror.clickhouse, mirror.clickhouse_database
        self.redis, self.prefix = redis_server, redis_prefix
        self.kafka, self.topic = kafka, topic_prefix

    def start(self, source):
        as_string = {column.name: "string" for column in source.tables["wide"]}
        self.mirror.start(
            *TABLES,
            sinks={
                "warehouse": {"tables": [{"stream": "narrow"}, {"stream": "wide", "as": as_string}]},
                "live": {
                    "type": "redis", "url": self.redis.url,
                    "writes": [{"stream": table, "hset": f"{self.prefix}{table}:{{id}}"}
                               for table in TABLES],
                },
                "events": {
                    "type": "kafka", "brokers": self.kafka.brokers,
                    "topics": [{"stream": table, "topic": f"{self.topic}{table}", "key": "id"}
                               for table in TABLES],
                },
            },
        )  # fmt: skip

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


# Of 51 there is nothing more to see: Millrace asks for text, whose values are exact.
@pytest.mark.case(48, 49, 50, 51, 52)
def test_every_value_arrives_as_postgres_has_it(mirror, redis_server, redis_prefix, kafka, topic_prefix):
    print(f"seed {SEED}: MILLRACE_TEST_SEED={SEED} repeats it")
    source = Source(mirror)
    source.fill(random.Random(SEED))
    sinks = Sinks(mirror, redis_server, redis_prefix, kafka, topic_prefix)
    sinks.start(source)
    source.copy()
    # What a type gains while the pipeline runs.
    source.sql("ALTER TYPE public.mood ADD VALUE 'new'")
    source.sql("ALTER TYPE public.mood RENAME VALUE 'ok' TO 'fine'")
    source.sql("INSERT INTO public.narrow (id, en, aen) VALUES"
               " (-1, 'new', ARRAY['fine', 'new']::public.mood[])")  # fmt: skip
    mirror.wait_delivered()
    found = []
    for table, columns in source.tables.items():
        printed = source.printed(table)
        for row, texts in printed.items():
            # What came before an enum's value got its name keeps the old one.
            if -1 < row:
                printed[row] = tuple(was_ok(column, text) for column, text in zip(columns, texts))
        found += differences(table, columns, printed, sinks)
    assert not found, f"{len(found)} values differ, seed {SEED}:\n" + "\n".join(found[:40])


@pytest.mark.case(48, 49)
def test_out_of_range(mirror):
    """What ClickHouse's types do not hold: the nearest value or NULL, as the stream says."""
    mirror.sql("""
        CREATE TABLE clamped (id int PRIMARY KEY, d date NOT NULL, ts timestamp, tz timestamptz, ad date[]);
        CREATE TABLE nulled (id int PRIMARY KEY, d date NOT NULL, n numeric(6,2), an numeric(6,2)[])""")
    mirror.start(
        "clamped", "nulled",
        streams={"clamped": {"out_of_range": "clamp"}, "nulled": {"out_of_range": None}},
    )  # fmt: skip
    mirror.sql("""
        INSERT INTO clamped VALUES
          (1, 'infinity', '-infinity', 'infinity', '{-infinity,2024-02-29,NULL}'),
          (2, '1899-12-31', '2300-01-01', '0044-03-15 BC', '{}');
        INSERT INTO nulled VALUES (1, 'infinity', 'NaN', '{NaN,1.5}'), (2, '2024-02-29', 1.5, NULL)""")
    mirror.wait_delivered()
    first, last = "1900-01-01", "2299-12-31"
    assert sorted(mirror.rows("clamped", "id, d, ts, tz, ad")) == [
        (1, last, f"{first} 00:00:00.000000", f"{last} 23:59:59.999999", [first, "2024-02-29", None]),
        (2, first, f"{last} 23:59:59.999999", f"{first} 00:00:00.000000", []),
    ]
    assert sorted(mirror.rows("nulled", "id, d, n, an")) == [
        (1, None, None, [None, 1.5]), (2, "2024-02-29", 1.5, []),
    ]  # fmt: skip


def was_ok(column, text):
    if text is None or column.sql_type.rstrip("[]") not in ("public.mood", "public.moods"):
        return text
    if column.form == "array":
        return json.dumps(["ok" if value == "fine" else value for value in json.loads(text)])
    return "ok" if text == "fine" else text
