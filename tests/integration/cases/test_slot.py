# SPDX-License-Identifier: Apache-2.0
"""Cases 7 to 10: slots that are busy, gone, elsewhere or of another kind, and servers that moved."""

import re
import shutil
import subprocess
from pathlib import Path

import psycopg2
import psycopg2.extras
import pytest
from servers import Postgres, wait_for

from engagement import PROGRAM
from harness import Mirror

# An insert-only table without a key: its mirror shows each row that comes twice.
TABLE = "CREATE TABLE t (id int, v text)"


def insert(mirror, first, last):
    mirror.sql(f"INSERT INTO t SELECT g, 'v' || g FROM generate_series({first}, {last}) g")


def slot_command(mirror, action):
    """`millrace slot ACTION`: its exit status and what it prints."""
    result = subprocess.run([PROGRAM, "slot", "-c", mirror.process.config, action],
                            capture_output=True, text=True, timeout=90, check=False)  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def data_dir(mirror):
    return Path(mirror.process.config).parent / "data"


@pytest.fixture
def stopped(mirror):
    """A pipeline that has mirrored 100 rows of t and was stopped."""
    mirror.sql(TABLE)
    insert(mirror, 1, 50)
    mirror.start("t")
    insert(mirror, 51, 100)
    mirror.check()
    mirror.stop()
    return mirror


@pytest.mark.case(7)
def test_busy_slot_is_taken_over_when_it_is_free(stopped):
    mirror = stopped
    holder = psycopg2.connect(mirror.postgres.dsn(mirror.database),
                              connection_factory=psycopg2.extras.LogicalReplicationConnection)  # fmt: skip
    holder.cursor().start_replication(
        mirror.slot, options={"proto_version": "1", "publication_names": mirror.slot})  # fmt: skip
    insert(mirror, 101, 110)
    pid = holder.get_backend_pid()
    mirror.process.launch()
    busy = f"replication slot '{mirror.slot}' is active for PID {pid}"
    mirror.wait(lambda: mirror.log().count(busy) >= 2, "the slot is asked for again")
    status, text = mirror.process.get("/readyz")
    assert status == 503 and busy in text
    holder.close()
    mirror.wait(lambda: "Streaming" in mirror.log_since_start(), "the slot is taken over")
    mirror.check()


@pytest.mark.case(7)
def test_copy_of_a_running_pipeline_is_refused(mirror, tmp_path):
    mirror.sql(TABLE)
    mirror.start("t")
    insert(mirror, 1, 10)
    mirror.check()
    mirror.stop()
    # Its data_dir is copied, as by somebody who moves it and forgets the old one.
    second = Mirror(tmp_path / "second", mirror.postgres, mirror.database, mirror.clickhouse,
                    mirror.clickhouse_database)
    shutil.copytree(data_dir(mirror), tmp_path / "second" / "data")
    second.configure("t")
    mirror.resume()
    insert(mirror, 11, 20)
    mirror.check()
    second.process.launch()
    second.wait_failure("has moved past what this data_dir holds")
    second.close()
    insert(mirror, 21, 30)
    mirror.check()


@pytest.mark.case(8)
def test_slot_that_was_dropped(stopped):
    stopped.admin_sql(f"SELECT pg_drop_replication_slot('{stopped.slot}')")
    stopped.process.launch()
    stopped.wait_failure("does not exist, and data_dir goes on at [0-9A-F]+/[0-9A-F]+, so that the "
                         "changes since then are gone: set source.on_slot_lost: snapshot")  # fmt: skip
    code, text = slot_command(stopped, "adopt")
    assert code == 0 and text.startswith(f"made slot '{stopped.slot}'"), text
    stopped.resume()
    insert(stopped, 101, 110)
    stopped.check()


@pytest.mark.case(8)
@pytest.mark.parametrize("how", ["made again", "advanced"])
def test_slot_that_is_ahead(stopped, how):
    insert(stopped, 101, 110)
    if how == "made again":
        stopped.admin_sql(
            f"SELECT pg_drop_replication_slot('{stopped.slot}');"
            f"SELECT pg_create_logical_replication_slot('{stopped.slot}', 'pgoutput')"
        )
    else:
        stopped.admin_sql(
            f"SELECT pg_replication_slot_advance('{stopped.slot}', pg_current_wal_lsn())"
        )
    stopped.process.launch()
    stopped.wait_failure("has moved past what this data_dir holds .*, or was made again")


@pytest.mark.case(8)
def test_slot_that_is_made_again_while_the_pipeline_runs(mirror):
    mirror.sql(TABLE)
    mirror.start("t")
    insert(mirror, 1, 10)
    mirror.check()
    mirror.admin_sql(
        f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        f" WHERE slot_name = '{mirror.slot}';"
        "DO $$ BEGIN FOR i IN 1..1000 LOOP BEGIN"
        f" PERFORM pg_drop_replication_slot('{mirror.slot}'); RETURN;"
        " EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END; END LOOP; END $$;"
        f"SELECT pg_create_logical_replication_slot('{mirror.slot}', 'pgoutput')"
    )
    mirror.wait_failure("has moved past what this data_dir holds .*, or was made again|does not exist")


@pytest.mark.case(8)
def test_slot_that_is_behind_serves(stopped):
    """A slot that the server set back, as after its crash, gives nothing twice."""
    mirror = stopped
    mirror.admin_sql(f"SELECT pg_copy_logical_replication_slot('{mirror.slot}', 'behind_{mirror.slot}')")
    mirror.resume()
    insert(mirror, 101, 200)
    mirror.check()
    mirror.stop()
    mirror.admin_sql(
        f"SELECT pg_drop_replication_slot('{mirror.slot}');"
        f"SELECT pg_copy_logical_replication_slot('behind_{mirror.slot}', '{mirror.slot}');"
        f"SELECT pg_drop_replication_slot('behind_{mirror.slot}')"
    )
    mirror.resume()
    insert(mirror, 201, 210)
    mirror.check()


@pytest.mark.case(8)
@pytest.mark.parametrize("kind", ["physical", "two-phase", "other database"])
def test_slot_of_another_kind(stopped, kind):
    slot = stopped.slot
    stopped.admin_sql(f"SELECT pg_drop_replication_slot('{slot}')")
    if kind == "physical":
        stopped.admin_sql(f"SELECT pg_create_physical_replication_slot('{slot}')")
        sentence = "is a physical slot: name another source.slot"
    elif kind == "two-phase":
        stopped.admin_sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', false, true)")
        sentence = "has two_phase on, with which prepared transactions are gone after a restart"
    else:
        stopped.postgres.sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
        sentence = "belongs to database postgres and not"
    stopped.process.launch()
    stopped.wait_failure(sentence)
    # And no command drops it.
    code, text = slot_command(stopped, "drop")
    assert (code, sentence in text) == (1, True), text
    stopped.postgres.sql(f"SELECT pg_drop_replication_slot('{slot}')")


@pytest.mark.smoke
@pytest.mark.case(8)
def test_slot_command_shows_and_drops(mirror):
    mirror.sql(TABLE)
    mirror.configure("t")
    code, text = slot_command(mirror, "show")
    assert code == 0 and "(does not exist)" in text and "not made yet" in text
    mirror.resume()
    mirror.wait_delivered()
    code, text = slot_command(mirror, "show")
    assert code == 0 and re.search(r"active +for PID \d+", text) and "of a running pipeline" in text
    code, text = slot_command(mirror, "drop")
    assert code == 1 and re.search("is active for PID [0-9]+", text), text
    mirror.stop()
    code, text = slot_command(mirror, "show")
    assert code == 0, text
    assert re.search(r"(?m)^confirmed +[0-9A-F]+/[0-9A-F]+$", text)
    assert re.search(r"(?m)^WAL status +reserved$", text)
    assert re.search(r"(?m)^data_dir +[0-9A-F]+/[0-9A-F]+, epoch 0, timeline 1, system identifier \d+$", text)
    code, text = slot_command(mirror, "adopt")
    assert code == 1 and "nothing has moved" in text
    code, text = slot_command(mirror, "drop")
    assert code == 0 and "is dropped" in text and f"publication '{mirror.slot}' stay" in text
    code, text = slot_command(mirror, "drop")
    assert code == 0 and "does not exist" in text


# Servers of their own.


@pytest.fixture
def own_server(tmp_path, postgres, request):
    """Makes a server of the same version with settings of its own."""
    servers = []

    def make(name="own", **settings):
        server = Postgres(tmp_path / name, die_with_parent=True, version=postgres.version,
                          settings={"fsync": "off", "shared_buffers": "16MB", **settings})  # fmt: skip
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def own_mirror(tmp_path, own_server, clickhouse, clickhouse_database, unique_name):
    mirrors = []

    def make(server, name="own_mirror"):
        server.create_database(unique_name)
        mirrors.append(Mirror(tmp_path / name, server, unique_name, clickhouse, clickhouse_database))
        return mirrors[-1]

    yield make
    for mirror in mirrors:
        mirror.close()


def write_wal(server, segments):
    for _ in range(segments):
        server.sql("SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()")
    server.sql("CHECKPOINT")


@pytest.mark.case(9)
@pytest.mark.parametrize("when", ["stopped", "running"])
def test_slot_beyond_max_slot_wal_keep_size(own_server, own_mirror, when):
    server = own_server(max_slot_wal_keep_size="16MB", min_wal_size="32MB", max_wal_size="64MB",
                        wal_keep_size="0")  # fmt: skip
    mirror = own_mirror(server)
    mirror.sql(TABLE)
    mirror.start("t")
    insert(mirror, 1, 10)
    mirror.check()
    if when == "stopped":
        mirror.stop()
        write_wal(server, 6)
        code, text = slot_command(mirror, "show")
        assert code == 0 and re.search(r"WAL status +lost", text), text
        assert "was invalidated by the server" in mirror.check_command()[1]
        mirror.process.launch()
    else:
        with mirror.process.paused():
            write_wal(server, 6)
    mirror.wait_failure(r"was invalidated by the server \(its WAL was removed\), so that changes since"
                        ".* are gone: .*raise max_slot_wal_keep_size there")  # fmt: skip


@pytest.mark.case(9)
@pytest.mark.since(18)
def test_slot_that_was_idle_for_too_long(own_server, own_mirror):
    server = own_server(idle_replication_slot_timeout="1s")
    mirror = own_mirror(server)
    mirror.sql(TABLE)
    mirror.start("t")
    insert(mirror, 1, 10)
    mirror.check()
    mirror.stop()
    lost = f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{mirror.slot}'"
    wait_for(lambda: server.sql("CHECKPOINT;" + lost) == ["lost"], "the server gives the slot up")
    mirror.process.launch()
    mirror.wait_failure("it was idle for longer than idle_replication_slot_timeout.*"
                        "raise idle_replication_slot_timeout there")  # fmt: skip


@pytest.mark.case(10)
def test_server_that_was_set_back(own_server, own_mirror, tmp_path):
    server = own_server()
    mirror = own_mirror(server)
    mirror.sql(TABLE)
    mirror.start("t")
    insert(mirror, 1, 10)
    mirror.check()
    mirror.stop()
    server.stop()
    subprocess.run(["cp", "-a", server.data, tmp_path / "backup"], check=True)
    server.start()
    mirror.session = mirror.new_session()
    mirror.resume()
    insert(mirror, 11, 20)
    mirror.check()
    mirror.stop()
    server.stop()
    shutil.rmtree(server.data)
    (tmp_path / "backup").rename(server.data)
    server.start()
    mirror.process.launch()
    mirror.wait_failure("before the position .* that data_dir holds, so that it was set back: .*"
                        "millrace slot adopt")  # fmt: skip


@pytest.mark.smoke
@pytest.mark.case(10)
def test_database_that_moved_is_adopted(stopped, own_server, tmp_path):
    """A copy of the rows on another server, whose WAL positions are lower."""
    mirror = stopped
    old_version = max(int(row["_version"]) for row in mirror.outputs())
    server = own_server()
    server.create_database(mirror.database)
    old_rows = mirror.sql("SELECT * FROM t")
    old_end = mirror.sql("SELECT pg_current_wal_lsn() - '0/0'")[0][0]
    mirror.postgres = server
    mirror.session = mirror.new_session()
    mirror.make_mark()
    mirror.sql(TABLE)
    for row in old_rows:
        mirror.sql("INSERT INTO t VALUES (%s, %s)", *row)
    assert mirror.sql("SELECT pg_current_wal_lsn() - '0/0'")[0][0] < old_end
    mirror.fails("t", saying="the server has system identifier .*, and data_dir belongs to .*"
                             "run `millrace slot adopt`")  # fmt: skip
    code, text = slot_command(mirror, "adopt")
    assert code == 0, text
    assert "with epoch 1 (it was at" in text and "run `millrace snapshot`" in text
    # Once more is no move.
    assert slot_command(mirror, "adopt")[0] == 1
    mirror.resume()
    insert(mirror, 101, 110)
    mirror.check()
    versions = [int(row["_version"]) for row in mirror.outputs("t")]
    assert versions == sorted(set(versions))
    assert versions[-1] > old_version and versions[-1] >> 120 == 1
    # And again after a restart: the epoch stays.
    mirror.kill()
    insert(mirror, 111, 120)
    mirror.resume()
    mirror.check()


@pytest.mark.case(8, 9)
@pytest.mark.parametrize("dies", [False, True])
def test_lost_slot_is_made_again_and_all_is_read_again(mirror, dies):
    """on_slot_lost: snapshot. Rows that changed, came and went meanwhile are right in the end."""
    mirror.sql("CREATE TABLE k (id int PRIMARY KEY, v text)")
    mirror.sql("INSERT INTO k SELECT g, 'v' || g FROM generate_series(1, 500) g")
    mirror.start("k", source={"on_slot_lost": "snapshot"})
    mirror.check()
    versions = [int(row["_version"]) for row in mirror.outputs("k")]
    mirror.stop()
    mirror.admin_sql(f"SELECT pg_drop_replication_slot('{mirror.slot}')")
    mirror.sql("UPDATE k SET v = 'changed' WHERE id % 3 = 0; DELETE FROM k WHERE id % 5 = 0;"
               "INSERT INTO k SELECT g, 'late' FROM generate_series(501, 600) g")  # fmt: skip
    if dies:
        # Between the note that a slot is about to be made, and the slot.
        mirror.process.environment = {"MILLRACE_FAILPOINT": "source.after_slot_created"}
        mirror.process.launch()
        mirror.process.wait_exit(30)
        mirror.process.environment = {}
    mirror.resume()
    mirror.sql("UPDATE k SET v = 'after' WHERE id = 7")
    mirror.wait(lambda: all(t["state"] == "done" for t in mirror.status()["source"].get("tables", [{"state": ""}])),
                "all is read again")  # fmt: skip
    mirror.check()
    assert int(mirror.outputs("k")[-1]["_version"]) > max(versions)
