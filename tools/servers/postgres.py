# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL 15 from Debian, set up for logical decoding."""

import os
import pwd
import shutil
import signal
import subprocess

from .server import HOST, Server, ServerError, find_program

PROGRAMS = ["/usr/lib/postgresql/15/bin"]
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "32",
    "max_wal_senders": "32",
    "max_connections": "200",
    "max_slot_wal_keep_size": "8GB",
    "shared_buffers": "128MB",
    "unix_socket_directories": "",
    "wal_sender_timeout": "60s",
}


class Postgres(Server):
    """A cluster with superuser `postgres` and, for the example, role and database `app`.

    `settings` overrides postgresql.conf. Loopback connections need no password.
    PostgreSQL does not run as root: started by root it runs as user `postgres`.
    """

    name = "postgres"
    stop_signal = signal.SIGINT
    parent_death_signal = "QUIT"

    def __init__(self, directory, port=None, die_with_parent=False, settings=None, programs=None):
        super().__init__(directory, port, die_with_parent)
        self.settings = {**SETTINGS, **(settings or {})}
        self.data = self.directory / "data"
        self._programs = [str(programs)] if programs else PROGRAMS

    def dsn(self, database="app", user="app"):
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    @property
    def url(self):
        """The example's database as role `app`."""
        return self.dsn()

    @property
    def superuser_url(self):
        return self.dsn("postgres", "postgres")

    def sql(self, text, database="postgres", user="postgres"):
        """Runs SQL with psql, each statement by itself; returns the rows, columns split by '|'."""
        result = subprocess.run(
            [self._program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
             "-d", self.dsn(database, user)],
            input=text, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if result.returncode != 0:
            raise ServerError(f"psql failed: {result.stderr.strip()}")
        return result.stdout.splitlines()

    def create_database(self, name, owner="app"):
        """Makes a database and returns its URL for `owner`."""
        self.sql(f'CREATE DATABASE "{name}" OWNER "{owner}"')
        return self.dsn(name, owner)

    def drop_database(self, name):
        """Drops a database with its connections and replication slots."""
        self.sql(
            f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            f" WHERE database = '{name}' AND active;\n"
            f"DO $$ BEGIN FOR attempt IN 1..100 LOOP EXIT WHEN NOT EXISTS (SELECT FROM"
            f" pg_replication_slots WHERE database = '{name}' AND active);"
            f" PERFORM pg_sleep(0.05); END LOOP; END $$;\n"
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            f" WHERE database = '{name}';\n"
            f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);'
        )

    def _program(self, name):
        return find_program(name, "postgresql-15", self._programs)

    def _account(self):
        """The user that runs the server: None for ourselves."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _as_account(self, command):
        account = self._account()
        if account is None:
            return command
        switch = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
        switch += ["--init-groups"]
        reach = subprocess.run([*switch, "test", "-x", str(self.directory)], check=False)
        if reach.returncode != 0:
            # The folder is below one that only root may enter, such as /root.
            switch += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return [*switch, *command]

    def _prepare(self):
        if (self.data / "PG_VERSION").exists():
            self._remove_stale_lock()
            return
        part = self.directory / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        account = self._account()
        if account is not None:
            os.chown(part, account.pw_uid, account.pw_gid)
        with open(self.log_path, "ab") as log:
            initdb = [self._program("initdb"), "-D", str(part), "-U", "postgres", "-E", "UTF8"]
            initdb += ["--locale=C.UTF-8", "--auth=trust"]
            result = subprocess.run(
                self._as_account(initdb), stdout=log, stderr=log, cwd="/", check=False
            )
        if result.returncode != 0:
            raise ServerError(f"initdb failed.{self._log_tail()}")
        part.rename(self.data)

    def _remove_stale_lock(self):
        """After a crash postmaster.pid may name a number that some other process has by now."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text(encoding="utf-8").splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if str(self.data).encode() in file.read():
                    return
        except FileNotFoundError:
            pass
        lock.unlink(missing_ok=True)

    def _command(self):
        command = [self._program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += ["-c", f"listen_addresses={HOST}"]
        for key, value in self.settings.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _launch(self, command):
        # A change of user clears the parent death signal, so that is set after it.
        return self._as_account(super()._launch(command))

    def _answers(self):
        result = subprocess.run(
            [self._program("pg_isready"), "-q", "-h", HOST, "-p", str(self.port)], check=False
        )
        return result.returncode == 0

    def _after_ready(self):
        self.sql(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app')"
            " THEN CREATE ROLE app LOGIN REPLICATION; END IF; END $$;"
        )
        if not self.sql("SELECT 1 FROM pg_database WHERE datname = 'app'"):
            self.sql("CREATE DATABASE app OWNER app")
