# SPDX-License-Identifier: Apache-2.0
"""Values that no column of Millrace can hold: one sentence with table and column, never the value."""

import json
import subprocess
import urllib.parse

import psycopg2
import pytest
from servers import Millrace, wait_for
from servers.process import free_port

from engagement import PROGRAM

CONFIG = """\
pipeline: {name}
data_dir: ./data
source: {{type: postgres, url: "{url}", tables: [public.t], heartbeat_interval: 1s}}
streams:
  t: {{from: public.t}}
sinks:
  out: {{type: clickhouse, url: "{clickhouse}", database: {database}, tables: [{{stream: t}}]}}
admin: {{listen: "127.0.0.1:{port}"}}
"""


class Mirror:
    """A pipeline that mirrors table t of a database."""

    def __init__(self, directory, postgres, database, clickhouse, clickhouse_database, name=None):
        directory.mkdir(exist_ok=True)
        self.postgres, self.database = postgres, database
        self.clickhouse, self.clickhouse_database = clickhouse, clickhouse_database
        self.config = directory / "millrace.yaml"
        self.process = Millrace(directory / "process", PROGRAM, self.config, free_port(),
                                die_with_parent=True)  # fmt: skip
        address = urllib.parse.urlparse(clickhouse.url)
        secret = clickhouse.users.get("default", "")
        self.config.write_text(
            CONFIG.format(
                name=name or database[-30:].lstrip("_0123456789"), url=postgres.dsn(database),
                clickhouse=f"http://default:{secret}@{address.netloc}",
                database=clickhouse_database, port=self.process.port,
            ),
            encoding="utf-8",
        )  # fmt: skip

    def rows(self):
        text = self.clickhouse.query(
            f"SELECT id, v FROM {self.clickhouse_database}.t FINAL ORDER BY id FORMAT JSONCompactEachRow"
        )
        return [tuple(json.loads(line)) for line in text.splitlines()]

    def sentence(self):
        """What a run that ends by itself, with exit 1, says last."""
        result = subprocess.run([PROGRAM, "run", "-c", self.config], capture_output=True, text=True,
                                timeout=30, check=False)  # fmt: skip
        assert result.returncode == 1, result.stderr
        return result.stderr.splitlines()[-1]

    def last_sentence(self):
        """What the started pipeline said last, once it has ended by itself."""
        assert self.process.wait_exit(20)
        return self.process.log_path.read_text(encoding="utf-8").splitlines()[-1]


@pytest.fixture
def make_mirror(tmp_path, postgres, clickhouse, clickhouse_database):
    made = []

    def make(database, name=None):
        folder = tmp_path / f"mirror{len(made)}"
        made.append(Mirror(folder, postgres, database, clickhouse, clickhouse_database, name))
        return made[-1]

    yield make
    for mirror in made:
        mirror.process.kill()


@pytest.fixture
def ascii_database(postgres, unique_name):
    """A database that checks no encoding."""
    postgres.sql(f"CREATE DATABASE {unique_name} OWNER app ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    yield unique_name
    postgres.drop_database(unique_name)


@pytest.mark.case(50)
def test_text_of_a_database_that_checks_no_encoding(make_mirror, postgres, ascii_database):
    mirror = make_mirror(ascii_database)
    connection = psycopg2.connect(postgres.dsn(ascii_database))
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    cursor.execute(rb"INSERT INTO t VALUES (1, E'na\xc3\xafve')")

    checked = subprocess.run([PROGRAM, "check", "-c", mirror.config], capture_output=True, text=True,
                             timeout=30, check=False)  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "encoding SQL_ASCII" in checked.stdout

    mirror.process.start()
    cursor.execute(rb"INSERT INTO t VALUES (2, E'\xf0\x9f\x98\x80')")
    wait_for(lambda: len(mirror.rows()) == 2, "both rows are in ClickHouse")
    assert mirror.rows() == [(1, "na\u00efve"), (2, "\U0001f600")]

    cursor.execute(rb"INSERT INTO t VALUES (3, E'secret \xe9t\xe9')")
    said = mirror.last_sentence()
    assert "table public.t, column 'v': the text is not valid UTF-8" in said
    assert "secret" not in said

    # The same row out of a snapshot.
    said = make_mirror(ascii_database, name="second").sentence()
    assert "table public.t, column 'v': the text is not valid UTF-8" in said
    assert "secret" not in said
    connection.close()


MULTI_DIMENSIONAL = ("int[]", "'{{1,2},{3,4}}'", "multi-dimensional array")


@pytest.mark.case(50)
@pytest.mark.parametrize("sql_type, value, words", [MULTI_DIMENSIONAL])
def test_a_value_that_its_column_cannot_hold(make_mirror, postgres, database, unique_name, sql_type,
                                             value, words):  # fmt: skip
    postgres.sql(f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type});", unique_name, "app")
    mirror = make_mirror(unique_name)
    mirror.process.start()
    postgres.sql(f"INSERT INTO t VALUES (1, {value})", unique_name, "app")
    said = mirror.last_sentence()
    assert "table public.t, column 'v': " in said and words in said
    said = make_mirror(unique_name, name="second").sentence()
    assert "table public.t, column 'v': " in said and words in said
