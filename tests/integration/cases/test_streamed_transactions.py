# SPDX-License-Identifier: Apache-2.0
"""Cases 14 to 19: transactions that the server streams before they commit, prepared ones, large ones.

The servers of this suite stream a transaction from 64 kB on: each `fill` below is a stream block or more.
"""

import os
import re
from pathlib import Path

import pytest

# About 100 kB of changes.
ROWS = 300
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"


def fill(session, begin, rows=ROWS, value="repeat('x', 300)"):
    """Inserts `rows` rows from id `begin` on."""
    session.sql(f"INSERT INTO t SELECT g, {value} FROM generate_series({begin}, {begin + rows - 1}) g")


def ordinals(mirror, stream="t"):
    """By transaction in commit order, the ordinals of its outputs: one or, of a new key, two each."""
    transactions = {}
    for row in mirror.outputs(stream):
        version = int(row["_version"])
        ordinal = version & (2**64 - 1)
        if ordinal < 2**63:  # not of the snapshot
            transactions.setdefault(version >> 64, set()).add(ordinal)
    return [sorted(transactions[lsn]) for lsn in sorted(transactions)]


def dense(*counts):
    return [list(range(1, count + 1)) for count in counts]


def wait_streamed(mirror, transactions):
    """Until the server counts so many transactions that it has streamed: its statistics come late."""
    query = f"SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = '{mirror.slot}'"
    mirror.wait(lambda: int(mirror.admin_sql(query)[0]) >= transactions,
                f"{transactions} transactions are streamed")  # fmt: skip


@pytest.mark.smoke
@pytest.mark.case(14)
def test_interleaved_commits_and_rollbacks(mirror):
    mirror.sql(TABLE)
    mirror.start("t")
    first, second, third = (mirror.new_session() for _ in range(3))
    for session in (first, second, third):
        session.sql("BEGIN")
    for block in range(3):
        fill(first, 10_000 + 1000 * block)
        fill(second, 20_000 + 1000 * block)
        fill(third, 30_000 + 1000 * block)
        mirror.sql("INSERT INTO t VALUES (%s, 'small')", block)
    second.sql("UPDATE t SET v = 'changed' WHERE id >= 20000 AND id < 20100; COMMIT")
    first.sql("ROLLBACK")
    third.sql("DELETE FROM t WHERE id >= 30000 AND id % 2 = 0; COMMIT")
    # What was rolled back, again; and one that ends with everything rolled back.
    with first:
        fill(first, 10_000)
        first.sql("UPDATE t SET id = id + 5000 WHERE id >= 10000 AND id < 20000")
    with second:
        second.sql("SAVEPOINT s")
        fill(second, 50_000)
        fill(second, 51_000)
        second.sql("ROLLBACK TO s")
    mirror.check()
    assert ordinals(mirror) == dense(1, 1, 1, 3 * ROWS + 100, 9 * ROWS // 2, 2 * ROWS)
    wait_streamed(mirror, 4)


@pytest.mark.smoke
@pytest.mark.case(15)
def test_aborted_subtransactions_of_streamed_transactions(mirror):
    """A Stream Abort names the transaction and the subtransaction: only the latter's changes go."""
    mirror.sql(TABLE + "; CREATE TABLE other (id int PRIMARY KEY)")
    mirror.sql("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    mirror.start("t")
    with mirror.session:
        fill(mirror, 1000)
        mirror.sql("SAVEPOINT a")
        fill(mirror, 2000)
        mirror.sql("UPDATE t SET v = 'rolled back'; SAVEPOINT b")
        fill(mirror, 3000)
        mirror.sql("SAVEPOINT c")
        fill(mirror, 4000)
        mirror.sql("RELEASE c; DELETE FROM t WHERE id < 10")
        fill(mirror, 5000)
        mirror.sql("ROLLBACK TO a")  # and b and c with it
        fill(mirror, 6000)
        mirror.sql("INSERT INTO other VALUES (1); SAVEPOINT d; SAVEPOINT e")
        fill(mirror, 7000)
        mirror.sql("ROLLBACK TO e")
        fill(mirror, 7000, rows=10)
        mirror.sql("RELEASE d")
        fill(mirror, 8000)
        mirror.sql("UPDATE t SET v = 'kept' WHERE id = 2")
    with mirror.session:  # every change in a subtransaction, the last one rolled back
        mirror.sql("SAVEPOINT s; DELETE FROM t WHERE id = 1; SAVEPOINT s")
        fill(mirror, 9000)
        mirror.sql("ROLLBACK TO s")
    mirror.check()
    assert ordinals(mirror) == dense(3 * ROWS + 11, 1)
    wait_streamed(mirror, 2)


@pytest.mark.case(15)
def test_many_subtransactions(mirror):
    """Some thousand, every third rolled back, in one streamed transaction."""
    mirror.sql(TABLE)
    mirror.start("t")
    mirror.sql("""DO $$ BEGIN
      FOR i IN 1..3000 LOOP
        BEGIN
          INSERT INTO t VALUES (i, repeat('x', 50));
          BEGIN
            INSERT INTO t VALUES (10000 + i, repeat('y', 50));
            IF i % 5 = 0 THEN RAISE division_by_zero; END IF;
          EXCEPTION WHEN division_by_zero THEN NULL;
          END;
          IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
      END LOOP;
    END $$""")
    mirror.check()
    assert ordinals(mirror) == dense(2000 + 1600)
    wait_streamed(mirror, 1)


@pytest.mark.case(16)
def test_descriptions_within_stream_blocks(mirror):
    """Relation and Type messages of streamed transactions are theirs, also with rolled-back DDL."""
    mirror.sql("CREATE TYPE mood AS ENUM ('good', 'bad')")
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, m mood DEFAULT 'good')")
    mirror.start("t")
    other = mirror.new_session()
    insert = "INSERT INTO t SELECT g, repeat('x', 300), 'bad' FROM generate_series({}, {}) g"
    other.sql("BEGIN")
    other.sql(insert.format(1000, 1500))
    with mirror.session:
        mirror.sql(insert.format(2000, 2500))
        mirror.sql("SAVEPOINT s")
        mirror.sql(insert.format(3000, 3500))
        mirror.sql("ROLLBACK TO s")
        mirror.sql(insert.format(3000, 3500))
    other.sql(insert.format(4000, 4500))
    mirror.sql("INSERT INTO t VALUES (1)")
    other.sql("COMMIT")
    # The table is another within the subtransaction, and as it was after it.
    with mirror.session:
        mirror.sql(insert.format(5000, 5500))
        mirror.sql("SAVEPOINT s; ALTER TABLE t ADD COLUMN extra int, DROP COLUMN m")
        mirror.sql("INSERT INTO t SELECT g, repeat('x', 300), g FROM generate_series(6000, 6500) g")
        mirror.sql("ROLLBACK TO s")
        mirror.sql(insert.format(6000, 6500))
    mirror.sql("INSERT INTO t VALUES (2)")
    mirror.check()
    wait_streamed(mirror, 3)


@pytest.mark.since(16)
@pytest.mark.case(17, 15)
def test_every_change_streamed_at_once(mirror):
    """With protocol 4, and each change in a stream block of its own."""
    mirror.sql(TABLE)
    mirror.admin_sql(f'ALTER DATABASE "{mirror.name}" SET debug_logical_replication_streaming = immediate')
    mirror.start("t")
    with mirror.session:
        fill(mirror, 1, rows=3)
        mirror.sql("SAVEPOINT a; UPDATE t SET v = 'lost'; SAVEPOINT b; DELETE FROM t; ROLLBACK TO b")
        mirror.sql("INSERT INTO t VALUES (10, 'lost'); ROLLBACK TO a; UPDATE t SET v = 'kept' WHERE id = 2")
        mirror.sql("SELECT pg_logical_emit_message(true, 'other', 'x')")
        mirror.sql("SELECT pg_logical_emit_message(false, 'other', 'x')")
    mirror.sql("BEGIN; INSERT INTO t VALUES (11, 'lost'); ROLLBACK")
    mirror.sql("INSERT INTO t VALUES (12, 'kept'); TRUNCATE t; INSERT INTO t VALUES (13, 'kept')")
    mirror.check()
    assert ordinals(mirror)[0] == list(range(1, 5))
    wait_streamed(mirror, 2)


@pytest.mark.smoke
@pytest.mark.case(18)
@pytest.mark.parametrize("size", ["small", "streamed"])
def test_prepared_transactions(mirror, size):
    """They come whole at COMMIT PREPARED, whatever happens between; rolled-back ones never."""
    rows = 5 if size == "small" else ROWS
    mirror.sql(TABLE)
    mirror.start("t")

    def prepare(name, begin):
        mirror.sql("BEGIN")
        fill(mirror, begin, rows)
        mirror.sql("SAVEPOINT s")
        fill(mirror, begin + 500, rows)
        mirror.sql("ROLLBACK TO s")
        mirror.sql("UPDATE t SET v = 'u' WHERE id = %s", begin)
        mirror.sql(f"PREPARE TRANSACTION '{mirror.name}_{name}'")

    prepare("a", 1000)
    prepare("b", 2000)
    prepare("c", 3000)
    mirror.sql("INSERT INTO t VALUES (1, 'between')")
    mirror.wait_delivered()
    assert ordinals(mirror) == dense(1)
    mirror.sql(f"COMMIT PREPARED '{mirror.name}_b'")
    mirror.sql(f"ROLLBACK PREPARED '{mirror.name}_c'")
    mirror.check()
    # Prepared before a restart, and committed while nobody reads.
    mirror.kill()
    mirror.sql(f"COMMIT PREPARED '{mirror.name}_a'")
    prepare("d", 4000)
    mirror.resume()
    mirror.check()
    mirror.sql(f"COMMIT PREPARED '{mirror.name}_d'")
    mirror.check()
    assert ordinals(mirror) == dense(1, *[rows + 1] * 3)


@pytest.mark.case(22, 23)
def test_origins_and_messages_in_stream_blocks(mirror):
    mirror.sql(TABLE)
    mirror.start("t")
    replayer = mirror.new_session("postgres")
    origin = f"origin_{mirror.name}"
    replayer.sql("SELECT pg_replication_origin_create(%s)", origin)
    replayer.sql("SELECT pg_replication_origin_session_setup(%s)", origin)
    message = "SELECT pg_logical_emit_message({}, 'millrace', repeat('m', 1000))"
    try:
        for is_kept in (True, False, True):
            replayer.sql("BEGIN; SELECT pg_replication_origin_xact_setup('0/AB', now())")
            for block in range(3):
                fill(replayer, 1000 * block)
                replayer.sql(message.format("true"))
                replayer.sql("SAVEPOINT s")
                fill(replayer, 1000 * block + 500)
                replayer.sql(message.format("true"))
                replayer.sql(message.format("false"))
                replayer.sql("ROLLBACK TO s")
            replayer.sql("COMMIT" if is_kept else "ROLLBACK")
            mirror.sql("DELETE FROM t; INSERT INTO t VALUES (10000, 'between')")
        mirror.check()
    finally:
        replayer.sql("SELECT pg_replication_origin_session_reset()")
        replayer.sql("SELECT pg_replication_origin_drop(%s)", origin)
    wait_streamed(mirror, 3)


def staged_files(mirror):
    """The files in which the pipeline's process holds transactions: they have no names."""
    found = []
    for link in Path(f"/proc/{mirror.process.pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if re.search(r"/staging/.* \(deleted\)$", target):
            found.append(target)
    return found


@pytest.mark.case(19)
def test_crash_while_a_transaction_is_on_disk(mirror, tmp_path):
    """A transaction larger than memory; the process dies with half of it in a file."""
    mirror.sql(TABLE)
    mirror.start("t")
    staging = tmp_path / "data" / "staging"
    assert staging.stat().st_mode & 0o777 == 0o700
    mirror.sql("BEGIN")
    fill(mirror, 0, rows=10, value="'kept'")
    mirror.sql("SAVEPOINT s")
    fill(mirror, 1000, rows=1000)
    mirror.sql("ROLLBACK TO s")
    fill(mirror, 100_000, rows=60_000)
    mirror.wait(lambda: staged_files(mirror), "a transaction is in a file")
    assert not list(staging.iterdir())
    mirror.kill()
    (staging / "left").write_bytes(b"of a process that died before it could remove the name")
    mirror.resume()
    assert not list(staging.iterdir())
    mirror.wait(lambda: staged_files(mirror), "it is staged again")
    mirror.sql("UPDATE t SET v = 'u' WHERE id < 10; COMMIT")
    mirror.check()
    assert not staged_files(mirror)
    assert ordinals(mirror) == dense(10 + 60_000 + 10)


@pytest.mark.case(19, 5)
def test_large_transaction_joins_its_own_reference_rows(mirror):
    """In parts, after two kills: each row meets the reference rows of the transaction's end, once."""
    mirror.sql("CREATE TABLE ref (id int PRIMARY KEY, v text); INSERT INTO ref VALUES (0, 'a'), (1, 'b')")
    mirror.sql("CREATE TABLE ev (id int PRIMARY KEY, ref int, pad text)")
    joined = "SELECT e.id AS id, r.v AS v FROM ev AS e LEFT JOIN ref AS r ON r.id = e.ref"
    tables = [{"stream": stream} for stream in ("ev", "ref", "joined")]
    mirror.start(
        "ev", "ref",
        streams={"joined": {"from": "public.ev", "lookup": ["public.ref"], "key": ["id"], "sql": joined}},
        sinks={"warehouse": {"tables": tables}},
    )  # fmt: skip
    insert = "INSERT INTO ev SELECT g, g % 4, repeat('x', 400) FROM generate_series({}, {}) g"
    mirror.sql("INSERT INTO ev VALUES (-1, 0)")
    mirror.kill()
    with mirror.session:
        mirror.sql(insert.format(1, 30_000))
        mirror.sql("UPDATE ref SET v = 'lost'; SAVEPOINT s; DELETE FROM ref; ROLLBACK TO s")
        mirror.sql(insert.format(30_001, 40_000))
        mirror.sql("UPDATE ref SET v = 'end' WHERE id = 0; DELETE FROM ref WHERE id = 1")
        mirror.sql("INSERT INTO ref VALUES (2, 'new')")
    mirror.sql("UPDATE ref SET v = 'after'; INSERT INTO ev VALUES (-2, 0)")
    for passes in (2, 5):
        mirror.process.environment = {"MILLRACE_FAILPOINT": f"engine.before_commit:{passes}"}
        mirror.process.launch()
        mirror.process.wait_exit(30)
        mirror.kill()
    mirror.process.environment = {}
    mirror.resume()
    mirror.check()
    found = dict(mirror.rows("joined", "id, v"))
    assert (found.pop(-1), found.pop(-2)) == ("a", "after")
    assert found == {g: {0: "end", 1: None, 2: "new", 3: None}[g % 4] for g in range(1, 40_001)}
