# SPDX-License-Identifier: Apache-2.0
"""Peak memory of the whole process against its bound, on real servers: `make bench-memory`.

Each case runs in a process of its own: a table that is read at the start, one transaction, and large
rows both ways. The bound is 256 MiB, the configured `storage.cache` and three of the largest rows; the
exit status is 1 if a case goes beyond it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.parse
from contextlib import closing
from datetime import date
from pathlib import Path

from measure import ROOT, circumstances, peak_rss_mib

sys.path.insert(0, str(ROOT / "tools"))

import psycopg2  # noqa: E402
from servers import ClickHouse, Millrace, Postgres  # noqa: E402

BASE_MIB = 256
CACHE_MIB = 64
ROWS_HELD = 3  # of the largest
LARGE_ROWS = 4
SCHEMA = """
CREATE TABLE kinds (kind int PRIMARY KEY, name text);
INSERT INTO kinds SELECT i, 'kind ' || i FROM generate_series(0, 999) i;
CREATE TABLE events (id bigint PRIMARY KEY, kind int, note text);
ALTER TABLE events ALTER note SET STORAGE EXTERNAL;
"""
INSERT_MANY = """
INSERT INTO events SELECT i, i % 1000, md5(i::text) FROM generate_series(1, {rows}) i"""
# One value, which hardly compresses.
INSERT_LARGE = """
INSERT INTO events SELECT {id}, 1, string_agg(md5((i + {id})::text), '') FROM generate_series(1, {bytes} / 32) i"""
UPDATE_LARGE = """
UPDATE events SET note = substr(note, 33) || md5(note) WHERE id = {id}"""
# The value does not change and is not sent.
UPDATE_SMALL = """
UPDATE events SET kind = kind + 1 WHERE id = {id}"""
CONFIG = """
pipeline: {name}
data_dir: ./data
source: {{type: postgres, url: "{url}", tables: [public.events, public.kinds], heartbeat_interval: 1s}}
storage: {{cache: {cache}MiB}}
streams:
  mirror: {{from: public.events}}
  named:
    from: public.events
    lookup: [public.kinds]
    key: [id]
    sql: SELECT e.id, e.note, k.name FROM events AS e LEFT JOIN kinds AS k ON k.kind = e.kind
sinks:
{sink}
admin: {{listen: "127.0.0.1:{port}"}}
"""
SINKS = {
    "blackhole": "  out: {{type: blackhole, streams: [mirror, named]}}",
    "clickhouse": "  out: {{type: clickhouse, url: '{clickhouse}', database: {name},"
                  " tables: [{{stream: mirror}}, {{stream: named}}]}}",
}


class Run:
    """One case: its database and its process."""

    def __init__(self, postgres, clickhouse, directory, case, program):
        self.postgres, self.clickhouse, self.name = postgres, clickhouse, f"memory_{case}"
        self.connection = psycopg2.connect(postgres.create_database(self.name))
        self.connection.autocommit = True
        self.execute(SCHEMA)
        directory.mkdir()
        self.process = Millrace(directory / "process", program, directory / "millrace.yaml",
                                die_with_parent=True)  # fmt: skip
        sink = "blackhole"
        address = ""
        if clickhouse is not None:
            sink = "clickhouse"
            clickhouse.query(f"CREATE DATABASE {self.name}")
            address = urllib.parse.urlparse(clickhouse.url).netloc
            address = f"http://default:{clickhouse.users.get('default', '')}@{address}"
        Path(self.process.config).write_text(
            CONFIG.format(name=self.name, url=self.connection.dsn, cache=CACHE_MIB, port=self.process.port,
                          sink=SINKS[sink].format(clickhouse=address, name=self.name)),
            encoding="utf-8")  # fmt: skip

    def close(self):
        self.process.kill()
        self.process.clean()
        self.connection.close()
        self.postgres.drop_database(self.name)
        self.postgres.sql("CHECKPOINT")  # its WAL goes
        if self.clickhouse is not None:
            self.clickhouse.query(f"DROP DATABASE {self.name} SYNC")

    def execute(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def wait_delivered(self, rows):
        """Until the sink has taken so many changes of events in both streams."""
        while True:
            time.sleep(0.1)
            if not self.process.is_running():
                sys.exit(f"the process ended: {self.process.log_path.read_text(encoding='utf-8')[-2000:]}")
            try:
                status = json.loads(self.process.get("/api/v1/status")[1])
            except OSError:
                continue
            if status["sinks"] and status["sinks"][0]["rows"] >= 2 * rows:
                return

    def snapshot(self, inserts):
        """Rows that are there before the start."""
        for sql in inserts:
            self.execute(sql)
        start = time.monotonic()
        self.process.launch()
        return start

    def stream(self, statements):
        """Each statement a transaction, while the pipeline runs."""
        self.process.start()
        start = time.monotonic()
        for sql in statements:
            self.execute(sql)
        return start


def cases(rows, row_bytes):
    """By name: a title, how it runs, its statements, the changes that they come to, the largest row."""
    many = [INSERT_MANY.format(rows=rows)]
    large = [INSERT_LARGE.format(id=i, bytes=row_bytes) for i in range(LARGE_ROWS)]
    changes = large + [update.format(id=i) for i in range(LARGE_ROWS)
                       for update in (UPDATE_LARGE, UPDATE_SMALL)]  # fmt: skip
    size = f"{row_bytes / 1e6:g} MB"
    return {
        "table": (f"a table of {rows:,} rows, read", Run.snapshot, many, rows, 0),
        "transaction": (f"a transaction of {rows:,} rows", Run.stream, many, rows, 0),
        "large_table": (f"{LARGE_ROWS} rows of {size}, read", Run.snapshot, large, LARGE_ROWS, row_bytes),
        "large_changes": (f"{LARGE_ROWS} rows of {size}, inserted and updated", Run.stream, changes,
                          len(changes), row_bytes),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--row-bytes", type=int, default=100_000_000)
    parser.add_argument("--cases", nargs="*", choices=cases(0, 0), default=list(cases(0, 0)))
    parser.add_argument("--sink", choices=SINKS, default="blackhole")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/millrace")
    parser.add_argument("--write", metavar="FILE", help="also write the table to this Markdown file")
    options = parser.parse_args()
    lines = [
        circumstances("make bench-memory"),
        "",
        f"Sink {options.sink}, storage.cache {CACHE_MIB} MiB. Times run from the start of the process or of "
        "the first statement to the last row taken by the sink.",
        "",
        "| case | changes | s | peak RSS MiB | bound MiB | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    is_over = False
    with tempfile.TemporaryDirectory(prefix="millrace-memory-") as root:
        os.chmod(root, 0o755)
        directory = Path(root)
        postgres = Postgres(directory / "postgres", die_with_parent=True)
        clickhouse = None
        if options.sink == "clickhouse":
            clickhouse = ClickHouse(directory / "clickhouse", die_with_parent=True)
        servers = [server for server in (postgres, clickhouse) if server is not None]
        try:
            for server in servers:
                server.start()
            for case in options.cases:
                title, begin, statements, changes, largest = cases(options.rows, options.row_bytes)[case]
                print(f"running: {title}", file=sys.stderr, flush=True)
                with closing(Run(postgres, clickhouse, directory / case, case, options.program)) as run:
                    start = begin(run, statements)
                    run.wait_delivered(changes)
                    seconds = time.monotonic() - start
                    peak = peak_rss_mib(run.process.pid)
                bound = BASE_MIB + CACHE_MIB + ROWS_HELD * largest / 2**20
                is_over |= peak > bound
                lines.append(f"| {title} | {changes:,} | {seconds:.1f} | {peak:.0f} | {bound:.0f} |"
                             f" {'over' if peak > bound else 'ok'} |")  # fmt: skip
                print(lines[-1], file=sys.stderr, flush=True)
        finally:
            for server in servers:
                server.stop(timeout=10)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        Path(options.write).write_text(f"# Memory, {date.today()}\n\n{text}", encoding="utf-8")
    sys.exit(1 if is_over else 0)


if __name__ == "__main__":
    main()
