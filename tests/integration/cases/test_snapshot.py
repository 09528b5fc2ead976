# SPDX-License-Identifier: Apache-2.0
"""Cases 1, 2, 28, 35, 39 and 42 while tables are read beside the stream."""

import random
import subprocess
import threading
import time

import psycopg2
import pytest

from engagement import PROGRAM

READING = {"snapshot": {"chunk_rows": 300, "parallelism": 3}}

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, v text, big text);
ALTER TABLE a ALTER big SET STORAGE EXTERNAL;
CREATE TABLE pair (region uuid, n numeric, v text, PRIMARY KEY (region, n));
CREATE TYPE level AS ENUM ('low', 'mid', 'high');
CREATE TABLE leveled (id int, l level, v text, PRIMARY KEY (l, id));
CREATE TABLE log (id bigint, v text);
CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (1000);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (1000) TO (MAXVALUE);
INSERT INTO a SELECT g, 'first', repeat(g || ' ', 500) FROM generate_series(1, 4000) g;
INSERT INTO pair SELECT md5((g % 7)::text)::uuid, g / 10.0, 'first' FROM generate_series(1, 3000) g;
INSERT INTO leveled SELECT g, (ARRAY['low', 'mid', 'high'])[1 + g % 3]::level, 'first'
  FROM generate_series(1, 2000) g;
INSERT INTO log SELECT g, 'first' FROM generate_series(1, 3000) g;
INSERT INTO parted SELECT g, 'first' FROM generate_series(1, 3000) g;
"""
NAMES = ("a", "pair", "leveled", "log", "parted")


class Writer(threading.Thread):
    """Changes rows all over the tables, keys too, until it is stopped."""

    def __init__(self, mirror, seed):
        super().__init__(daemon=True)
        self.session = mirror.new_session()
        self.random = random.Random(seed)
        self.ends = threading.Event()
        self.start()

    def statement(self):
        key, other, n = (self.random.randint(1, 4000) for _ in range(3))
        return self.random.choice(
            [
                f"UPDATE a SET v = 'w{n}' WHERE id = {key}",
                f"UPDATE a SET big = repeat('{n}', 700) WHERE id = {key}",
                f"UPDATE a SET id = {other}, v = 'moved{n}' WHERE id = {key}"
                f" AND NOT EXISTS (SELECT FROM a WHERE id = {other})",
                f"DELETE FROM a WHERE id = {key}; INSERT INTO a VALUES ({key}, 'again{n}', '{n}')",
                f"UPDATE pair SET n = n + 1000, v = 'w{n}' WHERE n = {key} / 10.0",
                f"DELETE FROM pair WHERE n = {key} / 10.0",
                f"UPDATE leveled SET l = 'high', v = 'w{n}' WHERE id = {key}",
                f"INSERT INTO log VALUES ({n}, 'w')",
                f"UPDATE parted SET id = {other}, v = 'w{n}' WHERE id = {key}"
                f" AND NOT EXISTS (SELECT FROM parted WHERE id = {other})",
            ]
        )

    def run(self):
        while not self.ends.is_set():
            try:
                with self.session:
                    for _ in range(self.random.randint(1, 4)):
                        self.session.sql(self.statement())
                    if self.random.random() < 0.1:
                        raise RuntimeError
            except (psycopg2.Error, RuntimeError):
                pass  # two that want one key, or rolled back on purpose

    def stop(self):
        self.ends.set()
        self.join(10)


def check_all(mirror):
    mirror.check("a", "pair", "leveled", "log")
    mirror.check("parted", only=False)


@pytest.mark.smoke
@pytest.mark.case(1, 2, 28, 42)
def test_kills_while_tables_are_read(mirror):
    """What is killed in the middle, three times, while rows change, ends equal."""
    mirror.sql(TABLES)
    mirror.configure(*NAMES, source=READING)
    mirror.resume(is_read=False)
    writers = [Writer(mirror, seed) for seed in range(3)]
    for pause in (0.1, 0.2, 0.3):
        time.sleep(pause)
        mirror.kill()
        mirror.resume(is_read=False)
    mirror.wait_read()
    for writer in writers:
        writer.stop()
    check_all(mirror)


@pytest.mark.case(1, 2, 28)
def test_large_rows_among_others_are_read_once(mirror):
    """A chunk ends behind a row of many megabytes; changes and a kill come meanwhile."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n int)")
    mirror.sql("INSERT INTO t SELECT g, 'first', 0 FROM generate_series(1, 1500) g")
    large = "UPDATE t SET v = repeat(md5(id::text), 560000)"
    mirror.sql(large + " WHERE id IN (1, 2, 700, 1500)")
    mirror.configure("t", source={"snapshot": {"chunk_rows": 300, "parallelism": 2}})
    mirror.resume(is_read=False)
    for turn in range(40):
        mirror.sql(f"UPDATE t SET n = n + 1 WHERE id % 40 = {turn} OR id IN (2, 1500)")
        if turn == 20:
            mirror.kill()
            mirror.resume(is_read=False)
    mirror.sql(large + " WHERE id = 3")
    mirror.sql("UPDATE t SET id = 2000 WHERE id = 3")
    mirror.wait_read()
    mirror.check("t")


@pytest.mark.case(44)
def test_truncate_while_tables_are_read(mirror):
    mirror.sql(TABLES)
    mirror.configure(*NAMES, source=READING)
    mirror.resume(is_read=False)
    mirror.sql("TRUNCATE a; INSERT INTO a SELECT g, 'behind', 'x' FROM generate_series(1, 900) g")
    mirror.sql("TRUNCATE leveled, pair")
    mirror.sql("INSERT INTO pair VALUES (md5('0')::uuid, 1, 'behind')")
    mirror.wait_read()
    mirror.check("a", "pair", "leveled")


@pytest.mark.case(35)
def test_tables_that_join_later_are_read(mirror):
    mirror.sql(TABLES)
    mirror.start("a", source=READING)
    mirror.check()
    mirror.stop()
    mirror.sql("UPDATE pair SET v = 'meanwhile' WHERE n < 10")
    mirror.configure("a", "pair", "log", source=READING)
    mirror.resume(is_read=False)
    writer = Writer(mirror, 1)
    mirror.wait_read()
    writer.stop()
    mirror.check("a", "pair", "log")


def test_status_and_check_say_how_tables_are_read(mirror):
    mirror.sql(TABLES)
    mirror.configure(*NAMES, source=READING)
    status, text = mirror.check_command()
    assert status == 0, text
    assert "table public.a is read in chunks of its key" in text
    assert "table public.leveled is read in one piece" in text and "'l' in its key" in text
    assert "table public.log is read in one piece, because it has no primary key" in text
    mirror.resume()
    mirror.wait_delivered()
    tables = {table["name"]: table for table in mirror.status()["source"]["tables"]}
    assert tables["public.a"]["state"] == "done" and tables["public.a"]["rows"] == 4000


def snapshot(mirror, table):
    return subprocess.run([PROGRAM, "snapshot", "-c", mirror.process.config, table],
                          capture_output=True, text=True, timeout=30, check=False)  # fmt: skip


def test_a_table_is_read_again_while_it_changes(mirror):
    """What the stream missed is mended: rows that are gone, rows that came, values that changed."""
    mirror.sql(TABLES)
    mirror.start("a", "pair", "leveled", source=READING)
    mirror.check()
    for table in ("a", "leveled"):
        mirror.sql(f"ALTER PUBLICATION {mirror.slot} DROP TABLE {table}")
    mirror.sql("DELETE FROM a WHERE id % 5 = 0; UPDATE a SET v = 'missed' WHERE id % 7 = 0")
    mirror.sql("INSERT INTO a SELECT g, 'missed', 'x' FROM generate_series(5001, 5100) g")
    mirror.sql("DELETE FROM leveled WHERE id % 3 = 0; UPDATE leveled SET v = 'missed' WHERE id < 50")
    for table in ("a", "leveled"):
        mirror.sql(f"ALTER PUBLICATION {mirror.slot} ADD TABLE {table}")
    mirror.wait_delivered()
    with pytest.raises(AssertionError, match="mirror of a"):
        mirror.check("a")
    writer = Writer(mirror, 1)
    for table in ("a", "public.leveled"):
        asked = snapshot(mirror, table)
        assert asked.returncode == 0 and "is being read again" in asked.stdout, asked
    time.sleep(0.1)
    mirror.kill()  # once more if it was not noted yet
    mirror.resume(is_read=False)
    mirror.wait(lambda: mirror.status()["source"].get("connected"), "the source streams")
    for table in ("a", "public.leveled"):
        snapshot(mirror, table)
    mirror.wait(lambda: mirror.status()["source"].get("snapshot") == "done", "all is read")
    writer.stop()
    mirror.check()


def test_a_table_whose_streams_append_is_not_read_again(mirror):
    mirror.sql(TABLES)
    mirror.start("a", "log", source=READING)
    mirror.wait_delivered()
    refused = snapshot(mirror, "public.log")
    assert refused.returncode == 1 and "is append_only" in refused.stderr, refused
    unknown = snapshot(mirror, "public.none")
    assert unknown.returncode == 1 and "is no table of source.tables" in unknown.stderr, unknown
    mirror.check()
