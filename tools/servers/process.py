# SPDX-License-Identifier: Apache-2.0
"""Processes as /proc shows them: identity that survives pid reuse, trees, ports."""

import os
import random
import signal
import socket
import time
from dataclasses import dataclass

# Linux hands out ports from 32768 up to outgoing connections; listeners below never meet them.
FREE_PORT_RANGE = (20000, 32000)


@dataclass(frozen=True)
class ProcessId:
    """A pid with the start time and boot that tell it from a later process of the same number."""

    pid: int
    start_time: int
    boot_id: str

    def is_alive(self):
        return self == identify(self.pid)


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _stat_fields(pid):
    """The fields of /proc/PID/stat from `state` on, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _is_ended(pid, state):
    """A zombie has ended, except that one whose other threads still end holds their sockets."""
    if state == "Z":
        try:
            return len(os.listdir(f"/proc/{pid}/task")) <= 1
        except FileNotFoundError:
            return True
    return state == "X"


def identify(pid):
    """The identity of a live process; None if it ended, also while nobody has reaped it."""
    fields = _stat_fields(pid)
    if fields is None or _is_ended(pid, fields[0]):
        return None
    return ProcessId(pid, int(fields[19]), _boot_id())


def _all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def tree(pid):
    """The identities of a process and all its descendants."""
    children = {}
    for other in _all_pids():
        fields = _stat_fields(other)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(other)
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        identity = identify(current)
        if identity is not None:
            found.append(identity)
        queue.extend(children.get(current, []))
    return found


def find_by_environment(variable, value):
    """Session leaders that were started with VARIABLE=VALUE in their environment."""
    wanted = f"{variable}={value}".encode()
    found = []
    for pid in _all_pids():
        try:
            if os.getsid(pid) != pid:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted not in file.read().split(b"\0"):
                    continue
        except OSError:
            continue
        identity = identify(pid)
        if identity is not None:
            found.append(identity)
    return found


def send_signal(identity, number):
    """Signals the process if it is still the one meant."""
    if identity.is_alive():
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            pass


def wait_until_gone(identities, timeout, reap=lambda: None):
    """True once none of them is alive; `reap` collects our own ended children."""
    deadline = time.monotonic() + timeout
    while any(identity.is_alive() for identity in identities):
        reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    reap()
    return True


def kill_tree(identity, timeout=10, reap=lambda: None):
    """SIGKILL to a process and its descendants; returns when all are gone."""
    victims = tree(identity.pid) if identity.is_alive() else []
    for victim in victims:
        send_signal(victim, signal.SIGKILL)
    if not wait_until_gone(victims, timeout, reap):
        raise TimeoutError(f"process {identity.pid} is still there {timeout} s after SIGKILL")


def port_is_free(port, host="127.0.0.1"):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host="127.0.0.1"):
    for _ in range(1000):
        port = random.randrange(*FREE_PORT_RANGE)
        if port_is_free(port, host):
            return port
    raise RuntimeError(f"no free port between {FREE_PORT_RANGE[0]} and {FREE_PORT_RANGE[1]}")


def owner_of_port(port):
    """Describes who listens on a loopback port, as far as /proc lets us see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:
            continue
        for row in rows:
            if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{row[9]}]")
    for pid in _all_pids():
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return "another program"
