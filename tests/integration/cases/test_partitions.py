# SPDX-License-Identifier: Apache-2.0
"""Case 42: rows that come and go with a whole partition, which are no row events of its root."""

import threading
import time

import pytest

from harness import ServerError
from test_schema_changes import paused

FAST = {"heartbeat_interval": "300ms"}
ROOT = (
    "CREATE TABLE root (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);"
    "CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (100) TO (200);"
    "CREATE TABLE root_2 PARTITION OF root FOR VALUES FROM (200) TO (300);"
    "INSERT INTO root SELECT g, 100 + g % 200, 'first' FROM generate_series(1, 1000) g;"
)
BIG = "ALTER TABLE {} ALTER v SET STORAGE EXTERNAL;"


def times_read_again(mirror, table="public.root"):
    return sum("Table is read again" in line and f"table={table}" in line for line in mirror.log().splitlines())


def wait_root(mirror, timeout=30):
    """Until the mirrors of roots are as their tables."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            mirror.check(only=False)
            return
        except (AssertionError, ServerError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def settle(mirror):
    """Some comparisons of the catalog pass."""
    time.sleep(1.0)
    mirror.wait_delivered()


@pytest.mark.smoke
@pytest.mark.case(42)
def test_rows_that_come_and_go_with_a_partition(mirror):
    mirror.sql(ROOT)
    mirror.start("root", source=FAST)
    mirror.check(only=False)
    settle(mirror)
    for statement, at_partition in (
        ("CREATE TABLE root_3 (LIKE root); INSERT INTO root_3 SELECT g, 300 + g % 100, 'came'"
         " FROM generate_series(1, 500) g;"
         "ALTER TABLE root ATTACH PARTITION root_3 FOR VALUES FROM (300) TO (400)", "root_3"),
        ("ALTER TABLE root DETACH PARTITION root_1", "root_1"),
        ("DROP TABLE root_2", "root_2"),
        ("TRUNCATE root_3; INSERT INTO root VALUES (7, 350, 'after')", "root_3"),
    ):  # fmt: skip
        begun = time.monotonic()
        before = times_read_again(mirror)
        mirror.sql(statement)
        mirror.sql("UPDATE root SET v = 'on' WHERE id = 7")
        mirror.wait(lambda: times_read_again(mirror) == before + 1, f"read again: {statement}")
        wait_root(mirror)
        assert time.monotonic() - begun < 10
        assert f'partition="\\"public\\".\\"{at_partition}\\""' in mirror.log(), mirror.tail()
        assert paused(mirror) == {}
    settle(mirror)
    assert times_read_again(mirror) == 4


@pytest.mark.case(42)
def test_daily_routine_reads_nothing_again(mirror):
    """New partitions that are empty, TRUNCATE of the root, changes of columns, ANALYZE and VACUUM."""
    mirror.sql(ROOT + "CREATE TABLE keys (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a);")
    mirror.start("root", "keys", source=FAST)
    settle(mirror)
    mirror.sql("CREATE TABLE root_3 PARTITION OF root FOR VALUES FROM (300) TO (400)")
    mirror.sql("CREATE TABLE keys_1 PARTITION OF keys FOR VALUES IN (1); INSERT INTO keys VALUES (1, 1)")
    mirror.sql("CREATE TABLE root_4 PARTITION OF root FOR VALUES FROM (400) TO (500) PARTITION BY RANGE (id);"
               "CREATE TABLE root_4_1 PARTITION OF root_4 DEFAULT")  # fmt: skip
    mirror.sql("CREATE TABLE root_5 (LIKE root INCLUDING ALL);"
               "ALTER TABLE root ATTACH PARTITION root_5 FOR VALUES FROM (500) TO (600)")  # fmt: skip
    with mirror.session:
        mirror.sql("CREATE TABLE root_6 PARTITION OF root FOR VALUES FROM (600) TO (700)")
        mirror.sql("INSERT INTO root SELECT g, 600, 'v' FROM generate_series(1, 50) g")
    settle(mirror)
    mirror.sql("INSERT INTO root SELECT g, 300 + g % 300, 'v' FROM generate_series(2000, 3000) g")
    mirror.sql("ANALYZE root; ALTER TABLE root ADD w int DEFAULT 5; ALTER TABLE root_3 RENAME TO root_three")
    mirror.sql("ALTER TABLE root ALTER v SET STATISTICS 200")
    mirror.session.sql("VACUUM root")
    settle(mirror)
    mirror.check(only=False)
    mirror.sql("TRUNCATE root; INSERT INTO root VALUES (1, 150, 'new'), (2, 450, 'new')")
    settle(mirror)
    mirror.check(only=False)
    assert times_read_again(mirror) == 0 and times_read_again(mirror, "public.keys") == 0, mirror.tail()
    # A restart compares with what was noted.
    mirror.kill()
    mirror.sql("CREATE TABLE root_8 PARTITION OF root FOR VALUES FROM (800) TO (900); INSERT INTO root VALUES (1, 800)")
    mirror.resume()
    settle(mirror)
    mirror.check(only=False)
    assert times_read_again(mirror) == 0, mirror.tail()


@pytest.mark.case(42)
@pytest.mark.parametrize("with_kill", [False, True], ids=["stopped", "killed"])
def test_partitions_that_change_while_it_is_down(mirror, with_kill):
    mirror.sql(ROOT + BIG.format("root"))
    mirror.start("root", source=FAST)
    mirror.check(only=False)
    settle(mirror)
    if with_kill:
        mirror.kill()
    else:
        mirror.stop()
    with mirror.session:  # made and attached by one transaction
        mirror.sql("CREATE TABLE root_3 (LIKE root INCLUDING STORAGE)")
        mirror.sql("INSERT INTO root_3 SELECT g, 300, repeat('x', 9000) FROM generate_series(1, 50) g")
        mirror.sql("ALTER TABLE root ATTACH PARTITION root_3 FOR VALUES FROM (300) TO (400)")
    # The large value does not come with the change, and nothing downstream has it.
    mirror.sql("ALTER TABLE root ADD n int; UPDATE root SET n = 5 WHERE id = 3")
    mirror.sql("DROP TABLE root_1; TRUNCATE root_2")
    mirror.resume(is_read=False)
    wait_equal_root(mirror)


def wait_equal_root(mirror, timeout=30):
    mirror.wait(lambda: times_read_again(mirror), "it is read again", timeout)
    mirror.wait(lambda: mirror.status()["source"].get("snapshot") == "done", "it is read", timeout)
    wait_root(mirror, timeout)


@pytest.mark.case(42)
def test_rows_change_as_soon_as_their_partition_is_attached(mirror):
    """Long before the catalog is compared; with a large value that the change leaves out."""
    mirror.sql(ROOT + BIG.format("root"))
    mirror.start("root", source={"heartbeat_interval": "10s"})
    mirror.check(only=False)
    for number in (3, 4):
        mirror.sql(
            f"CREATE TABLE root_{number} (LIKE root INCLUDING STORAGE);"
            f"INSERT INTO root_{number} SELECT g, {number}00, repeat('x', 9000) FROM generate_series(1, 50) g;"
            f"ALTER TABLE root ATTACH PARTITION root_{number} FOR VALUES FROM ({number}00) TO ({number + 1}00)"
        )
        mirror.sql(f"UPDATE root SET id = 1000 WHERE id = 3 AND day = {number}00")
        mirror.wait(lambda: times_read_again(mirror) == number - 2, "it is read again", 20)
        wait_root(mirror)
    assert paused(mirror) == {}


@pytest.mark.case(42)
def test_a_partition_that_was_away_for_a_moment(mirror):
    """Detached, changed and attached again, between two comparisons; and the same within one transaction."""
    mirror.sql(ROOT)
    mirror.start("root", source=FAST)
    settle(mirror)
    mirror.sql("ALTER TABLE root DETACH PARTITION root_1; UPDATE root_1 SET v = 'away' WHERE id < 50;"
               "ALTER TABLE root ATTACH PARTITION root_1 FOR VALUES FROM (100) TO (200)")  # fmt: skip
    wait_equal_root(mirror)
    with mirror.session:
        mirror.sql("CREATE TABLE sub (LIKE root) PARTITION BY RANGE (id)")
        mirror.sql("CREATE TABLE sub_1 PARTITION OF sub DEFAULT; INSERT INTO sub VALUES (1, 310, 'below')")
        mirror.sql("ALTER TABLE root ATTACH PARTITION sub FOR VALUES FROM (300) TO (400)")
    wait_root(mirror)


@pytest.mark.case(42)
def test_kills_around_partitions_that_come_and_go(mirror):
    """Whatever was noted when it died, the root is read again in the end; others write meanwhile."""
    mirror.sql(ROOT)
    mirror.start("root", source=FAST | {"snapshot": {"chunk_rows": 100}})
    session, ends = mirror.new_session(), threading.Event()

    def write():
        n = 5000
        while not ends.is_set():
            session.sql(f"INSERT INTO root VALUES ({n}, 100 + {n} % 100, 'live')")
            session.sql(f"UPDATE root SET v = 'changed' WHERE id = {n % 1000}")
            n += 1

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    for i, pause in enumerate((0.05, 0.3, 0.4, 0.6)):
        mirror.sql(
            f"CREATE TABLE more_{i} (LIKE root);"
            f"INSERT INTO more_{i} SELECT g, {1000 + i}, 'came' FROM generate_series(1, 2000) g;"
            f"ALTER TABLE root ATTACH PARTITION more_{i} FOR VALUES FROM ({1000 + i}) TO ({1001 + i})"
        )
        if i:
            mirror.sql(f"TRUNCATE more_{i - 1}; DELETE FROM root WHERE day < 0")
        time.sleep(pause)
        mirror.kill()
        mirror.resume(is_read=False)
    ends.set()
    writer.join(10)
    wait_equal_root(mirror, 60)


@pytest.mark.case(42)
def test_rewrites_of_a_root_are_followed(mirror):
    mirror.sql(ROOT + "ALTER TABLE root ADD n int; UPDATE root SET n = id;")
    mirror.start("root", source=FAST)
    settle(mirror)
    mirror.sql("ALTER TABLE root ALTER n TYPE int USING n * 2")
    wait_equal_root(mirror)
    mirror.sql("ALTER TABLE root ADD r double precision DEFAULT random()")
    wait_root(mirror)


@pytest.mark.case(42)
def test_an_append_only_root_is_not_read_again(mirror):
    mirror.sql("CREATE TABLE root (id int, v text) PARTITION BY RANGE (id);"
               "CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (0) TO (100)")  # fmt: skip
    mirror.start("root", source=FAST)
    settle(mirror)
    mirror.sql("CREATE TABLE root_2 (LIKE root); INSERT INTO root_2 VALUES (100, 'came');"
               "ALTER TABLE root ATTACH PARTITION root_2 FOR VALUES FROM (100) TO (200)")  # fmt: skip
    mirror.wait(lambda: "was attached with rows" in mirror.log(), "it is said")
    mirror.sql("INSERT INTO root VALUES (1, 'on'), (101, 'on')")
    settle(mirror)
    assert times_read_again(mirror) == 0 and paused(mirror) == {}
    assert sorted(mirror.rows("root", "id")) == [(1,), (101,)]
