# SPDX-License-Identifier: Apache-2.0
"""A crash at every failpoint, as kill -9 would leave it, costs nothing and doubles nothing."""

import signal
import subprocess

import pytest

from engagement import CONFIG, PROGRAM, Pipeline, Source, check_sinks

FAILPOINTS = subprocess.run(
    [PROGRAM, "version", "--failpoints"], capture_output=True, text=True, check=True
).stdout.split()

# Delivered output is dropped soon, so that the crash in between is met too.
SHORT_RETENTION = CONFIG + "storage: {retain_time: 1s}\n"


@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.parametrize("passes", [1, 3])
def test_crash_at(failpoint, passes, tmp_path, database, unique_name, clickhouse, redis_server, kafka,
                  clickhouse_database, redis_prefix, topic_prefix):  # fmt: skip
    if passes > 1 and failpoint.startswith("source.") and failpoint != "source.before_confirm":
        passes = 2  # these are met once in a first snapshot, or once a table
        if failpoint != "source.before_snapshot_table":
            return
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
        status = None
        for _ in range(200):
            source.random_transaction()
            if not pipeline.process.is_running():
                break
        status = pipeline.process.wait_exit(30)
        assert status == -signal.SIGKILL, f"{failpoint} was not met: exit status {status}"
        for _ in range(20):
            source.random_transaction()
        pipeline.process.environment = {}
        pipeline.process.start()
        for _ in range(20):
            source.random_transaction()
        pipeline.wait_delivered(source)
        check_sinks(source, pipeline)
    finally:
        pipeline.process.kill()
        source.close()
