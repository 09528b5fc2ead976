# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end on real servers: every sink of the example equals an oracle in SQL."""

import pytest

from engagement import Pipeline, Source, check_sinks


@pytest.fixture
def source(database):
    source = Source(database, seed=20260101)
    yield source
    source.close()


@pytest.fixture
def pipeline(tmp_path, database, unique_name, clickhouse, redis_server, kafka, clickhouse_database,
             redis_prefix, topic_prefix):  # fmt: skip
    pipeline = Pipeline(tmp_path, unique_name[-30:].lstrip("_0123456789"), database, clickhouse, redis_server,
                        kafka, clickhouse_database, redis_prefix, f"{topic_prefix}events")  # fmt: skip
    yield pipeline
    pipeline.process.kill()


def fill(source, contents=20, events=200):
    """Rows that the first snapshot finds: each is one output, in the order of its key."""
    for _ in range(contents):
        source.insert_content()
    source.commit()
    for _ in range(events):
        source.insert_event()
    source.commit()


def test_sinks_equal_the_oracle(source, pipeline):
    """Rows from before the start come by snapshot, later ones by the stream; none is missing."""
    fill(source)
    pipeline.process.start()
    for _ in range(150):
        source.random_transaction()
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)


def test_event_sees_a_reference_change_of_its_own_transaction(source, pipeline):
    """Wherever it stands in the transaction; and none that is committed later."""
    content = source.insert_content()
    source.commit()
    pipeline.process.start()
    event = source.insert_event(content)
    source.execute("UPDATE content SET title = 'at commit' WHERE id = %s", (content,))
    source.commit()
    source.execute("UPDATE content SET title = 'later' WHERE id = %s", (content,))
    source.commit()
    pipeline.wait_delivered(source)
    rows = pipeline.clickhouse_rows(where=f"event_id = {event}")
    assert [row["content_title"] for row in rows] == ["at commit"]
    check_sinks(source, pipeline)


def test_kill_and_restart_lose_and_double_nothing(source, pipeline):
    fill(source)
    pipeline.process.start()
    for _ in range(6):
        for _ in range(25):
            source.random_transaction()
        pipeline.process.kill()
        for _ in range(10):
            source.random_transaction()
        pipeline.process.start()
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)


def test_sigterm_delivers_what_was_accepted_and_exits_0(source, pipeline):
    fill(source)
    pipeline.process.start()
    for _ in range(50):
        source.random_transaction()
    assert pipeline.process.stop(timeout=10) == 0
    for _ in range(10):
        source.random_transaction()
    pipeline.process.start()
    pipeline.wait_delivered(source)
    check_sinks(source, pipeline)


def test_large_transaction_arrives_whole(source, pipeline):
    """More rows than a micro-batch holds, with a reference change at its very end."""
    pipeline.process.start()
    content = source.insert_content()
    source.commit()
    source.execute(
        "INSERT INTO engagement_events (content_id, event_type, event_ts, duration_ms)"
        " SELECT %s, 'play', '2026-01-01'::timestamptz + i * interval '1 ms', i"
        " FROM generate_series(1, 50000) i",
        (content,),
    )
    source.execute("UPDATE content SET title = 'last' WHERE id = %s", (content,))
    source.commit()
    pipeline.wait_delivered(source)
    titles = pipeline.clickhouse.query(
        f"SELECT DISTINCT content_title, count() FROM {pipeline.database}.enriched_engagements"
        " GROUP BY content_title"
    )
    assert titles == "last\t50000\n"
    check_sinks(source, pipeline)


def test_truncate_deletes_every_row(source, pipeline):
    fill(source)
    pipeline.process.start()
    source.execute("TRUNCATE engagement_events")
    source.connection.commit()
    source.execute("TRUNCATE content CASCADE")
    source.connection.commit()
    pipeline.wait_delivered(source)
    assert pipeline.clickhouse_rows() == []
    assert pipeline.clickhouse_rows("content_dim") == []
