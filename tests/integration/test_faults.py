# SPDX-License-Identifier: Apache-2.0
"""Servers that stop, crash, hang or are not there yet, under load: nothing is lost or doubled.

The servers are this file's own: what is killed here is nobody else's.
"""

import os
import re
import signal
import threading
import time

import psycopg2
import pytest
from servers import ClickHouse, Kafka, Postgres, Redis, wait_for

from engagement import CONFIG, Pipeline, Source, check_sink, check_sinks

SECRET = "hunter2-secret"
SINKS = {"warehouse": "clickhouse", "live": "redis", "events": "kafka"}


@pytest.fixture(scope="module")
def servers(servers_dir):
    """By name; a test leaves all of them running, on the ports that they had."""
    directory = servers_dir / "faults"
    servers = {
        "kafka": Kafka(directory / "kafka", die_with_parent=True),
        # A client that does not answer is cut off soon.
        "postgres": Postgres(directory / "postgres", die_with_parent=True,
                             settings={"wal_sender_timeout": "3s"}),
        "redis": Redis(directory / "redis", die_with_parent=True),
        "clickhouse": ClickHouse(directory / "clickhouse", die_with_parent=True,
                                 users={"millrace": SECRET}),
    }  # fmt: skip
    for server in servers.values():
        server.launch()
    for server in servers.values():
        server.start()
    yield servers
    for server in servers.values():
        server.kill()


@pytest.fixture
def source(servers, unique_name):
    source = Source(servers["postgres"].create_database(unique_name), seed=20260202)
    for _ in range(10):
        source.insert_content()
    source.commit()
    for _ in range(50):
        source.insert_event()
    source.commit()
    yield source
    source.close()


@pytest.fixture
def pipeline(tmp_path, servers, source, unique_name):
    name = unique_name[-30:].lstrip("_0123456789")
    url = f"http://millrace:{SECRET}@127.0.0.1:{servers['clickhouse'].port}"
    pipeline = Pipeline(tmp_path, name, source.url, servers["clickhouse"], servers["redis"],
                        servers["kafka"], unique_name, f"{unique_name}:", f"{unique_name}_events",
                        config=CONFIG.replace("url: {clickhouse}", f"url: {url}"))  # fmt: skip
    yield pipeline
    pipeline.process.kill()
    for server in servers.values():
        server.start()
    servers["postgres"].drop_database(unique_name)
    assert SECRET not in pipeline.process.log_path.read_text(encoding="utf-8")


class Load:
    """A thread that changes the source without a pause, also after its server was gone."""

    def __init__(self, source):
        self.source = source
        self.transactions = 0
        self._changed = threading.Condition()
        self._runs = threading.Event()
        self._idle = threading.Event()
        self._ends = False
        self._stopped = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._runs.set()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends = True
        self._runs.set()
        self._thread.join()
        assert self._failure is None, self._failure

    def wait(self, transactions, timeout=60):
        """Until so many more have ended."""
        with self._changed:
            wanted = self.transactions + transactions
            assert self._changed.wait_for(
                lambda: self.transactions >= wanted or self._failure, timeout
            ), f"no {transactions} transactions within {timeout} s"
        assert self._failure is None, self._failure

    def pause(self):
        """No transaction is open when it returns."""
        self._idle.clear()
        self._runs.clear()
        assert self._idle.wait(30)

    def resume(self):
        self._runs.set()

    def _run(self):
        try:
            while not self._ends:
                if not self._runs.is_set():
                    self._idle.set()
                    self._runs.wait()
                    continue
                self._transaction()
                with self._changed:
                    self.transactions += 1
                    self._changed.notify_all()
        except BaseException as error:
            self._failure = error
            with self._changed:
                self._changed.notify_all()

    def _transaction(self):
        try:
            self.source.random_transaction()
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            deadline = time.monotonic() + 60
            while True:
                try:
                    return self.source.reconnect()
                except psycopg2.OperationalError:
                    if time.monotonic() > deadline:
                        raise
                    self._stopped.wait(0.05)


def sinks_of(pipeline):
    return {sink["name"]: sink for sink in pipeline.status()["sinks"]}


def slot_of(servers, pipeline):
    """(confirmed position, pid of its walsender)."""
    (row,) = servers["postgres"].sql(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn, coalesce(active_pid, 0)"
        f" FROM pg_replication_slots WHERE slot_name = 'millrace_{pipeline.name}'"
    )
    confirmed, pid = row.split("|")
    return int(confirmed), int(pid)


def wal_end(servers):
    return int(servers["postgres"].sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0])


def check_others_flow(servers, source, pipeline, down):
    """With the load paused: the slot moves on, and every sink but `down` gets everything."""
    target = wal_end(servers)
    wait_for(lambda: slot_of(servers, pipeline)[0] >= target, "the confirmed position moves on")
    others = [name for name in SINKS if name != down]
    wait_for(lambda: all(sinks_of(pipeline)[name]["lag_rows"] == 0 for name in others),
             f"{others} are delivered")  # fmt: skip
    for name in others:
        check_sink(source, pipeline, name)
    assert sinks_of(pipeline)[down]["lag_rows"] > 0


def log_of(pipeline):
    path = pipeline.process.log_path
    return path.read_text(encoding="utf-8") if path.exists() else ""


def not_ready_reason(pipeline):
    """What /readyz says with its 503; nothing if it is 200."""
    status, text = pipeline.process.get("/readyz")
    return text if status == 503 else ""


def check_is_shown_down(servers, pipeline, down):
    address = f"127.0.0.1:{servers[SINKS[down]].port}"
    wait_for(lambda: f"sink '{down}'" in not_ready_reason(pipeline), "/readyz names the sink")
    assert pipeline.process.get("/healthz")[0] == 200
    warning = re.compile(f" warn .*sink={down} .*{address}")
    wait_for(lambda: warning.search(log_of(pipeline)), "the log names it")
    assert re.search(r"^millrace_ready{.*} 0", pipeline.process.get("/metrics")[1], re.MULTILINE)
    if down == "events":
        return  # librdkafka waits for its brokers; that it gives up, the sink's own tests show
    wait_for(lambda: sinks_of(pipeline)[down]["state"] == "retrying", "the sink's state says so")
    assert address in sinks_of(pipeline)[down]["last_error"]
    metrics = pipeline.process.get("/metrics")[1]
    errors = re.compile(rf'^millrace_sink_errors_total{{.*sink="{down}".*}} [1-9]', re.MULTILINE)
    assert errors.search(metrics)


@pytest.mark.case(57)
@pytest.mark.parametrize("down", SINKS)
def test_sink_that_is_down_at_the_start(servers, source, pipeline, down):
    servers[SINKS[down]].stop()
    pipeline.process.launch()
    # Each change is an output of its own from here on.
    wait_for(lambda: " All tables are complete" in log_of(pipeline), "the tables are read")
    for _ in range(20):
        source.random_transaction()
    check_is_shown_down(servers, pipeline, down)
    check_others_flow(servers, source, pipeline, down)
    servers[SINKS[down]].start()
    pipeline.process.wait_ready(40)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)


@pytest.mark.case(57)
@pytest.mark.parametrize(("down", "end"), [
    ("live", "stop"), ("live", "kill"), ("warehouse", "kill"), ("events", "kill"),
])  # fmt: skip
def test_sink_that_goes_down_under_load(servers, source, pipeline, down, end):
    pipeline.process.start()
    with Load(source) as load:
        load.wait(60)
        getattr(servers[SINKS[down]], end)()
        load.wait(60)
        load.pause()
        check_is_shown_down(servers, pipeline, down)
        check_others_flow(servers, source, pipeline, down)
        load.resume()
        servers[SINKS[down]].start()
        load.wait(60)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)
    pipeline.process.wait_ready(30)


@pytest.mark.case(11, 57)
@pytest.mark.parametrize("down", ["live", "warehouse"])
def test_sink_that_hangs_under_load(servers, source, pipeline, down):
    """It takes connections, and answers nothing."""
    pipeline.process.start()
    pid = servers[SINKS[down]].pid
    with Load(source) as load:
        load.wait(40)
        os.kill(pid, signal.SIGSTOP)
        try:
            load.wait(60)
            load.pause()
            check_others_flow(servers, source, pipeline, down)
        finally:
            os.kill(pid, signal.SIGCONT)
        load.resume()
        load.wait(40)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)


@pytest.mark.case(5, 12)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_source_that_restarts_under_load(servers, source, pipeline, end):
    pipeline.process.start()
    pid = pipeline.process.pid
    with Load(source) as load:
        load.wait(60)
        getattr(servers["postgres"], end)()
        reason = wait_for(lambda: not_ready_reason(pipeline), "/readyz is 503")
        assert "source" in reason
        assert pipeline.process.get("/healthz")[0] == 200
        servers["postgres"].start()
        load.wait(60)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)
    pipeline.process.wait_ready(30)
    assert pipeline.process.pid == pid


@pytest.mark.case(5)
def test_walsender_that_is_ended_under_load(servers, source, pipeline):
    pipeline.process.start()
    with Load(source) as load:
        for _ in range(3):
            load.wait(40)
            walsender = slot_of(servers, pipeline)[1]
            servers["postgres"].sql(f"SELECT pg_terminate_backend({walsender})")
            wait_for(lambda: slot_of(servers, pipeline)[1] not in (0, walsender), "it is back")
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)
    assert pipeline.process.is_running()


@pytest.mark.case(5, 11)
def test_pipeline_that_stands_still_under_load(servers, source, pipeline):
    """Until the source has given it up; the sinks' transactions stay open meanwhile."""
    pipeline.process.start()
    pid = pipeline.process.pid
    with Load(source) as load:
        load.wait(40)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: slot_of(servers, pipeline)[1] == 0, "the walsender gives up")
            load.wait(40)
        finally:
            os.kill(pid, signal.SIGCONT)
        load.wait(40)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)
    assert pipeline.process.pid == pid


def test_all_sinks_go_down_and_the_pipeline_restarts(servers, source, pipeline):
    """What is only in data_dir arrives after a kill -9, when the sinks are back."""
    pipeline.process.start()
    with Load(source) as load:
        load.wait(40)
        for name in SINKS.values():
            servers[name].kill()
        load.wait(40)
        pipeline.process.kill()
        load.wait(10)
        pipeline.process.launch()
        for name in SINKS.values():
            servers[name].start()
        load.wait(20)
    pipeline.process.wait_ready(40)
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)
