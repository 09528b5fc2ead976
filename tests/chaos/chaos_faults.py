# SPDX-License-Identifier: Apache-2.0
"""The kinds of faults, and the loop that draws them from a seed and lets several overlap.

A fault is a generator: it disturbs, yields seconds to wait before it is asked again, and has mended what it
did when it ends. All of them run in the thread that started the servers, which end with it.
"""

import heapq
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from chaos_rig import PEERS
from servers import ServerError, process

OVERLAPPING = 3
STOP_SECONDS = 20  # SIGTERM promises 10; the machine is busy


class Broken(AssertionError):
    """Something that no fault excuses."""


def until(condition, seconds, what):
    """Yields while `condition()` is false."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not within {seconds} s")
        yield 0.1


class Faults:
    """Generators by kind, and what each of them disturbs: no two faults of one target at a time."""

    def __init__(self, rig, rng, tail):
        self.rig = rig
        self.rng = rng
        self.tail = tail
        table = [
            (6, "millrace kill -9", "millrace", self.kill_millrace),
            (3, "millrace SIGTERM", "millrace", self.stop_millrace),
            (3, "millrace SIGSTOP", "millrace", self.pause_millrace),
            (3, "millrace clock jumps", "clock", self.clock),
            (2, "millrace disk full", "disk", self.disk_full),
            (2, "postgres immediate restart", "postgres", lambda: self.restart("postgres", signal.SIGQUIT)),
            (2, "postgres fast restart", "postgres", lambda: self.restart("postgres", signal.SIGINT)),
            (3, "postgres walsender terminated", "postgres", lambda: self.terminate("backend_type = 'walsender'")),
            (3, "postgres backends terminated", "postgres",
             lambda: self.terminate("application_name LIKE 'millrace%'")),
            (2, "redis kill -9", "redis", lambda: self.kill("redis")),
            (2, "redis restart", "redis", lambda: self.restart("redis", signal.SIGTERM)),
            (2, "redis loses its last second", "redis", self.redis_power_cut),
            (2, "clickhouse kill -9", "clickhouse", lambda: self.kill("clickhouse")),
            (1, "clickhouse restart", "clickhouse", lambda: self.restart("clickhouse", signal.SIGTERM)),
            (1, "kafka kill -9", "kafka", lambda: self.kill("kafka")),
            (1, "kafka restart", "kafka", lambda: self.restart("kafka", signal.SIGTERM)),
        ]  # fmt: skip
        for name in PEERS:
            table += [
                (2, f"{name} SIGSTOP", name, lambda name=name: self.pause(name)),
                (3, f"{name} link cut", f"{name} link", lambda name=name: self.cut(name)),
                (4, f"{name} link cut within", f"{name} link", lambda name=name: self.cut_within(name)),
                (2, f"{name} link slow", f"{name} link", lambda name=name: self.slow(name)),
                (1, f"{name} link silent", f"{name} link", lambda name=name: self.silent(name)),
                (1, f"{name} link refused", f"{name} link", lambda name=name: self.refused(name)),
            ]
        self.table = table

    def seconds(self, low, high):
        return self.rng.uniform(low, high)

    # Millrace itself

    def kill_millrace(self):
        self.rig.process.kill()
        yield self.rng.choice([0, 0, self.seconds(0, 2)])
        self.rig.launch()

    def stop_millrace(self):
        server = self.rig.process
        if server.is_running():
            os.kill(server.pid, signal.SIGTERM)
            yield from until(lambda: not server.is_running(), STOP_SECONDS, "Millrace ends after SIGTERM")
            is_fine = server.exit_status == 0 or (self.rig.is_starting() and server.exit_status == -signal.SIGTERM)
            if not is_fine and not self.rig.met_full_disk:
                raise Broken(f"Millrace ended with {server.exit_status} after SIGTERM: {server.log_path}")
        yield self.rng.choice([0, self.seconds(0, 2)])
        self.rig.launch()

    def pause_millrace(self):
        yield from self.paused(self.rig.process, self.seconds(0.5, 6))

    def clock(self):
        for _ in range(self.rng.randrange(1, 4)):
            day = 86400
            self.rig.control.set_clock(self.rng.choice([-day, -3700, -5, 5, 120, 3700, day, 400 * day]))
            yield self.seconds(0.3, 3)
        self.rig.control.set_clock(0)

    def disk_full(self):
        """It ends the run, if anything was to be written; it is started again when there is room."""
        self.rig.met_full_disk = True
        self.rig.disk.fill(self.rng.choice([0, self.rng.randrange(1 << 16), self.rng.randrange(1 << 20)]))
        yield self.seconds(0.5, 4)
        self.rig.disk.empty()

    # Peers

    def kill(self, name):
        peer = self.rig.peers[name]
        peer.kill()
        yield from self.bring_back(peer)

    def restart(self, name, number):
        peer = self.rig.peers[name]
        os.kill(peer.pid, number)
        yield from until(lambda: not peer.is_running(), 60, f"{name} ends after {signal.Signals(number).name}")
        yield from self.bring_back(peer)

    def bring_back(self, peer):
        yield self.rng.choice([0, self.seconds(0, 3)])
        peer.launch()
        yield from until(peer.is_ready, 90, f"{peer.name} is back")

    def redis_power_cut(self):
        """The end of its log goes, as a power cut takes it with appendfsync everysec."""
        peer = self.rig.peers["redis"]
        peer.kill()
        path, low = self.tail.since(1.0)
        if path is not None and path.exists():
            size = path.stat().st_size
            if low < size:
                os.truncate(path, self.rng.randrange(low, size))
        yield from self.bring_back(peer)

    def pause(self, name):
        yield from self.paused(self.rig.peers[name], self.seconds(0.5, 6))

    def paused(self, server, seconds):
        members = process.tree(server.pid) if server.is_running() else []
        for member in members:
            process.send_signal(member, signal.SIGSTOP)
        yield seconds
        for member in members:
            process.send_signal(member, signal.SIGCONT)

    def terminate(self, which):
        self.rig.peers["postgres"].sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}")
        yield 0

    # Links

    def cut(self, name):
        self.rig.links[name].cut()
        yield 0

    def cut_within(self, name):
        """Before, within or right after a request or an answer."""
        link = self.rig.links[name]
        link.cut_after(int(10 ** self.seconds(0, 5)))
        for _ in range(50):
            yield 0.1
            if not link.cut_is_pending():
                return
        link.cut()  # so little goes over it
        link.carry()

    def slow(self, name):
        link = self.rig.links[name]
        link.slow(int(10 ** self.seconds(1.5, 5)))
        yield self.seconds(1, 6)
        link.carry()

    def silent(self, name):
        """What was silent either ends or stays so for ever."""
        link = self.rig.links[name]
        link.silence()
        yield self.seconds(1, 8)
        link.carry()
        if self.rng.random() < 0.8:
            link.cut()

    def refused(self, name):
        link = self.rig.links[name]
        link.refuse()
        link.cut()
        yield self.seconds(0.5, 5)
        link.carry()


@dataclass(order=True)
class Active:
    at: float
    number: int
    kind: str = field(compare=False)
    target: str = field(compare=False)
    steps: object = field(compare=False)


class Chaos:
    """Draws faults and sees them through; starts Millrace again when a full disk ended it."""

    def __init__(self, rig, faults, kinds, say):
        self.rig = rig
        self.rng = faults.rng
        self.say = say
        self.counts = Counter()
        self.ended_on_full_disk = 0
        self._table = [(weight, kind, target, make) for weight, kind, target, make in faults.table
                       if not kinds or any(wanted in kind for wanted in kinds)]  # fmt: skip
        self._active = []
        self._number = 0

    def disturbs(self):
        """The targets that are disturbed now. From any thread."""
        return {fault.target for fault in list(self._active)}

    def run_faults(self, count, until_time):
        """Begins so many, unless the time ends first, and returns when all have ended."""
        next_at = time.monotonic()
        while (count > 0 and time.monotonic() < until_time) or self._active:
            self.watch()
            now = time.monotonic()
            if count > 0 and now >= next_at and now < until_time and len(self._active) < OVERLAPPING:
                self._begin()
                count -= 1
                next_at = now + self.rng.choice([0, 0.3, 1, 2, 3]) * self.rng.random()
            while self._active and self._active[0].at <= now:
                self._step(heapq.heappop(self._active))
            time.sleep(0.02)
        self.rig.heal_all()

    def rest(self, seconds):
        """Nothing is disturbed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.watch()
            time.sleep(0.05)

    @property
    def millrace_is_stopped(self):
        """By SIGSTOP: it is the machine that fails it."""
        return any(fault.kind == "millrace SIGSTOP" for fault in list(self._active))

    def watch(self):
        """Nobody but a fault ends Millrace; a full disk does. ClickHouse's watchdog may have given up."""
        busy = self.disturbs()
        clickhouse = self.rig.peers["clickhouse"]
        if "clickhouse" not in busy and not clickhouse.is_running():
            self.say("ClickHouse had ended by itself")
            clickhouse.launch()
        if busy & {"millrace", "disk"} or self.rig.process.is_running():
            return
        status = self.rig.process.exit_status
        if not self.rig.met_full_disk:
            raise Broken(f"Millrace ended by itself with {status}: {self.rig.process.log_path}")
        self.say(f"Millrace had ended with {status} on the full disk")
        self.ended_on_full_disk += 1
        self.rig.launch()

    def _begin(self):
        busy = self.disturbs()
        free = [row for row in self._table if row[2] not in busy]
        if not free:
            return
        _, kind, target, make = self.rng.choices(free, [row[0] for row in free])[0]
        self.counts[kind] += 1
        self._number += 1
        self.say(kind)
        self._step(Active(time.monotonic(), self._number, kind, target, make()))

    def _step(self, fault):
        # While it works it counts as active too.
        heapq.heappush(self._active, fault)
        try:
            wait = next(fault.steps)
        except StopIteration:
            self._active.remove(fault)
            heapq.heapify(self._active)
            return
        except ServerError as error:
            raise Broken(f"{fault.kind}: {error}") from error
        fault.at = time.monotonic() + wait
        heapq.heapify(self._active)
