# SPDX-License-Identifier: Apache-2.0
"""Values and rows at the limits of what is taken; beyond, one sentence with table and column, never the value."""

import pytest
from harness import Mirror

# A text in an encoding that is not UTF-8.
LATIN_1 = rb"E'secret \xe9t\xe9'"


@pytest.fixture
def ascii_mirror(tmp_path, postgres, unique_name, clickhouse, clickhouse_database):
    """As `mirror`, of a database that checks no encoding."""
    postgres.sql(f"CREATE DATABASE {unique_name} OWNER app ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    mirror = Mirror(tmp_path, postgres, unique_name, clickhouse, clickhouse_database)
    yield mirror
    mirror.close()
    postgres.drop_database(unique_name)


def fails_in_stream_and_snapshot(mirror, saying):
    """The change just made ends the run, and so does a snapshot that reads it."""
    mirror.wait_failure(saying)
    mirror.fails("t", saying=saying, data_dir="./second", source={"slot": f"{mirror.slot}_2"})


@pytest.mark.case(50)
def test_text_of_a_database_that_checks_no_encoding(ascii_mirror):
    mirror = ascii_mirror
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, words text[])")
    insert = mirror.session.connection.cursor().execute
    insert(rb"INSERT INTO t VALUES (1, E'na\xc3\xafve', ARRAY[E'\xe4\xb8\xad'])")
    mirror.configure("t")
    status, said = mirror.check_command()
    assert status == 0 and "encoding SQL_ASCII" in said, said

    mirror.start("t")
    insert(rb"INSERT INTO t VALUES (2, E'\xf0\x9f\x98\x80', NULL)")
    mirror.wait_delivered()
    assert sorted(mirror.rows("t", "id, v, words")) == [
        (1, "na\u00efve", ["\u4e2d"]),
        (2, "\U0001f600", []),
    ]
    insert(b"INSERT INTO t VALUES (3, " + LATIN_1 + b", NULL)")
    fails_in_stream_and_snapshot(mirror, "table public.t, column 'v': the text is not valid UTF-8")
    assert "secret" not in mirror.log()


@pytest.mark.case(50)
def test_a_multi_dimensional_value_in_a_column_of_one_dimension(mirror):
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v int[])")
    mirror.start("t")
    mirror.sql("INSERT INTO t VALUES (1, '{{1,2},{3,4}}')")
    fails_in_stream_and_snapshot(mirror, "table public.t, column 'v': multi-dimensional array")


# Nothing of it differs by version: one is enough.
@pytest.mark.since(18)
@pytest.mark.case(53)
def test_large_rows(mirror):
    """Rows of 1 to 10 MiB, read by snapshot and by stream; one beyond 256 MiB ends the run."""
    mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text, b bytea, words text[])")
    # Text of any character, bytes of twice their size as text, an array that needs its escapes.
    insert = """
        INSERT INTO t SELECT {first} + n, repeat(E'na\\u00efve \\t\\\\ \\n"', (1 << n) * 65000),
          decode(repeat('00ff5c', (1 << n) * 87000), 'hex'),
          ARRAY[NULL, repeat(E'a"b\\\\', (1 << n) * 13000)] FROM generate_series(0, 3) n"""
    mirror.sql(insert.format(first=0))
    # What the stream printed would be read again and again.
    mirror.start("t", sinks={"lines": {"type": "blackhole"}})
    mirror.sql(insert.format(first=100))
    mirror.wait_delivered(90)
    expected = mirror.sql("SELECT id, md5(v), md5(b), md5(words[2]), length(v) FROM t")
    digests = "lower(hex(MD5(assumeNotNull(v)))), lower(hex(MD5(assumeNotNull(b))))"
    found = mirror.rows("t", f"id, {digests}, lower(hex(MD5(assumeNotNull(words[2])))), lengthUTF8(v)")
    assert sorted(found) == sorted(expected)

    mirror.sql("INSERT INTO t (id, v) VALUES (-1, repeat('x', 257 << 20))")
    saying = "table public.t, column 'v': the row is larger than 256 MiB"
    mirror.wait_failure(saying, timeout=60)
