# SPDX-License-Identifier: Apache-2.0
"""Real servers on loopback for local runs and tests.

Each class starts one server in a folder of its own:

    from servers import ClickHouse, Kafka, Postgres, Redis

    with Postgres(tmp / "postgres", die_with_parent=True) as postgres:
        postgres.sql("SELECT 1")
        postgres.kill()     # kill -9 of all its processes
        postgres.start()    # again, same port and data
"""

from .clickhouse import ClickHouse
from .kafka import Kafka
from .pipeline import Generator, Millrace
from .postgres import Postgres
from .proxy import Proxy
from .redis import Redis
from .server import Server, ServerError, wait_for
from .standby import Standby

__all__ = [
    "ClickHouse",
    "Generator",
    "Kafka",
    "Millrace",
    "Postgres",
    "Proxy",
    "Redis",
    "Server",
    "ServerError",
    "Standby",
    "wait_for",
]
