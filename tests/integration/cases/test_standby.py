# SPDX-License-Identifier: Apache-2.0
"""Reading from a standby (16 and newer): cases 9, 10 and 13 there."""

import pytest
from servers import Postgres, Standby, wait_for

from harness import Mirror

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
