# SPDX-License-Identifier: Apache-2.0
"""Cases 16 and 32 to 35: columns that change while they are streamed, and tables that are made anew."""

import random
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from engagement import PROGRAM
from servers.server import ServerError

COLUMNS = "SELECT name, type FROM system.columns WHERE database = '{}' AND table = '{}' ORDER BY position"


def target_columns(mirror, stream="t"):
    """Name to type of the mirror's columns in ClickHouse."""
    text = mirror.clickhouse.query(
        COLUMNS.format(mirror.clickhouse_database, stream) + " FORMAT TabSeparatedRaw"
    )
    return dict(line.split("\t") for line in text.splitlines())


def wait_column(mirror, name, type_name=None, stream="t"):
    """Until the mirror has a column: a change without rows shows itself with a heartbeat."""

    def has_column():
        found = target_columns(mirror, stream).get(name)
        return found is not None and type_name in (None, found)

    mirror.wait(has_column, f"column {name} {type_name} is in the mirror", timeout=20)


def paused(mirror):
    """Table to sentence of the tables that are paused."""
    return {p["table"]: p["reason"] for p in mirror.status()["source"].get("paused_tables", [])}


def wait_paused(mirror, table, saying):
    mirror.wait(lambda: table in paused(mirror), f"{table} is paused", timeout=20)
    reason = paused(mirror)[table]
    assert saying in reason, reason
    assert f"millrace snapshot -c FILE {table}" in reason


def wait_equal(mirror, timeout=30):
    """Until the mirror equals its table: reading it again begins by itself, some time later."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return mirror.check()
        except (AssertionError, ServerError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


@pytest.mark.smoke
@pytest.mark.case(33)
def test_changes_that_are_followed(mirror):
    """Each kind of change, with rows from before and behind it."""
    mirror.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text NOT NULL, c numeric(6,2), d varchar(9), f float4);"
        " INSERT INTO t SELECT g, g, 'b' || g, g / 7.0, 'd' || g, g / 3.0 FROM generate_series(1, 20) g"
    )
    mirror.start("t")

    def touch(first):
        """Old rows are updated and deleted, new ones come."""
        mirror.sql(f"INSERT INTO t (id, a) SELECT g, -g FROM generate_series({first}, {first + 4}) g")
        mirror.sql(f"UPDATE t SET a = a + 1000 WHERE id % 5 = {first % 5}")
        mirror.sql(f"DELETE FROM t WHERE id = {first // 100}")
        mirror.check()

    mirror.sql("ALTER TABLE t ALTER b DROP NOT NULL")
    touch(100)
    mirror.sql("ALTER TABLE t ADD plain text")
    touch(200)
    mirror.sql("ALTER TABLE t ADD dflt int NOT NULL DEFAULT 42, ADD words text[] DEFAULT '{a,NULL,\"b c\"}'")
    touch(300)
    mirror.sql(
        "ALTER TABLE t ADD at timestamptz DEFAULT '2020-02-29 12:00:00.5+01', ADD j jsonb DEFAULT '{\"a\": [1]}',"
        " ADD r float8 DEFAULT 0.1, ADD flag bool DEFAULT true, ADD n numeric(9,3) DEFAULT -1.5,"
        " ADD raw bytea DEFAULT '\\x00ff27', ADD day date DEFAULT '1999-12-31'"
    )
    touch(400)
    mirror.sql("ALTER TABLE t DROP b")
    touch(500)
    mirror.sql("ALTER TABLE t RENAME a TO alpha")
    mirror.sql("INSERT INTO t (id, alpha) VALUES (600, 1); UPDATE t SET alpha = 0 WHERE id % 3 = 0")
    mirror.check()
    mirror.sql(
        "ALTER TABLE t ALTER alpha TYPE bigint, ALTER c TYPE numeric(10,3), ALTER d TYPE text,"
        " ALTER f TYPE float8"
    )
    mirror.sql("INSERT INTO t (id, alpha, f) VALUES (700, 5000000000, 0.1)")
    mirror.sql("UPDATE t SET d = repeat('long', 9) WHERE id % 4 = 1")
    mirror.wait_delivered()
    assert not paused(mirror), paused(mirror)
    mirror.check()
    columns = target_columns(mirror)
    assert columns["alpha"] == "Nullable(Int64)" and columns["f"] == "Nullable(Float64)"
    # What was dropped stays, empty where rows came since.
    assert columns["b"] == "Nullable(String)"
    assert mirror.rows("t", "count()")[0][0] == mirror.sql("SELECT count(*) FROM t")[0][0]
    assert set(mirror.rows("t", "b IS NULL, id >= 500")) >= {(1, 1), (0, 0)}
    assert not paused(mirror)


@pytest.mark.case(33)
def test_changes_of_a_table_that_nobody_writes_to(mirror):
    """The catalog is compared at every heartbeat."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)")
    mirror.start("t")
    mirror.check()
    mirror.sql("ALTER TABLE t ADD b text DEFAULT 'x', ADD c int")
    wait_column(mirror, "b")
    mirror.check()
    mirror.sql("ALTER TABLE t RENAME b TO beta")
    wait_column(mirror, "beta")
    mirror.sql("ALTER TABLE t ALTER a TYPE bigint")
    wait_column(mirror, "a", "Nullable(Int64)")
    mirror.sql("ALTER TABLE t DROP c")
    mirror.check()
    mirror.sql("INSERT INTO t VALUES (3, 3, 'y'); UPDATE t SET beta = 'z' WHERE id = 1")
    mirror.check()
    assert not paused(mirror)


@pytest.mark.smoke
@pytest.mark.case(16, 33)
def test_ddl_and_rows_in_one_transaction(mirror):
    """Rows of several versions of a table in one transaction, savepoints that are rolled back among them."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)")
    mirror.start("t")
    with mirror.session:
        mirror.sql("INSERT INTO t VALUES (3, 3); UPDATE t SET a = 10 WHERE id = 1")
        mirror.sql("ALTER TABLE t ADD b text DEFAULT 'early'")
        mirror.sql("INSERT INTO t VALUES (4, 4, 'four'); INSERT INTO t VALUES (5, 5)")
        mirror.sql("SAVEPOINT s; ALTER TABLE t ADD lost int DEFAULT 1; INSERT INTO t VALUES (6, 6, 'no', 6)")
        mirror.sql("ROLLBACK TO s; INSERT INTO t VALUES (6, 6, 'six')")
        mirror.sql("ALTER TABLE t RENAME a TO alpha; UPDATE t SET alpha = 20 WHERE id = 2")
        mirror.sql("ALTER TABLE t DROP b; INSERT INTO t VALUES (8, 8); DELETE FROM t WHERE id = 3")
    mirror.check()
    with mirror.session:
        mirror.sql("INSERT INTO t VALUES (9, 9); ALTER TABLE t ALTER alpha TYPE bigint")
        mirror.sql("INSERT INTO t VALUES (7, 7000000000); UPDATE t SET alpha = 5 WHERE id = 9")
    mirror.check()
    assert "lost" not in target_columns(mirror)
    assert not paused(mirror)
    # Large enough to be streamed while it is open.
    with mirror.session:
        mirror.sql("INSERT INTO t SELECT g, g FROM generate_series(100, 2999) g")
        mirror.sql("ALTER TABLE t ADD c int DEFAULT 7")
        mirror.sql("SAVEPOINT s; ALTER TABLE t RENAME c TO gone")
        mirror.sql("INSERT INTO t SELECT g, g, 1 FROM generate_series(3000, 5999) g; ROLLBACK TO s")
        mirror.sql("INSERT INTO t SELECT g, g, g FROM generate_series(3000, 5999) g")
        mirror.sql("UPDATE t SET alpha = -1 WHERE id % 100 = 0")
    mirror.check()
    assert "gone" not in target_columns(mirror)
    with pytest.raises(ZeroDivisionError), mirror.session:
        mirror.sql("ALTER TABLE t ADD never int DEFAULT 1; INSERT INTO t VALUES (6000, 1, 1, 1)")
        raise ZeroDivisionError
    mirror.sql("INSERT INTO t VALUES (6001, 1, 1)")
    mirror.check()
    assert "never" not in target_columns(mirror)


@pytest.mark.case(32, 33)
def test_changes_while_the_pipeline_is_down(mirror):
    """Several, with rows between them: the catalog is ahead of the rows that are read."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text); INSERT INTO t VALUES (1, 1, 1, 'c')")
    mirror.start("t")
    mirror.check()
    for stop in (mirror.kill, mirror.stop):
        stop()
        first = mirror.sql("SELECT max(id) + 1 FROM t")[0][0]
        mirror.sql(f"INSERT INTO t (id, c) VALUES ({first}, 'before')")
        mirror.sql(f"ALTER TABLE t ADD x{first} int DEFAULT 5; INSERT INTO t (id) VALUES ({first} + 1)")
        mirror.sql(f"ALTER TABLE t RENAME x{first} TO y{first}; INSERT INTO t (id) VALUES ({first} + 2)")
        mirror.sql(f"ALTER TABLE t ADD z{first} text DEFAULT 'z'; UPDATE t SET c = 'u' WHERE id < {first}")
        mirror.sql(f"ALTER TABLE t ADD old{first} int; INSERT INTO t (id, old{first}) VALUES ({first} + 3, 1)")
        mirror.sql(f"ALTER TABLE t DROP old{first}; INSERT INTO t (id) VALUES ({first} + 4)")
        mirror.resume()
        mirror.check()
    mirror.kill()
    mirror.sql("ALTER TABLE t DROP b; INSERT INTO t (id, a) VALUES (100, 1)")
    mirror.resume()
    mirror.check()
    assert not paused(mirror)


@pytest.mark.case(33)
def test_a_former_name_is_given_to_another_column(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)")
    mirror.start("t")
    mirror.sql("ALTER TABLE t RENAME a TO old_a; ALTER TABLE t ADD a text DEFAULT 'new'")
    mirror.sql("INSERT INTO t VALUES (3, 3, 'three')")
    mirror.check()
    assert not paused(mirror)


def swap_names(mirror):
    mirror.sql("ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b")


def drop_and_add(mirror):
    mirror.sql("ALTER TABLE t DROP a, ADD a int")


def drop_and_add_another_type(mirror):
    mirror.sql("ALTER TABLE t DROP a, ADD a text DEFAULT 'q'")


def type_using(mirror):
    mirror.sql("ALTER TABLE t ALTER a TYPE text USING 'v' || a")


def same_type_using(mirror):
    mirror.sql("ALTER TABLE t ALTER a TYPE int USING a * 100")


def volatile_default(mirror):
    mirror.sql("ALTER TABLE t ADD v int NOT NULL DEFAULT (random() * 100)::int")


def rename_table(mirror):
    mirror.sql("ALTER TABLE t RENAME TO elsewhere")


def make_anew(mirror):
    mirror.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, b int, a int, c text)")


def take_the_name(mirror):
    rename_table(mirror)
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 10, 20), (3, 3, 3)")


def other_key(mirror):
    mirror.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b)")


@pytest.mark.case(33, 35)
@pytest.mark.parametrize("with_rows", [True, False], ids=["with_rows", "without_rows"])
@pytest.mark.parametrize(
    "alter, saying",
    [
        (swap_names, "as another column is or was"),
        (drop_and_add, "column"),
        (drop_and_add_another_type, "another column is or was called so"),
        (type_using, "has another type"),
        (rename_table, "renamed to public.elsewhere"),
        (other_key, "another primary key"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_followed_pauses_the_table(mirror, alter, saying, with_rows):
    """Its rows are left out and counted; other tables go on; a restart knows it."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int NOT NULL); INSERT INTO t VALUES (1, 1, 2)")
    mirror.sql("CREATE TABLE other (id int PRIMARY KEY, a int)")
    mirror.start("t", "other")
    mirror.check()
    alter(mirror)
    table = "elsewhere" if alter is rename_table else "t"
    if with_rows:
        mirror.sql(f"INSERT INTO {table} (id, a, b) VALUES (7, '7', 7); UPDATE {table} SET b = 8 WHERE id = 7")
    wait_paused(mirror, "public.t", saying)
    mirror.wait_delivered()
    before = sorted(mirror.rows("t", "id"))
    mirror.sql(f"INSERT INTO {table} (id, a, b) VALUES (9, '9', 9); INSERT INTO other VALUES (1, 1)")
    mirror.check("other")
    assert sorted(mirror.rows("t", "id")) == before
    _, printed = mirror.check_command()
    assert "public.t" in printed and saying in printed, printed
    if alter is rename_table:
        return  # there is nothing to start with
    mirror.kill()
    mirror.sql("INSERT INTO other VALUES (2, 2)")
    mirror.resume()
    mirror.check("other")
    assert "public.t" in paused(mirror)


@pytest.mark.case(33, 35)
@pytest.mark.parametrize("dies", [False, True], ids=["", "dies"])
@pytest.mark.parametrize(
    "alter",
    [same_type_using, volatile_default, make_anew, take_the_name, swap_names, drop_and_add],
    ids=lambda alter: alter.__name__,
)
def test_reading_again_mends_what_paused_the_table(mirror, alter, dies):
    """By itself where no doubt is left, otherwise when it is asked for; changes go on meanwhile."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int NOT NULL)")
    mirror.sql("INSERT INTO t SELECT g, g, g FROM generate_series(1, 300) g")
    mirror.start("t")
    mirror.check()
    alter(mirror)
    mirror.sql("INSERT INTO t (id, a, b) VALUES (1007, 7, 7); UPDATE t SET b = 8 WHERE id = 7")
    if alter in (swap_names, drop_and_add):
        wait_paused(mirror, "public.t", "column")
        mirror.sql("DELETE FROM t WHERE id = 9; INSERT INTO t (id, a, b) VALUES (1008, 1, 1)")
        command = [PROGRAM, "snapshot", "-c", mirror.process.config, "public.t"]
        subprocess.run(command, check=True, timeout=30, capture_output=True)
    if dies:
        mirror.kill()
        mirror.sql("UPDATE t SET b = 9 WHERE id = 10")
        mirror.resume()
        mirror.wait_delivered()
        if alter in (swap_names, drop_and_add) and "public.t" in paused(mirror):
            # The request was not durable yet.
            subprocess.run(command, check=True, timeout=30, capture_output=True)
    wait_equal(mirror)
    mirror.sql("UPDATE t SET b = 10 WHERE id = 11; INSERT INTO t (id, a, b) VALUES (1009, 1, 1)")
    mirror.check()
    assert not paused(mirror)


@pytest.mark.case(35)
def test_a_table_that_is_made_anew_is_taken_up(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)")
    mirror.start("t")
    mirror.check()
    mirror.sql("INSERT INTO t VALUES (3, 3); DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    mirror.sql("INSERT INTO t VALUES (1, 'one', 1), (4, 'four', 4)")
    wait_equal(mirror)
    mirror.stop()
    mirror.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    mirror.sql("INSERT INTO t VALUES (1, 'uno', 1), (4, 'four', 4), (5, 'five', 5)")
    mirror.resume()
    wait_equal(mirror)
    mirror.sql("UPDATE t SET a = 'ONE' WHERE id = 1; DELETE FROM t WHERE id = 4; ALTER TABLE t ADD c int DEFAULT 1")
    mirror.sql("INSERT INTO t VALUES (6, 'six', 6, 6)")
    mirror.check()
    assert not paused(mirror)


@contextmanager
def reading_t(mirror):
    """What happens within comes before the first snapshot of `t` has ended; then the mirror is equal."""
    mirror.configure("t", source={"snapshot": {"chunk_rows": 100, "parallelism": 1}})
    mirror.resume(is_read=False)
    yield
    assert "All tables are complete" not in mirror.log_since_start()
    mirror.wait(lambda: mirror.status()["source"].get("snapshot") == "done", "all is read", timeout=60)
    mirror.check()
    assert not paused(mirror)


@pytest.mark.case(33)
def test_columns_change_while_the_table_is_read(mirror):
    """The first snapshot goes on with the columns that the stream has come to."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b text DEFAULT 'b')")
    mirror.sql("INSERT INTO t SELECT g, g FROM generate_series(1, 30000) g")
    with reading_t(mirror):
        mirror.sql("ALTER TABLE t ADD c int DEFAULT 3; INSERT INTO t VALUES (40000, 1, 'x', 4)")
        mirror.sql("ALTER TABLE t DROP b; UPDATE t SET a = -a WHERE id % 1000 = 0")
        mirror.sql("ALTER TABLE t RENAME a TO alpha; INSERT INTO t VALUES (40001, 2, 5)")


@pytest.mark.case(33)
def test_a_nullable_column_is_dropped_while_the_table_is_read(mirror):
    """The engine sees no difference; who reads the table has to go on without the column."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
    mirror.sql("INSERT INTO t SELECT g, g, 'b' FROM generate_series(1, 30000) g")
    with reading_t(mirror):
        mirror.sql("ALTER TABLE t DROP b")


@pytest.mark.case(33)
def test_ordinals_count_what_a_pause_leaves_out(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    mirror.sql("CREATE TABLE other (id int PRIMARY KEY)")
    mirror.start("t", "other")
    mirror.sql("INSERT INTO t VALUES (1, 1, 1)")
    swap_names(mirror)
    with mirror.session:
        mirror.sql("INSERT INTO t VALUES (2, 2, 2), (3, 3, 3); INSERT INTO other VALUES (1)")
    mirror.check("other")
    assert [int(row["_version"]) % 2**64 for row in mirror.outputs("other")] == [3]


@pytest.mark.case(33)
def test_rewrites_that_change_nothing(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b text DEFAULT 'b')")
    mirror.sql("INSERT INTO t SELECT g, g FROM generate_series(1, 50) g; CREATE TABLE probe (id int PRIMARY KEY)")
    mirror.start("t", "probe")
    mirror.sql("ALTER TABLE t ADD c int DEFAULT 3")
    wait_column(mirror, "c")
    mirror.check()
    for rewrite in ("VACUUM FULL t", "CLUSTER t USING t_pkey", "ALTER TABLE t SET LOGGED", "ANALYZE t"):
        mirror.sql(rewrite)
        mirror.sql("UPDATE t SET a = a + 1 WHERE id % 10 = 3; INSERT INTO t SELECT max(id) + 1 FROM t")
        mirror.check()
    mirror.sql("TRUNCATE t; INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD d int DEFAULT 4")
    mirror.sql("INSERT INTO t VALUES (2, 2)")
    mirror.check()
    # The catalog has been compared since.
    mirror.sql("ALTER TABLE probe ADD seen int")
    wait_column(mirror, "seen", stream="probe")
    assert not paused(mirror)


@pytest.mark.case(33, 34)
def test_kill_around_changes(mirror):
    """Kill -9 again and again while columns come and change their names."""
    rng = random.Random(4711)
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT g, g FROM generate_series(1, 9) g")
    mirror.start("t")
    names = []
    for step in range(8):
        with mirror.session:
            mirror.sql(f"INSERT INTO t (id, a) VALUES ({100 + step}, {step})")
            mirror.sql(f"ALTER TABLE t ADD c{step} int DEFAULT {step}")
            mirror.sql(f"UPDATE t SET a = a + 1, c{step} = 5 WHERE id % 3 = {step % 3}")
        names.append(f"c{step}")
        if step % 2:
            old = names.pop(rng.randrange(len(names)))
            mirror.sql(f"ALTER TABLE t RENAME {old} TO {old}_r")
            names.append(old + "_r")
            mirror.sql("INSERT INTO t (id) SELECT max(id) + 100 FROM t")
        if rng.random() < 0.5:
            mirror.wait(lambda: target_columns(mirror), "the mirror is there")
        mirror.kill()
        mirror.resume()
    mirror.check()
    assert not paused(mirror)


@pytest.mark.case(34)
@pytest.mark.parametrize(
    "failpoint",
    ["engine.before_commit", "engine.after_commit", "sink_writer.before_prepare",
     "clickhouse.before_alter", "sink_writer.after_prepare", "clickhouse.after_plan_before_insert",
     "clickhouse.after_insert_before_position"],
)  # fmt: skip
def test_crash_at_each_step_of_a_change(mirror, failpoint):
    """The process dies where a newer version of the columns takes effect; older rows come again."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b text NOT NULL)")
    mirror.sql("INSERT INTO t SELECT g, g, 'b' FROM generate_series(1, 20) g")
    mirror.start("t")
    mirror.check()
    mirror.kill()
    mirror.sql("INSERT INTO t VALUES (30, 30, 'thirty')")
    with mirror.session:
        mirror.sql("UPDATE t SET a = -1 WHERE id = 2; ALTER TABLE t ADD c int DEFAULT 9, DROP b")
        mirror.sql("ALTER TABLE t RENAME a TO alpha; INSERT INTO t VALUES (31, 6, NULL)")
    mirror.process.environment = {"MILLRACE_FAILPOINT": failpoint}
    mirror.process.launch()
    assert mirror.process.wait_exit(30) == -signal.SIGKILL, f"{failpoint} was not met"
    mirror.process.environment = {}
    mirror.resume()
    mirror.check()
    versions = mirror.clickhouse.query(
        f"SELECT count(), uniqExact(_version) FROM {mirror.clickhouse_database}.t FORMAT TabSeparatedRaw"
    )
    count, distinct = versions.split()
    assert count == distinct, "a row stands twice"


@pytest.mark.case(33)
def test_sql_keeps_its_columns(mirror):
    """A stream with SQL goes on under a column's former name, and joins older rows of its lookup."""
    mirror.sql(
        "CREATE TABLE item (id int PRIMARY KEY, title text, price int);"
        "CREATE TABLE sale (id int PRIMARY KEY, item int, amount int);"
        "INSERT INTO item VALUES (1, 'pen', 5), (2, 'ink', 7); INSERT INTO sale VALUES (1, 1, 1)"
    )
    sql = (
        "SELECT s.id, s.amount * i.price AS total, i.title FROM sale AS s LEFT JOIN item AS i ON i.id = s.item"
    )
    mirror.start(
        {"sale": "public.sale"},
        source={"tables": ["public.sale", "public.item"]},
        streams={"rich": {"from": "public.sale", "lookup": ["public.item"], "key": ["id"], "sql": sql}},
        sinks={"warehouse": {"tables": [{"stream": s} for s in ("sale", "rich")]}},
    )

    def check_rich(price="price", title="title"):
        mirror.check()
        expected = mirror.sql(
            f"SELECT s.id, s.amount * i.{price}, i.{title} FROM sale s LEFT JOIN item i ON i.id = s.item ORDER BY 1"
        )
        assert sorted(mirror.rows("rich", "id, total, title")) == expected

    mirror.sql("ALTER TABLE item ADD stock int DEFAULT 3; INSERT INTO sale VALUES (2, 2, 2)")
    check_rich()
    mirror.sql("ALTER TABLE item RENAME title TO name; INSERT INTO item VALUES (3, 'nib', 1, 1)")
    mirror.sql("INSERT INTO sale VALUES (3, 3, 3), (4, 1, 4)")
    check_rich(title="name")
    mirror.sql("ALTER TABLE item ALTER id TYPE bigint; INSERT INTO sale VALUES (5, 2, 5)")
    check_rich(title="name")
    mirror.sql("ALTER TABLE sale ALTER amount TYPE bigint; INSERT INTO sale VALUES (6, 2, 3000000000)")
    check_rich(title="name")
    mirror.kill()
    mirror.sql("INSERT INTO sale VALUES (7, 1, 1)")
    mirror.resume()
    check_rich(title="name")


@pytest.mark.case(33)
def test_a_column_that_sorts_the_mirror_pauses_the_sink(mirror):
    """ClickHouse renames no sorting key; the table and other sinks go on."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)")
    mirror.start("t")
    mirror.check()
    mirror.sql("ALTER TABLE t RENAME id TO key; INSERT INTO t VALUES (2, 2)")
    mirror.wait(
        lambda: any(s["state"] == "paused" and "sorting key" in s["last_error"] for s in mirror.status()["sinks"]),
        "the sink says so",
    )  # fmt: skip
    mirror.wait(lambda: len(mirror.outputs("t")) == 2, "the other sink goes on")
    assert mirror.outputs("t")[1]["key"] == 2
