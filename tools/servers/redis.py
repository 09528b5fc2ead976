# SPDX-License-Identifier: Apache-2.0
"""Redis 7 from Debian, with an append-only file."""

from .server import HOST, Server, exchange, find_program


class Redis(Server):
    """`arguments` are further redis-server options, such as ["--appendfsync", "always"]."""

    name = "redis"

    def __init__(self, directory, port=None, die_with_parent=False, arguments=()):
        super().__init__(directory, port, die_with_parent)
        self.arguments = list(arguments)
        self.data = self.directory / "data"

    @property
    def url(self):
        return f"redis://{HOST}:{self.port}"

    def _prepare(self):
        self.data.mkdir(exist_ok=True)

    def _command(self):
        return [
            find_program("redis-server", "redis-server"),
            "--port", str(self.port),
            "--bind", HOST,
            "--dir", str(self.data),
            "--daemonize", "no",
            "--save", "",
            "--appendonly", "yes",
            "--appendfsync", "everysec",
            "--maxmemory-policy", "noeviction",
            *self.arguments,
        ]  # fmt: skip

    def _answers(self):
        return exchange(self.port, b"PING\r\n").startswith((b"+PONG", b"-NOAUTH"))
