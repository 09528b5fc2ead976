# SPDX-License-Identifier: Apache-2.0
"""Cases 42 to 47: partitions, inheritance, TRUNCATE, tables without WAL, rewrites, COPY."""

import io

import pytest

from harness import MARK


@pytest.mark.smoke
@pytest.mark.case(52)
def test_snapshot_then_every_kind_of_change(mirror):
    """What the smoke run of each version rests on."""
    mirror.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2), at timestamptz, tags text[])"
    )
    row = "'v' || g, g / 7.0, '2024-01-01'::timestamptz + g * interval '1 second', ARRAY['a', NULL, 'b,']"
    mirror.sql(f"INSERT INTO t SELECT g, {row} FROM generate_series(1, 500) g")
    mirror.start("t")
    mirror.check()
    mirror.sql(f"INSERT INTO t SELECT g, {row} FROM generate_series(501, 1000) g")
    mirror.sql("UPDATE t SET v = NULL, n = -n WHERE id % 3 = 0")
    mirror.sql("DELETE FROM t WHERE id % 5 = 0")
    mirror.sql("UPDATE t SET id = id + 10000 WHERE id % 7 = 0")
    mirror.check()


@pytest.mark.case(47)
def test_copy_into_a_table(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    mirror.start("t")
    lines = "".join(f"{i}\tline {i} \\\\ \\t \\n \u00fc\n" for i in range(5000))
    with mirror.session.connection.cursor() as cursor:
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO(lines))
    mirror.check()
    assert len(mirror.rows("t")) == 5000


@pytest.mark.case(44)
def test_truncate(mirror):
    """Several tables in one statement, with CASCADE and RESTART IDENTITY, between other changes."""
    mirror.sql(
        "CREATE TABLE a (id bigserial PRIMARY KEY, v text);"
        "CREATE TABLE b (id int PRIMARY KEY, a_id bigint REFERENCES a);"
        "CREATE TABLE c (id int PRIMARY KEY, v text);"
    )
    fill = (
        "INSERT INTO a (v) SELECT 'a' || g FROM generate_series(1, 5) g;"
        "INSERT INTO b SELECT id, id FROM a;"
        "INSERT INTO c SELECT g, 'c' FROM generate_series(1, 5) g;"
    )
    mirror.sql(fill)
    mirror.start("a", "b", "c")
    mirror.check()
    mirror.sql("TRUNCATE c")
    mirror.check("c")
    mirror.sql("TRUNCATE a CASCADE")
    mirror.check()
    assert mirror.rows("b") == []
    mirror.sql(fill.replace("c SELECT", "c SELECT 10 +"))
    mirror.sql("TRUNCATE a, b, c RESTART IDENTITY")
    mirror.sql(fill)
    mirror.check()
    with mirror.session:
        mirror.sql("UPDATE c SET v = 'before'")
        mirror.sql("INSERT INTO c VALUES (100, 'gone')")
        mirror.sql("TRUNCATE c")
        mirror.sql("INSERT INTO c VALUES (1, 'after'), (101, 'after')")
        mirror.sql("UPDATE c SET v = 'after all' WHERE id = 1")
        mirror.sql("SAVEPOINT s")
        mirror.sql("TRUNCATE a CASCADE")
        mirror.sql("ROLLBACK TO SAVEPOINT s")
    mirror.check()
    assert len(mirror.rows("a")) == 5
    with mirror.session:
        mirror.sql("TRUNCATE c")
        mirror.sql("INSERT INTO c VALUES (5, 'between')")
        mirror.sql("TRUNCATE c")
    mirror.check()
    assert mirror.rows("c") == []
    with pytest.raises(ZeroDivisionError), mirror.session:
        mirror.sql("TRUNCATE a CASCADE")
        raise ZeroDivisionError
    mirror.check()


@pytest.mark.case(43)
def test_inheritance(mirror):
    """A parent's mirror holds its own rows; children are tables of their own."""
    mirror.sql(
        "CREATE TABLE parent (id int PRIMARY KEY, v text);"
        "CREATE TABLE child (w text, PRIMARY KEY (id)) INHERITS (parent);"
        "INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'w')"
    )
    mirror.start("parent", "child")
    mirror.check()
    mirror.sql("INSERT INTO parent VALUES (3, 'p'); INSERT INTO child VALUES (4, 'c', 'w')")
    mirror.sql("UPDATE parent SET v = v || '!'")
    mirror.sql("DELETE FROM parent WHERE id IN (1, 2)")
    mirror.check()
    assert len(mirror.rows("parent")) == 1
    mirror.sql("TRUNCATE ONLY parent")
    mirror.check()
    assert len(mirror.rows("child")) == 1
    mirror.sql("TRUNCATE parent")
    mirror.check()
    assert mirror.rows("child") == []


@pytest.mark.case(43)
def test_parent_alone_leaves_its_children_out(mirror):
    mirror.sql(
        "CREATE TABLE parent (id int PRIMARY KEY, v text);"
        "CREATE TABLE child (w text, PRIMARY KEY (id)) INHERITS (parent);"
        "INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'w')"
    )
    mirror.start("parent")
    mirror.sql("INSERT INTO parent VALUES (3, 'p'); INSERT INTO child VALUES (4, 'c', 'w')")
    mirror.sql("UPDATE parent SET v = 'new'")
    mirror.sql("DELETE FROM child")
    mirror.check()
    assert len(mirror.rows("parent")) == 2


@pytest.mark.case(45)
def test_relations_without_wal_are_left_out_of_patterns(mirror):
    mirror.sql(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, v text);"
        "CREATE UNLOGGED TABLE shop.scratch (id int PRIMARY KEY);"
        "CREATE MATERIALIZED VIEW shop.totals AS SELECT count(*) FROM shop.orders;"
        "CREATE VIEW shop.recent AS SELECT * FROM shop.orders;"
        "CREATE SEQUENCE shop.numbers;"
    )
    mirror.start({"orders": "shop.orders"}, source={"tables": ["shop.*"]})
    mirror.sql("CREATE TEMP TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
    mirror.sql("INSERT INTO shop.orders VALUES (1, 'x'); INSERT INTO shop.scratch VALUES (1)")
    mirror.sql("REFRESH MATERIALIZED VIEW shop.totals; SELECT nextval('shop.numbers')")
    mirror.check()
    assert len(mirror.rows("orders")) == 1


@pytest.mark.case(45)
@pytest.mark.parametrize(
    "make, saying",
    [
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "is unlogged"),
        ("CREATE MATERIALIZED VIEW t AS SELECT 1 AS id", "is not a table"),
        ("CREATE VIEW t AS SELECT 1 AS id", "is not a table"),
    ],
)
def test_relations_without_wal_are_refused_by_name(mirror, make, saying):
    mirror.sql(make)
    mirror.fails("t", saying=saying)


@pytest.mark.case(46)
def test_rewrites(mirror):
    """Rewritten heaps and indexes are no changes, and what follows them arrives."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE INDEX t_n ON t (n)")
    mirror.sql("ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    mirror.sql("INSERT INTO t SELECT g, repeat('x', 5000), -g FROM generate_series(1, 50) g")
    mirror.start("t")
    mirror.check()
    printed = len(mirror.outputs("t"))
    for number, statement in enumerate(
        ["VACUUM FULL t", "CLUSTER t USING t_n", "REINDEX TABLE t", "VACUUM FREEZE t",
         "ALTER TABLE t SET (fillfactor = 50)", "CREATE INDEX t_v ON t (md5(v))", "ANALYZE t"]
    ):  # fmt: skip
        mirror.sql(statement)
        mirror.sql(f"UPDATE t SET n = n + 1 WHERE id % 10 = {number}")
        mirror.check()
    assert len(mirror.outputs("t")) == printed + 7 * 5


@pytest.mark.case(46)
def test_rewrite_within_a_transaction(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE INDEX t_n ON t (n)")
    mirror.sql("INSERT INTO t SELECT g, repeat('x', 5000), -g FROM generate_series(1, 20) g")
    mirror.start("t")
    with mirror.session:
        mirror.sql("INSERT INTO t VALUES (100, 'before', 0)")
        mirror.sql("CLUSTER t USING t_n")
        mirror.sql("UPDATE t SET n = 1 WHERE id < 5")
    mirror.check()


# --- Partitions ------------------------------------------------------------------------------------

PARTITIONED = """
CREATE TABLE events (id int, day date, v text, big text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
-- Another order of columns, and one that is gone.
CREATE TABLE events_2 (gone int, big text, day date NOT NULL, v text, id int NOT NULL);
ALTER TABLE events_2 DROP gone;
ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')
  PARTITION BY HASH (id);
CREATE TABLE events_3a PARTITION OF events_3 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_3b PARTITION OF events_3 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_rest PARTITION OF events DEFAULT;
"""
FILL = (
    "INSERT INTO events SELECT g, '2024-01-01'::date + (g % 100), 'v' || g, repeat(md5(g::text), 200)"
    " FROM generate_series({}, {}) g"
)
LEAVES = ["events_1", "events_2", "events_3a", "events_3b", "events_rest"]


@pytest.mark.smoke
@pytest.mark.case(42)
def test_partitions_by_their_root(mirror):
    """The root's mirror holds the rows of all leaves, wherever they move."""
    mirror.sql(PARTITIONED)
    for leaf in LEAVES:
        mirror.sql(f"ALTER TABLE {leaf} ALTER big SET STORAGE EXTERNAL")
    mirror.sql(FILL.format(1, 150))
    mirror.start("events")
    mirror.check(only=False)
    assert len(mirror.rows("events", "id")) == 150
    mirror.sql(FILL.format(151, 300))
    mirror.sql("UPDATE events SET v = v || '!' WHERE id % 2 = 0")
    # From leaf to leaf: a delete and an insert. The values out of line go along.
    mirror.sql("UPDATE events SET day = day + 31 WHERE id % 3 = 0")
    mirror.sql("UPDATE events SET id = id + 1000 WHERE id % 5 = 0")
    mirror.sql("UPDATE events SET v = 'there' WHERE id % 3 = 0")
    mirror.sql("DELETE FROM events WHERE id % 7 = 0")
    mirror.check(only=False)
    # A leaf that comes later, and rows that are written to leaves themselves.
    mirror.sql("CREATE TABLE events_5 PARTITION OF events FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')")
    mirror.sql("INSERT INTO events VALUES (5000, '2030-05-05', 'new', NULL)")
    mirror.sql("INSERT INTO events_1 (id, day, v) VALUES (5001, '2024-01-05', 'leaf')")
    mirror.sql("UPDATE events_2 SET v = 'by leaf'")
    mirror.check(only=False)
    mirror.kill()
    mirror.sql("UPDATE events SET v = 'late' WHERE id % 2 = 1")
    mirror.resume()
    mirror.check(only=False)
    mirror.sql("TRUNCATE events")
    mirror.sql(FILL.format(1, 10))
    mirror.check(only=False)


@pytest.mark.case(42, 44)
def test_partitions_by_leaf(mirror):
    """Each leaf is a table of its own."""
    mirror.sql(PARTITIONED)
    mirror.sql(FILL.format(1, 150))
    mirror.start("events_1", "events_2", "events_3a")
    mirror.check()
    mirror.sql(FILL.format(151, 300))
    mirror.sql("UPDATE events SET day = day + 31 WHERE id % 3 = 0")
    mirror.sql("UPDATE events SET v = 'new' WHERE id % 2 = 0")
    mirror.sql("DELETE FROM events WHERE id % 7 = 0")
    mirror.check()
    mirror.sql("TRUNCATE events_1")
    mirror.check()
    mirror.sql("ALTER TABLE events DETACH PARTITION events_2; INSERT INTO events_2 (id, day) VALUES (9, now())")
    mirror.check()
    mirror.sql("TRUNCATE events")
    mirror.check()
    assert mirror.rows("events_3a") == []
    assert mirror.rows("events_2") != []


@pytest.mark.case(42)
def test_pattern_takes_the_root_and_not_its_partitions(mirror):
    mirror.sql(PARTITIONED)
    mirror.sql(FILL.format(1, 20))
    mirror.start("events", source={"tables": ["public.events*"]})
    mirror.sql(FILL.format(21, 40))
    mirror.check(only=False)
    (published,) = mirror.sql(
        "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables"
    )
    assert published == ("events,harness_mark",)


@pytest.mark.case(42)
def test_root_and_leaf_together_are_refused(mirror):
    mirror.sql(PARTITIONED)
    mirror.fails("events", "events_3a", saying="its rows would come twice")


@pytest.mark.case(42)
def test_dba_publication_of_partitions(mirror):
    """By leaves where a root is named, and by root where a leaf is: refused with what to do."""
    mirror.sql(PARTITIONED)
    mirror.sql(FILL.format(1, 20))
    dba = {"manage_publication": False, "publication": "by_dba"}
    mirror.sql(f"CREATE PUBLICATION by_dba FOR TABLE events, {MARK}")
    mirror.fails("events", source=dba, saying="SET .publish_via_partition_root = true")
    mirror.sql("ALTER PUBLICATION by_dba SET (publish_via_partition_root = true)")
    mirror.fails("events_1", source=dba, saying="as those of the partitioned table")
    mirror.start("events", source=dba)
    mirror.sql(FILL.format(21, 40))
    mirror.check(only=False)


@pytest.mark.case(42)
@pytest.mark.parametrize(
    "alter, saying",
    [
        ("ALTER TABLE events REPLICA IDENTITY FULL", "replica identity full and its partition"),
        ("ALTER TABLE events_1 REPLICA IDENTITY USING INDEX events_1_pkey", "has an index as its"),
    ],
)
def test_partitions_of_another_identity_are_refused(mirror, alter, saying):
    mirror.sql(PARTITIONED)
    mirror.sql(alter)
    mirror.fails("events", saying=saying)


@pytest.mark.case(42)
def test_partitions_with_identity_full(mirror):
    mirror.sql(PARTITIONED)
    for table in ["events", *LEAVES]:
        mirror.sql(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    mirror.sql(FILL.format(1, 50))
    mirror.start("events")
    mirror.sql("UPDATE events SET v = 'new', day = day + 31 WHERE id % 3 = 0")
    mirror.sql("DELETE FROM events WHERE id % 7 = 0")
    mirror.check(only=False)


@pytest.mark.case(26, 42)
def test_partitions_without_identity(mirror):
    """The application's UPDATE looks at the leaf: it goes on to work."""
    mirror.sql(PARTITIONED)
    mirror.sql("ALTER TABLE events_2 REPLICA IDENTITY NOTHING")
    mirror.sql(FILL.format(1, 50))
    mirror.start("events")
    mirror.check(only=False)
    mirror.sql("UPDATE events SET v = 'new'; DELETE FROM events WHERE id % 7 = 0")
    mirror.wait_delivered()
    assert len(mirror.rows("events", "id")) == 50
