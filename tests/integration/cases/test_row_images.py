# SPDX-License-Identifier: Apache-2.0
"""Cases 24 to 31: what old and new images hold, by replica identity, and values out of line."""

import pytest

# Kept out of line as it is, and too large to stand in its row.
LARGE = "repeat(md5({0}::text), 4000)"
TOAST_COLUMNS = """
  id int PRIMARY KEY, n int, big text, bytes bytea, doc json, docb jsonb, words text[], ids uuid[]"""


def toast_row(seed):
    return (
        f"{seed}, {LARGE.format(seed)}, decode({LARGE.format(seed)}, 'hex'),"
        f" json_build_object('a', {LARGE.format(seed)}), jsonb_build_object('b', {LARGE.format(seed)}),"
        f" ARRAY[{LARGE.format(seed)}, NULL, 'x'],"
        f" ARRAY(SELECT md5(({seed} + g)::text)::uuid FROM generate_series(1, 500) g)"
    )


def make_toast_table(mirror, name, identity):
    mirror.sql(f"CREATE TABLE {name} ({TOAST_COLUMNS}, other int NOT NULL DEFAULT 0)")
    for column in ("big", "bytes", "doc", "docb", "words", "ids"):
        # Not compressed: out of line even where it would compress well.
        mirror.sql(f"ALTER TABLE {name} ALTER {column} SET STORAGE EXTERNAL")
    if identity == "index":
        mirror.sql(f"ALTER TABLE {name} ALTER n SET NOT NULL")
        mirror.sql(f"CREATE UNIQUE INDEX {name}_n ON {name} (n)")
        mirror.sql(f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {name}_n")
    else:
        mirror.sql(f"ALTER TABLE {name} REPLICA IDENTITY {identity}")


@pytest.mark.smoke
@pytest.mark.case(24)
def test_unchanged_toast_by_identity(mirror):
    """Large values that an UPDATE leaves alone, from snapshot rows and streamed rows."""
    identities = ["default", "full", "index"]
    for identity in identities:
        make_toast_table(mirror, identity + "_t", identity)
        mirror.sql(f"INSERT INTO {identity}_t SELECT g, {toast_row('g')} FROM generate_series(1, 5) g")
    mirror.start(*(identity + "_t" for identity in identities))
    mirror.check()
    for identity in identities:
        table = identity + "_t"
        mirror.sql(f"INSERT INTO {table} SELECT g, {toast_row('g')} FROM generate_series(6, 9) g")
        mirror.sql(f"UPDATE {table} SET other = other + 1")
        mirror.sql(f"UPDATE {table} SET big = 'small now' WHERE id % 3 = 0")
        mirror.sql(f"UPDATE {table} SET other = other + 1 WHERE id % 2 = 0")
        mirror.sql(f"UPDATE {table} SET big = {LARGE.format('(-id)')}, words = NULL WHERE id % 3 = 0")
        mirror.sql(f"UPDATE {table} SET other = other + 1")
        mirror.sql(f"DELETE FROM {table} WHERE id IN (1, 6)")
        # Gone, and there again under the same key with other values.
        mirror.sql(f"INSERT INTO {table} SELECT 1, {toast_row('77')}")
        mirror.sql(f"UPDATE {table} SET other = 5 WHERE id = 1")
    mirror.check()
    # A restart keeps what it needs.
    mirror.kill()
    for identity in identities:
        mirror.sql(f"UPDATE {identity}_t SET other = other + 1")
    mirror.resume()
    for identity in identities:
        mirror.sql(f"UPDATE {identity}_t SET other = other + 1 WHERE id > 4")
    mirror.check()


@pytest.mark.case(24)
def test_unchanged_toast_within_one_transaction(mirror):
    make_toast_table(mirror, "t", "default")
    mirror.start("t")
    with mirror.session:
        mirror.sql(f"INSERT INTO t SELECT g, {toast_row('g')} FROM generate_series(1, 3) g")
        mirror.sql("UPDATE t SET other = 1")
        mirror.sql("UPDATE t SET id = id + 10")
        mirror.sql("UPDATE t SET other = 2")
        mirror.sql("SAVEPOINT s")
        mirror.sql(f"UPDATE t SET big = {LARGE.format('0')}")
        mirror.sql("ROLLBACK TO SAVEPOINT s")
        mirror.sql("UPDATE t SET other = 3")
    mirror.check()


@pytest.mark.case(24, 26)
def test_identity_nothing_takes_inserts_only(mirror):
    """The application's UPDATE goes on to work: the table is published with inserts alone."""
    make_toast_table(mirror, "t", "nothing")
    mirror.sql(f"INSERT INTO t SELECT g, {toast_row('g')} FROM generate_series(1, 3) g")
    mirror.start("t")
    mirror.sql(f"INSERT INTO t SELECT g, {toast_row('g')} FROM generate_series(4, 6) g")
    mirror.check()
    mirror.sql("UPDATE t SET other = 1 WHERE id = 1")
    mirror.sql("DELETE FROM t WHERE id = 2")
    mirror.wait_delivered()
    assert len(mirror.rows("t", "id")) == 6


@pytest.mark.case(26)
def test_table_without_a_key(mirror):
    """Inserts arrive, equal rows as often as they are there; the application may update and delete."""
    mirror.sql("CREATE TABLE t (v text, n int); INSERT INTO t VALUES ('a', 1), ('a', 1), (NULL, NULL)")
    mirror.start("t")
    mirror.sql("INSERT INTO t VALUES ('a', 1), ('b', 2)")
    mirror.check()
    mirror.sql("UPDATE t SET n = 3; DELETE FROM t WHERE v = 'b'")
    mirror.wait_delivered()
    assert len(mirror.rows("t")) == 5


@pytest.mark.case(25)
def test_toasted_key_column(mirror):
    """A key that stands out of line comes with each change, also when it did not change."""
    mirror.sql("CREATE TABLE t (a text, b int, v int, PRIMARY KEY (b, a))")
    mirror.sql("ALTER TABLE t ALTER a SET STORAGE EXTERNAL")
    # A key must fit into an index page, so the row is what is large.
    mirror.sql("ALTER TABLE t ADD filler text NOT NULL DEFAULT ''")
    mirror.sql("ALTER TABLE t ALTER filler SET STORAGE EXTERNAL")
    key = "(SELECT string_agg(md5((g * 100 + i)::text), '') FROM generate_series(1, 75) i)"
    row = f"INSERT INTO t SELECT {key}, g, 0, {LARGE.format('g')} FROM generate_series({{}}, {{}}) g"
    mirror.sql(row.format(1, 4))
    assert mirror.sql("SELECT min(length(a)) FROM t") == [(2400,)]
    mirror.start("t")
    mirror.sql(row.format(5, 8))
    mirror.sql("UPDATE t SET v = v + 1")
    mirror.sql("UPDATE t SET b = b + 100 WHERE b % 2 = 0")
    mirror.sql("UPDATE t SET v = v + 1")
    mirror.sql("UPDATE t SET a = 'short' WHERE b = 3")
    mirror.sql("DELETE FROM t WHERE b IN (1, 102)")
    mirror.check()


@pytest.mark.case(27)
def test_identity_index_that_is_not_the_primary_key(mirror):
    """A DELETE carries the index columns only."""
    mirror.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL, v text);"
        "CREATE UNIQUE INDEX t_ab ON t (b, a);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_ab;"
        "INSERT INTO t SELECT g, g % 3, 'b' || g, 'v' FROM generate_series(1, 20) g"
    )
    mirror.start("t")
    mirror.sql("INSERT INTO t SELECT g, g % 3, 'b' || g, 'v' FROM generate_series(21, 40) g")
    mirror.sql("DELETE FROM t WHERE id % 5 = 0")
    mirror.sql("UPDATE t SET v = 'w' WHERE id % 2 = 0")
    mirror.sql("UPDATE t SET b = 'c' || id WHERE id % 7 = 0")
    mirror.sql("UPDATE t SET id = id + 100 WHERE id % 11 = 0")
    mirror.sql("UPDATE t SET id = id + 1000, a = a + 7 WHERE id % 13 = 0")
    mirror.check()
    with mirror.session:
        mirror.sql("DELETE FROM t WHERE id = 1")
        # Another row under the same index values, and the same row under others.
        mirror.sql("INSERT INTO t VALUES (501, 1, 'b1', 'x')")
        mirror.sql("UPDATE t SET a = 99 WHERE id = 501")
        mirror.sql("INSERT INTO t VALUES (502, 1, 'b1', 'y')")
        mirror.sql("DELETE FROM t WHERE id = 501")
        mirror.sql("UPDATE t SET id = 503 WHERE id = 502")
        mirror.sql("DELETE FROM t WHERE id = 503")
        mirror.sql("INSERT INTO t VALUES (503, 1, 'b1', 'z')")
    mirror.check()
    mirror.kill()
    mirror.sql("DELETE FROM t WHERE id = 503; DELETE FROM t WHERE id = 2")
    mirror.resume()
    mirror.sql("DELETE FROM t WHERE id % 3 = 0")
    mirror.check()
    mirror.sql("TRUNCATE t; INSERT INTO t VALUES (7, 7, 'again', NULL); DELETE FROM t WHERE id = 7")
    mirror.check()


@pytest.mark.case(28)
def test_key_change_is_a_delete_and_an_upsert(mirror):
    make_toast_table(mirror, "t", "default")
    mirror.sql(f"INSERT INTO t SELECT g, {toast_row('g')} FROM generate_series(1, 4) g")
    mirror.start("t")
    mirror.check()
    mirror.sql("UPDATE t SET id = id + 10")
    mirror.sql("UPDATE t SET other = 1")
    # Keys that pass from row to row.
    with mirror.session:
        mirror.sql("UPDATE t SET id = 0 WHERE id = 11")
        mirror.sql("UPDATE t SET id = 11 WHERE id = 12")
        mirror.sql("UPDATE t SET id = 12 WHERE id = 0")
    mirror.sql("UPDATE t SET other = 2")
    mirror.check()
    moved = [(row["id"], "_deleted" in row) for row in mirror.outputs("t")[4:12]]
    assert moved == [(1, True), (11, False), (2, True), (12, False),
                     (3, True), (13, False), (4, True), (14, False)]  # fmt: skip


def test_long_lines_stay_whole_in_one_file(mirror):
    """Two sinks print to stdout, which is the file of the log too."""
    make_toast_table(mirror, "t", "default")
    mirror.start("t", sinks={"again": {"type": "stdout", "streams": ["t"]}})
    mirror.sql(f"INSERT INTO t SELECT g, {toast_row('g')} FROM generate_series(1, 20) g")
    mirror.wait_delivered()
    printed = [row["id"] for row in mirror.outputs("t")]
    assert sorted(printed) == sorted(2 * list(range(1, 21)))


@pytest.mark.case(29)
def test_nan_and_equal_rows(mirror):
    """NaN is equal to itself as a key; identity full has no key at all."""
    mirror.sql("CREATE TABLE t (k float8 PRIMARY KEY, v int)")
    mirror.sql("CREATE TABLE n (k numeric PRIMARY KEY, v int)")
    mirror.start("t", "n")
    for table in ("t", "n"):
        mirror.sql(f"INSERT INTO {table} VALUES ('NaN', 1), (0, 2), (1.5, 3)")
        mirror.sql(f"UPDATE {table} SET v = 10 WHERE k = 'NaN'")
        mirror.sql(f"UPDATE {table} SET k = 2.5 WHERE k = 'NaN'")
        mirror.sql(f"UPDATE {table} SET k = 'NaN' WHERE k = 0")
        mirror.sql(f"DELETE FROM {table} WHERE k = 1.5")
    mirror.check()


@pytest.mark.case(30)
def test_full_identity_of_rows_older_than_a_column(mirror):
    """Their old image holds NULL where the new column's default stands."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL")
    mirror.sql("INSERT INTO t SELECT g, 'v' FROM generate_series(1, 6) g")
    mirror.sql("ALTER TABLE t ADD added int NOT NULL DEFAULT 42")
    mirror.start("t")
    mirror.check()
    mirror.sql("DELETE FROM t WHERE id = 1")
    mirror.sql("UPDATE t SET v = 'w' WHERE id = 2")
    mirror.sql("UPDATE t SET id = 13 WHERE id = 3")
    mirror.sql("UPDATE t SET added = 7 WHERE id = 4")
    mirror.check()


@pytest.mark.case(27)
def test_identity_that_changes_while_it_streams(mirror):
    """Old images that say more than before are taken; a key that they no longer hold pauses the table."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, v text, big text)")
    mirror.sql("ALTER TABLE t ALTER big SET STORAGE EXTERNAL")
    mirror.sql(f"INSERT INTO t SELECT g, g, 'v', {LARGE.format('g')} FROM generate_series(1, 10) g")
    mirror.start("t")
    mirror.check()

    def changes(number):
        mirror.sql(f"UPDATE t SET v = v || '{number}'")
        mirror.sql(f"UPDATE t SET id = id + 100 WHERE id = {number}")
        mirror.sql(f"DELETE FROM t WHERE id = {number + 100}")
        mirror.sql(f"INSERT INTO t VALUES ({number}, {number}, 'new', {LARGE.format(number)})")

    mirror.sql("ALTER TABLE t REPLICA IDENTITY FULL")
    changes(1)
    mirror.check()
    mirror.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    changes(2)
    with mirror.session:
        mirror.sql("UPDATE t SET v = 'a' WHERE id = 3")
        mirror.sql("ALTER TABLE t REPLICA IDENTITY FULL")
        mirror.sql("UPDATE t SET v = 'b' WHERE id = 3")
        mirror.sql("DELETE FROM t WHERE id = 4")
    mirror.check()
    mirror.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key")
    mirror.sql("DELETE FROM t WHERE id = 5")
    mirror.wait(lambda: mirror.status()["source"].get("paused_tables"), "the table is paused")
    (paused,) = mirror.status()["source"]["paused_tables"]
    assert "replica identity is another index" in paused["reason"], paused
