# SPDX-License-Identifier: Apache-2.0
"""Case 35 with `discover`: tables that come while the pipeline runs."""

import json
import signal
import threading
import time

import pytest
import redis
from confluent_kafka import Consumer, KafkaError, TopicPartition

from harness import MARK

DISCOVER = {"tables": ["shop.*"], "discover": True, "heartbeat_interval": "300ms"}
SHOP = (
    "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, v text);"
    "INSERT INTO shop.orders SELECT g, 'first' FROM generate_series(1, 100) g;"
)
STREAMS = {"orders": "shop.orders", "late": "shop.late"}


def streams(mirror, names=STREAMS, source=DISCOVER, **sections):
    """A pipeline whose streams need not have their tables yet."""
    mirror.start(dict(names), source=source, **sections)


def taken(mirror, table):
    def is_done():
        tables = {t["name"]: t["state"] for t in mirror.status()["source"].get("tables", [])}
        return tables.get(table) == "done"

    mirror.wait(is_done, f"{table} is taken in and read")


def left_out(mirror):
    return {t["table"]: t["reason"] for t in mirror.status()["source"].get("left_out_tables", [])}


def is_ready(mirror):
    return mirror.process.get("/readyz")[0] == 200


class Inserts(threading.Thread):
    """One row after the other into `table`, until stop()."""

    def __init__(self, mirror, table, first=1_000_000):
        super().__init__(daemon=True)
        self.session, self.table, self.next, self.ends = mirror.new_session(), table, first, threading.Event()
        self.start()

    def run(self):
        while not self.ends.is_set():
            self.session.sql(f"INSERT INTO {self.table} VALUES ({self.next}, 'live')")
            self.next += 1
            time.sleep(0.002)

    def stop(self):
        self.ends.set()
        self.join(10)


@pytest.mark.smoke
@pytest.mark.case(35)
def test_a_table_that_comes_is_taken_in(mirror):
    """Its rows from before and from meanwhile, while others stream; each output once, by its key."""
    mirror.sql(SHOP)
    streams(mirror)
    mirror.check("orders")
    mirror.wait(lambda: is_ready(mirror), "the pipeline is ready without the table")
    assert "is not there yet" in left_out(mirror)["shop.late"]
    others = Inserts(mirror, "shop.orders")
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text)")
    mirror.sql("INSERT INTO shop.late SELECT g, 'first' FROM generate_series(1, 2000) g")
    writer = Inserts(mirror, "shop.late")
    begun = time.monotonic()
    taken(mirror, "shop.late")
    assert time.monotonic() - begun < 5
    time.sleep(0.3)
    writer.stop()
    others.stop()
    mirror.sql("UPDATE shop.late SET v = 'new' WHERE id < 10; DELETE FROM shop.late WHERE id > 1990")
    mirror.check()
    mirror.wait(lambda: is_ready(mirror), "ready again")
    assert left_out(mirror) == {}
    assert mirror.log().count("Pipeline state changed state=starting") <= 2
    for stream, changed in (("orders", 0), ("late", 9)):
        ids = [row["id"] for row in mirror.outputs(stream) if not row.get("_deleted")]
        assert len(ids) == len(set(ids)) + changed, f"{stream}: outputs that came twice"
    mirror.stop()


@pytest.mark.case(35)
def test_kills_while_a_new_table_is_taken_in(mirror, redis_server, redis_prefix, kafka, topic_prefix):
    """In every kind of sink each row once; the sinks of Redis and Kafka have no stream before."""
    mirror.sql(SHOP)
    sinks = {
        "live": {"type": "redis", "url": redis_server.url,
                 "writes": [{"stream": "late", "xadd": f"{redis_prefix}late"}]},
        "bus": {"type": "kafka", "brokers": kafka.brokers,
                "topics": [{"stream": "late", "topic": f"{topic_prefix}late"}]},
    }  # fmt: skip
    reading = {"snapshot": {"chunk_rows": 200, "parallelism": 2}}
    streams(mirror, source=DISCOVER | reading, sinks=sinks)
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text)")
    mirror.sql("INSERT INTO shop.late SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
    writer = Inserts(mirror, "shop.late")
    for pause in (0.3, 0.4, 0.5):
        time.sleep(pause)
        mirror.kill()
        mirror.resume(is_read=False)
    taken(mirror, "shop.late")
    writer.stop()
    mirror.check()
    ids = sorted(row[0] for row in mirror.sql("SELECT id FROM shop.late"))
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        assert sorted(int(fields["id"]) for _, fields in client.xrange(f"{redis_prefix}late")) == ids
    assert sorted(int(json.loads(key)) for key in topic_keys(kafka, f"{topic_prefix}late")) == ids


def topic_keys(kafka, topic):
    """The keys of all messages of a topic with one partition that a read_committed consumer sees."""
    consumer = Consumer({
        "bootstrap.servers": kafka.brokers, "group.id": topic, "isolation.level": "read_committed",
        "enable.partition.eof": True, "enable.auto.commit": False,
    })  # fmt: skip
    keys = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = consumer.poll(10)
            assert message is not None, "the topic does not answer"
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                return keys
            keys.append(message.key())
    finally:
        consumer.close()


@pytest.mark.case(35)
@pytest.mark.parametrize(
    "failpoint",
    ["source.after_tables_published", "pipeline.before_new_plan", "pipeline.after_new_plan",
     "source.before_chunk_read:2", "source.before_chunk_joins:2"],
)
def test_death_at_each_step(mirror, failpoint):
    mirror.sql(SHOP)
    mirror.configure(dict(STREAMS), source=DISCOVER)
    mirror.process.environment = {"MILLRACE_FAILPOINT": failpoint}
    mirror.resume(is_read=False)
    # A chunk may be of the first tables as well.
    writer = Inserts(mirror, "shop.orders")
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text)")
    mirror.sql("INSERT INTO shop.late SELECT g, 'first' FROM generate_series(1, 500) g")
    assert mirror.process.wait_exit(20) == -signal.SIGKILL, f"{failpoint} was not met"
    mirror.sql("UPDATE shop.late SET v = 'meanwhile' WHERE id < 100")
    mirror.process.environment = {}
    mirror.resume(is_read=False)
    taken(mirror, "shop.late")
    writer.stop()
    mirror.check()


@pytest.mark.case(35, 42, 45)
def test_what_a_pattern_does_not_take(mirror):
    """Other schemas, partitions of a root that is taken, what has no WAL: none of it is published."""
    mirror.sql(SHOP)
    mirror.sql(
        "CREATE TABLE shop.parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE shop.parted_1 PARTITION OF shop.parted FOR VALUES FROM (0) TO (100)"
    )
    streams(mirror, {"orders": "shop.orders", "parted": "shop.parted", "late": "shop.late"})
    mirror.sql(
        "CREATE SCHEMA other; CREATE TABLE other.late (id int PRIMARY KEY);"
        "CREATE TABLE public.late (id int PRIMARY KEY);"
        "CREATE TABLE shop.parted_2 PARTITION OF shop.parted FOR VALUES FROM (100) TO (200);"
        "CREATE UNLOGGED TABLE shop.scratch (id int PRIMARY KEY);"
        "CREATE VIEW shop.recent AS SELECT 1 AS id;"
        "CREATE MATERIALIZED VIEW shop.totals AS SELECT 1 AS id"
    )
    mirror.sql("INSERT INTO shop.parted SELECT g, 'v' FROM generate_series(0, 199) g")
    time.sleep(1)
    assert "new tables are taken in" not in mirror.log()
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (1, 'x')")
    taken(mirror, "shop.late")
    mirror.check("orders", "late")
    mirror.check("parted", only=False)
    published = mirror.sql("SELECT schemaname || '.' || tablename FROM pg_publication_tables"
                           " WHERE pubname LIKE %s ORDER BY 1", mirror.slot + "%")  # fmt: skip
    assert [row[0] for row in published] == [MARK, "shop.late", "shop.orders", "shop.parted"]


@pytest.mark.case(35)
def test_what_cannot_be_taken_is_said_once_and_others_go_on(mirror):
    mirror.sql(SHOP)
    names = STREAMS | {"foreign_one": "shop.foreign_one", "keyless": "shop.keyless"}
    streams(mirror, names)
    mirror.admin_sql("CREATE TABLE shop.foreign_one (id int PRIMARY KEY, v text)")
    mirror.sql("CREATE TABLE shop.keyless (id int NOT NULL, v text); INSERT INTO shop.keyless VALUES (1, 'k')")
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (1, 'x')")
    taken(mirror, "shop.late")
    mirror.wait(lambda: {"shop.foreign_one", "shop.keyless"} <= set(left_out(mirror)), "they are left out")
    assert "does not own it" in left_out(mirror)["shop.foreign_one"]
    mirror.wait(lambda: "no primary key" in left_out(mirror)["shop.keyless"], "the sentence")
    time.sleep(1.5)
    log = mirror.log()
    assert log.count("does not own it") == 1, log
    assert log.count("table shop.keyless matches source.tables and is left out") == 1, log
    assert log.count("new tables are taken in") <= 3, log
    mirror.check("orders", "late")
    # A start with them there is the same.
    mirror.stop()
    mirror.resume()
    mirror.check("orders", "late")
    assert {"shop.foreign_one", "shop.keyless"} <= set(left_out(mirror))
    # What is mended is taken in.
    mirror.sql("ALTER TABLE shop.keyless ADD PRIMARY KEY (id)")
    mirror.admin_sql("ALTER TABLE shop.foreign_one OWNER TO app")
    taken(mirror, "shop.keyless")
    taken(mirror, "shop.foreign_one")
    mirror.check()


@pytest.mark.case(35)
def test_a_table_that_a_sink_cannot_take_is_left_out(mirror):
    mirror.sql(SHOP)
    tables = [{"stream": "orders"}, {"stream": "late", "order_by": ["missing", "id"]}, {"stream": "harness_mark"}]
    streams(mirror, sinks={"warehouse": {"tables": tables}})
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text)")
    mirror.wait(lambda: "missing" in left_out(mirror).get("shop.late", ""), "it is left out")
    mirror.sql("INSERT INTO shop.orders VALUES (1000, 'on')")
    mirror.check("orders")
    mirror.sql("ALTER TABLE shop.late ADD missing int NOT NULL DEFAULT 1")
    mirror.sql("INSERT INTO shop.late VALUES (1, 'x', 2)")
    taken(mirror, "shop.late")
    mirror.check()


@pytest.mark.case(35)
def test_tables_that_go_and_come_again(mirror):
    mirror.sql(SHOP)
    streams(mirror, STREAMS | {"later": "shop.later"})
    for i in range(3):
        mirror.sql(f"CREATE TABLE shop.brief_{i} (id int PRIMARY KEY); DROP TABLE shop.brief_{i}")
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text);"
               "INSERT INTO shop.late SELECT g, 'first' FROM generate_series(1, 10) g")  # fmt: skip
    taken(mirror, "shop.late")
    mirror.check("orders", "late")
    mirror.sql("CREATE TABLE shop.unused (id int PRIMARY KEY)")
    taken(mirror, "shop.unused")
    mirror.sql("DROP TABLE shop.late, shop.unused")
    mirror.wait(lambda: mirror.status()["source"]["paused_tables"], "the table is paused")
    mirror.sql("CREATE TABLE shop.later (id int PRIMARY KEY, v text); INSERT INTO shop.later VALUES (1, 'x')")
    taken(mirror, "shop.later")
    mirror.check("orders", "later")
    mirror.stop()
    mirror.resume()
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (3, 'again')")
    taken(mirror, "shop.late")
    mirror.check()


@pytest.mark.case(35)
def test_dba_publication_takes_what_it_publishes(mirror):
    mirror.sql(SHOP)
    mirror.admin_sql(
        f"CREATE PUBLICATION dba FOR TABLE shop.orders, {MARK} WITH (publish_via_partition_root = true)"
    )
    source = DISCOVER | {"publication": "dba", "manage_publication": False}
    streams(mirror, source=source)
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (1, 'x')")
    mirror.wait(lambda: "does not publish it" in left_out(mirror).get("shop.late", ""), "it is left out")
    mirror.check("orders")
    mirror.admin_sql("ALTER PUBLICATION dba ADD TABLE shop.late")
    mirror.sql("INSERT INTO shop.late VALUES (2, 'y')")
    taken(mirror, "shop.late")
    mirror.check()


@pytest.mark.case(35)
def test_an_open_transaction_on_a_new_table(mirror):
    """What ran when the table was published has ended before it is read; others stream meanwhile."""
    mirror.sql(SHOP)
    streams(mirror)
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (1, 'x')")
    open_one = mirror.new_session()
    open_one.sql("BEGIN; INSERT INTO shop.late VALUES (2, 'open')")
    mirror.wait(lambda: "new tables are taken in" in mirror.log(), "it is found")
    mirror.sql("INSERT INTO shop.orders VALUES (1000, 'on'); INSERT INTO shop.late VALUES (3, 'z')")
    mirror.check("orders")
    open_one.sql("COMMIT")
    taken(mirror, "shop.late")
    mirror.check()


@pytest.mark.case(35)
def test_a_table_that_cannot_be_published_yet_holds_nobody_up(mirror):
    """Also where a start finds it: others stream, and it is taken in once its lock is gone."""
    mirror.sql(SHOP)
    streams(mirror)
    mirror.check("orders")
    mirror.kill()
    mirror.sql("CREATE TABLE shop.late (id int PRIMARY KEY, v text); INSERT INTO shop.late VALUES (1, 'x')")
    holder = mirror.new_session()
    holder.sql("BEGIN; LOCK TABLE shop.late IN SHARE UPDATE EXCLUSIVE MODE")
    mirror.resume()
    mirror.sql("INSERT INTO shop.orders VALUES (1000, 'on')")
    mirror.check("orders")
    assert "shop.late" in left_out(mirror)
    holder.sql("COMMIT")
    taken(mirror, "shop.late")
    mirror.check()


def test_without_discover_a_stream_needs_its_table(mirror):
    mirror.sql(SHOP)
    mirror.fails(STREAMS, source={"tables": ["shop.*"]},
                 saying="table shop.late is not among source.tables, or does not exist")  # fmt: skip


def test_the_first_start_takes_everything_or_says_why(mirror):
    mirror.sql(SHOP + "CREATE TABLE shop.late (id int NOT NULL, v text)")
    mirror.fails(dict(STREAMS), source=DISCOVER, streams={"late": {"append_only": False}},
                 saying="shop.late has no primary key")  # fmt: skip
