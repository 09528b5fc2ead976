#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random statements in several sessions, kill -9 of Millrace at random moments, equal mirrors at the end.

    tests/chaos/random_workload.py [--seconds 600] [--seed N] [--version 15] [--ddl [seen | captured]]

`make chaos` runs it. Each session draws its statements from the seed that is printed; how they fall
between each other and the kills is not repeated by it. Beside the random tables runs pgbench. At the end
every mirror in ClickHouse equals its table in PostgreSQL, row by row; exit 1 if not, with the folder that
keeps everything.
"""

import argparse
import io
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tools", "tests/integration", "tests/integration/cases"):
    sys.path.insert(0, str(ROOT / folder))

import psycopg2  # noqa: E402
from engagement import PROGRAM  # noqa: E402
from harness import ABSENT, Mirror, install_ddl_capture  # noqa: E402
from servers import ClickHouse, Postgres, ServerError  # noqa: E402
from servers.postgres import DEBIAN_PROGRAMS  # noqa: E402

# Small ranges, so that statements meet the rows of others.
KEYS = 400
LARGE = 12000  # characters: out of line
MANY_COLUMNS = 200
REUSED_NAMES = [f"extra_{number}" for number in range(12)]

SCHEMA = """
CREATE TABLE plain (id int PRIMARY KEY, v text, n int, at timestamptz, f float8, b boolean);
CREATE TABLE composite (a int, b text, v numeric(12, 3), tags text[], PRIMARY KEY (b, a));
CREATE TABLE wide (id int PRIMARY KEY, big text, doc jsonb, bytes bytea, other int);
ALTER TABLE wide ALTER big SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE by_index (id int PRIMARY KEY, code int NOT NULL, v text, big text);
CREATE UNIQUE INDEX by_index_code ON by_index (code);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE whole (id int PRIMARY KEY, v text, big text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE parents (id int PRIMARY KEY, v text);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, v text);
CREATE TABLE parted (id int, region int, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES IN (0);
CREATE TABLE parted_1 (v text, region int NOT NULL, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES IN (1);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE TABLE log (at timestamptz DEFAULT clock_timestamp(), v text, n int);
"""
TABLES = ["plain", "composite", "wide", "by_index", "whole", "parents", "children", "parted", "log"]
PGBENCH_TABLES = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"]


class Statements:
    """Random statements of one session."""

    def __init__(self, rng, ddl):
        self.rng = rng
        kinds = [
            (30, self.insert), (20, self.update), (10, self.delete), (10, self.change_key),
            (10, self.upsert), (5, self.bulk), (4, self.ranges), (3, self.copy), (1, self.truncate),
            (8, self.log), (2, self.message),
        ]  # fmt: skip
        self.ddl = ddl
        if ddl:
            kinds.append((1, self.alter))
        self.kinds = [kind for weight, kind in kinds for _ in range(weight)]

    def run(self, cursor):
        self.rng.choice(self.kinds)(cursor)

    def key(self):
        return self.rng.randrange(KEYS)

    def text(self, size=12):
        alphabet = "abcdefgh \t\n\\'\"\u00fc\u4e2d"
        return "".join(self.rng.choice(alphabet) for _ in range(self.rng.randrange(size)))

    def large(self):
        """Large mostly, so that other updates leave it alone."""
        if self.rng.random() < 0.2:
            return self.rng.choice([None, "", self.text()])
        return f"{self.rng.getrandbits(64):016x}" * (self.rng.randrange(LARGE) // 16)

    def values(self, table):
        """A row of `table`: column to value."""
        rng = self.rng
        maybe = lambda value: None if rng.random() < 0.1 else value  # noqa: E731
        return {
            "plain": lambda: {
                "id": self.key(), "v": maybe(self.text(40)), "n": maybe(rng.randrange(-(2**31), 2**31)),
                "at": maybe(f"2024-01-01 00:00:00.{rng.randrange(10**6):06d}+00"),
                "f": maybe(rng.choice([rng.random() * 10 ** rng.randrange(-20, 20), 0.0, -0.0, 1e300])),
                "b": maybe(rng.random() < 0.5),
            },
            "composite": lambda: {
                "a": rng.randrange(20), "b": f"k{rng.randrange(20)}",
                "v": maybe(rng.randrange(-(10**8), 10**8) / 1000),
                "tags": [maybe(self.text()) for _ in range(rng.randrange(4))],
            },
            "wide": lambda: {
                "id": self.key(), "big": self.large(), "doc": f'{{"k": "{rng.getrandbits(64):016x}"}}',
                "bytes": maybe(psycopg2.Binary(rng.randbytes(rng.randrange(5000)))),
                "other": rng.randrange(1000),
            },
            "by_index": lambda: {
                "id": self.key(), "code": self.key(), "v": maybe(self.text()), "big": self.large(),
            },
            "whole": lambda: {"id": self.key(), "v": maybe(self.text()), "big": self.large()},
            "parents": lambda: {"id": rng.randrange(50), "v": self.text()},
            "children": lambda: {
                "id": self.key(), "parent": maybe(rng.randrange(50)), "v": self.text(),
            },
            "parted": lambda: {"id": self.key(), "region": rng.randrange(5), "v": maybe(self.text())},
        }[table]()  # fmt: skip

    KEY = {"composite": ["a", "b"], "parted": ["id", "region"]}

    def table(self):
        return self.rng.choice(TABLES[:-1])

    def where(self, table, row):
        """Names a row by its key, or by the column that most rows share a value of."""
        key = self.KEY.get(table, ["id"])
        return " AND ".join(f"{name} = %s" for name in key), [row[name] for name in key]

    def insert(self, cursor, table=None, tail="ON CONFLICT DO NOTHING"):
        table = table or self.table()
        row = self.values(table)
        names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {tail}", list(row.values()))

    def upsert(self, cursor):
        table = self.rng.choice(["plain", "composite", "wide", "whole", "parted"])
        key = self.KEY.get(table, ["id"])
        name = self.rng.choice([name for name in self.values(table) if name not in key])
        tail = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {name} = EXCLUDED.{name}"
        self.insert(cursor, table, tail)

    def update(self, cursor):
        table = self.table()
        row = self.values(table)
        key = self.KEY.get(table, ["id"])
        names = [name for name in row if name not in key]
        chosen = self.rng.sample(names, self.rng.randrange(1, len(names) + 1))
        condition, values = self.where(table, row)
        changes = ", ".join(f"{name} = %s" for name in chosen)
        cursor.execute(f"UPDATE {table} SET {changes} WHERE {condition}",
                       [row[name] for name in chosen] + values)  # fmt: skip

    def change_key(self, cursor):
        table = self.table()
        condition, values = self.where(table, self.values(table))
        row = self.values(table)
        name = self.rng.choice(self.KEY.get(table, ["id"]))
        others = [n for n in row if n not in self.KEY.get(table, ["id"])]
        extra = self.rng.choice(others) if self.rng.random() < 0.3 else None
        changes = f"{name} = %s" + (f", {extra} = %s" if extra else "")
        cursor.execute(f"UPDATE {table} SET {changes} WHERE {condition}",
                       [row[name]] + ([row[extra]] if extra else []) + values)  # fmt: skip

    def delete(self, cursor):
        table = self.table()
        condition, values = self.where(table, self.values(table))
        cursor.execute(f"DELETE FROM {table} WHERE {condition}", values)

    def ranges(self, cursor):
        """Many rows in one statement."""
        low = self.key()
        table, change = self.rng.choice([
            ("plain", "n = (n::bigint * 31 %% 1000000)::int"), ("wide", "other = other + 1"),
            ("whole", "v = v || '.'"), ("by_index", "v = md5(id::text)"),
            ("parted", "region = (region + 1) %% 5"), ("children", "v = 'many'"),
        ])  # fmt: skip
        if self.rng.random() < 0.2:
            cursor.execute(f"DELETE FROM {table} WHERE id BETWEEN %s AND %s", (low, low + 20))
        else:
            cursor.execute(f"UPDATE {table} SET {change} WHERE id BETWEEN %s AND %s", (low, low + 60))

    def bulk(self, cursor):
        """Large enough now and then to be streamed before it commits."""
        count = self.rng.choice([10, 100, 1000])
        first = 100_000 + self.rng.randrange(5000)
        cursor.execute(
            "INSERT INTO plain (id, v, n) SELECT g, md5(g::text), g FROM generate_series(%s, %s) g"
            " ON CONFLICT (id) DO UPDATE SET n = plain.n + 1", (first, first + count),
        )  # fmt: skip
        if self.rng.random() < 0.5:
            cursor.execute("DELETE FROM plain WHERE id BETWEEN %s AND %s", (first, first + count // 2))

    def copy(self, cursor):
        first = 200_000 + self.rng.randrange(10**8)
        lines = "".join(f"{first + i}\tcopied {i}\n" for i in range(self.rng.randrange(200)))
        cursor.copy_expert("COPY whole (id, v) FROM STDIN", io.StringIO(lines))

    def truncate(self, cursor):
        if self.rng.random() < 0.8:
            return
        tables = self.rng.choice(["plain", "wide, whole", "parents", "by_index", "parted", "composite"])
        cursor.execute(f"TRUNCATE {tables} CASCADE")

    def log(self, cursor):
        cursor.execute("INSERT INTO log (v, n) SELECT %s, g FROM generate_series(1, %s) g",
                       (self.text(), self.rng.randrange(5)))  # fmt: skip

    def message(self, cursor):
        cursor.execute("SELECT pg_logical_emit_message(%s, 'chaos', %s)",
                       (self.rng.random() < 0.5, self.text()))  # fmt: skip

    def alter(self, cursor):
        """Adds a column, renames, widens or drops one that an earlier call added. Where commands are not
        captured no name comes twice: a dropped column stays downstream."""
        table = self.rng.choice(["plain", "wide", "whole"])
        cursor.execute(f"LOCK TABLE {table}")
        cursor.execute("SELECT attname, attnum FROM pg_attribute WHERE attrelid = %s::regclass"
                       " AND attname LIKE 'extra%%' AND NOT attisdropped", (table,))  # fmt: skip
        extra = cursor.fetchall()
        cursor.execute("SELECT max(attnum) + 1 FROM pg_attribute WHERE attrelid = %s::regclass", (table,))
        (number,) = cursor.fetchone()
        name = f"extra_{number}"
        if self.ddl == "captured":
            name = self.rng.choice([n for n in REUSED_NAMES if n not in {column for column, _ in extra}])
        if len(extra) < 2 or (len(extra) < 6 and number < MANY_COLUMNS and self.rng.random() < 0.5):
            # Of these, the last one fills the rows that are there without a change of them.
            default = self.rng.choice(["", "DEFAULT 7", "DEFAULT (random() * 100)::int"])
            change = f"ADD COLUMN {name} int {default}"
        else:
            former, number = self.rng.choice(extra)
            if self.ddl != "captured":
                name = f"extra_{number}_{self.rng.getrandbits(64):x}"
            change = self.rng.choice([
                f"RENAME COLUMN {former} TO {name}",
                f"ALTER COLUMN {former} TYPE bigint",
                f"DROP COLUMN {former}",
            ])  # fmt: skip
        cursor.execute(f"ALTER TABLE {table} {change}")


class WorkingSession(threading.Thread):
    """Random transactions until it is stopped: savepoints, rollbacks, failed statements among them."""

    def __init__(self, dsn, seed, ddl):
        super().__init__(daemon=True)
        self.rng = random.Random(seed)
        self.statements = Statements(self.rng, ddl)
        self.connection = psycopg2.connect(dsn)
        self.ends = threading.Event()
        self.committed = 0
        self.failure = None

    def run(self):
        try:
            while not self.ends.is_set():
                self.transaction()
        except Exception as error:  # noqa: BLE001  # shown by whoever joins
            self.failure = error
        finally:
            self.connection.close()

    def transaction(self):
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                self.statements_of_a_block(cursor, 0)
            if self.rng.random() < 0.15:
                self.connection.rollback()
            else:
                self.connection.commit()
                self.committed += 1
        except (psycopg2.errors.IntegrityError, psycopg2.errors.OperationalError,
                psycopg2.errors.DataError):  # fmt: skip
            # Conflicts, deadlocks, locks that take too long: the transaction is gone, as it should.
            self.connection.rollback()

    def statements_of_a_block(self, cursor, depth):
        for _ in range(self.rng.choice([1, 1, 1, 2, 2, 3, 5, 8, 20])):
            if depth < 4 and self.rng.random() < 0.12:
                self.subtransaction(cursor, depth)
            else:
                self.statements.run(cursor)

    def subtransaction(self, cursor, depth):
        name = f"s{depth}"
        cursor.execute(f"SAVEPOINT {name}")
        try:
            self.statements_of_a_block(cursor, depth + 1)
            if self.rng.random() < 0.5:
                cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")
            if self.rng.random() < 0.7:
                cursor.execute(f"RELEASE SAVEPOINT {name}")
        except (psycopg2.errors.IntegrityError, psycopg2.errors.DataError):
            cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")


def pgbench(mirror, *arguments):
    command = [f"{DEBIAN_PROGRAMS}/pgbench", *arguments, mirror.postgres.dsn(mirror.database)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)  # fmt: skip


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()


def disturb(mirror, rng, until):
    """Kills, cuts and stops at random moments; returns how many."""
    count = 0
    while time.monotonic() < until:
        time.sleep(min(rng.choice([0.1, 0.5, 1, 2, 4]) * rng.random(), max(0, until - time.monotonic())))
        kind = rng.random()
        if not mirror.process.is_running():
            raise AssertionError(f"the pipeline ended by itself: {mirror.tail()}")
        if kind < 0.7:
            mirror.kill()
        elif kind < 0.8:
            mirror.stop(may_be_starting=True)
        else:
            mirror.admin_sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                             f" WHERE slot_name = '{mirror.slot}'")  # fmt: skip
        mirror.process.launch()
        count += 1
    return count


def check_mirrors(mirror, timeout):
    """A table may still be read, or again after DDL, which the position does not show: `timeout` for it.
    One whose columns changed in a way that nobody can tell is paused: its sentence is obeyed."""
    deadline = time.monotonic() + timeout
    while True:
        for paused in mirror.status()["source"].get("paused_tables", []):
            if f"snapshot -c FILE {paused['table']}" in paused["reason"]:
                print(f"read again by hand: {paused['reason']}", flush=True)
                subprocess.run([PROGRAM, "snapshot", "-c", mirror.process.config, paused["table"]],
                               check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            return mirror.check(only=False)
        except (AssertionError, ServerError):  # ClickHouse: no such column yet
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def run(mirror, seconds, seed, sessions=4, ddl=None):
    """The whole of it on an empty database; raises AssertionError if a mirror is not its table. `ddl`: ALTER
    TABLE too, with "captured" through event triggers."""
    print(f"seed {seed}, {seconds} s, {sessions} sessions, PostgreSQL {mirror.version}", flush=True)
    rng = random.Random(seed)
    mirror.sql(SCHEMA)
    finish(pgbench(mirror, "-i", "-q", "-s", "1"))
    with mirror.session.connection.cursor() as cursor:
        for _ in range(300):
            Statements(rng, None).insert(cursor, rng.choice(["plain", "wide", "by_index", "parted"]))
    # Nothing hides a double in `log` and pgbench_history, which have no key.
    is_captured = ddl == "captured"
    if is_captured:
        install_ddl_capture(mirror)
    mirror.configure(*TABLES, *PGBENCH_TABLES, source={"capture_ddl": is_captured}, sinks={"lines": ABSENT})
    workers = [
        WorkingSession(mirror.postgres.dsn(mirror.database), f"{seed}/{number}", ddl)
        for number in range(sessions)
    ]
    for worker in workers:
        worker.start()
    load = pgbench(mirror, "-n", "-c", "2", "-R", "100", "-T", str(max(1, int(seconds) - 2)))
    mirror.process.launch()
    disturbances = disturb(mirror, rng, time.monotonic() + seconds)
    for worker in workers:
        worker.ends.set()
    finish(load)
    for worker in workers:
        worker.join(60)
        if worker.failure is not None:
            raise worker.failure
    committed = sum(worker.committed for worker in workers)
    print(f"{committed} transactions, {disturbances} disturbances", flush=True)
    mirror.wait(lambda: "Streaming" in mirror.log_since_start(), "the stream begins", 60)
    # What a busy machine could not keep up with is still to come.
    check_mirrors(mirror, max(60, seconds / 2))
    rows = {table: len(mirror.rows(table, "1")) for table in mirror.tables}
    print(f"mirrors equal: {rows}", flush=True)
    return committed, disturbances


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--version", type=int, default=15, help="of PostgreSQL")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--ddl", nargs="?", const="seen", choices=["seen", "captured"],
                        help="ALTER TABLE among the statements; captured: with source.capture_ddl")  # fmt: skip
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    directory = Path(tempfile.mkdtemp(prefix="millrace-chaos-"))
    settings = {"logical_decoding_work_mem": "64kB", "fsync": "off"}
    with Postgres(directory / "postgres", die_with_parent=True, version=options.version,
                  settings=settings) as postgres, \
         ClickHouse(directory / "clickhouse", die_with_parent=True, watchdog=True) as clickhouse:  # fmt: skip
        postgres.create_database("chaos")
        clickhouse.query("CREATE DATABASE chaos")
        mirror = Mirror(directory, postgres, "chaos", clickhouse, "chaos")
        try:
            run(mirror, options.seconds, seed, options.sessions, options.ddl)
        except AssertionError as error:
            print(f"FAILED with seed {seed}: {error}\neverything is in {directory}", flush=True)
            return 1
        finally:
            mirror.close()
    subprocess.run(["rm", "-rf", str(directory)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
