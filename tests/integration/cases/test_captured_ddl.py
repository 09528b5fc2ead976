# SPDX-License-Identifier: Apache-2.0
"""Cases 16, 33 and 34 with source.capture_ddl: event triggers write each ALTER TABLE into the stream."""

import json
import random

import psycopg2
import pytest
from harness import install_ddl_capture

from test_schema_changes import paused, target_columns, wait_column, wait_equal

CAPTURE = {"capture_ddl": True, "heartbeat_interval": "10s"}
REMOVE = "DROP SCHEMA millrace CASCADE"


def start(mirror, *tables, **source):
    """With triggers that a DBA has installed: the pipeline's own role is no superuser."""
    install_ddl_capture(mirror)
    mirror.start(*tables, source=CAPTURE | source)


def objects(mirror):
    """What is in the database of ours."""
    return mirror.admin_sql(
        "SELECT evtname FROM pg_event_trigger UNION ALL SELECT nspname FROM pg_namespace"
        " WHERE nspname = 'millrace' ORDER BY 1"
    )


def never_paused(mirror):
    assert not paused(mirror), paused(mirror)
    assert "Table is paused" not in mirror.log()


@pytest.mark.smoke
@pytest.mark.case(33)
def test_what_is_followed_only_with_captured_commands(mirror):
    """Names that change hands, the same name again with the same type, several at once: never a pause."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text); INSERT INTO t VALUES (1, 1, 2, 'c')")
    start(mirror, "t")
    mirror.sql("ALTER TABLE t DROP a, ADD a int; INSERT INTO t (id, a, b) VALUES (2, 2, 3)")
    mirror.check()
    mirror.sql("ALTER TABLE t DROP a; ALTER TABLE t ADD a int DEFAULT 7; UPDATE t SET b = 9 WHERE id = 1")
    mirror.sql("INSERT INTO t (id, b) VALUES (3, 4)")
    mirror.check()
    mirror.sql("ALTER TABLE t DROP c; ALTER TABLE t RENAME b TO c; ALTER TABLE t ADD b text DEFAULT 'new'")
    mirror.sql("INSERT INTO t VALUES (4, 5, 6, 'four'); UPDATE t SET a = 1 WHERE id = 3")
    mirror.check()
    mirror.sql("ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME x TO y; ALTER TABLE t RENAME c TO a")
    mirror.sql("INSERT INTO t (id, y, a) VALUES (5, 8, 9)")
    mirror.check()
    mirror.sql("ALTER TABLE t ALTER y TYPE bigint; ALTER TABLE t DROP b, ADD b numeric(8,2) DEFAULT 1.5")
    mirror.sql("INSERT INTO t (id, y) VALUES (6, 5000000000)")
    mirror.check()
    never_paused(mirror)


@pytest.mark.case(33)
def test_swapped_names(mirror):
    """Read again by itself, and every row is right from there on."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    mirror.sql("INSERT INTO t SELECT g, g, -g FROM generate_series(1, 300) g")
    start(mirror, "t")
    mirror.check()
    mirror.sql("ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b")
    mirror.sql("INSERT INTO t (id, a, b) VALUES (1000, 1, 2); UPDATE t SET a = 5 WHERE id = 7")
    wait_equal(mirror)
    mirror.kill()
    mirror.sql("UPDATE t SET b = 6 WHERE id = 8")
    mirror.sql("ALTER TABLE t DROP a, ADD a int DEFAULT 3; INSERT INTO t (id) VALUES (1001)")
    mirror.resume()
    mirror.check()
    assert not paused(mirror)


@pytest.mark.case(16, 33)
@pytest.mark.parametrize("rows", [3, 3000], ids=["small", "spilled"])
def test_commands_between_the_rows_of_one_transaction(mirror, rows):
    """Each takes effect where it stands; what a savepoint takes back never does."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
    start(mirror, "t")

    def insert(first, *values):
        mirror.sql(f"INSERT INTO t SELECT g, {', '.join(values)} FROM generate_series({first}, {first + rows - 1}) g")

    with mirror.session:
        insert(10_000, "1", "2")
        mirror.sql("ALTER TABLE t DROP a, ADD a int DEFAULT 4")
        insert(20_000, "3", "g")
        mirror.sql("SAVEPOINT s; ALTER TABLE t ADD c int DEFAULT 1; RELEASE s")
        insert(30_000, "4", "g", "5")
        mirror.sql("ALTER TABLE t DROP b; ALTER TABLE t RENAME a TO b; ALTER TABLE t ADD a int")
        insert(40_000, "7", "8", "9")
        mirror.sql("SAVEPOINT s; ALTER TABLE t DROP a; ALTER TABLE t ADD a int DEFAULT 66")
        insert(50_000, "5", "77", "1")
        mirror.sql("ROLLBACK TO s")
        mirror.sql("ALTER TABLE t DROP a; ALTER TABLE t ADD a int DEFAULT 67")
        insert(50_000, "6", "g", "2")
        mirror.sql("UPDATE t SET b = -b, a = 0 WHERE id % 3 = 1; DELETE FROM t WHERE id % 7 = 0")
    mirror.check()
    with pytest.raises(ZeroDivisionError), mirror.session:
        mirror.sql("ALTER TABLE t DROP a, ADD a int DEFAULT 5")
        insert(60_000, "1", "2", "3")
        raise ZeroDivisionError
    insert(60_000, "1", "2", "3")
    mirror.check()
    never_paused(mirror)


@pytest.mark.case(33)
def test_rewrites_are_read_again(mirror):
    """Those that give rows other values, told from those that do not."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int DEFAULT 5, c varchar(9))")
    mirror.sql("INSERT INTO t SELECT g, g, g, 'c' FROM generate_series(1, 300) g")
    mirror.sql("CREATE FUNCTION by_function() RETURNS void LANGUAGE plpgsql AS"
               " $$ BEGIN EXECUTE 'ALTER TABLE t ALTER b TYPE numeric(20) US' || 'ING b * 7'; END $$")  # fmt: skip
    start(mirror, "t")
    mirror.sql("VACUUM FULL t")
    mirror.sql("ALTER TABLE t ALTER a SET DEFAULT 3; ALTER TABLE t ALTER c TYPE varchar(20)")
    mirror.sql("ALTER TABLE t ALTER a TYPE bigint; UPDATE t SET a = 5000000000 WHERE id = 3")
    mirror.check()
    never_paused(mirror)
    for number, rewrite in enumerate((
        "ALTER TABLE t ALTER a TYPE numeric(20) USING a * 100",
        "SELECT by_function()",
        "BEGIN; ALTER TABLE t ALTER id SET STATISTICS 10; ALTER TABLE t ALTER c TYPE text USING c || 'x'; COMMIT",
        "ALTER TABLE t ADD v int NOT NULL DEFAULT (random() * 100)::int",
        "ALTER TABLE t ALTER v TYPE text",
        "ALTER TABLE t ALTER c TYPE varchar(30), DROP b, ADD b int DEFAULT 5",
    )):  # fmt: skip
        mirror.sql(rewrite)
        mirror.sql(f"UPDATE t SET b = {number} WHERE id = 9; DELETE FROM t WHERE id = 10 + {number}")
        wait_equal(mirror)
    assert mirror.log().count("Table is read again") == 6


@pytest.mark.case(33, 34)
def test_kill_around_captured_commands(mirror):
    """The same messages come again, and take effect once."""
    rng = random.Random(815)
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT g, g FROM generate_series(1, 9) g")
    start(mirror, "t")
    for step in range(8):
        with mirror.session:
            mirror.sql(f"INSERT INTO t (id, a) VALUES ({100 + step}, {step})")
            mirror.sql(f"ALTER TABLE t DROP a, ADD a int DEFAULT {step}")
            mirror.sql(f"UPDATE t SET a = a + 1 WHERE id % 3 = {step % 3}")
        if rng.random() < 0.5:
            mirror.sql(f"INSERT INTO t (id) VALUES ({200 + step})")
        mirror.kill()
        mirror.resume()
    mirror.check()
    never_paused(mirror)


@pytest.mark.case(33)
def test_the_applications_commands_never_fail(mirror):
    """Whoever runs them, whether a pipeline reads, and although what the triggers need is broken."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)")
    start(mirror, "t")
    mirror.sql("CREATE TABLE p (id int, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT;"
               " ALTER TABLE p ADD w int; CREATE TEMP TABLE temporary (a int); ALTER TABLE temporary ADD b int;"
               " CREATE DOMAIN positive AS int; ALTER TABLE p ADD x positive; DROP DOMAIN positive CASCADE;"
               " DROP TABLE p")  # fmt: skip
    mirror.sql("DO $$ BEGIN EXECUTE 'ALTER TABLE t ADD by_do int DEFAULT 1'; END $$; INSERT INTO t VALUES (2, 2)")
    role = f"{mirror.name}_other"
    mirror.admin_sql(f'CREATE ROLE "{role}" LOGIN; ALTER TABLE t OWNER TO "{role}";'
                     f' GRANT ALL ON t TO app; GRANT ALL ON SCHEMA public TO "{role}"')  # fmt: skip
    try:
        other = mirror.new_session(role)
        other.sql("ALTER TABLE t RENAME a TO x; ALTER TABLE t ADD a int DEFAULT 2; INSERT INTO t VALUES (3, 3)")
        mirror.admin_sql("SET session_replication_role = replica; ALTER TABLE t DROP x, ADD x int DEFAULT 3;")
        mirror.sql("INSERT INTO t (id) VALUES (4)")
        mirror.check()
        never_paused(mirror)
        # Nobody but the triggers writes with the key.
        with pytest.raises(psycopg2.Error, match="permission denied"):
            other.sql("SELECT key FROM millrace.ddl_key")
        forged = {"format": 1, "key": "guessed", "oid": int(mirror.sql("SELECT 't'::regclass::oid")[0][0])}
        other.sql("SELECT pg_logical_emit_message(true, 'millrace.ddl', %s)", json.dumps(forged))
        other.sql("SELECT pg_logical_emit_message(true, 'millrace.ddl', 'no JSON')")
        mirror.admin_sql("REFRESH MATERIALIZED VIEW millrace.ddl_key WITH NO DATA")
        other.sql("ALTER TABLE t ADD unseen int DEFAULT 5; INSERT INTO t (id) VALUES (5)")
        wait_column(mirror, "unseen")
        mirror.check()
        mirror.stop()
        mirror.admin_sql(f"SELECT pg_drop_replication_slot('{mirror.slot}')")
        other.sql("ALTER TABLE t RENAME unseen TO seen; ALTER TABLE t ALTER seen TYPE bigint")
        other.close()
    finally:
        mirror.stop(may_be_starting=True)
        mirror.admin_sql(f'REASSIGN OWNED BY "{role}" TO app; DROP OWNED BY "{role}"; DROP ROLE "{role}"')


@pytest.mark.case(33)
def test_installed_only_when_asked_for(mirror):
    """By a superuser at the start; otherwise a sentence with what a DBA runs."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)")
    mirror.start("t")
    mirror.check()
    mirror.stop()
    assert not objects(mirror)
    mirror.configure("t", source=CAPTURE)
    status, printed = mirror.check_command()
    assert status == 1 and "millrace docs capture-ddl" in printed, printed
    mirror.fails("t", source=CAPTURE, saying="role 'app' may not make: .*docs capture-ddl.*GRANT USAGE ON SCHEMA")
    assert not objects(mirror)

    as_superuser = CAPTURE | {"url": mirror.postgres.dsn(mirror.database, "postgres")}
    mirror.start("t", source=as_superuser)
    mirror.sql("ALTER TABLE t DROP a, ADD a int; INSERT INTO t VALUES (2, 2)")
    mirror.check()
    never_paused(mirror)
    mirror.stop()
    installed = objects(mirror)
    assert len(installed) == 4, installed
    key = mirror.admin_sql("SELECT key FROM millrace.ddl_key")
    mirror.fails("t", source=CAPTURE, saying="may not read the key of: .*run GRANT USAGE ON SCHEMA millrace")
    mirror.start("t", source=as_superuser)
    mirror.stop()
    assert mirror.admin_sql("SELECT key FROM millrace.ddl_key") == key and objects(mirror) == installed

    mirror.start("t")
    assert REMOVE in mirror.log_since_start()
    assert objects(mirror) == installed
    _, printed = mirror.check_command()
    assert REMOVE in printed, printed
    mirror.stop()
    mirror.admin_sql(REMOVE)
    assert not objects(mirror)
    # A schema that somebody prepared is not trusted.
    mirror.admin_sql("CREATE SCHEMA millrace AUTHORIZATION app")
    mirror.fails("t", source=as_superuser, saying="schema 'millrace' or what is in it belongs to a role")
    assert objects(mirror) == ["millrace"]


@pytest.mark.case(33)
def test_what_a_publication_leaves_out_stays_out(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, a int, secret text); INSERT INTO t VALUES (1, 1, 's')")
    columns = "(id, a)" if mirror.version >= 15 else ""
    mirror.sql(f"CREATE PUBLICATION by_dba FOR TABLE t {columns}, harness_mark")
    start(mirror, "t", manage_publication=False, publication="by_dba")
    mirror.sql("ALTER TABLE t ADD other int DEFAULT 1; INSERT INTO t VALUES (2, 2, 's', 2)")
    mirror.sql("ALTER TABLE t RENAME a TO alpha; INSERT INTO t VALUES (3, 3, 's', 3)")
    mirror.check(columns=["id", "alpha"])
    assert not {"secret", "other"} & set(target_columns(mirror))
    never_paused(mirror)
