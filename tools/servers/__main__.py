"""Starts, stops, kills and shows the servers: see tools/servers.sh --help."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import ClickHouse, Kafka, Postgres, Redis, ServerError

NAMES = ("postgres", "redis", "clickhouse", "kafka")
DEFAULT_PORTS = {
    "POSTGRES": 55432,
    "REDIS": 56379,
    "CLICKHOUSE": 58123,
    "CLICKHOUSE_TCP": 59000,
    "KAFKA": 59092,
    "KAFKA_CONTROLLER": 59093,
}


def ports(base):
    """From --port-base, else MILLRACE_<NAME>_PORT, else the defaults."""
    if base is not None:
        return {name: base + index for index, name in enumerate(DEFAULT_PORTS)}
    return {
        name: int(os.environ.get(f"MILLRACE_{name}_PORT") or default)
        for name, default in DEFAULT_PORTS.items()
    }


def make(name, directory, port):
    folder = directory / name
    if name == "postgres":
        return Postgres(folder, port["POSTGRES"])
    if name == "redis":
        return Redis(folder, port["REDIS"])
    if name == "clickhouse":
        password = os.environ.get("CH_PASSWORD")
        users = {"millrace": password} if password else None
        return ClickHouse(folder, port["CLICKHOUSE"], tcp_port=port["CLICKHOUSE_TCP"],
                          users=users, watchdog=True)  # fmt: skip
    return Kafka(folder, port["KAFKA"], controller_port=port["KAFKA_CONTROLLER"])


def describe(server):
    if server.is_ready():
        return f"{server.name:<11} running   {server.url}  (pid {server.pid})"
    if server.is_running():
        return f"{server.name:<11} no answer {server.url}  (pid {server.pid}), log {server.log_path}"
    return f"{server.name:<11} stopped"


def run(action, server):
    if action == "start":
        server.start()
    elif action != "status":
        getattr(server, action)()
    return describe(server)


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/servers.sh",
        description="Real servers on loopback, each with its data in DIR/NAME.",
    )
    parser.add_argument("action", choices=("start", "stop", "kill", "restart", "status", "clean"))
    parser.add_argument("names", nargs="*", metavar="server", help=f"of {', '.join(NAMES)}; default all")
    parser.add_argument("--dir", type=Path, required=True, help="where their state is")
    parser.add_argument("--port-base", type=int,
                        help="postgres gets N, redis N+1, clickhouse N+2 and N+3, kafka N+4 and N+5;"
                        " otherwise MILLRACE_POSTGRES_PORT and its like say, or the defaults")  # fmt: skip
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no server is called '{name}': choose of {', '.join(NAMES)}")
    return options


def main(arguments):
    options = parse(arguments)
    port = ports(options.port_base)
    servers = [make(name, options.dir, port) for name in options.names or NAMES]
    failed = False
    with ThreadPoolExecutor(len(servers)) as pool:
        tasks = [pool.submit(run, options.action, server) for server in servers]
        for task in tasks:
            try:
                print(task.result(), flush=True)
            except (ServerError, OSError) as error:
                failed = True
                print(f"error: {error}", file=sys.stderr)
    if options.action == "status":
        failed = not all(server.is_ready() for server in servers)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
