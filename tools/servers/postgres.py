# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, set up for logical decoding: 15 from Debian, 14, 16, 17 and 18 by tools/deps.sh."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .server import HOST, Server, ServerError, cache_dir, find_program

VERSIONS = (14, 15, 16, 17, 18)
# Debian's: the server, and for all versions the clients psql and pg_isready.
DEBIAN_VERSION = 15
DEBIAN_PROGRAMS = "/usr/lib/postgresql/15/bin"
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

    `version` is that of VERSIONS which a cluster is made with, 15 unless given; one that exists keeps
    its own. `settings` overrides postgresql.conf, such as {"logical_decoding_work_mem": "64kB",
    "max_prepared_transactions": "10"}. Loopback connections need no password.
    PostgreSQL does not run as root: started by root it runs as user `postgres`.
    """

    name = "postgres"
    stop_signal = signal.SIGINT
    parent_death_signal = "QUIT"

    def __init__(self, directory, port=None, die_with_parent=False, settings=None, version=None):
        super().__init__(directory, port, die_with_parent)
        self.settings = {**SETTINGS, **(settings or {})}
        self.data = self.directory / "data"
        self.version = self._made_version() or version or DEBIAN_VERSION
        if self.version != (version or self.version):
            raise ServerError(f"{self.data} was made by PostgreSQL {self.version}, not {version}.")

    def _made_version(self):
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="utf-8"))
        except (FileNotFoundError, PermissionError):
            return None

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
            [self._client("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
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

    def _client(self, name):
        return find_program(name, "postgresql-15", [DEBIAN_PROGRAMS])

    def _program(self, name):
        if self.version == DEBIAN_VERSION:
            return find_program(name, "postgresql-15", [DEBIAN_PROGRAMS])
        path = cache_dir() / "postgres" / str(self.version) / "bin" / name
        if self.version not in VERSIONS or not path.exists():
            raise ServerError(f"{path} is missing: run tools/deps.sh, which fetches it.")
        if self._account() is not None and not self._reaches(path):
            path = _reachable_copy(path.parents[1]) / "bin" / name
        return str(path)

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
        switch = self._switch()
        if not self._reaches(self.directory):
            # The folder is below one that only root may enter, such as /root.
            switch += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return [*switch, *command]

    def _switch(self):
        account = self._account()
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
        return ["setpriv", *ids, "--init-groups"]

    def _reaches(self, path):
        """Whether the user that runs the server may enter or run `path`."""
        test = [*self._switch(), "test", "-x", str(path)]
        return subprocess.run(test, check=False).returncode == 0

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
            [self._client("pg_isready"), "-q", "-h", HOST, "-p", str(self.port)], check=False
        )
        return result.returncode == 0

    def _after_ready(self):
        self.sql(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app')"
            " THEN CREATE ROLE app LOGIN REPLICATION; END IF; END $$;"
        )
        if not self.sql("SELECT 1 FROM pg_database WHERE datname = 'app'"):
            self.sql("CREATE DATABASE app OWNER app")


def _reachable_copy(programs):
    """A copy of a PostgreSQL below the folder for temporary files, by hard links where that goes.

    PostgreSQL looks for its parts with access(2), which capabilities do not help.
    """
    stamp = (programs / "stamp").read_text(encoding="utf-8").strip()
    base = Path(tempfile.gettempdir()) / f"millrace-postgres-{os.geteuid()}"
    base.mkdir(mode=0o755, exist_ok=True)
    if base.stat().st_uid != os.geteuid():
        raise ServerError(f"{base} belongs to another user: remove it, or set TMPDIR.")
    copy = base / f"{programs.name}-{stamp[:16]}"
    if not copy.exists():
        part = base / f"part-{os.getpid()}-{programs.name}"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(programs, part, symlinks=True, copy_function=_link_or_copy)
        try:
            part.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return copy


def _link_or_copy(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
