# SPDX-License-Identifier: Apache-2.0
"""Sessions that change the engagement example's tables, and `audit`, through restarts of the server."""

import random
import threading
import time

import psycopg2
from engagement import Source

AUDIT = """
CREATE TABLE audit (id bigserial PRIMARY KEY, session int NOT NULL, body text);
CREATE INDEX ON engagement_events (content_id);
"""
NEWEST = 2000  # events that a session may change


class Session(Source):
    """One more session of a source that is set up."""

    def __init__(self, url, seed, number):
        self.url = url
        self.random = random.Random(f"{seed}/{number}")
        self.number = number
        self.connection = psycopg2.connect(url)
        self.load_keys()

    def reconnect(self):
        self.connection.close()
        self.connection = psycopg2.connect(self.url)
        self.load_keys()

    def load_keys(self):
        self.contents = [row[0] for row in self.execute("SELECT id::text FROM content ORDER BY id")]
        newest = self.execute("SELECT id FROM engagement_events ORDER BY id DESC LIMIT %s", (NEWEST,))
        self.events = [row[0] for row in newest]
        self.connection.rollback()

    def commit(self):
        for _ in range(self.random.randrange(3)):
            self.execute("INSERT INTO audit (session, body) VALUES (%s, %s)", (self.number, self.text(20)))
        super().commit()

    def large_transaction(self):
        """More rows than one delivery holds now and then."""
        count = self.random.choice([200, 1000, 3000])
        self.execute(
            "INSERT INTO engagement_events (content_id, event_type, event_ts, duration_ms, device)"
            " SELECT %s, 'play', now(), (random() * 100000)::int, md5(g::text || random())"
            " FROM generate_series(1, %s) g", (self.random.choice(self.contents), count),
        )  # fmt: skip
        self.execute("INSERT INTO audit (session, body) SELECT %s, md5(g::text) FROM generate_series(1, %s) g",
                     (self.number, count // 2))  # fmt: skip
        self.commit()


class Load:
    """Sessions that change the source at `rate` transactions a second in all, until the block ends."""

    def __init__(self, url, seed, sessions=2, rate=30):
        self.transactions = 0
        self._wait = sessions / rate
        self._lock = threading.Lock()
        self._runs = threading.Event()
        self._ends = threading.Event()
        self._idle = [threading.Event() for _ in range(sessions)]
        self._failure = None
        self._threads = [
            threading.Thread(target=self._run, args=(Session(url, seed, number), idle), daemon=True)
            for number, idle in enumerate(self._idle)
        ]

    def __enter__(self):
        self._runs.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, failure, *_):
        self._ends.set()
        self._runs.set()
        for thread in self._threads:
            thread.join(60)
        if failure is None:
            self.check()

    def check(self):
        assert self._failure is None, f"the load failed: {self._failure!r}"

    def pause(self):
        """No transaction is open when it returns."""
        self._runs.clear()
        for idle in self._idle:
            while not idle.wait(1):
                self.check()

    def resume(self):
        self._runs.set()

    def _run(self, session, idle):
        try:
            while not self._ends.wait(session.random.expovariate(1 / self._wait)):
                if not self._runs.is_set():
                    idle.set()
                    self._runs.wait()
                    idle.clear()
                    continue
                self._transaction(session)
        except BaseException as error:
            self._failure = error
        finally:
            idle.set()
            session.close()

    def _transaction(self, session):
        try:
            if session.random.random() < 0.004:
                session.large_transaction()
            else:
                session.random_transaction()
            with self._lock:
                self.transactions += 1
        except psycopg2.Error:
            # The server is away, or another session was in the way: what was committing is there or not.
            self._reconnect(session)
        if len(session.events) > 2 * NEWEST:
            del session.events[:NEWEST]

    def _reconnect(self, session):
        deadline = time.monotonic() + 120
        while True:
            try:
                return session.reconnect()
            except psycopg2.Error:
                if time.monotonic() > deadline or self._ends.is_set():
                    raise
                time.sleep(0.05)
