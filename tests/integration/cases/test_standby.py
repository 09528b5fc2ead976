# SPDX-License-Identifier: Apache-2.0
"""Reading from a standby (16 and newer): cases 9, 10 and 13 there."""

import subprocess
import threading

import pytest
from servers import Postgres, Standby, wait_for

from engagement import PROGRAM
from harness import MARK, Mirror

pytestmark = pytest.mark.since(16)
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "max_wal_senders": "10", "wal_sender_timeout": "2s"}


def insert(mirror, first, last):
    mirror.sql(f"INSERT INTO t SELECT g, 'v' || g FROM generate_series({first}, {last}) g")


@pytest.fixture(scope="module")
def pair(servers_dir, postgres):
    """A primary and its standby."""
    primary = Postgres(servers_dir / f"pair-{postgres.version}" / "primary", die_with_parent=True,
                       version=postgres.version, settings=SETTINGS)  # fmt: skip
    primary.start()
    standby = Standby(servers_dir / f"pair-{postgres.version}" / "standby", primary, die_with_parent=True)
    standby.start()
    yield primary, standby
    standby.kill()
    primary.kill()


@pytest.fixture
def read(tmp_path, pair, clickhouse, clickhouse_database, unique_name):
    """A pipeline that reads the standby; the application writes to the primary."""
    primary, standby = pair
    primary.create_database(unique_name)
    mirror = Mirror(tmp_path, primary, unique_name, clickhouse, clickhouse_database)
    mirror.sql("CREATE TABLE t (id int, v text)")
    insert(mirror, 1, 50)
    # Or each list of running transactions that a slot waits for takes up to 15 s.
    mirror.admin_sql("GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO app")
    mirror.standby = standby
    mirror.from_standby = {
        "url": standby.dsn(unique_name),
        "heartbeat_url": primary.dsn(unique_name),
    }
    standby.wait_replayed()
    yield mirror
    mirror.close()


def slots_of(mirror):
    return mirror.standby.sql(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '%s'" % mirror.slot
    )


@pytest.mark.smoke
@pytest.mark.case(10)
def test_snapshot_and_stream_of_a_standby(read):
    read.start("t", source=read.from_standby)
    assert slots_of(read) == ["reserved"]
    assert not read.admin_sql(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{read.slot}'")
    insert(read, 51, 100)
    read.check()
    read.process.wait_ready(10)
    status = read.status()["source"]
    assert status["wal_status"] == "reserved" and status["lag_bytes"] < 1 << 20
    read.kill()
    insert(read, 101, 150)
    read.resume()
    read.check()
    assert "reaches the standby's primary" in read.check_command()[1]


@pytest.mark.case(10, 35)
def test_a_table_that_comes_is_taken_in_at_a_standby(read):
    """Published at the primary, found and read at the standby, with what is committed meanwhile."""
    found = {"tables": ["public.*"], "discover": True, "heartbeat_interval": "300ms"}
    read.start({"t": "public.t", "late": "public.late"}, source=read.from_standby | found)
    insert(read, 51, 100)
    read.check("t")
    read.sql("CREATE TABLE late (id int PRIMARY KEY, v text)")
    read.sql("INSERT INTO late SELECT g, 'x' FROM generate_series(1, 500) g")
    for key in range(501, 700):
        read.sql(f"INSERT INTO late VALUES ({key}, 'live')")
    read.wait(lambda: "Table is complete" in read.log() and "table=public.late" in read.log(), "it is read", 30)
    insert(read, 101, 150)
    read.sql("UPDATE late SET v = 'later' WHERE id % 7 = 0; DELETE FROM late WHERE id % 11 = 0")
    read.check()
    read.kill()
    read.sql("INSERT INTO late VALUES (1000, 'down')")
    read.resume()
    read.check()


@pytest.mark.case(13)
def test_idle_standby_slot_moves_on(read):
    read.start("t", source=read.from_standby)
    read.process.wait_ready(20)
    confirmed = (
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots"
        f" WHERE slot_name = '{read.slot}'"
    )
    (end,) = read.admin_sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    wait_for(lambda: int(read.standby.sql(confirmed)[0]) > int(end), "the slot moves on", 20)


@pytest.mark.case(13)
def test_standby_without_heartbeats_needs_a_publication(read):
    source = {"url": read.from_standby["url"], "heartbeat_interval": "1s"}
    read.fails("t", source=source, saying="the server is a standby, to which no heartbeat can be written:"
               " set source.heartbeat_url to the primary")  # fmt: skip
    source["heartbeat_interval"] = 0
    read.fails("t", source=source, saying="cannot be made on a standby: set source.heartbeat_url to the"
               " primary, or make it there")  # fmt: skip
    read.fails("t", source={"url": source["url"], "heartbeat_url": source["url"]},
               saying="is a standby too: set source.heartbeat_url to the primary")  # fmt: skip


@pytest.mark.case(1)
def test_standby_without_its_primary_reads_no_tables(read):
    """A snapshot of a standby leaves running transactions out; streaming needs none."""
    read.sql("CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k VALUES (1)")
    read.admin_sql(f"CREATE PUBLICATION made FOR TABLE k, {MARK}")
    read.standby.wait_replayed()
    source = {"url": read.from_standby["url"], "heartbeat_interval": 0, "manage_publication": False,
              "publication": "made"}  # fmt: skip
    read.fails("k", source=source, saying="tables are read from its primary: set source.heartbeat_url to"
               " that, or source.snapshot.mode: never")  # fmt: skip
    assert slots_of(read) == [], "it was refused after its slot was made"
    read.configure("k", source=source | {"snapshot": {"mode": "never"}})
    read.process.launch()

    def is_streaming():
        # Nobody else asks the primary for the list of running transactions that the slot waits for.
        read.admin_sql("SELECT pg_log_standby_snapshot()")
        return "Streaming" in read.log_since_start()

    read.wait(is_streaming, "the stream begins")
    asked = subprocess.run([PROGRAM, "snapshot", "-c", read.process.config, "k"], capture_output=True,
                           text=True, timeout=60, check=False)  # fmt: skip
    assert asked.returncode == 1 and "set source.heartbeat_url" in asked.stderr, asked
    read.sql("INSERT INTO k VALUES (2)")
    read.wait(lambda: read.rows("k", "id") == [(2,)], "what came later is there")


@pytest.mark.case(1)
def test_writers_on_the_primary_while_a_standby_is_read(read):
    """Rows of short and of long transactions, committed while chunks are read, arrive once."""
    read.sql("CREATE TABLE k (id int PRIMARY KEY, v text)")
    read.sql("INSERT INTO k SELECT g, 'v' FROM generate_series(1, 3000) g")
    insert(read, 51, 3000)
    read.standby.wait_replayed()
    ends = threading.Event()

    sessions = [read.new_session() for _ in range(4)]

    def write(writer, holds):
        begin = 100_000 * (writer + 1)
        for n in range(begin, begin + 100_000):
            if ends.is_set():
                return
            with sessions[writer] as session:
                session.sql(f"INSERT INTO t VALUES ({n}, 'w'); INSERT INTO k VALUES ({n}, 'w')")
                # Rows of its own, all over the table.
                session.sql(f"UPDATE k SET v = 'w{n}' WHERE id = {(n * 4 * 37 + writer) % 3000}")
                ends.wait(holds)

    # Some are open when the slot is made, and over many chunks.
    threads = [threading.Thread(target=write, args=(writer, holds), daemon=True)
               for writer, holds in enumerate((2, 0.7, 0.01, 0.002))]  # fmt: skip
    for thread in threads:
        thread.start()
    try:
        read.start("t", "k", source=read.from_standby | {"snapshot": {"chunk_rows": 40, "parallelism": 2}})
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    read.check()


@pytest.mark.case(9)
def test_conflict_on_a_standby_is_named(tmp_path, postgres, clickhouse, clickhouse_database, unique_name):
    primary = Postgres(tmp_path / "primary", die_with_parent=True, version=postgres.version,
                       settings=SETTINGS)  # fmt: skip
    standby = None
    try:
        primary.start()
        primary.create_database(unique_name)
        mirror = Mirror(tmp_path / "mirror", primary, unique_name, clickhouse, clickhouse_database)
        mirror.sql("CREATE TABLE t (id int, v text)")
        standby = Standby(tmp_path / "standby", primary, die_with_parent=True)
        standby.start()
        source = {"url": standby.dsn(unique_name), "heartbeat_url": primary.dsn(unique_name)}
        mirror.start("t", source=source)
        insert(mirror, 1, 10)
        mirror.check()
        mirror.stop()
        # Without feedback the primary removes old rows of its catalog.
        standby.settings["hot_standby_feedback"] = "off"
        standby.restart()
        lost = f"SELECT conflicting FROM pg_replication_slots WHERE slot_name = '{mirror.slot}'"

        def conflict():
            mirror.sql("CREATE TABLE x (id int)")
            mirror.sql("DROP TABLE x")
            mirror.admin_sql("VACUUM pg_catalog.pg_class; VACUUM pg_catalog.pg_attribute;"
                             "VACUUM pg_catalog.pg_type; VACUUM pg_catalog.pg_depend")  # fmt: skip
            return standby.sql(lost) == ["t"]

        wait_for(conflict, "the standby gives the slot up", 60)
        mirror.process.launch()
        mirror.wait_failure("a conflict with recovery removed rows that it needs|it was in conflict with"
                            " recovery")  # fmt: skip
        mirror.close()
    finally:
        if standby is not None:
            standby.kill()
        primary.kill()
