# SPDX-License-Identifier: Apache-2.0
"""Case 10: a primary that fails over, and case 9 on a standby that is read.

The servers are this file's own. The session's PostgreSQL only says which version is meant.
"""

import pytest
from servers import Postgres, Standby, wait_for

from harness import Mirror

TABLE = "CREATE TABLE t (id int, v text)"
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "max_wal_senders": "10", "wal_sender_timeout": "2s"}


def insert(mirror, first, last):
    mirror.sql(f"INSERT INTO t SELECT g, 'v' || g FROM generate_series({first}, {last}) g")


@pytest.fixture
def primary(tmp_path, postgres):
    server = Postgres(tmp_path / "primary", die_with_parent=True, version=postgres.version,
                      settings=SETTINGS)  # fmt: skip
    yield server.start()
    server.kill()


@pytest.fixture
def standby(tmp_path, primary):
    server = Standby(tmp_path / "standby", primary, die_with_parent=True,
                     sync_slots=primary.version >= 17, settings={"max_slot_wal_keep_size": "-1"})  # fmt: skip
    yield server
    server.kill()


@pytest.fixture
def moving(tmp_path, primary, clickhouse, clickhouse_database, unique_name):
    """A pipeline of table t that runs on the primary."""
    primary.create_database(unique_name)
    mirror = Mirror(tmp_path / "mirror", primary, unique_name, clickhouse, clickhouse_database)
    mirror.sql(TABLE)
    insert(mirror, 1, 50)
    mirror.start("t")
    mirror.check()
    yield mirror
    mirror.close()


def move(mirror, server):
    """The application and the pipeline's file turn to another server."""
    mirror.postgres = server
    mirror.session = mirror.new_session()
    mirror.configure("t")


def wait_synced(mirror, standby):
    """The standby keeps a copy of the slot that is no temporary one."""
    query = (
        "SELECT 1 FROM pg_replication_slots WHERE synced AND NOT temporary"
        f" AND invalidation_reason IS NULL AND slot_name = '{mirror.slot}'"
    )
    wait_for(lambda: standby.sql(query) or (insert_mark(mirror) and False), "the slot is synced", 60)


def insert_mark(mirror):
    mirror.sql("UPDATE public.harness_mark SET n = n + 1")
    return True


@pytest.mark.smoke
@pytest.mark.case(10)
@pytest.mark.since(17)
def test_synced_slot_goes_on_after_the_promotion(moving, primary, standby):
    mirror = moving
    standby.start()
    insert(mirror, 51, 100)
    mirror.check()
    wait_synced(mirror, standby)
    mirror.stop()
    # What is committed and not read yet, the new primary has too.
    insert(mirror, 101, 150)
    standby.wait_replayed()
    primary.kill()
    standby.promote()
    move(mirror, standby)
    mirror.resume()
    assert "The server was promoted, its timeline is followed" in mirror.log_since_start()
    insert(mirror, 151, 200)
    mirror.check()
    # The timeline is kept, and a restart is none of a failover's.
    mirror.kill()
    insert(mirror, 201, 210)
    mirror.resume()
    assert "its timeline is followed" not in mirror.log_since_start()
    mirror.check()
    mirror.stop()
    # The old primary comes back as it was.
    primary.start()
    move(mirror, primary)
    mirror.process.launch()
    mirror.wait_failure("on timeline 1, and data_dir goes on on timeline 2, so that this is an old primary")


@pytest.mark.case(10)
@pytest.mark.since(17)
def test_running_pipeline_follows_the_promotion(moving, primary, standby):
    """The file names both servers; the primary lets nothing be read that the standby has not."""
    mirror = moving
    mirror.stop()
    standby.start()
    primary.sql(f"ALTER SYSTEM SET synchronized_standby_slots = '{standby.physical_slot}';"
                "SELECT pg_reload_conf()")  # fmt: skip
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://app@{hosts}/{mirror.database}?target_session_attrs=read-write"
    mirror.configure("t", source={"url": url})
    mirror.resume()
    wait_synced(mirror, standby)
    insert(mirror, 51, 100)
    mirror.check()
    pid = mirror.process.pid
    primary.kill()
    standby.promote()
    mirror.postgres = standby
    mirror.session = mirror.new_session()
    begin = mirror.sql("SELECT coalesce(max(id), 0) FROM t")[0][0] + 1
    insert(mirror, begin, begin + 50)
    mirror.check()
    assert mirror.process.pid == pid
    mirror.process.wait_ready(20)


@pytest.mark.case(10)
@pytest.mark.since(17)
def test_changes_that_the_failover_undid_are_named(moving, primary, standby):
    """The pipeline was ahead of the standby when the primary died."""
    mirror = moving
    standby.start()
    wait_synced(mirror, standby)
    standby.wait_replayed()
    standby.kill()
    insert(mirror, 51, 60)
    mirror.check()
    mirror.stop()
    primary.kill()
    standby.settings["primary_conninfo"] = ""
    standby.start()
    standby.promote()
    move(mirror, standby)
    mirror.process.launch()
    mirror.wait_failure("so that sinks hold changes that the failover undid: run `millrace slot adopt`")


@pytest.mark.case(10)
def test_slot_that_was_not_synced(moving, primary, tmp_path):
    mirror = moving
    standby = Standby(tmp_path / "standby", primary, die_with_parent=True)
    try:
        standby.start()
        insert(mirror, 51, 100)
        mirror.check()
        mirror.stop()
        standby.wait_replayed()
        primary.kill()
        standby.promote()
        move(mirror, standby)
        mirror.process.launch()
        mirror.wait_failure("does not exist, and data_dir goes on at .*, so that the changes since then are gone")
        # One that is made there by hand is no better.
        standby.sql(f"SELECT pg_create_logical_replication_slot('{mirror.slot}', 'pgoutput')", mirror.database)
        mirror.process.launch()
        mirror.wait_failure("has moved past what this data_dir holds .*, or was made again")
    finally:
        standby.kill()
