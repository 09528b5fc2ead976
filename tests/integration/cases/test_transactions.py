# SPDX-License-Identifier: Apache-2.0
"""Cases 20 to 23: what a transaction is in the sinks, origins, logical messages."""

import threading

import pytest


@pytest.mark.smoke
@pytest.mark.case(14, 15)
def test_large_transactions_that_roll_back(mirror):
    """Spilled or streamed by the server before they end, whole and in subtransactions."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.start("t")
    large = "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series({}, {}) g"
    for number in range(3):
        first = number * 100_000
        if number == 1:
            # Read later, so that the server knows how they end while it still reads them: 18 then
            # tells of their end though it sent nothing of them.
            mirror.kill()
        mirror.sql("BEGIN")
        mirror.sql(large.format(first, first + 3000))
        mirror.sql("ROLLBACK")
        mirror.sql("BEGIN; SAVEPOINT s")
        mirror.sql(large.format(first, first + 3000))
        mirror.sql("SAVEPOINT u")
        mirror.sql(large.format(first + 5000, first + 8000))
        mirror.sql("ROLLBACK")
        for rows in (100, 200, 400):
            mirror.sql("BEGIN")
            mirror.sql(large.format(first, first + rows))
            mirror.sql("SAVEPOINT s")
            mirror.sql(large.format(first + 5000, first + 5050))
            mirror.sql("RELEASE s")
            mirror.sql(large.format(first + 6000, first + 6000 + rows))
            mirror.sql("ROLLBACK")
        with mirror.session:
            mirror.sql(large.format(first, first + 2000))
            mirror.sql("SAVEPOINT s")
            mirror.sql(large.format(first + 10_000, first + 13_000))
            mirror.sql("SAVEPOINT u")
            mirror.sql("UPDATE t SET v = 'lost'")
            mirror.sql("ROLLBACK TO u")
            mirror.sql(large.format(first + 20_000, first + 20_100))
            mirror.sql("ROLLBACK TO s")
            mirror.sql(large.format(first + 30_000, first + 30_100))
            mirror.sql("RELEASE s")
        if number == 1:
            mirror.resume()
        mirror.check()
    assert len(mirror.rows("t", "id")) == 3 * (2001 + 101)


@pytest.mark.case(20)
def test_one_key_many_times_in_a_transaction(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.sql("INSERT INTO t VALUES (1, 'old'), (2, 'old'), (3, 'old')")
    mirror.start("t")
    with mirror.session:
        mirror.sql("INSERT INTO t VALUES (10, 'a'); UPDATE t SET v = 'b' WHERE id = 10")
        mirror.sql("DELETE FROM t WHERE id = 10; INSERT INTO t VALUES (10, 'c')")
        mirror.sql("INSERT INTO t VALUES (11, 'a'); DELETE FROM t WHERE id = 11")
        mirror.sql("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'again')")
        mirror.sql("UPDATE t SET v = 'x' WHERE id = 2; DELETE FROM t WHERE id = 2")
        mirror.sql("UPDATE t SET id = 4 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 4")
        mirror.sql("SAVEPOINT s; DELETE FROM t; ROLLBACK TO s")
        mirror.sql("INSERT INTO t VALUES (12, 'a')")
        mirror.sql("SAVEPOINT s; UPDATE t SET v = 'lost'; ROLLBACK TO s; DELETE FROM t WHERE id = 12")
    mirror.check()
    # Each change gives its output; none of them is netted, and rolled-back ones do not count.
    assert len({row["_version"] for row in mirror.outputs("t")[3:]}) == 14


@pytest.mark.case(21)
def test_tables_of_a_transaction_show_together(mirror, redis_server, redis_prefix):
    """In Redis, a reader sees both tables' rows of a transaction or neither."""
    import redis

    mirror.sql("CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int)")
    mirror.sql("INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0)")
    writes = [{"stream": name, "hset": f"{redis_prefix}{name}:{{id}}"} for name in ("a", "b")]
    mirror.start("a", "b", sinks={"live": {"type": "redis", "url": redis_server.url, "writes": writes}})
    torn, seen, ends = [], set(), threading.Event()

    def watch():
        with redis.Redis.from_url(redis_server.url) as client:
            while not ends.is_set():
                both = client.pipeline(transaction=True)
                both.hget(f"{redis_prefix}a:1", "n").hget(f"{redis_prefix}b:1", "n")
                left, right = both.execute()
                seen.add(left)
                if left != right:
                    torn.append((left, right))

    mirror.check()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(200):
            with mirror.session:
                mirror.sql("UPDATE a SET n = n + 1")
                mirror.sql("UPDATE b SET n = n + 1")
        mirror.check()
    finally:
        ends.set()
        watcher.join()
    assert not torn and len(seen) > 5


@pytest.mark.case(22)
def test_origins(mirror):
    """Changes that another replication brought in come like others."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.start("t")
    replayer = mirror.new_session("postgres")
    origin = f"origin_{mirror.name}"
    replayer.sql("SELECT pg_replication_origin_create(%s)", origin)
    replayer.sql("SELECT pg_replication_origin_session_setup(%s)", origin)
    try:
        with replayer:
            replayer.sql("SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2001-02-03 04:05:06+00')")
            replayer.sql("INSERT INTO t VALUES (1, 'replayed'), (2, 'replayed')")
        mirror.sql("INSERT INTO t VALUES (3, 'here')")
        with replayer:
            replayer.sql("UPDATE t SET v = 'again' WHERE id = 1")
            replayer.sql("SAVEPOINT s")
            replayer.sql("DELETE FROM t")
            replayer.sql("ROLLBACK TO s")
        mirror.sql("UPDATE t SET id = 30 WHERE id = 3")
        mirror.check()
        mirror.kill()
        with replayer:
            replayer.sql("INSERT INTO t VALUES (4, 'replayed')")
        mirror.resume()
        mirror.check()
    finally:
        replayer.sql("SELECT pg_replication_origin_session_reset()")
        replayer.sql("SELECT pg_replication_origin_drop(%s)", origin)


@pytest.mark.case(23)
def test_logical_messages(mirror):
    """Those of others are nothing, wherever they stand, large or not, also over a restart."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.start("t")

    def messages(prefix):
        for is_transactional in ("true", "false"):
            for content in ("''", "'text'", "repeat('x', 100000)"):
                mirror.sql(f"SELECT pg_logical_emit_message({is_transactional}, '{prefix}', {content})")

    for number in range(3):
        messages("other")
        # The prefix of heartbeats with a content that is none of ours.
        messages("millrace")
        with mirror.session:
            mirror.sql("INSERT INTO t VALUES (%s, 'x')", number)
            messages("within")
            mirror.sql("SAVEPOINT s")
            messages("rolled back")
            mirror.sql("ROLLBACK TO s")
            mirror.sql("UPDATE t SET v = v || '!'")
        mirror.check()
        mirror.kill()
        messages("while away")
        mirror.resume()
    mirror.check()
    assert len(mirror.outputs("t")) == 3 + (1 + 2 + 3)
