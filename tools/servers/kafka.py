# SPDX-License-Identifier: Apache-2.0
"""Kafka 4 as a single KRaft node, broker and controller in one process."""

import base64
import os
import shutil
import struct
import subprocess
import uuid

from .server import HOST, Server, ServerError, cache_dir, exchange, find_program

METADATA, METADATA_VERSION = 3, 1
LOGGING = """status = error
appender.stdout.type = Console
appender.stdout.name = STDOUT
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = STDOUT
"""


class Kafka(Server):
    """`settings` overrides server.properties. Topics are not created by themselves."""

    name = "kafka"

    def __init__(self, directory, port=None, die_with_parent=False, controller_port=None,
                 settings=None, heap="400m"):  # fmt: skip
        super().__init__(directory, port, die_with_parent)
        self._ports.setdefault("controller_port", None)
        if controller_port is not None and not self.is_running():
            self._ports["controller_port"] = controller_port
        self.settings = settings or {}
        self.heap = heap
        self.data = self.directory / "data"

    @property
    def controller_port(self):
        return self._port("controller_port")

    @property
    def brokers(self):
        return f"{HOST}:{self.port}"

    @property
    def url(self):
        return self.brokers

    def _properties(self):
        controller = f"{HOST}:{self.controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.brokers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.brokers}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "num.partitions": "1",
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # After kill -9 the next start waits until the old session has ended.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "initial.broker.registration.timeout.ms": "60000",
            # What a test waits for: the end of transactions that timed out, and compaction.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            "log.cleaner.backoff.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "controlled.shutdown.enable": "false",
            **self.settings,
        }

    def _java(self, *arguments):
        libs = cache_dir() / "kafka" / "libs"
        if not libs.is_dir():
            raise ServerError(f"{libs} is missing: run tools/deps.sh, which fetches Kafka.")
        return [
            find_program("java", "a Java runtime"),
            f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}",
            "-cp", f"{libs}/*",
            *arguments,
        ]  # fmt: skip

    def _prepare(self):
        properties = self.directory / "server.properties"
        lines = (f"{key}={value}\n" for key, value in self._properties().items())
        properties.write_text("".join(lines), encoding="utf-8")
        (self.directory / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        if (self.directory / "formatted").exists() and (self.data / "meta.properties").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:])[:22].decode()
        command = self._java("-Xmx128m", "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool")
        command += ["format", "-t", cluster, "-c", str(properties)]
        with open(self.log_path, "ab") as log:
            result = subprocess.run(command, stdout=log, stderr=log, check=False)
        if result.returncode != 0:
            raise ServerError(f"Kafka's storage could not be formatted.{self._log_tail()}")
        (self.directory / "formatted").touch()

    def _command(self):
        heap = [f"-Xmx{self.heap}", "-Xms128m", "-XX:+UseSerialGC"]
        return self._java(*heap, "kafka.Kafka", str(self.directory / "server.properties"))

    def _environment(self):
        return {"LC_ALL": os.environ.get("LC_ALL", "C.UTF-8")}

    def _answers(self):
        """A broker that is registered and not fenced lists itself in its metadata."""
        client = b"probe"
        body = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, len(client)) + client
        body += struct.pack(">i", 0)  # no topics
        answer = exchange(self.port, struct.pack(">i", len(body)) + body)
        if len(answer) < 12:
            return False
        _, _, brokers = struct.unpack(">iii", answer[:12])
        return brokers == 1
