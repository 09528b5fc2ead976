# SPDX-License-Identifier: Apache-2.0
"""What a wrong file, a server that is not as it must be, and a wrong command lead to.

Everything that the program prints here is also searched for passwords, and for remedies that name a
command which this version does not have.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from servers import Millrace, Postgres, Redis, wait_for
from servers.process import free_port

from engagement import PROGRAM, ROOT

SECRET = "hunter2-secret"
COMMANDS = {"run", "lint", "check", "status", "snapshot", "dlq", "slot", "docs", "version"}
FINE, FAILED, USAGE = 0, 1, 2

CONFIG = """\
pipeline: {name}
data_dir: ./data
source:
  type: postgres
  url: {url}
  tables: [public.t]
  heartbeat_interval: 1s
streams:
  rows: {stream}
sinks:
  out: {sink}
admin: {{listen: "127.0.0.1:{port}"}}
"""
MIRROR = "{from: public.t}"
BLACKHOLE = "{type: blackhole, streams: [rows]}"


def check_text(text):
    assert SECRET not in text
    named = set(re.findall(r"`millrace ([a-z]+)", text))
    assert named <= COMMANDS, f"there is no such command: {named - COMMANDS}"


def run(*arguments, timeout=60, **environment):
    result = subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip
    check_text(result.stdout + result.stderr)
    return result


def fails(config, *words, command="run"):
    """It exits 1 with one sentence, which has all `words`; returns the sentence."""
    result = run(command, "-c", config)
    lines = [line for line in result.stderr.splitlines() if line.startswith("millrace: ")]
    assert (result.returncode, len(lines)) == (FAILED, 1), result.stderr
    assert result.stderr.splitlines()[-1] == lines[0]
    for word in words:
        assert word in lines[0], f"'{word}' is not in: {lines[0]}"
    return lines[0]


def with_password(url):
    return url.replace("app@", f"app:{SECRET}@")


class Place:
    """A folder with a configuration on a database with table public.t."""

    def __init__(self, directory, server, database):
        self.directory = directory
        self.server, self.database = server, database
        self.name = database[-30:].lstrip("_0123456789")
        self.data = directory / "data"
        self.process = Millrace(directory / "process", PROGRAM, directory / "millrace.yaml",
                                die_with_parent=True)  # fmt: skip
        self.values = {
            "name": self.name, "url": with_password(server.dsn(database)), "stream": MIRROR,
            "sink": BLACKHOLE, "port": self.process.port,
        }  # fmt: skip
        server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)", database, "app")

    def write(self, file="millrace.yaml", edit=lambda text: text, **values):
        path = self.directory / file
        path.write_text(edit(CONFIG.format(**{**self.values, **values})), encoding="utf-8")
        return str(path)

    def start(self, **values):
        self.write(**values)
        return self.process.start()

    def log(self):
        return self.process.log_path.read_text(encoding="utf-8")

    def slots(self):
        return self.server.sql(
            f"SELECT slot_name FROM pg_replication_slots WHERE database = '{self.database}'"
        )

    def is_untouched(self):
        publications = self.server.sql("SELECT pubname FROM pg_publication", self.database)
        return not self.data.exists() and self.slots() == [] and publications == []


@pytest.fixture
def place(tmp_path, postgres, unique_name, database):
    place = Place(tmp_path, postgres, unique_name)
    yield place
    place.process.kill()
    if place.process.log_path.exists():
        check_text(place.log())


@pytest.fixture(scope="module")
def own_postgres(servers_dir):
    """A server that the tests stop and set up in other ways."""
    with Postgres(servers_dir / "errors_postgres", die_with_parent=True) as server:
        yield server


@pytest.fixture
def other_place(tmp_path, own_postgres, unique_name):
    """As `place`, on own_postgres."""
    own_postgres.create_database(unique_name)
    (tmp_path / "other").mkdir()
    place = Place(tmp_path / "other", own_postgres, unique_name)
    yield place
    place.process.kill()
    if place.process.log_path.exists():
        check_text(place.log())
    own_postgres.start()
    own_postgres.drop_database(unique_name)


# --- The file and the command line ---------------------------------------------------------------

WRONG_FILES = {
    "unknown field": ("heartbeat_interval: 1s", "heartbeat_intervall: 1s", "7:3",
                      "heartbeat_intervall: unknown field, did you mean 'heartbeat_interval'?"),
    "no duration": ("interval: 1s", "interval: soon", "7:23", "source.heartbeat_interval:"),
    "no such type": ("type: postgres", "type: postgre", "4:9", "did you mean 'postgres'"),
    "no such sink type": ("type: blackhole", "type: blackhol", "11:15", "did you mean 'blackhole'"),
    "no such stream": ("streams: [rows]", "streams: [row]", "11:36",
                       "sinks.out.streams[0]: there is no stream 'row', did you mean 'rows'?"),
    "bad name": ("pipeline: ", "pipeline: No-", "1:11", "pipeline"),
    "wrong SQL": (MIRROR, "{from: public.t, key: [id], sql: SELEC id FROM t}", "9:42", "SELEC"),
    "SQL that is no query": (MIRROR, "{from: public.t, key: [id], sql: DROP TABLE t}", "9:42",
                             "SELECT"),
    "no YAML": ("streams:\n", "streams: [\n", "", "error:"),
    "no sinks": ("sinks:", "sinkz:", "", "did you mean 'sinks'"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["run", "check", "status"])
@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_file_is_refused_as_lint_does(place, wrong, command):
    old, new, position, words = WRONG_FILES[wrong]
    config = place.write(edit=lambda text: text.replace(old, new, 1))
    lint = run("lint", config)
    assert (lint.returncode, lint.stderr) == (FAILED, "")
    errors = [line for line in lint.stdout.splitlines() if ": error: " in line]
    place_of = f"{config}:{position}"
    assert any(line.startswith(place_of) and words in line for line in errors), lint.stdout
    form = re.compile(rf"{re.escape(config)}:\d+:\d+: error: .* \[[a-z-]+\]$")
    assert all(form.match(line) for line in errors)
    result = run(command, "-c", config)
    assert result.returncode == USAGE
    assert [line for line in result.stderr.splitlines() if ": error: " in line] == errors
    assert place.is_untouched()


def test_undefined_variable_is_refused(place):
    """lint, which may run elsewhere, only warns of it."""
    config = place.write(url="${env:MILLRACE_TEST_UNSET}")
    words = f"{config}:5:8: {{}}: source.url: the environment variable 'MILLRACE_TEST_UNSET' is"
    lint = run("lint", config)
    assert lint.returncode == FINE and words.format("warning") in lint.stdout
    for command in ("run", "check", "status"):
        result = run(command, "-c", config)
        assert result.returncode == USAGE and words.format("error") in result.stderr
    assert place.is_untouched()


def test_lint_exit_statuses(place):
    config = place.write()
    result = run("lint", config)
    assert (result.returncode, result.stdout, result.stderr) == (FINE, "", "")
    assert place.is_untouched()
    missing = run("lint", str(place.directory / "missing.yaml"))
    assert missing.returncode == USAGE and "missing.yaml" in missing.stderr
    unused = place.write(stream=f"{MIRROR}\n  more: {MIRROR}")
    assert run("lint", unused).returncode == FINE
    assert run("lint", "--deny-warnings", unused).returncode == FAILED


@pytest.mark.parametrize("arguments", [
    [], ["fly"], ["run"], ["run", "-c"], ["lint"], ["status", "--jsn", "-c", "x"],
    ["docs", "nothing"], ["run", "-c", "missing.yaml"],
    ["check", "-c", "missing.yaml"], ["run", "-c", "."],
])  # fmt: skip
def test_wrong_command_line_exits_2(tmp_path, arguments):
    result = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path,
                            timeout=30, check=False)  # fmt: skip
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert result.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_version():
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\S*\n", run("version").stdout)
    assert run("--version").stdout == run("version").stdout
    assert run("--help").returncode == FINE


# --- status and check ----------------------------------------------------------------------------


def test_status_of_a_running_pipeline(place):
    place.start()
    text = run("status", "-c", place.process.config)
    assert text.returncode == FINE
    assert place.name in text.stdout and "out" in text.stdout
    result = run("status", "--json", "-c", place.process.config)
    assert result.returncode == FINE
    status = json.loads(result.stdout)
    assert status["pipeline"] == place.name and status["state"] == "streaming"
    assert status["source"].keys() >= {
        "slot", "confirmed_lsn", "received_lsn", "lag_bytes", "lag_seconds", "retained_wal_bytes",
        "snapshot",
    }  # fmt: skip
    assert status["source"]["slot"] == f"millrace_{place.name}"
    assert [stream["name"] for stream in status["streams"]] == ["rows"]
    assert status["streams"][0].keys() >= {"name", "rows", "dead_letters", "state_bytes"}
    assert [(sink["name"], sink["type"]) for sink in status["sinks"]] == [("out", "blackhole")]
    assert status["sinks"][0].keys() >= {"state", "lag_rows", "lag_seconds", "last_error"}
    answered = json.loads(place.process.get("/api/v1/status")[1])
    assert answered.keys() == status.keys() and answered["source"].keys() == status["source"].keys()


def test_status_of_a_pipeline_that_does_not_run(place):
    sentence = fails(place.write(), "is `millrace run` running?", command="status")
    assert f"127.0.0.1:{place.process.port}" in sentence


def test_check_finds_nothing(place):
    result = run("check", "-c", place.write())
    assert result.returncode == FINE
    lines = result.stdout.splitlines()
    assert lines and all(line.startswith(("ok ", "warning ")) for line in lines), result.stdout
    assert "sink 'out'" in result.stdout and "wal_level" in result.stdout
    assert place.is_untouched()


DEAD_SINKS = {
    "clickhouse": "{{type: clickhouse, url: 'http://u:{secret}@127.0.0.1:{port}', database: d,"
                  " tables: [{{stream: rows}}]}}",
    "redis": "{{type: redis, url: 'redis://:{secret}@127.0.0.1:{port}',"
             " writes: [{{stream: rows, hset: 'k:{{id}}'}}]}}",
    "kafka": "{{type: kafka, brokers: '127.0.0.1:{port}', topics: [{{stream: rows, topic: t}}]}}",
}  # fmt: skip


@pytest.mark.parametrize("sink", DEAD_SINKS)
def test_check_names_the_sink_that_is_down(place, sink):
    port = free_port()
    result = run("check", "-c", place.write(sink=DEAD_SINKS[sink].format(secret=SECRET, port=port)))
    assert result.returncode == FAILED
    (error,) = [line for line in result.stdout.splitlines() if line.startswith("error ")]
    assert "sink 'out'" in error and f"127.0.0.1:{port}" in error
    assert place.is_untouched()


# --- A source that is not as it must be ----------------------------------------------------------


def test_source_that_is_down_at_the_start_is_waited_for(other_place, own_postgres):
    place = other_place
    config = place.write()
    own_postgres.stop()
    checked = run("check", "-c", config)
    assert checked.returncode == FAILED
    address = f"127.0.0.1:{own_postgres.port}"
    assert re.search(f"^error +source: .*{address}", checked.stdout, re.MULTILINE)

    # In its place stands what hangs up at once, and notes when it was called.
    with socket.create_server(("127.0.0.1", own_postgres.port)) as listener:
        listener.settimeout(20)
        place.process.launch()
        calls = []
        while len(calls) < 6:
            listener.accept()[0].close()
            calls.append(time.monotonic())
    waits = [later - earlier for earlier, later in zip(calls, calls[1:])]
    assert waits[-1] > 2 * waits[0], f"the waits do not grow: {waits}"
    assert re.search(f"Source cannot be reached, will try again.*{address}", place.log())
    assert place.process.get("/healthz")[0] == 200
    status, reason = place.process.get("/readyz")
    assert status == 503
    assert "source cannot be reached" in reason and f"127.0.0.1:{own_postgres.port}" in reason
    text = run("status", "-c", config)
    assert text.returncode == FINE and f"127.0.0.1:{own_postgres.port}" in text.stdout

    own_postgres.start()
    place.process.wait_ready(30)
    assert place.process.stop() == 0


def test_sigterm_ends_a_start_without_source(other_place, own_postgres):
    own_postgres.stop()
    other_place.write()
    other_place.process.launch()
    wait_for(lambda: "will try again" in other_place.log())
    started = time.monotonic()
    assert other_place.process.stop(timeout=10) == 0
    assert time.monotonic() - started < 3


def test_wal_level_must_be_logical(other_place, own_postgres):
    own_postgres.stop()
    own_postgres.settings["wal_level"] = "replica"
    try:
        own_postgres.start()
        remedy = "ALTER SYSTEM SET wal_level = logical"
        fails(other_place.write(), "wal_level is replica", remedy, "restart")
        checked = run("check", "-c", other_place.write())
        assert checked.returncode == FAILED and remedy in checked.stdout
        assert other_place.slots() == []
    finally:
        own_postgres.stop()
        own_postgres.settings["wal_level"] = "logical"
        own_postgres.start()


@pytest.fixture
def plain_role(postgres, database, unique_name):
    role = f"r_{unique_name[-8:]}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    yield role
    postgres.sql(f"DROP OWNED BY {role}", unique_name)
    postgres.sql(f"DROP ROLE {role}")


def test_role_must_have_replication(place, plain_role):
    config = place.write(url=place.values["url"].replace("app:", f"{plain_role}:"))
    remedy = f'ALTER ROLE "{plain_role}" REPLICATION'
    fails(config, f"role '{plain_role}' may not replicate", remedy)
    checked = run("check", "-c", config)
    assert checked.returncode == FAILED
    for words in (remedy, "GRANT", "CREATE PUBLICATION"):
        assert words in checked.stdout
    assert place.slots() == []


def test_table_of_a_mutable_stream_needs_a_key(place):
    place.server.sql("DROP TABLE t; CREATE TABLE t (id int, v text)", place.database, "app")
    fails(place.write(), "stream 'rows'", "public.t has no primary key", "append_only: true")
    assert "has no primary key" in run("check", "-c", place.write()).stdout
    assert place.slots() == []
    place.start(stream="{from: public.t, append_only: true}")


def test_table_that_does_not_exist(place):
    config = place.write(edit=lambda text: text.replace("public.t", "public.tt"))
    fails(config, "'public.tt' matches no table", "correct the name")
    assert "public.tt" in run("check", "-c", config).stdout
    assert place.slots() == []


def test_database_that_does_not_exist(place):
    config = place.write(url=place.values["url"] + "x")
    assert f'"{place.database}x" does not exist' in fails(config)


# --- data_dir and slot ---------------------------------------------------------------------------


def test_data_dir_is_used_by_one_process(place):
    place.start()
    fails(place.write("second.yaml", port=free_port()), str(place.data), "another process")
    assert place.process.get("/readyz")[0] == 200
    fails(place.process.config, f"listen on 127.0.0.1:{place.process.port}", "admin.listen")
    assert place.process.get("/readyz")[0] == 200


def test_slot_without_our_state_is_not_taken(place):
    place.start()
    assert place.process.stop() == 0
    shutil.rmtree(place.data)
    sentence = fails(place.process.config, f"slot 'millrace_{place.name}' exists", "data_dir")
    assert len(place.slots()) == 1
    # What the sentence says, helps.
    place.server.sql(re.search(r"\((SELECT .*) on the server\)", sentence)[1], place.database)
    place.process.start()


def test_state_without_its_slot_ends_the_run(place):
    place.start()
    assert place.process.stop() == 0
    place.server.sql(f"SELECT pg_drop_replication_slot('millrace_{place.name}')")
    missing = f"slot 'millrace_{place.name}' does not exist"
    fails(place.process.config, missing, "gone", "empty data_dir")
    assert place.slots() == []


def test_data_dir_of_another_server(place, other_place):
    place.start()
    assert place.process.stop() == 0
    place.write(url=other_place.values["url"])
    fails(place.process.config, "system identifier", "the server that data_dir belongs to", "slot adopt")
    assert other_place.slots() == []


def test_slot_that_has_moved_past_our_state(place):
    place.start()
    assert place.process.stop() == 0
    place.server.sql("INSERT INTO t VALUES (1)", place.database, "app")
    place.server.sql(
        f"SELECT pg_replication_slot_advance('millrace_{place.name}', pg_current_wal_lsn())",
        place.database,
    )
    fails(place.process.config, "has moved past", "pg_drop_replication_slot")


# --- Secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["info", "trace"])
def test_passwords_are_never_shown(place, clickhouse, tmp_path, level):
    """Neither the right one of the source nor the wrong ones of the sinks."""
    arguments = ["--requirepass", "right"]
    with Redis(tmp_path / "redis", die_with_parent=True, arguments=arguments) as redis:
        sinks = {"clickhouse": clickhouse.port, "redis": redis.port}
        text = "\n".join(
            f"  {name}: {DEAD_SINKS[name].format(secret=SECRET, port=port)}"
            for name, port in sinks.items()
        )
        config = place.write(edit=lambda whole: whole.replace(f"  out: {BLACKHOLE}", text))
        checked = run("check", "-c", config)
        assert checked.returncode == FAILED
        for name in sinks:
            refused = re.compile(f"^error +sink '{name}': .*(password|auth)", re.M | re.I)
            assert refused.search(checked.stdout), checked.stdout
        place.process.arguments = ["--log-level", level]
        place.process.launch()
        wait_for(lambda: place.log().count("Sink needs an operator") >= 2)
        for path in ("/readyz", "/api/v1/status", "/metrics", "/"):
            check_text(place.process.get(path)[1])
        check_text(run("status", "-c", config).stdout)
        assert place.process.stop() == 0


def test_errors_of_the_environment_hide_its_values(place):
    config = place.write(url="${env:MILLRACE_TEST_URL}")
    bad = f"postgresql://app:{SECRET}@127.0.0.1:port/x"
    result = run("run", "-c", config, MILLRACE_TEST_URL=bad)
    assert result.returncode in (FAILED, USAGE)
    assert "URL" in result.stderr.splitlines()[-1]


def test_examples_are_clean():
    files = [str(path) for path in Path(ROOT / "examples").rglob("*.yaml")]
    files += [str(ROOT / "README.md"), str(ROOT / "README_EN.md")]
    result = run("lint", *files)
    assert result.returncode == FINE
    findings = [line for line in result.stdout.splitlines() if "[undefined-reference]" not in line]
    assert findings == []


def test_second_sigterm_ends_at_once(place):
    """While a sink that is down holds up the first."""
    place.write(sink=DEAD_SINKS["kafka"].format(secret="", port=free_port()))
    place.server.sql("INSERT INTO t SELECT i FROM generate_series(1, 100) i", place.database, "app")
    place.process.launch()
    wait_for(lambda: place.data.exists() and "Streaming" in place.log())
    started = time.monotonic()
    os.kill(place.process.pid, signal.SIGTERM)
    wait_for(lambda: "state=stopping" in place.log())
    os.kill(place.process.pid, signal.SIGTERM)
    assert place.process.wait_exit(5) == 0
    assert time.monotonic() - started < 5
