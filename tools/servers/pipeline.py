# SPDX-License-Identifier: Apache-2.0
"""Millrace itself, and the example's generator, run like the servers around them."""

import os
import urllib.error
import urllib.request

from .server import HOST, Server


class Millrace(Server):
    """`program run -c config`; it answers once /readyz is 200.

    `port` is that of `admin.listen` in the configuration. `environment` adds to ours.
    """

    name = "millrace"
    start_timeout = 120
    stop_timeout = 15

    def __init__(self, directory, program, config, port=None, die_with_parent=False,
                 environment=None, arguments=()):  # fmt: skip
        super().__init__(directory, port, die_with_parent)
        self.program = os.path.abspath(program)
        self.config = os.path.abspath(config)
        self.environment = environment or {}
        self.arguments = list(arguments)

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"

    def get(self, path, timeout=5):
        """The status and text that its admin server answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _command(self):
        return [self.program, "run", "-c", self.config, *self.arguments]

    def _environment(self):
        return self.environment

    def _answers(self):
        return self.get("/readyz")[0] == 200


class Generator(Server):
    """The engagement example's load; it answers as long as it is there."""

    name = "generator"
    stop_timeout = 15

    def __init__(self, directory, program, arguments, die_with_parent=False):
        super().__init__(directory, None, die_with_parent)
        self.program = os.path.abspath(program)
        self.arguments = list(arguments)

    @property
    def url(self):
        return f"log {self.log_path}"

    def check_ports(self):
        """It listens nowhere."""

    def _command(self):
        return [self.program, *self.arguments]

    def _answers(self):
        return True
