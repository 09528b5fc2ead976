# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL database, a pipeline that mirrors tables of it into ClickHouse, and the comparison.

    @pytest.mark.case(28)
    def test_key_change(mirror):
        mirror.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
        mirror.start("t")
        mirror.sql("INSERT INTO t VALUES (1, 'a'); UPDATE t SET id = 2")
        mirror.check()

check() waits until all that is committed by then is delivered, and compares every table row by row, each
value as text that both servers render. `outputs()` is every output in its order, out of a second sink.
"""

import json
import re
import signal
import subprocess
import time
import urllib.parse
from collections import Counter

import psycopg2
from servers import Millrace, ServerError, wait_for
from servers.process import free_port

from engagement import PROGRAM

# How values of a type are rendered: in PostgreSQL, in ClickHouse, and what makes both texts equal.
AS_TEXT = ("{}::text", "toString({})", str)
# ClickHouse has no NULL array; [] stands for it.
AS_JSON = ("coalesce(to_json({})::text, '[]')", "toJSONString({})", json.loads)
AS_FLOAT = ("{}::text", "toString({})", lambda text: repr(float(text)))
# A Decimal shows no zeros at its end.
AS_NUMERIC = ("{}::text", "toString({})", lambda text: re.sub(r"(\.\d*?)0+$", r"\1", text).rstrip("."))
# The cast to text would take off the blanks at its end.
AS_PADDED = ("CASE WHEN {0} IS NOT NULL THEN concat({0}) END", "toString({})", str)
RENDER = {
    "bpchar": AS_PADDED,
    "numeric": AS_NUMERIC,
    "bytea": ("encode({}, 'hex')", "lower(hex({}))", str),
    "float4": AS_FLOAT,
    "float8": AS_FLOAT,
    "timestamp": ("to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')", "toString({})", str),
    "timestamptz": ("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", "toString({})", str),
}

COLUMNS_SQL = """
WITH RECURSIVE base AS (
  SELECT oid, oid AS base, typtype, typname, typcategory, typbasetype FROM pg_type
  UNION ALL
  SELECT b.oid, t.oid, t.typtype, t.typname, t.typcategory, t.typbasetype
  FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd')
SELECT a.attname, b.typname, b.typcategory = 'A' AND b.typname LIKE '\\_%%'
FROM pg_attribute a JOIN base b ON b.oid = a.atttypid AND b.typtype <> 'd'
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum"""


def install_ddl_capture(mirror):
    """The event triggers of source.capture_ddl, as a DBA makes them for a role that is no superuser."""
    script = subprocess.run([PROGRAM, "docs", "capture-ddl"], check=True, capture_output=True, text=True).stdout
    mirror.admin_sql(script)
    mirror.admin_sql("GRANT USAGE ON SCHEMA millrace TO app; GRANT SELECT ON millrace.ddl_key TO app")


# A change of this table, which every pipeline reads, marks how far the others have to be delivered.
MARK = "public.harness_mark"


def identifier(name):
    """A name as SQL of PostgreSQL has to spell it."""
    return '"' + name.replace('"', '""') + '"'


def backticks(name):
    """A name as SQL of ClickHouse has to spell it."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


ABSENT = object()


def merge(base, extra):
    """`extra` laid over `base`, mappings into mappings; ABSENT takes out."""
    result = dict(base)
    for key, value in extra.items():
        if value is ABSENT:
            result.pop(key, None)
            continue
        is_mapping = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if is_mapping else value
    return result


class Session:
    """A connection to the source as role app; each call of sql() commits by itself unless in a block:

    with session:          # one transaction, rolled back when the block raises
        session.sql(...)
    """

    def __init__(self, dsn):
        self.connection = psycopg2.connect(dsn)
        self.connection.autocommit = True
        self.sql("SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'")

    def sql(self, text, *parameters):
        """Runs SQL, `%s` stands for parameters if there are any, and returns the last one's rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(text, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def __enter__(self):
        self.sql("BEGIN")
        return self

    def __exit__(self, error, *_):
        self.sql("COMMIT" if error is None else "ROLLBACK")

    def close(self):
        self.connection.close()


class Mirror:
    """One database, one pipeline of mirrors, and their comparison."""

    def __init__(self, directory, postgres, database, clickhouse, clickhouse_database):
        directory.mkdir(parents=True, exist_ok=True)
        self.postgres, self.database = postgres, database
        self.clickhouse, self.clickhouse_database = clickhouse, clickhouse_database
        self.tables = {}  # stream to table, as SQL spells it
        self.sessions = []
        self.session = self.new_session()
        self.make_mark()
        self.config = {}
        self._log_read = 0  # bytes of the process's log that are in the two lists
        self._log_lines, self._output_lines = [], []
        self._log_begin = 0  # of the run that goes on, in _log_lines
        self.process = Millrace(directory / "process", PROGRAM, directory / "millrace.yaml",
                                free_port(), die_with_parent=True)  # fmt: skip

    # The source.

    def make_mark(self):
        self.sql(
            f"CREATE TABLE IF NOT EXISTS {MARK} (id int PRIMARY KEY, n int);"
            f"INSERT INTO {MARK} VALUES (1, 0) ON CONFLICT DO NOTHING"
        )

    @property
    def version(self):
        return self.postgres.version

    def new_session(self, user="app"):
        self.sessions.append(Session(self.postgres.dsn(self.database, user)))
        return self.sessions[-1]

    def sql(self, text, *parameters):
        return self.session.sql(text, *parameters)

    def admin_sql(self, text):
        """As superuser; rows as text, columns split by '|'."""
        return self.postgres.sql(text, self.database)

    @property
    def slot(self):
        return f"millrace_{self.name}"

    @property
    def name(self):
        return self.database

    # The pipeline.

    def configure(self, *tables, **sections):
        """Writes the file: mirrors of `tables`, or of a mapping of stream to table.

        `sections` are laid over what stands here, such as source={"manage_publication": False}. The table
        MARK is read too, so that a DBA's publication has to hold it.
        """
        if len(tables) == 1 and isinstance(tables[0], dict):
            self.tables = dict(tables[0])
        elif tables:
            self.tables = {re.sub(r"\W+", "_", table).lower(): table for table in tables}
        secret = self.clickhouse.users.get("default", "")
        address = urllib.parse.urlparse(self.clickhouse.url)
        base = {
            "pipeline": self.name,
            "data_dir": "./data",
            "source": {
                "type": "postgres",
                "url": self.postgres.dsn(self.database),
                "tables": list(dict.fromkeys(self.tables.values())),
                "heartbeat_interval": "1s",
            },
            "streams": {
                stream: {"from": table} | ({} if self.has_key(table) else {"append_only": True})
                for stream, table in [*self.tables.items(), ("harness_mark", MARK)]
            },
            "sinks": {
                "warehouse": {
                    "type": "clickhouse",
                    "url": f"http://default:{secret}@{address.netloc}",
                    "database": self.clickhouse_database,
                    "batch": {"max_wait": "5ms"},
                    "tables": [{"stream": stream} for stream in [*self.tables, "harness_mark"]],
                },
                "lines": {"type": "stdout", "streams": [*self.tables, "harness_mark"]},
            },
            "admin": {"listen": f"127.0.0.1:{self.process.port}"},
        }
        self.config = merge(base, sections)
        self.config["source"]["tables"].append(MARK)
        with open(self.process.config, "w", encoding="utf-8") as file:
            json.dump(self.config, file, indent=1, ensure_ascii=False)

    def start(self, *tables, **sections):
        """Writes the file and returns when the pipeline streams and has read its tables."""
        self.configure(*tables, **sections)
        self.resume()

    def resume(self, is_read=True):
        """Starts it again with the same file; with `is_read` it waits for the tables too."""
        self.process.launch()
        self.wait(lambda: "Streaming" in self.log_since_start(), "the stream begins")
        if is_read:
            self.wait_read()

    def wait_read(self):
        """Until all tables have been read beside the stream."""
        if "Tables are read beside the stream" in self.log_since_start():
            # A line of the log is lost now and then where large rows go to the same file.
            self.wait(lambda: "All tables are complete" in self.log_since_start() or self.status().get("ready"),
                      "the tables are read")  # fmt: skip

    def _read_log(self):
        try:
            with open(self.process.log_path, "rb") as file:
                file.seek(self._log_read)
                text = file.read()
        except FileNotFoundError:
            return
        text = text[: text.rfind(b"\n") + 1]
        self._log_read += len(text)
        for line in text.decode(errors="replace").split("\n")[:-1]:
            is_output = line.startswith('{"_stream":')
            (self._output_lines if is_output else self._log_lines).append(line)

    def log(self):
        self._read_log()
        return "\n".join(self._log_lines)

    def log_since_start(self):
        self._read_log()
        return "\n".join(self._log_lines[self._log_begin :])

    def _end_of_run(self):
        """The process has ended; a line in which it was killed is none."""
        self._read_log()
        if self.process.log_path.exists():
            self._log_read = self.process.log_path.stat().st_size
        self._log_begin = len(self._log_lines)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self._end_of_run()

    def stop(self, may_be_starting=False):
        """SIGTERM, and exit 0; right after the exec the signal itself ends the process."""
        status = self.process.stop()
        self._end_of_run()
        assert status == 0 or (may_be_starting and status == -signal.SIGTERM), f"exit status {status}: {self.tail()}"

    def fails(self, *tables, saying, **sections):
        """The pipeline of this file ends with exit 1 and a sentence that matches `saying`."""
        self.configure(*tables, **sections)
        self.process.launch()
        self.wait_failure(saying)

    def wait_failure(self, saying, timeout=30):
        status = self.process.wait_exit(timeout)
        log = self.log_since_start()
        assert status == 1, f"exit status {status}: {self.tail()}"
        assert re.search(saying, log), f"no sentence that matches {saying!r}: {self.tail()}"
        self._end_of_run()

    def check_command(self):
        """`millrace check`: its exit status and what it prints."""
        result = subprocess.run([PROGRAM, "check", "-c", self.process.config], capture_output=True,
                                text=True, timeout=60, check=False)  # fmt: skip
        return result.returncode, result.stdout + result.stderr

    def status(self):
        try:
            return json.loads(self.process.get("/api/v1/status")[1])
        except OSError:
            return {"source": {}, "sinks": []}

    def tail(self, lines=15):
        return "\n".join(self.log().splitlines()[-lines:])

    def wait(self, condition, what, timeout=30):
        """Polls until `condition()` is true; ends at once when the pipeline has ended."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if not self.process.is_running():
                raise AssertionError(f"{what}: the pipeline ended: {self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout} s: {self.status()}\n{self.tail()}")
            time.sleep(0.01)
        return value

    def wait_delivered(self, timeout=60):
        """Until all that is committed by now is durable in every sink."""
        # The position moves on at once with a change, and once a second without.
        (target,) = self.sql(
            f"UPDATE {MARK} SET n = n + 1; SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        )[0]

        def is_delivered():
            status = self.status()
            high, low = status["source"].get("confirmed_lsn", "0/0").split("/")
            return (
                (int(high, 16) << 32) + int(low, 16) >= int(target)
                and status["sinks"]
                and all(sink["lag_rows"] == 0 for sink in status["sinks"])
            )

        self.wait(is_delivered, "all is delivered", timeout)

    # The comparison.

    def has_key(self, table):
        query = "SELECT 1 FROM pg_index WHERE indrelid = %s::regclass AND indisprimary"
        try:
            return bool(self.sql(query, table))
        except psycopg2.Error:
            return True

    def columns(self, table):
        """(name, type, is_array) of a table's columns that are published by default."""
        return self.sql(COLUMNS_SQL, table)

    def check(self, *streams, columns=None, where="true", only=True):
        """All is delivered, and the mirrors, or those of `streams`, equal their tables.

        `columns` and `where` say what is published of them, `only=False` that partitions or children
        count too.
        """
        self.wait_delivered()
        for stream in streams or self.tables:
            self.compare(stream, self.tables[stream], columns, where, only)

    def compare(self, stream, table, columns=None, where="true", only=True):
        chosen = [column for column in self.columns(table) if columns is None or column[0] in columns]
        render = [
            (name, *(AS_JSON if is_array else RENDER.get(type_name, AS_TEXT)))
            for name, type_name, is_array in chosen
        ]
        texts = ", ".join(source.format(identifier(name)) for name, source, _, _ in render)
        source = "ONLY " + table if only else table
        expected = self.sql(f"SELECT {texts} FROM {source} WHERE {where}")
        names = ", ".join(target.format(backticks(name)) for name, _, target, _ in render)
        found = self.rows(stream, names)
        make = [convert for _, _, _, convert in render]
        expected, found = canonical(expected, make), canonical(found, make)
        if expected != found:
            missing, extra = difference(expected, found), difference(found, expected)
            raise AssertionError(
                f"mirror of {table}: {len(found)} rows for {len(expected)};"
                f" {len(missing)} missing: {short(missing)}; {len(extra)} extra: {short(extra)}"
            )

    def rows(self, stream, expressions="*"):
        """The rows of a mirror as they are in the end: without the deleted ones."""
        table = f"{backticks(self.clickhouse_database)}.{backticks(stream)}"
        engine = self.clickhouse.query(
            "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            param_database=self.clickhouse_database, param_name=stream,
        ).strip()  # fmt: skip
        final = "FINAL" if engine.startswith("Replacing") else ""
        text = self.clickhouse.query(
            f"SELECT {expressions} FROM {table} {final} FORMAT JSONCompactEachRow",
            session_timezone="UTC",             output_format_json_quote_64bit_integers=0,
        )  # fmt: skip
        return [tuple(json.loads(line)) for line in text.splitlines()]

    def outputs(self, stream=None):
        """Every output so far in its order, as printed: {column: value, _version, _commit_ts}."""
        self._read_log()
        rows = [json.loads(line) for line in self._output_lines]
        return [row for row in rows if row.pop("_stream") == stream or stream is None]

    def close(self):
        self.process.kill()
        for session in self.sessions:
            session.close()


def canonical(rows, make):
    """The rows as a sorted list of texts, which holds equal rows as often as they stand there."""
    return sorted(
        json.dumps([None if v is None else f(v) for f, v in zip(make, row)], ensure_ascii=False)
        for row in rows
    )


def difference(left, right):
    """What stands in the sorted list `left` more often than in `right`."""
    return list((Counter(left) - Counter(right)).elements())


def short(rows, count=3, width=40):
    """The first of the rows, large values cut."""
    cut = [[str(value)[:width] for value in json.loads(row)] for row in rows[:count]]
    return json.dumps(cut, ensure_ascii=False)


__all__ = ["MARK", "Mirror", "ServerError", "Session", "backticks", "identifier", "wait_for"]
