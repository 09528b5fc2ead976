# SPDX-License-Identifier: Apache-2.0
"""A hot standby of a PostgreSQL server, which can be promoted."""

import os
import shlex
import shutil

from .postgres import Postgres
from .server import wait_for

# What belongs to the process that runs there, not to its data.
LEFT_OUT = {"postmaster.pid", "postmaster.opts", "pg_wal", "pg_replslot", "pg_stat_tmp", "pg_subtrans"}


class Standby(Postgres):
    """A standby of `primary`, which runs when it is first started, made by a base backup.

    It streams through a physical slot of the primary, `name`, and tells it what its own slots need
    (hot_standby_feedback). With `sync_slots` it keeps the primary's failover slots (17 and newer).
    """

    name = "standby"

    def __init__(self, directory, primary, port=None, die_with_parent=False, settings=None,
                 sync_slots=False):  # fmt: skip
        self.primary = primary
        slot = "standby_" + "".join(c for c in str(directory)[-30:].lower() if c.isalnum())
        self.physical_slot = slot
        mine = {
            "hot_standby": "on",
            "hot_standby_feedback": "on",
            "wal_receiver_status_interval": "1s",
            "wal_retrieve_retry_interval": "200ms",
            "primary_slot_name": slot,
            "primary_conninfo": f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres",
        }
        if sync_slots:
            mine["sync_replication_slots"] = "on"
        super().__init__(directory, port, die_with_parent,
                         {**primary.settings, **mine, **(settings or {})}, primary.version)

    def promote(self, timeout=30):
        """Makes it a primary; returns when it takes writes."""
        self.sql("SELECT pg_promote(true, 60)")
        wait_for(lambda: self.sql("SELECT pg_is_in_recovery()") == ["f"], "the promotion", timeout)

    def wait_replayed(self, timeout=30):
        """Until it shows all that is committed in the primary now."""
        (end,) = self.primary.sql("SELECT pg_current_wal_flush_lsn()")
        wait_for(
            lambda: self.sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == ["t"],
            "the standby replays what the primary has", timeout,
        )  # fmt: skip

    def _prepare(self):
        if (self.data / "PG_VERSION").exists():
            self._remove_stale_lock()
            return
        part = self.directory / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        label = self._copy(part)
        for name in LEFT_OUT:
            shutil.rmtree(part / name, ignore_errors=True)
            (part / name).unlink(missing_ok=True)
        for folder in ("pg_wal", "pg_wal/archive_status", "pg_replslot", "pg_stat_tmp", "pg_subtrans"):
            (part / folder).mkdir(mode=0o700)
        (part / "backup_label").write_text(label, encoding="utf-8")
        (part / "standby.signal").touch()
        owner = self.primary.data.stat()
        for path in part.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)
        part.rename(self.data)

    def _copy(self, part):
        """Copies the primary's data while it runs; returns the label of the backup."""
        start, stop = "pg_backup_start('standby', true)", "pg_backup_stop(false)"
        if self.version < 15:
            start, stop = "pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"
        # One session: the backup ends with it. Files that vanish meanwhile are in the WAL.
        lines = self.primary.sql(
            "\\o /dev/null\n"
            f"SELECT pg_create_physical_replication_slot('{self.physical_slot}', true) WHERE NOT EXISTS"
            f" (SELECT FROM pg_replication_slots WHERE slot_name = '{self.physical_slot}');\n"
            f"SELECT {start};\n"
            f"\\! cp -a {shlex.quote(str(self.primary.data))} {shlex.quote(str(part))} 2>/dev/null\n"
            f"\\o\nSELECT labelfile FROM {stop};"
        )
        return "\n".join(lines) + "\n"

    def _after_ready(self):
        """Its roles and databases are the primary's."""


