# SPDX-License-Identifier: Apache-2.0
"""Cases 1 to 8 and 11 to 13: where the stream begins, goes on, and what the server is told."""

import threading
import time

import psycopg2
import psycopg2.extras
import pytest
from servers import Postgres, wait_for

from harness import Mirror

PLAIN = "CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE log (id bigint, v text)"


class Writer(threading.Thread):
    """Commits rows of t and log until it is stopped; log has no key, so that nothing hides a double."""

    def __init__(self, mirror, pause=0.002):
        super().__init__(daemon=True)
        self.session = mirror.new_session()
        self.pause = pause
        self.ends = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.ends.wait(self.pause):
                with self.session:
                    self.session.sql("INSERT INTO t (v) VALUES ('w'), ('w')")
                    self.session.sql("INSERT INTO log SELECT max(id), 'w' FROM t")
                    self.session.sql("UPDATE t SET v = 'x' WHERE id = (SELECT max(id) FROM t)")
        except psycopg2.Error as error:
            self.error = error

    def stop(self):
        self.ends.set()
        self.join(10)
        assert self.error is None


def confirmed(mirror):
    (row,) = mirror.sql(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
        mirror.slot,
    )
    return None if row[0] is None else int(row[0])


@pytest.mark.smoke
@pytest.mark.case(1)
def test_commits_around_slot_and_snapshot(mirror):
    """Some run as the slot is made, some commit before the snapshot is read, some after."""
    mirror.sql(PLAIN)
    mirror.sql("INSERT INTO t (v) SELECT 'before' FROM generate_series(1, 1000)")
    mirror.sql("INSERT INTO log SELECT g, 'before' FROM generate_series(1, 1000) g")
    running, rolled_back = mirror.new_session(), mirror.new_session()
    for session in (running, rolled_back):
        session.sql("BEGIN")
        session.sql("INSERT INTO t (v) VALUES ('open')")
        session.sql("INSERT INTO log VALUES (-1, 'open')")
    mirror.configure("t", "log")
    writer = Writer(mirror)
    mirror.process.launch()
    mirror.wait(
        lambda: mirror.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", mirror.slot),
        "the slot is being made",
    )
    # The slot waits for both.
    running.sql("INSERT INTO log VALUES (-2, 'open')")
    running.sql("COMMIT")
    rolled_back.sql("ROLLBACK")
    mirror.wait(lambda: "Streaming" in mirror.log(), "the stream begins")
    writer.stop()
    mirror.wait_read()
    mirror.check()


@pytest.mark.case(3, 5)
def test_kills_and_cut_connections_under_load(mirror):
    """Nothing is lost or doubled, and the confirmed position never goes back."""
    mirror.sql(PLAIN)
    writer = Writer(mirror)
    mirror.start("t", "log")
    seen = 0
    for number in range(8):
        before = mirror.sql("SELECT count(*) FROM log")[0][0]
        mirror.wait(
            lambda low=before: mirror.sql("SELECT count(*) FROM log")[0][0] > low + 15, "rows"
        )
        position = confirmed(mirror)
        assert position >= seen
        seen = position
        if number % 2:
            mirror.kill()
            mirror.resume()
        else:
            mirror.admin_sql(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                f" WHERE slot_name = '{mirror.slot}'"
            )
    writer.stop()
    mirror.check()
    assert confirmed(mirror) >= seen


@pytest.mark.case(5)
def test_kill_while_a_large_transaction_is_read(mirror):
    mirror.sql(PLAIN)
    mirror.start("t", "log")
    for _ in range(3):
        with mirror.session:
            mirror.sql("INSERT INTO t (v) SELECT repeat('x', 200) FROM generate_series(1, 20000)")
            mirror.sql("INSERT INTO log SELECT g, 'x' FROM generate_series(1, 20000) g")
        mirror.kill()
        mirror.resume()
    mirror.check()


@pytest.mark.case(5)
def test_positions_that_look_alike(mirror):
    """Rows of one COPY share a position, transactions follow each other without a gap."""
    mirror.sql(PLAIN)
    mirror.start("t", "log")
    for number in range(4):
        mirror.sql("INSERT INTO log SELECT g, 'multi' FROM generate_series(1, 300) g")
        mirror.sql("SELECT pg_logical_emit_message(true, 'other', 'between')")
        mirror.sql("SELECT pg_logical_emit_message(false, 'other', 'between')")
        mirror.sql("INSERT INTO t (v) VALUES ('a'); INSERT INTO t (v) VALUES ('b')")
        with mirror.session:
            mirror.sql("SELECT pg_logical_emit_message(true, 'other', 'within')")
            mirror.sql(f"UPDATE t SET v = v || '{number}'")
        mirror.kill()
        mirror.resume()
    mirror.check()


@pytest.mark.case(6)
def test_outputs_come_in_commit_order(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.start("t")
    sessions = [mirror.new_session() for _ in range(4)]
    for number, session in enumerate(sessions):
        session.sql("BEGIN")
        session.sql(f"INSERT INTO t VALUES ({number}, 'first')")
    for number in (2, 0, 3, 1):
        sessions[number].sql(f"INSERT INTO t VALUES ({number + 10}, 'last')")
        sessions[number].sql("COMMIT")
    mirror.check()
    outputs = mirror.outputs("t")
    assert [row["id"] for row in outputs] == [2, 12, 0, 10, 3, 13, 1, 11]
    versions = [int(row["_version"]) for row in outputs]
    assert versions == sorted(set(versions))


@pytest.mark.case(7)
def test_slot_that_another_connection_holds(mirror):
    """It waits, and goes on once the other has left."""
    mirror.sql(PLAIN)
    mirror.start("t", "log")
    mirror.check()
    mirror.stop()
    other = psycopg2.connect(
        mirror.postgres.dsn(mirror.database),
        connection_factory=psycopg2.extras.LogicalReplicationConnection,
    )
    other.cursor().start_replication(
        slot_name=mirror.slot, slot_type=psycopg2.extras.REPLICATION_LOGICAL,
        options={"proto_version": "1", "publication_names": f"millrace_{mirror.name}"},
    )  # fmt: skip
    mirror.process.launch()
    mirror.wait(lambda: "will connect again" in mirror.log_since_start(), "it tries again")
    mirror.sql("INSERT INTO t (v) VALUES ('waits')")
    other.close()
    mirror.wait(lambda: "Streaming" in mirror.log_since_start(), "the stream goes on")
    mirror.check()


@pytest.mark.case(8)
def test_slot_that_is_gone_made_again_or_ahead(mirror):
    mirror.sql(PLAIN)
    mirror.start("t", "log")
    mirror.check()
    mirror.stop()
    mirror.sql("INSERT INTO t (v) VALUES ('missed')")
    make = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
    mirror.sql("SELECT pg_drop_replication_slot(%s)", mirror.slot)
    mirror.process.launch()
    mirror.wait_failure("replication slot .* (is gone|does not exist)")
    mirror.sql(make, mirror.slot)
    mirror.process.launch()
    mirror.wait_failure("replication slot")
    assert "Streaming" not in mirror.log_since_start()


@pytest.mark.case(12)
def test_fast_shutdown_of_the_server(tmp_path, postgres, clickhouse, clickhouse_database, unique_name):
    """It ends soon, and what was committed right before it arrives after the start."""
    with Postgres(tmp_path / "postgres", die_with_parent=True, version=postgres.version) as server:
        server.create_database(unique_name)
        mirror = Mirror(tmp_path, server, unique_name, clickhouse, clickhouse_database)
        try:
            mirror.sql(PLAIN)
            mirror.start("t", "log")
            mirror.sql("INSERT INTO log SELECT g, 'last' FROM generate_series(1, 5000) g")
            mirror.sessions.remove(mirror.session)
            mirror.session.close()
            begin = time.monotonic()
            server.stop(timeout=20)
            assert time.monotonic() - begin < 10
            server.start()
            mirror.session = mirror.new_session()
            mirror.wait(lambda: mirror.status()["source"].get("connected", True), "it is back")
            mirror.sql("INSERT INTO t (v) VALUES ('after')")
            mirror.check()
        finally:
            mirror.close()


@pytest.mark.case(4)
def test_keepalives_are_answered_while_nothing_happens(mirror):
    """With heartbeats off, past wal_sender_timeout, the connection is the same."""
    mirror.sql(PLAIN)
    mirror.admin_sql(f'ALTER ROLE app IN DATABASE "{mirror.database}" SET wal_sender_timeout = 1000')
    walsender = f"SELECT pid FROM pg_stat_replication WHERE application_name LIKE '%{mirror.slot}%'"
    mirror.start("t", "log", source={"heartbeat_interval": "0"})
    mirror.sql("INSERT INTO t (v) VALUES ('a')")
    mirror.check()
    (pid,) = mirror.admin_sql(walsender)
    before = mirror.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0]
    begin = time.monotonic()
    mirror.sql("CREATE TABLE other (v text)")
    while time.monotonic() - begin < 3:
        # Work elsewhere: the position moves on with keep-alives alone.
        mirror.sql("INSERT INTO other SELECT repeat('x', 500) FROM generate_series(1, 50)")
        time.sleep(0.1)
    assert mirror.admin_sql(walsender) == [pid]
    wait_for(lambda: confirmed(mirror) > before, "the position moves on")


@pytest.mark.since(18)
@pytest.mark.case(4, 11)
def test_keepalives_are_answered_while_a_sink_is_stuck(mirror):
    """The engine waits for the sink, the slot holds what is not durable, the connection stays."""
    mirror.sql(PLAIN)
    mirror.admin_sql(f'ALTER ROLE app IN DATABASE "{mirror.database}" SET wal_sender_timeout = 1500')
    mirror.start(
        "t", "log", storage={"max_bytes": "16MiB"},
        sinks={"stuck": {"type": "redis", "url": "redis://127.0.0.1:1",
                         "writes": [{"stream": "log", "xadd": "never"}]}},
    )  # fmt: skip
    walsender = f"SELECT pid FROM pg_stat_replication WHERE application_name LIKE '%{mirror.slot}%'"
    (pid,) = mirror.admin_sql(walsender)
    value = "SELECT string_agg(md5((g * 100 + i)::text), '') FROM generate_series(1, 40) i"
    for _ in range(4):
        mirror.sql(f"INSERT INTO log SELECT g, ({value}) FROM generate_series(1, 10000) g")
    mirror.wait(lambda: "Output log is full" in mirror.log(), "the output log is full")
    held = confirmed(mirror)
    begin = time.monotonic()
    while time.monotonic() - begin < 4:
        assert mirror.process.is_running()
        time.sleep(0.1)
    assert mirror.admin_sql(walsender) == [pid]
    end = int(mirror.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])
    assert held <= confirmed(mirror) < end - (4 << 20)


@pytest.mark.case(13)
def test_idle_tables_in_a_busy_database_hold_no_wal(mirror):
    mirror.sql(PLAIN)
    mirror.sql("CREATE TABLE busy (v text)")
    mirror.start("t", "log", source={"heartbeat_interval": "500ms"})
    for _ in range(3):
        mirror.sql("INSERT INTO busy SELECT repeat('x', 900) FROM generate_series(1, 2000)")
        end = int(mirror.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])
        mirror.wait(lambda low=end: confirmed(mirror) >= low, "the position moves on", 5)
