# SPDX-License-Identifier: Apache-2.0
"""A quiet database: its WAL is let go, and readiness means that changes would flow."""

import re

import pytest
from servers import Millrace, wait_for
from servers.process import free_port

from engagement import PROGRAM, ROOT

HEARTBEAT = 1  # seconds

CONFIG = """\
pipeline: {name}
data_dir: ./data
source: {{type: postgres, url: "{url}", tables: [public.t], heartbeat_interval: {heartbeat}}}
streams:
  rows: {{from: public.t}}
sinks:
  out: {{type: blackhole, streams: [rows]}}
  live: {{type: redis, url: "{redis}", writes: [{{stream: rows, hset: "{prefix}{{id}}"}}]}}
admin: {{listen: "127.0.0.1:{port}"}}
"""


class Idle:
    """A pipeline of table t, which nobody changes."""

    def __init__(self, directory, postgres, database, redis_server, prefix):
        self.postgres, self.database = postgres, database
        self.name = database[-30:].lstrip("_0123456789")
        self.process = Millrace(directory / "process", PROGRAM, directory / "millrace.yaml",
                                free_port(), die_with_parent=True)  # fmt: skip
        self.values = {"name": self.name, "url": postgres.dsn(database), "redis": redis_server.url,
                       "prefix": prefix, "port": self.process.port}  # fmt: skip
        postgres.sql("CREATE TABLE t (id int PRIMARY KEY)", database, "app")

    def launch(self, heartbeat=f"{HEARTBEAT}s"):
        path = self.process.config
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(**self.values, heartbeat=heartbeat))
        self.process.launch()

    def log(self):
        return self.process.log_path.read_text(encoding="utf-8")

    def slot(self):
        """Its confirmed and its restart position."""
        (row,) = self.postgres.sql(
            "SELECT confirmed_flush_lsn - '0/0'::pg_lsn, restart_lsn - '0/0'::pg_lsn"
            f" FROM pg_replication_slots WHERE slot_name = 'millrace_{self.name}'"
        )
        return tuple(int(value) for value in row.split("|"))

    def wal_end(self):
        return int(self.postgres.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0])


@pytest.fixture
def idle(tmp_path, postgres, unique_name, database, redis_server, redis_prefix):
    idle = Idle(tmp_path, postgres, unique_name, redis_server, redis_prefix)
    yield idle
    idle.process.kill()


def test_ready_within_three_heartbeats(idle):
    idle.launch()
    wait_for(lambda: "Streaming" in idle.log(), "the stream begins", 20)
    wait_for(lambda: idle.process.get("/readyz")[0] == 200, "/readyz is 200", 3 * HEARTBEAT)


@pytest.mark.case(4)
def test_confirmed_position_moves_on_while_nothing_happens(idle):
    idle.launch()
    idle.process.wait_ready()
    for _ in range(3):
        end = idle.wal_end()
        wait_for(lambda: idle.slot()[0] >= end, "the confirmed position moves on", 3 * HEARTBEAT)
    assert idle.process.get("/readyz")[0] == 200


@pytest.mark.case(13)
@pytest.mark.parametrize("where", ["same database", "another database"])
def test_busy_unpublished_tables_hold_no_wal(idle, where):
    idle.launch()
    idle.process.wait_ready()
    database = idle.database if where == "same database" else "app"
    idle.postgres.sql("CREATE TABLE IF NOT EXISTS other (v text)", database, "app")
    begin = idle.wal_end()
    insert = "INSERT INTO other SELECT repeat('x', 900) FROM generate_series(1, 3000)"
    for _ in range(4):
        idle.postgres.sql(insert, database, "app")
    # The restart position follows at the server's next list of running transactions.
    idle.postgres.sql("CHECKPOINT")
    end = idle.wal_end()
    assert end - begin > 8 << 20
    wait_for(lambda: idle.slot()[0] >= end, "the confirmed position moves on", 3 * HEARTBEAT + 2)
    wait_for(lambda: idle.slot()[1] >= begin + (8 << 20), "the restart position follows", 40)
    wait_for(
        lambda: (found := re.search(r"^millrace_slot_retained_wal_bytes{.*} (\S+)$",
                                    idle.process.get("/metrics")[1], re.MULTILINE))
        and float(found[1]) < 4 << 20, "the metric says so", 3 * HEARTBEAT + 2)  # fmt: skip


def test_without_heartbeats_keepalives_make_it_ready(idle):
    idle.launch(heartbeat="0")
    idle.process.wait_ready(30)


def test_metrics_have_the_documented_names(idle):
    idle.launch()
    idle.process.wait_ready()
    idle.postgres.sql("INSERT INTO t VALUES (1), (2); DELETE FROM t", idle.database, "app")
    sink_rows = re.compile(r'^millrace_sink_rows_total{.*sink="live".*} 4$', re.MULTILINE)
    text = wait_for(
        lambda: sink_rows.search(metrics := idle.process.get("/metrics")[1]) and metrics,
        "the rows are counted", 10,
    )  # fmt: skip
    reference = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", reference, re.MULTILINE))
    assert len(documented) > 20
    shown = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    # These have a label of what went wrong, and nothing did.
    for name in ("millrace_sink_errors_total", "millrace_dead_letter_rows_total"):
        documented.pop(name)
    assert shown == documented
    assert text.count(f'pipeline="{idle.name}"') > len(documented)
    assert re.search(r'^millrace_source_events_total{.*op="insert".*} 2$', text, re.MULTILINE)
    assert re.search(r'^millrace_source_events_total{.*op="delete".*} 2$', text, re.MULTILINE)
    assert re.search(r"^millrace_ready{.*} 1$", text, re.MULTILINE)
