# SPDX-License-Identifier: Apache-2.0
"""A crash at every failpoint, as kill -9 would leave it, costs nothing and doubles nothing."""

import signal
import subprocess
import time

import pytest

from engagement import CONFIG, PROGRAM, Pipeline, Source, check_sinks

FAILPOINTS = subprocess.run(
    [PROGRAM, "version", "--failpoints"], capture_output=True, text=True, check=True
).stdout.split()

# Delivered output is dropped soon, so that the crash in between is met too.
SHORT_RETENTION = CONFIG + "storage: {{retain_time: 1s}}\n"


# A start meets these once, or once a table.
ONCE = {"source.before_slot_created", "source.after_slot_created"}
TWICE = {"source.before_chunk_read", "source.before_chunk_joins"}
# Met where columns change, tables come or rows are refused: cases/test_schema_changes.py,
# cases/test_discover.py, test_dead_letters.py.
ELSEWHERE = {"clickhouse.before_alter", "source.after_tables_published", "pipeline.before_new_plan",
             "pipeline.after_new_plan", "dead_letters.before_keep", "dead_letters.after_keep",
             "dead_letters.before_send_again", "dead_letters.after_send_again"}  # fmt: skip
FAILPOINTS = [name for name in FAILPOINTS if name not in ELSEWHERE]
CASES = [(name, 1) for name in FAILPOINTS] + [
    (name, 2 if name in TWICE else 3) for name in FAILPOINTS if name not in ONCE
]


@pytest.mark.case(2, 3, 5, 59)
@pytest.mark.parametrize("failpoint, passes", CASES)
def test_crash_at(failpoint, passes, tmp_path, database, unique_name, clickhouse, redis_server, kafka,
                  clickhouse_database, redis_prefix, topic_prefix):  # fmt: skip
    source = Source(database, seed=failpoint)
    pipeline = Pipeline(tmp_path, f"crash_{unique_name[-8:]}", database, clickhouse, redis_server, kafka,
                        clickhouse_database, redis_prefix, f"{topic_prefix}events",
                        config=SHORT_RETENTION)  # fmt: skip
    try:
        for _ in range(5):
            source.insert_content()
        source.commit()
        for _ in range(50):
            source.insert_event()
        source.commit()
        pipeline.process.environment = {"MILLRACE_FAILPOINT": f"{failpoint}:{passes}"}
        pipeline.process.launch()
        # The first snapshot finds the rows above and no change of them.
        while pipeline.process.is_running() and not pipeline.process.is_ready():
            time.sleep(0.02)
        deadline = time.monotonic() + 20
        while pipeline.process.is_running() and time.monotonic() < deadline:
            source.random_transaction()
            time.sleep(0.01)
        status = pipeline.process.wait_exit(30)
        assert status == -signal.SIGKILL, f"{failpoint} was not met: exit status {status}"
        for _ in range(20):
            source.insert_event()
            source.commit()
        pipeline.process.environment = {}
        pipeline.process.start()
        for _ in range(20):
            source.random_transaction()
        pipeline.wait_delivered(source)
        check_sinks(source, pipeline)
    finally:
        pipeline.process.kill()
        source.close()
