# SPDX-License-Identifier: Apache-2.0
"""The application's own statements work before, while and after its tables are published."""

import threading

import psycopg2
import pytest

from harness import Session

SCHEMA = """
CREATE TABLE keyed (id int PRIMARY KEY, v text);
CREATE TABLE keyless (id int, v text);
CREATE TABLE nothing (id int PRIMARY KEY, v text);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE whole (id int, v text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE by_index (id int PRIMARY KEY, code int NOT NULL UNIQUE, v text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, v text);
CREATE TABLE parted (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (50);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (50) TO (100000);
CREATE TABLE keyed_parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE keyed_parted_1 PARTITION OF keyed_parted FOR VALUES FROM (0) TO (50);
CREATE TABLE keyed_parted_2 PARTITION OF keyed_parted FOR VALUES FROM (50) TO (100000);
ALTER TABLE keyed_parted_2 REPLICA IDENTITY NOTHING;
CREATE TABLE ancestor (id int PRIMARY KEY, v text);
CREATE TABLE descendant (PRIMARY KEY (id)) INHERITS (ancestor);
ALTER TABLE descendant REPLICA IDENTITY NOTHING;
"""
TABLES = ["keyed", "keyless", "nothing", "whole", "by_index", "deferred", "parted", "keyed_parted",
          "ancestor"]  # fmt: skip
# What the application goes on to write of tables that never join.
OTHERS = ["descendant"]


class Application(threading.Thread):
    """Inserts, updates and deletes in every table until it is stopped; no statement may fail or wait."""

    def __init__(self, mirror):
        super().__init__(daemon=True)
        self.session = Session(mirror.postgres.dsn(mirror.database))
        self.session.sql("SET lock_timeout = '5s'; SET statement_timeout = '10s'")
        self.rounds = 0
        self.error = None
        self.ends = threading.Event()
        self.start()

    def run(self):
        try:
            while not self.ends.is_set():
                for table in TABLES + OTHERS:
                    self.change(table)
                self.rounds += 1
        except psycopg2.Error as error:
            self.error = error
        finally:
            self.session.close()

    def change(self, table):
        key = self.rounds % 97
        columns, row = ("id, code, v", "%s, %s, 'new'") if table == "by_index" else ("id, v", "%s, 'new'")
        values = [key] * columns.count(",")
        self.session.sql(f"DELETE FROM {table} WHERE id = %s", key)
        self.session.sql(f"INSERT INTO {table} ({columns}) VALUES ({row})", *values)
        self.session.sql(f"UPDATE {table} SET v = 'changed' WHERE id = %s", key)
        self.session.sql(f"UPDATE {table} SET id = id + 1000 WHERE id = %s", key)
        self.session.sql(f"UPDATE {table} SET id = id - 1000 WHERE id > 999")
        if key % 10 == 0:
            self.session.sql(f"TRUNCATE {table}")

    def wait_rounds(self, mirror, count=3):
        goal = self.rounds + count
        mirror.wait(lambda: self.rounds >= goal or self.error, "the application works")
        assert self.error is None, self.error

    def stop(self):
        self.ends.set()
        self.join(20)
        assert self.error is None, self.error


@pytest.mark.smoke
@pytest.mark.case(26)
def test_statements_never_fail(mirror):
    mirror.sql(SCHEMA)
    before = [mirror.columns(table) for table in TABLES]
    application = Application(mirror)
    # Streams of tables with updates that arrive: whole and the keyless ones are read all the same.
    mirrored = ["keyed", "by_index"]
    everything = {"tables": [f"public.{table}" for table in TABLES]}
    mirror.start(*mirrored, source=everything)
    application.wait_rounds(mirror)
    mirror.kill()
    mirror.resume()
    application.wait_rounds(mirror)
    mirror.stop()
    # Some leave, and the publications are gone in the end.
    mirror.start(*mirrored)
    application.wait_rounds(mirror)
    mirror.kill()
    for statement in ("DROP PUBLICATION {}", "DROP PUBLICATION IF EXISTS {}_inserts"):
        mirror.sql(statement.format(f"millrace_{mirror.name}"))
    goal = application.rounds + 3
    while application.rounds < goal and application.error is None:
        application.ends.wait(0.01)
    application.stop()
    assert before == [mirror.columns(table) for table in TABLES], "a table was altered"


@pytest.mark.case(26)
def test_publications_hold_each_table_where_it_is_safe(mirror):
    mirror.sql(SCHEMA)
    mirror.start("keyed", source={"tables": [f"public.{table}" for table in TABLES]})
    rows = mirror.sql(
        "SELECT pubname LIKE '%\\_inserts', string_agg(tablename, ' ' ORDER BY tablename)"
        " FROM pg_publication_tables GROUP BY 1 ORDER BY 1"
    )
    assert rows == [
        (False, "ancestor by_index harness_mark keyed whole"),
        (True, "deferred keyed_parted keyless nothing parted"),
    ]
