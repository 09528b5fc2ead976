# SPDX-License-Identifier: Apache-2.0
"""What every server has in common: start, stop, kill, wait until it answers."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import process

HOST = "127.0.0.1"
MARKER = "MILLRACE_SERVER"
LOG_TAIL_LINES = 20


class ServerError(Exception):
    """A server does not do what was asked; the text has the cause, the log's tail, the remedy."""


def cache_dir():
    """Where tools/deps.sh puts the downloads."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MILLRACE_CACHE") or Path(home) / "millrace")


class Server:
    """A server process on loopback whose whole state is in one folder.

    The folder remembers ports and process, so another object, or another program, that names the
    same folder finds the running server. One object is for one thread at a time.
    With `die_with_parent` the kernel kills the server when the thread that started it ends, so
    tests leave nothing behind even when they are killed.
    """

    name = "server"
    start_timeout = 60
    stop_timeout = 30
    stop_signal = signal.SIGTERM
    parent_death_signal = "KILL"

    def __init__(self, directory, port=None, die_with_parent=False):
        self.directory = Path(directory).absolute()
        self.log_path = self.directory / "server.log"
        self.die_with_parent = die_with_parent
        self._state_path = self.directory / "server.json"
        self.exit_status = None  # of our child's last run; negative: the signal that ended it
        self._child = None
        self._process = None
        self._ports = {"port": port}
        self._load_state()

    # What a subclass says about itself.

    def _prepare(self):
        """Makes what must be there before the first start. Runs before every start."""

    def _command(self):
        """The command line of the server in the foreground."""
        raise NotImplementedError

    def _launch(self, command):
        """The command line that runs `command` with the wanted privileges and signals."""
        if self.die_with_parent:
            return ["setpriv", "--pdeathsig", self.parent_death_signal, *command]
        return command

    def _environment(self):
        return {}

    def _answers(self):
        """True if the server does real work. May raise OSError."""
        raise NotImplementedError

    def _after_ready(self):
        """Makes what needs a running server. Runs after every start."""

    @property
    def url(self):
        raise NotImplementedError

    # What callers use.

    @property
    def port(self):
        return self._port("port")

    @property
    def pid(self):
        return self._process.pid if self.is_running() else None

    def is_running(self):
        """True while the process is there; it may not answer yet."""
        self._reap()
        if self._process is None or not self._process.is_alive():
            self._load_state()
        return self._process is not None and self._process.is_alive()

    def is_ready(self):
        """True if the process is there and answers."""
        if not self.is_running():
            return False
        try:
            return bool(self._answers())
        except (OSError, http.client.HTTPException, subprocess.SubprocessError):
            return False

    def start(self, timeout=None):
        """Starts it, unless it runs, and returns when it answers."""
        self.launch()
        self.wait_ready(timeout or self.start_timeout)
        self._after_ready()
        return self

    def launch(self):
        """Starts it, unless it runs, and does not wait for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.is_running():
            self._end_strays()
            self.check_ports()
            self._prepare()
            self._spawn()

    def wait_exit(self, timeout):
        """Returns the exit status of a server that ends by itself; negative: the signal."""
        try:
            status = self._child.wait(timeout) if self._child is not None else self.exit_status
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{self.name} still runs after {timeout} s.{self._log_tail()}") from error
        self._forget_process()
        return status

    def wait_ready(self, timeout=None):
        """Returns when it answers; raises ServerError with the log's tail if it does not."""
        deadline = time.monotonic() + (timeout or self.start_timeout)
        while not self.is_ready():
            if not self.is_running():
                raise ServerError(f"{self.name} ended right after its start.{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} does not answer on port {self.port}.{self._log_tail()}"
                )
            time.sleep(0.05)

    def stop(self, timeout=None):
        """Asks it to end, and kills it if it has not after `timeout` seconds.

        Returns the exit status, None if it is not our child.
        """
        if not self.is_running():
            self._forget_process()
            return self.exit_status
        members = process.tree(self._process.pid)
        process.send_signal(self._process, self.stop_signal)
        if not process.wait_until_gone(members, timeout or self.stop_timeout, self._reap):
            self.kill()
        self._reap()
        self._forget_process()
        return self.exit_status

    def kill(self):
        """SIGKILL to the server and all its processes; returns when they are gone."""
        if self.is_running():
            process.kill_tree(self._process, reap=self._reap)
        self._forget_process()

    @contextlib.contextmanager
    def paused(self):
        """Stands still within the block: its connections stay, and nothing answers."""
        process.send_signal(self._process, signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(self._process, signal.SIGCONT)

    def restart(self, timeout=None):
        self.stop()
        return self.start(timeout)

    def clean(self):
        """Stops it and removes its folder."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # The inside.

    def _port(self, key):
        if self._ports.get(key) is None:
            self._ports[key] = process.free_port(HOST)
        return self._ports[key]

    def _load_state(self):
        """Takes over ports that were not given, and the process, from the folder."""
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, PermissionError, ValueError):
            return
        recorded = process.ProcessId(**state["process"]) if state.get("process") else None
        is_alive = recorded is not None and recorded.is_alive()
        for key, port in state["ports"].items():
            if self._ports.get(key) is None or is_alive:
                self._ports[key] = port
        self._process = recorded if is_alive else None

    def _save_state(self):
        state = {"ports": self._ports, "process": self._process and vars(self._process)}
        part = self._state_path.with_suffix(f".part{os.getpid()}")
        part.write_text(json.dumps(state), encoding="utf-8")
        part.replace(self._state_path)

    def _forget_process(self):
        self._process = None
        if self._state_path.exists():
            self._save_state()

    def _end_strays(self):
        """Ends processes of this folder that a killed starter did not write down."""
        for stray in process.find_by_environment(MARKER, str(self.directory)):
            process.kill_tree(stray)

    def check_ports(self):
        """Raises ServerError if somebody else listens on a port that it needs."""
        _ = self.port
        for port in self._ports.values():
            if port is not None and not process.port_is_free(port, HOST):
                raise ServerError(
                    f"port {port}, which {self.name} needs, is taken by"
                    f" {process.owner_of_port(port)}: stop that or choose another port."
                )

    def _spawn(self):
        command = self._launch(self._command())
        environment = {**os.environ, **self._environment(), MARKER: str(self.directory)}
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment,
                start_new_session=True,
            )
        self._process = process.identify(self._child.pid)
        self._save_state()

    def _reap(self):
        if self._child is not None and self._child.poll() is not None:
            self.exit_status = self._child.returncode
            self._child = None

    def _log_tail(self):
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return f" Its log {self.log_path} does not exist."
        tail = "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
        return f" The end of its log {self.log_path}:\n{tail}"


def exchange(port, request, size=65536, timeout=2):
    """Sends bytes to a loopback port and returns what comes back first."""
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        connection.sendall(request)
        return connection.recv(size)


def wait_for(condition, what="the awaited condition", timeout=30):
    """Asks until `condition()` is true, and returns that; raises ServerError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {timeout} s.")
        time.sleep(0.02)
    return value


def find_program(name, hint, folders=()):
    """The path of a program, or a ServerError that says how to get it."""
    path = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if path is None:
        raise ServerError(f"'{name}' is not installed: run tools/deps.sh, which installs {hint}.")
    return path
