# SPDX-License-Identifier: Apache-2.0
"""Peers of their own, a proxy before each, and the engagement pipeline between them, to be disturbed."""

import contextlib
import ctypes
import http.client
import mmap
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import psycopg2
import redis
from chaos_load import AUDIT
from engagement import CONFIG, Pipeline, Source
from servers import ClickHouse, Kafka, Postgres, Proxy, Redis, wait_for
from servers.process import free_port
from servers.server import HOST, find_program

SHIM = Path(__file__).with_name("process_shim.c")
PEERS = ("postgres", "clickhouse", "redis", "kafka")
DISK_MIB = 512
STARTING_SECONDS = 5
MNT_DETACH = 2

# What the run adds to the example: an insert-only table in every sink, and short waits between tries.
ADDITIONS = {
    "tables: [public.content, public.engagement_events]":
        "tables: [public.content, public.engagement_events, public.audit]",
    "streams:\n": "streams:\n  audit: {{from: public.audit, append_only: true}}\n",
    "    tables:\n": "    request_timeout: 15s\n    retry: {{wait_max: 1s}}\n    tables:\n      - {{stream: audit}}\n",
    "    writes:\n": "    retry: {{wait_max: 1s}}\n    writes:\n"
                      "      - {{stream: audit, xadd: \"{prefix}audit\"}}\n",
    "    topics:\n": "    retry: {{wait_max: 1s}}\n    topics:\n"
                      "      - {{stream: audit, topic: {topic}_audit}}\n",
}  # fmt: skip

# Each row that was ever inserted shows in them, and stays.
VIEWS = """
CREATE TABLE {db}.events_log AS {db}.enriched_engagements ENGINE = MergeTree ORDER BY _version
  SETTINGS non_replicated_deduplication_window = 10000;
CREATE MATERIALIZED VIEW {db}.events_view TO {db}.events_log AS SELECT * FROM {db}.enriched_engagements;
CREATE TABLE {db}.audit_log AS {db}.audit ENGINE = MergeTree ORDER BY id
  SETTINGS non_replicated_deduplication_window = 10000;
CREATE MATERIALIZED VIEW {db}.audit_view TO {db}.audit_log AS SELECT * FROM {db}.audit;
CREATE TABLE {db}.audit_sums (session Int32, n UInt64, total Int64) ENGINE = SummingMergeTree ORDER BY session
  SETTINGS non_replicated_deduplication_window = 10000;
CREATE MATERIALIZED VIEW {db}.audit_sums_view TO {db}.audit_sums AS
  SELECT session, count() AS n, sum(id) AS total FROM {db}.audit GROUP BY session
"""


class Control:
    """What the library inside of Millrace reads: how far its wall clock is off, and whether its disk is full."""

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "control"
        path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), 16)
        library = directory / "process_shim.so"
        subprocess.run([find_program("gcc", "g++"), "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIM)],
                       check=True)  # fmt: skip
        self.environment = {"LD_PRELOAD": str(library), "MILLRACE_CHAOS_CONTROL": str(path)}

    def set_clock(self, offset_seconds):
        struct.pack_into("q", self._page, 0, int(offset_seconds * 1e9))

    def set_disk_full(self, is_full):
        struct.pack_into("q", self._page, 8, is_full)


class Disk:
    """The disk of data_dir: a small tmpfs where we may mount one, else writes that the library refuses."""

    def __init__(self, directory, control):
        self.directory = directory
        self._control = control
        self._filler = directory / "filler"
        self.is_full = False
        directory.mkdir(mode=0o700)
        options = f"size={DISK_MIB}m,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        self.is_mounted = (
            os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        )

    def fill(self, left):
        """Until `left` bytes are free."""
        self.is_full = True
        if not self.is_mounted:
            return self._control.set_disk_full(True)
        with open(self._filler, "ab") as file:
            free = os.statvfs(self.directory).f_bavail * os.statvfs(self.directory).f_frsize
            if free > left:
                with contextlib.suppress(OSError):  # Millrace took some meanwhile
                    os.posix_fallocate(file.fileno(), file.tell(), free - left)

    def empty(self):
        self._control.set_disk_full(False)
        self._filler.unlink(missing_ok=True)
        self.is_full = False

    def remove(self, keep):
        """`keep`: what is on it stays to be looked at."""
        if not self.is_mounted:
            return
        copy = self.directory.with_name("data.kept")
        if keep:
            shutil.copytree(self.directory, copy)
        if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(self.directory), MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), f"unmount {self.directory}")
        self.is_mounted = False


class Rig:
    """The whole of it in `directory`: it runs within the block, and nothing is left of it behind."""

    def __init__(self, directory, seed):
        self.directory = Path(directory)
        self.seed = seed
        self.control = Control(self.directory / "shim")
        # A shutdown waits for connections whose first bytes have not come: a silent link's.
        postgres = {"wal_sender_timeout": "3s", "authentication_timeout": "3s", "fsync": "off",
                    "logical_decoding_work_mem": "64kB"}  # fmt: skip
        self.peers = {
            "postgres": Postgres(self.directory / "postgres", die_with_parent=True, settings=postgres),
            "clickhouse": ClickHouse(self.directory / "clickhouse", die_with_parent=True, watchdog=True),
            "redis": Redis(self.directory / "redis", die_with_parent=True,
                           arguments=["--appendfsync", "always"]),
            "kafka": Kafka(self.directory / "kafka", port=free_port(), die_with_parent=True),
        }  # fmt: skip
        self.links = {}
        self.pipeline = None
        self.disk = None
        self.source = None
        self.keeps_disk = False
        self.met_full_disk = False  # this process did
        self.launches = 0
        self._launched_at = 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_):
        self._stack.close()

    @property
    def process(self):
        return self.pipeline.process

    def _start(self):
        for name, peer in self.peers.items():
            self.links[name] = self._stack.enter_context(Proxy(peer.port))
        self._let_kafka_name_its_proxy()
        for peer in self.peers.values():
            self._stack.callback(peer.kill)
            peer.launch()
        for peer in self.peers.values():
            peer.start()
        url = self.peers["postgres"].create_database("chaos")
        self.source = Source(url, self.seed)
        self._stack.callback(lambda: self.source.close())
        self.source.execute(AUDIT)
        for _ in range(20):
            self.source.insert_content()
        self.source.commit()
        self._start_pipeline(url)
        return self

    def _let_kafka_name_its_proxy(self):
        """The broker talks to itself without it."""
        kafka, inside = self.peers["kafka"], f"INSIDE://{HOST}:{free_port()}"
        kafka.settings.update({
            "listeners": f"PLAINTEXT://{kafka.brokers},{inside},CONTROLLER://{HOST}:{kafka.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.links['kafka'].port},{inside}",
            "inter.broker.listener.name": "INSIDE",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT",
        })  # fmt: skip

    def _start_pipeline(self, url):
        config = CONFIG
        for anchor, text in ADDITIONS.items():
            assert config.count(anchor) == 1, anchor
            config = config.replace(anchor, text)
        port = {name: link.port for name, link in self.links.items()}
        config = config.replace("url: {clickhouse}", f"url: http://default@{HOST}:{port['clickhouse']}")
        config = config.replace("url: {redis}", f"url: redis://{HOST}:{port['redis']}")
        config = config.replace("brokers: {kafka}", f"brokers: {HOST}:{port['kafka']}")
        source = url.replace(f":{self.peers['postgres'].port}/", f":{port['postgres']}/")
        self.pipeline = Pipeline(self.directory / "pipeline", "chaos", source, self.peers["clickhouse"],
                                 self.peers["redis"], self.peers["kafka"], "chaos", "chaos:", "chaos_events",
                                 config=config)  # fmt: skip
        self.disk = Disk(self.directory / "pipeline" / "data", self.control)
        self._stack.callback(lambda: self.disk.remove(self.keeps_disk))
        self.process.environment = {**self.control.environment, "MILLRACE_CHAOS_DATA": str(self.disk.directory)}
        self._stack.callback(self.process.kill)
        self.launch()
        self.process.wait_ready()
        clickhouse = self.peers["clickhouse"]
        tables = "SELECT count() FROM system.tables WHERE database = 'chaos'"
        wait_for(lambda: int(clickhouse.query(tables)) >= 3, "the tables in ClickHouse are made", 60)
        for statement in VIEWS.format(db="chaos").split(";"):
            clickhouse.query(statement)

    def launch(self):
        """Starts Millrace, and does not wait for it."""
        self.met_full_disk = self.disk.is_full
        self.launches += 1
        self._launched_at = time.monotonic()
        self.process.launch()

    def is_starting(self):
        """It may have no handler for SIGTERM yet."""
        return time.monotonic() - self._launched_at < STARTING_SECONDS

    def heal_all(self):
        """Every link carries, and the disk has room; what hung within a connection ends."""
        for link in self.links.values():
            link.carry()
        self.disk.empty()
        self.control.set_clock(0)

    def counts(self):
        """Rows that each log must hold and holds, by name; cheap enough to be asked while the load pauses."""
        with psycopg2.connect(self.source.url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT (SELECT count(*) FROM audit), count(*),"
                           " count(*) FILTER (WHERE op = 'upsert') FROM oracle")  # fmt: skip
            audit, outputs, upserts = cursor.fetchone()
        clickhouse = self.peers["clickhouse"]

        def count(query):
            return int(clickhouse.query(query))

        with redis.Redis.from_url(self.peers["redis"].url) as client:
            streams = sum(client.xlen(key) for key in client.scan_iter("chaos:enriched_events:*"))
            entries = client.xlen("chaos:audit")
        return {
            "ClickHouse audit": (audit, count("SELECT count() FROM chaos.audit")),
            "ClickHouse audit_log": (audit, count("SELECT count() FROM chaos.audit_log")),
            "ClickHouse audit_sums": (audit, count("SELECT sum(n) FROM chaos.audit_sums")),
            "ClickHouse events_log": (upserts, count("SELECT countIf(_deleted = 0) FROM chaos.events_log")),
            "Redis audit": (audit, entries),
            "Redis enriched_events": (outputs, streams),
        }

    def wait_delivered(self, timeout, watch):
        """Until all that is committed now is durable in every sink; calls `watch` meanwhile."""
        deadline = time.monotonic() + timeout
        while True:
            watch()
            try:
                return self.pipeline.wait_delivered(self.source, 1)
            except (AssertionError, OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not delivered within {timeout} s: {error}") from error
                time.sleep(0.1)
