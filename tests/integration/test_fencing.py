# SPDX-License-Identifier: Apache-2.0
"""Two processes of one pipeline: the one that was replaced writes nothing more, and ends."""

import os
import re
import shutil
import signal

import psycopg2
import psycopg2.extras
import pytest
from servers import wait_for

from engagement import Pipeline, Source, check_sinks


@pytest.fixture
def source(database):
    source = Source(database, seed=20261123)
    for _ in range(10):
        source.insert_content()
    source.commit()
    for _ in range(50):
        source.insert_event()
    source.commit()
    yield source
    source.close()


@pytest.fixture
def make_pipeline(tmp_path, database, unique_name, clickhouse, redis_server, kafka,
                  clickhouse_database, redis_prefix, topic_prefix):  # fmt: skip
    """Processes of the same pipeline, each in a folder of its own."""
    made = []

    def make(folder):
        made.append(
            Pipeline(tmp_path / folder, f"fence_{unique_name[-8:]}", database, clickhouse,
                     redis_server, kafka, clickhouse_database, redis_prefix, f"{topic_prefix}events")
        )  # fmt: skip
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.process.kill()


def log_of(pipeline):
    return pipeline.process.log_path.read_text(encoding="utf-8")


@pytest.mark.case(7, 54, 55, 56)
def test_process_that_stood_still_and_was_replaced(postgres, source, make_pipeline):
    """Its slot went to a process with a copy of data_dir while it was stopped, rows on their way to it."""
    first = make_pipeline("first")
    first.process.start()
    for _ in range(20):
        source.random_transaction()
    first.wait_delivered(source)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = make_pipeline("second")
    shutil.copytree(first.directory / "data", second.directory / "data")
    for _ in range(20):
        source.random_transaction()
    slot = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'millrace_{first.name}'"
    postgres.sql(f"SELECT pg_terminate_backend(({slot}))")
    second.process.start()
    for _ in range(20):
        source.random_transaction()
    second.wait_delivered(source)
    os.kill(first.process.pid, signal.SIGCONT)
    for _ in range(20):
        source.random_transaction()
    assert first.process.wait_exit(30) == 1
    assert re.search("another process|has confirmed", log_of(first)), log_of(first)[-2000:]
    for _ in range(20):
        source.random_transaction()
    second.wait_delivered(source)
    check_sinks(source, second)
    wait_for(second.process.is_ready, "the second goes on")
    assert "another process" not in log_of(second)


@pytest.mark.case(7)
def test_process_that_lost_its_slot_ends(postgres, database, source, make_pipeline):
    """Nothing was confirmed to the other one yet."""
    pipeline = make_pipeline("only")
    pipeline.process.start()
    slot = f"millrace_{pipeline.name}"
    os.kill(pipeline.process.pid, signal.SIGSTOP)
    postgres.sql(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                 f" WHERE slot_name = '{slot}'")  # fmt: skip
    active = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
    wait_for(lambda: postgres.sql(active) == ["f"], "the slot is free")
    (publication, *_) = postgres.sql("SELECT pubname FROM pg_publication", database.rpartition("/")[2])
    other = psycopg2.connect(
        database, connection_factory=psycopg2.extras.LogicalReplicationConnection
    )
    try:
        options = {"proto_version": "1", "publication_names": publication}
        other.cursor().start_replication(slot_name=slot, decode=False, options=options)
        wait_for(lambda: postgres.sql(active) == ["t"], "another process has the slot")
        os.kill(pipeline.process.pid, signal.SIGCONT)
        assert pipeline.process.wait_exit(30) == 1
        assert "streamed from by another process" in log_of(pipeline), log_of(pipeline)[-2000:]
    finally:
        other.close()


@pytest.mark.case(7)
def test_data_dir_is_for_one_process(source, make_pipeline):
    first = make_pipeline("first")
    first.process.start()
    second = make_pipeline("second")
    (second.directory / "data").symlink_to(first.directory / "data")
    second.process.launch()
    assert second.process.wait_exit(30) == 1
    assert "data_dir" in log_of(second)
    assert first.process.is_ready()
