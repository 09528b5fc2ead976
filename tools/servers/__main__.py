# SPDX-License-Identifier: Apache-2.0
"""Starts, stops, kills and shows the servers: see tools/servers.sh --help."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import ClickHouse, Generator, Kafka, Millrace, Postgres, Redis, ServerError
from .postgres import VERSIONS as POSTGRES_VERSIONS
from .server import HOST

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "engagement"
PROGRAMS = ROOT / "build" / "release"

SERVERS = ("postgres", "redis", "clickhouse", "kafka")
# They need the servers above and the variables that `env` prints.
PIPELINE = ("millrace", "generator")
DEFAULT_PORTS = {
    "POSTGRES": 55432,
    "REDIS": 56379,
    "CLICKHOUSE": 58123,
    "CLICKHOUSE_TCP": 59000,
    "KAFKA": 59092,
    "KAFKA_CONTROLLER": 59093,
    "ADMIN": 7070,
}
ACTIONS = {
    "start": "start what does not run, and wait until it answers",
    "stop": "ask it to end; kill it if it does not",
    "kill": "SIGKILL to it and all its processes",
    "restart": "stop, then start",
    "status": "a line each; exit 0 if all answer",
    "ports": "exit 0 if the ports of what does not run are free",
    "env": "the variables that the example's millrace.yaml reads",
    "clean": "kill it and remove its data",
}


def ports(base):
    """From --port-base, else MILLRACE_<NAME>_PORT, else the defaults."""
    if base is not None:
        return {name: base + index for index, name in enumerate(DEFAULT_PORTS)}
    return {
        name: int(os.environ.get(f"MILLRACE_{name}_PORT") or default)
        for name, default in DEFAULT_PORTS.items()
    }


class Local:
    """The servers of one folder."""

    def __init__(self, directory, port, version=None, settings=None):
        self.directory = directory
        self.port = port
        self.version = version
        self.settings = settings

    def make(self, name):
        return getattr(self, name)()

    def postgres(self):
        return Postgres(self.directory / "postgres", self.port["POSTGRES"],
                        version=self.version, settings=self.settings)  # fmt: skip

    def redis(self):
        return Redis(self.directory / "redis", self.port["REDIS"])

    def clickhouse(self):
        password = os.environ.get("CH_PASSWORD")
        users = {"millrace": password} if password else None
        return ClickHouse(self.directory / "clickhouse", self.port["CLICKHOUSE"],
                          tcp_port=self.port["CLICKHOUSE_TCP"], users=users, watchdog=True)  # fmt: skip

    def kafka(self):
        controller = self.port["KAFKA_CONTROLLER"]
        return Kafka(self.directory / "kafka", self.port["KAFKA"], controller_port=controller)

    def millrace(self):
        return Millrace(self.directory / "millrace", PROGRAMS / "millrace",
                        EXAMPLE / "millrace.yaml", self.port["ADMIN"])  # fmt: skip

    def generator(self):
        rate = os.environ.get("MILLRACE_GENERATOR_RATE") or "1000"
        arguments = ["--url", self.postgres().url, "--rate", rate]
        return Generator(self.directory / "generator", PROGRAMS / "engagement_generator", arguments)

    def environment(self):
        clickhouse = self.clickhouse()
        return {
            "DATABASE_URL": self.postgres().url,
            "REDIS_URL": self.redis().url,
            "CLICKHOUSE_ADDRESS": f"{HOST}:{clickhouse.port}",
            "KAFKA_BROKERS": self.kafka().brokers,
            "MILLRACE_ADMIN_LISTEN": f"{HOST}:{self.millrace().port}",
        }


def describe(server):
    if server.is_ready():
        return f"{server.name:<11} running    {server.url}  (pid {server.pid})"
    if server.is_running():
        return f"{server.name:<11} no answer  (pid {server.pid}) log {server.log_path}"
    return f"{server.name:<11} stopped"


def run(action, server):
    """Returns the line to show and whether the server is as the action wants it."""
    if action == "ports":
        if not server.is_running():
            server.check_ports()
        return None, True
    if action != "status":
        getattr(server, action)()
    return describe(server), action != "status" or server.is_ready()


def run_all(action, servers):
    is_fine = True
    with ThreadPoolExecutor(len(servers)) as pool:
        for task in [pool.submit(run, action, server) for server in servers]:
            try:
                line, is_wanted = task.result()
                is_fine = is_fine and is_wanted
                if line:
                    print(line, flush=True)
            except (ServerError, OSError) as error:
                is_fine = False
                print(f"error: {error}", file=sys.stderr)
    return is_fine


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/servers.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Real servers on loopback, each with its data in DIR/NAME.",
        epilog="actions:\n" + "".join(f"  {name:<9}{text}\n" for name, text in ACTIONS.items()),
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("names", nargs="*", metavar="server",
                        help=f"of {', '.join(SERVERS + PIPELINE)}; default: the first four")  # fmt: skip
    parser.add_argument("--dir", type=Path, required=True, help="where their state is")
    parser.add_argument("--port-base", type=int,
                        help="postgres gets N, redis N+1, clickhouse N+2 and N+3, kafka N+4 and N+5,"
                        " millrace's admin N+6; otherwise MILLRACE_POSTGRES_PORT and its like say")  # fmt: skip
    parser.add_argument("--version", type=int, choices=POSTGRES_VERSIONS,
                        help="of postgres, for a new cluster; default 15")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting of postgres, such as logical_decoding_work_mem=64kB")  # fmt: skip
    options = parser.parse_args(arguments)
    for setting in options.set:
        if "=" not in setting:
            parser.error(f"--set {setting}: write NAME=VALUE")
    for name in options.names:
        if name not in SERVERS + PIPELINE:
            parser.error(f"no server is called '{name}': choose of {', '.join(SERVERS + PIPELINE)}")
    return options


def main(arguments):
    options = parse(arguments)
    settings = dict(setting.split("=", 1) for setting in options.set)
    local = Local(options.dir, ports(options.port_base), options.version, settings)
    if options.action == "env":
        for name, value in local.environment().items():
            print(f"{name}={value}")
        return 0
    servers = [local.make(name) for name in options.names or SERVERS]
    return 0 if run_all(options.action, servers) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
