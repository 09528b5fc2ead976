# SPDX-License-Identifier: Apache-2.0
"""Cases 3, 4, 11, 12 and 13: what the server is told, however slow or dead the others are."""

import re
import socket
import time

import pytest
from servers import Postgres, Proxy, wait_for

from harness import Mirror

TABLE = "CREATE TABLE t (id int, v text)"
# The server cuts off a client that does not answer for a second.
HASTY = "?options=-cwal_sender_timeout%3D1s"


def insert(mirror, first, last, size=10):
    mirror.sql(f"INSERT INTO t SELECT g, repeat('v', {size}) FROM generate_series({first}, {last}) g")


def positions(mirror):
    """The slot's confirmed position, the server's newest, and the pid of the walsender."""
    (row,) = mirror.postgres.sql(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn, pg_current_wal_lsn() - '0/0'::pg_lsn,"
        f" coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = '{mirror.slot}'"
    )
    return tuple(int(value) for value in row.split("|"))


@pytest.fixture
def deaf():
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def fill_output_log(mirror):
    """Rows that do not compress, more than the smallest output log takes."""
    for i in range(24):
        mirror.sql("INSERT INTO t SELECT g, (SELECT string_agg(md5(concat(g, ' ', h)), '') FROM"
                   f" generate_series(1, 64) h) FROM generate_series({i * 1000}, {i * 1000 + 999}) g")  # fmt: skip
    full = "Output log is full"
    wait_for(lambda: full in mirror.process.log_path.read_text(encoding="utf-8"), "the engine waits", 60)


def stuck_sink(url):
    return {"stuck": {"type": "redis", "url": url, "writes": [{"stream": "t", "xadd": "t"}]}}


@pytest.mark.smoke
@pytest.mark.case(3, 4, 11)
def test_stalled_sink_neither_cuts_nor_holds_the_slot(mirror, deaf):
    mirror.sql(TABLE)
    mirror.start("t", source={"url": mirror.postgres.dsn(mirror.database) + HASTY}, sinks=stuck_sink(deaf))
    pid = positions(mirror)[2]
    insert(mirror, 1, 100)
    (end,) = mirror.sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0]
    wait_for(lambda: positions(mirror)[0] >= end, "the slot moves on", 10)
    time.sleep(3)
    mirror.compare("t", "t")
    assert positions(mirror)[2] == pid, "the server has cut the stream off"


@pytest.mark.case(3, 4, 11)
def test_stalled_engine_keeps_the_stream_and_confirms_nothing(mirror, deaf):
    """The output log is full and its only reader does not answer."""
    mirror.sql(TABLE)
    full = {"storage": {"max_bytes": "16MiB"}, "sinks": stuck_sink(deaf)}
    mirror.start("t", source={"url": mirror.postgres.dsn(mirror.database) + HASTY}, **full)
    pid = positions(mirror)[2]
    fill_output_log(mirror)
    time.sleep(3)
    stalled = positions(mirror)
    assert stalled[2] == pid, "the server has cut the stream off"
    assert stalled[0] < stalled[1]
    time.sleep(2)
    assert positions(mirror)[0] == stalled[0], "what is not durable was confirmed"
    assert mirror.process.get("/readyz")[0] == 503
    assert mirror.process.get("/healthz")[0] == 200


@pytest.mark.case(13)
def test_without_heartbeats_a_busy_neighbour_holds_no_wal(mirror):
    mirror.sql(TABLE + "; CREATE TABLE other (v text)")
    mirror.start("t", source={"heartbeat_interval": 0})
    mirror.process.wait_ready(30)
    for database in (mirror.database, "postgres"):
        mirror.postgres.sql("CREATE TABLE IF NOT EXISTS other (v text);"
                            "INSERT INTO other SELECT repeat('x', 900) FROM generate_series(1, 3000)",
                            database)  # fmt: skip
        end = positions(mirror)[1]
        wait_for(lambda: positions(mirror)[0] >= end, f"the slot moves on over {database}", 15)
    assert mirror.process.get("/readyz")[0] == 200


@pytest.mark.case(5)
def test_connections_that_end_within_transactions(mirror):
    mirror.sql(TABLE)
    mirror.start("t")
    for i in range(4):
        with mirror.session:
            insert(mirror, i * 4000, i * 4000 + 1999)
            insert(mirror, i * 4000 + 2000, i * 4000 + 3999, 300)
        mirror.postgres.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                            f" WHERE slot_name = '{mirror.slot}' AND active")  # fmt: skip
    mirror.check()


# Servers of their own.


@pytest.fixture
def own(tmp_path, postgres, clickhouse, clickhouse_database, unique_name):
    """A pipeline on a server that is its own."""
    server = Postgres(tmp_path / "own", die_with_parent=True, version=postgres.version,
                      settings={"fsync": "off", "shared_buffers": "16MB"})  # fmt: skip
    server.start()
    server.create_database(unique_name)
    mirror = Mirror(tmp_path / "mirror", server, unique_name, clickhouse, clickhouse_database)
    mirror.sql(TABLE)
    yield mirror
    mirror.close()
    server.kill()


@pytest.mark.case(12)
@pytest.mark.parametrize("stalled", ["nothing", "sink", "engine"])
def test_fast_shutdown_ends(own, deaf, stalled):
    sections = {}
    if stalled != "nothing":
        sections["sinks"] = stuck_sink(deaf)
    if stalled == "engine":
        sections["storage"] = {"max_bytes": "16MiB"}
    own.start("t", **sections)
    insert(own, 1, 1000)
    if stalled == "engine":
        fill_output_log(own)
    own.session.close()
    begin = time.monotonic()
    assert own.postgres.stop(timeout=20) == 0
    assert time.monotonic() - begin < 8
    if stalled == "nothing":
        own.postgres.start()
        own.session = own.new_session()
        insert(own, 1001, 1010)
        own.check()


@pytest.mark.case(11)
def test_half_open_connection_is_given_up(mirror):
    """The link stays up, and carries nothing any more."""
    with Proxy(mirror.postgres.port) as proxy:
        url = mirror.postgres.dsn(mirror.database).replace(f":{mirror.postgres.port}/", f":{proxy.port}/")
        mirror.sql(TABLE)
        mirror.start("t", source={"url": url + "?options=-cwal_sender_timeout%3D2s"})
        insert(mirror, 1, 100)
        mirror.check()
        proxy.silence()
        insert(mirror, 101, 200)
        mirror.wait(lambda: re.search("the server has sent nothing for 5 s, though it was asked",
                                      mirror.log()), "the silence is noticed", 20)  # fmt: skip
        assert mirror.process.get("/readyz")[0] == 503
        assert mirror.process.get("/healthz")[0] == 200
        proxy.carry()
        mirror.wait(lambda: mirror.log().count("Streaming") > 1, "the stream is back", 40)
        insert(mirror, 201, 300)
        mirror.check()

