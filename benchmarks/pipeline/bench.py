# SPDX-License-Identifier: Apache-2.0
"""End-to-end benchmark on real servers, all on this machine: `make bench`.

Throughput: a backlog of engagement events waits in the slot while the pipeline is stopped; it is
started, and the time from its start to the last row durable in every sink is taken. pg_recvlogical
reads the same WAL to /dev/null in the same run, so that runs on other machines compare by ratio.

Latency: single-row commits at a fixed rate; the time from the moment that COMMIT returned to the
moment that a blocking reader of the Redis stream has the entry.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from datetime import date
from pathlib import Path

from measure import ROOT, circumstances, cpu_seconds, peak_rss_mib, tree_cpu_seconds, written_mib

sys.path.insert(0, str(ROOT / "tools"))

import psycopg2  # noqa: E402
import redis as redis_client  # noqa: E402
from servers import ClickHouse, Kafka, Millrace, Postgres, Redis  # noqa: E402

CONTENTS = 10_000
WRITERS = 8
LOAD = """
INSERT INTO engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload)
SELECT ids[1 + (random() * (array_length(ids, 1) - 1))::int], gen_random_uuid(),
       (ARRAY['play', 'pause', 'finish', 'click'])[1 + (i %% 4)], now() - random() * interval '1 day',
       (random() * 600000)::int, (ARRAY['ios', 'android', 'web', 'tv'])[1 + (i %% 4)],
       jsonb_build_object('session', gen_random_uuid(), 'position', i, 'quality', 'hd')
FROM generate_series(1, %(rows)s) i, (SELECT array_agg(id) ids FROM content) c
"""
SINKS = {
    "clickhouse": """
  warehouse:
    type: clickhouse
    url: {clickhouse}
    database: bench
    tables:
      - {{stream: content_dim}}
      - {{stream: enriched_engagements, order_by: [event_ts, content_id, event_id]}}
""",
    "redis": """
  live:
    type: redis
    url: {redis}
    writes:
      - {{stream: enriched_engagements, xadd: "enriched_events:{{content_type}}", maxlen: 100000}}
""",
    "kafka": """
  events:
    type: kafka
    brokers: {kafka}
    topics:
      - {{stream: enriched_engagements, topic: {name}_enriched, key: content_id, format: json}}
""",
    "blackhole": """
  nowhere:
    type: blackhole
    streams: [content_dim, enriched_engagements]
""",
}


class Servers:
    def __init__(self, directory):
        self.postgres = Postgres(directory / "postgres", die_with_parent=True,
                                 settings={"max_wal_size": "8GB"})  # fmt: skip
        self.redis = Redis(directory / "redis", die_with_parent=True)
        self.clickhouse = ClickHouse(directory / "clickhouse", die_with_parent=True)
        self.kafka = Kafka(directory / "kafka", die_with_parent=True)
        for server in self.all():
            server.start()
        self.clickhouse.query("CREATE DATABASE IF NOT EXISTS bench")

    def all(self):
        return [self.postgres, self.redis, self.clickhouse, self.kafka]

    def cpu_seconds(self):
        return {server.name: tree_cpu_seconds(server.pid) for server in self.all()}


def load(connection, rows, transaction_rows):
    with connection.cursor() as cursor:
        for _ in range(rows // transaction_rows):
            cursor.execute(LOAD, {"rows": transaction_rows})
            connection.commit()


class Bench:
    def __init__(self, servers, directory, name, sinks):
        self.servers, self.name = servers, name
        url = servers.postgres.create_database(name)
        self.connection = psycopg2.connect(url)
        schema = (ROOT / "examples/engagement/schema.sql").read_text(encoding="utf-8")
        with self.connection.cursor() as cursor:
            cursor.execute(schema)
            cursor.execute(
                "INSERT INTO content SELECT gen_random_uuid(), 'slug-' || i, 'title ' || i,"
                " (ARRAY['podcast', 'newsletter', 'video'])[1 + i %% 3], 60 + i %% 5000, now()"
                " FROM generate_series(1, %s) i", (CONTENTS,))  # fmt: skip
        self.connection.commit()
        directory.mkdir()
        self.config = directory / "millrace.yaml"
        self.process = Millrace(directory / "process", ROOT / "build/release/millrace", self.config,
                                die_with_parent=True)  # fmt: skip
        self.config.write_text(self.configuration(url, sinks), encoding="utf-8")

    def configuration(self, url, sinks):
        example = (ROOT / "examples/engagement/millrace.yaml").read_text(encoding="utf-8")
        streams = example[example.index("streams:"):example.index("sinks:")]
        clickhouse = self.servers.clickhouse
        secret = clickhouse.users.get("default", "")
        address = urllib.parse.urlparse(clickhouse.url).netloc
        parts = [
            f"pipeline: {self.name}\ndata_dir: ./data\n",
            f"source:\n  type: postgres\n  url: {url}\n"
            "  tables: [public.content, public.engagement_events]\n  heartbeat_interval: 1s\n",
            streams,
            "sinks:\n",
            *(SINKS[sink].format(clickhouse=f"http://default:{secret}@{address}",
                                 redis=self.servers.redis.url, kafka=self.servers.kafka.brokers,
                                 name=self.name) for sink in sinks),
            f"admin: {{listen: '127.0.0.1:{self.process.port}'}}\n",
        ]  # fmt: skip
        return "".join(parts)

    def close(self):
        self.process.kill()
        self.connection.close()
        self.servers.postgres.drop_database(self.name)
        with redis_client.Redis.from_url(self.servers.redis.url) as client:
            client.flushall()

    def wait_delivered(self, target):
        while True:
            time.sleep(0.1)
            try:
                status = json.loads(self.process.get("/api/v1/status")[1])
            except OSError:
                continue
            if not status["sinks"]:
                continue
            high, low = status["source"]["confirmed_lsn"].split("/")
            confirmed = (int(high, 16) << 32) + int(low, 16)
            if confirmed >= target and all(sink["lag_rows"] == 0 for sink in status["sinks"]):
                return

    def wal_end(self):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            end = int(cursor.fetchone()[0])
        self.connection.commit()
        return end

    def drain_backlog(self, rows, transaction_rows):
        """Delivers `rows` that waited in the slot; a row of the result table."""
        self.process.start()
        self.process.stop()
        # A slot of its own for the reader that this is compared with.
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self.name + "_ref",))
        self.connection.commit()
        load(self.connection, rows, transaction_rows)
        target = self.wal_end()
        reference = self.time_recvlogical(target)
        self.servers.postgres.sql("CHECKPOINT")

        before = self.servers.cpu_seconds()
        start = time.monotonic()
        self.process.launch()
        self.wait_delivered(target)
        seconds = time.monotonic() - start
        after = self.servers.cpu_seconds()
        pid = self.process.pid
        return {
            "rows": rows,
            "rate": rows / seconds,
            "ratio": seconds / reference,
            "cpu": cpu_seconds(pid) / rows * 1e6,
            "rss": peak_rss_mib(pid),
            "written": written_mib(pid),
            "servers": {name: after[name] - before[name] for name in after},
        }

    def time_recvlogical(self, target):
        programs = "/usr/lib/postgresql/15/bin"
        end = f"{target >> 32:X}/{target & 0xFFFFFFFF:X}"
        start = time.monotonic()
        subprocess.run(
            [f"{programs}/pg_recvlogical", "-d", self.connection.dsn, "-S", self.name + "_ref",
             "--start", "--endpos", end, "-f", "/dev/null", "-o", "proto_version=1",
             "-o", f"publication_names=millrace_{self.name}", "--no-loop"],
            check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        return time.monotonic() - start

    def measure_latency(self, rate, seconds):
        """Milliseconds from COMMIT to a reader of the Redis stream, sorted."""
        self.process.start()
        arrived = {}
        done = threading.Event()

        def read():
            with redis_client.Redis.from_url(self.servers.redis.url) as client:
                keys = {f"enriched_events:{kind}": "0" for kind in ("podcast", "newsletter", "video")}
                while not done.is_set():
                    for key, entries in client.xread(keys, count=1000, block=200):
                        now = time.monotonic()
                        keys[key.decode()] = entries[-1][0]
                        for _, fields in entries:
                            arrived[int(fields[b"event_id"])] = now

        committed = {}

        def write(number):
            """Its share of the commits, at fixed times; each connection waits for its own."""
            connection = psycopg2.connect(self.connection.dsn)
            with connection.cursor() as cursor:
                for i in range(number, rate * seconds, WRITERS):
                    wait = begin + i / rate - time.monotonic()
                    if wait > 0:
                        time.sleep(wait)
                    cursor.execute(
                        "INSERT INTO engagement_events (content_id, user_id, event_type, event_ts,"
                        " duration_ms, device, raw_payload) VALUES (%s, gen_random_uuid(), 'play',"
                        " now(), %s, 'ios', '{\"session\": 1, \"quality\": \"hd\"}') RETURNING id",
                        (contents[i % len(contents)], i),
                    )
                    (event,) = cursor.fetchone()
                    connection.commit()
                    committed[event] = time.monotonic()
            connection.close()

        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id::text FROM content LIMIT 1000")
            contents = [row[0] for row in cursor.fetchall()]
        self.connection.commit()
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(1)
        begin = time.monotonic()
        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        achieved = len(committed) / (time.monotonic() - begin)
        deadline = time.monotonic() + 10
        while len(arrived) < len(committed) and time.monotonic() < deadline:
            time.sleep(0.05)
        done.set()
        reader.join()
        assert len(arrived) >= len(committed), f"{len(committed) - len(arrived)} rows did not arrive"
        return achieved, sorted((arrived[event] - at) * 1000 for event, at in committed.items())


def percentile(values, p):
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--latency-seconds", type=int, default=20)
    parser.add_argument("--cases", nargs="*", default=["all", "clickhouse", "redis", "kafka", "blackhole"])
    parser.add_argument("--write", metavar="FILE", help="also write the tables to this Markdown file")
    options = parser.parse_args()
    cases = {
        "all": ("ClickHouse + Redis + Kafka, with lookup", ["clickhouse", "redis", "kafka"]),
        "clickhouse": ("ClickHouse, with lookup", ["clickhouse"]),
        "redis": ("Redis, with lookup", ["redis"]),
        "kafka": ("Kafka, with lookup", ["kafka"]),
        "blackhole": ("blackhole, with lookup and synced log", ["blackhole"]),
    }
    lines = [
        circumstances("make bench"),
        "",
        f"Backlog of {options.rows:,} events in transactions of 10,000; {CONTENTS:,} content rows. Times run "
        "from the start of the process.",
        "",
        "| case | events/s | time / pg_recvlogical | own CPU s per 1M | peak RSS MiB | written MiB |"
        " servers' CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as directory:
        os.chmod(directory, 0o755)
        servers = Servers(Path(directory))
        try:
            for case in options.cases:
                title, sinks = cases[case]
                print(f"running: {title}", file=sys.stderr, flush=True)
                bench = Bench(servers, Path(directory) / f"run_{case}", f"bench_{case}", sinks)
                result = bench.drain_backlog(options.rows, 10_000)
                bench.close()
                others = ", ".join(f"{name} {used:.1f}" for name, used in result["servers"].items())
                lines.append(
                    f"| {title} | {result['rate']:,.0f} | {result['ratio']:.2f} | {result['cpu']:.1f} |"
                    f" {result['rss']:.0f} | {result['written']:.0f} | {others} |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
            if options.latency_seconds:
                bench = Bench(servers, Path(directory) / "run_latency", "bench_latency",
                              ["clickhouse", "redis", "kafka"])  # fmt: skip
                achieved, times = bench.measure_latency(1000, options.latency_seconds)
                bench.close()
                lines += [
                    "",
                    f"Commit to Redis, all three sinks running, {achieved:,.0f} single-row commits/s:",
                    "",
                    "| p50 ms | p99 ms | p99.9 ms | max ms |",
                    "| --- | --- | --- | --- |",
                    "| " + " | ".join(f"{percentile(times, p):.1f}" for p in (50, 99, 99.9, 100)) + " |",
                ]
        finally:
            for server in servers.all():
                server.stop(timeout=10)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        Path(options.write).write_text(f"# End to end, {date.today()}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
