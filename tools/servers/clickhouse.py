# SPDX-License-Identifier: Apache-2.0
"""ClickHouse 26 out of libchdb.so: a whole server with HTTP and native TCP."""

import hashlib
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

from .server import HOST, Server, ServerError, cache_dir, find_program

SOURCE = Path(__file__).with_name("chdb_server.c")
QUERY = (
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP;"
    " SELECT count(sleepEachRow(0.2)) FROM system.numbers"
    " SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0"
)
# A keeper within the server, so that Replicated tables can be made; it forgets all when that ends.
CONFIG = """<clickhouse>
  <users_config>{users}</users_config>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
</clickhouse>
"""
USER = """    <{name}>
      <password>{password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>{profile}</profile>
      <quota>default</quota>
      <access_management>1</access_management>
      {grants}
    </{name}>
"""


class ClickHouse(Server):
    """User `default` has no password; `users` maps further names to passwords.

    `grants` maps a user to a list of GRANT statements, which are then all that it may do.
    `profiles` maps a user to its settings; a value in a tuple of one is one that it cannot change.
    With `watchdog` the server is started again whenever it ends by itself: it aborts now and then
    when a client is cut off inside an INSERT.
    """

    name = "clickhouse"

    def __init__(self, directory, port=None, die_with_parent=False, tcp_port=None, users=None,
                 grants=None, watchdog=False, profiles=None):  # fmt: skip
        self._given_tcp_port = tcp_port
        super().__init__(directory, port, die_with_parent)
        self._ports.setdefault("tcp_port", None)
        if tcp_port is not None and not self.is_running():
            self._ports["tcp_port"] = tcp_port
        self.users = {"default": "", **(users or {})}
        self.grants = grants or {}
        self.profiles = profiles or {}
        self.watchdog = watchdog
        self.data = self.directory / "data"

    @property
    def tcp_port(self):
        return self._port("tcp_port")

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"

    def query(self, sql, body=b"", timeout=60, user="default", **settings):
        """Runs one statement over HTTP and returns the text; raises ServerError on a refusal."""
        settings.setdefault("query", sql)
        request = urllib.request.Request(
            f"{self.url}/?{urllib.parse.urlencode(settings)}",
            data=body if isinstance(body, bytes) else body.encode(),
            headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": self.users.get(user, "")},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise ServerError(f"ClickHouse: {error.read().decode().strip()}") from error

    def _prepare(self):
        _ = self.tcp_port
        self.data.mkdir(exist_ok=True)
        users = "".join(self._user_xml(name) for name in self.users)
        profiles = "".join(self._profile_xml(name) for name in self.profiles)
        self._write("users.xml", f"<clickhouse>\n  <profiles><default/>{profiles}</profiles>\n"
                    f"  <quotas><default/></quotas>\n  <users>\n{users}  </users>\n</clickhouse>\n")  # fmt: skip
        self._write("config.xml", CONFIG.format(users=escape(str(self.directory / "users.xml"))))

    def _profile_xml(self, name):
        values, fixed = "", ""
        for setting, value in self.profiles[name].items():
            is_fixed = isinstance(value, tuple)
            values += f"<{setting}>{value[0] if is_fixed else value}</{setting}>"
            fixed += f"<{setting}><readonly/></{setting}>" if is_fixed else ""
        return f"<{name}>{values}<constraints>{fixed}</constraints></{name}>"

    def _user_xml(self, name):
        statements = "".join(f"<query>{escape(grant)}</query>" for grant in self.grants.get(name, []))
        grants = f"<grants>{statements}</grants>" if statements else ""
        profile = name if name in self.profiles else "default"
        password = escape(self.users[name])
        xml = USER.format(name=name, password=password, profile=profile, grants=grants)
        return xml.replace("<access_management>1", "<access_management>0") if statements else xml

    def _write(self, name, text):
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")

    def _command(self):
        return [
            build_launcher(),
            *(["--watchdog"] if self.watchdog else []),
            "--config-file", str(self.directory / "config.xml"),
            "--path", str(self.data),
            "--listen_host", HOST,
            "--http_port", str(self.port),
            "--tcp_port", str(self.tcp_port),
            "--query", QUERY,
        ]  # fmt: skip

    def _answers(self):
        try:
            return self.query("SELECT 1", timeout=5).strip() == "1"
        except ServerError:
            return False


def build_launcher():
    """Compiles chdb_server.c once for each version of it and of the library."""
    library = cache_dir() / "chdb" / "lib" / "libchdb.so"
    if not library.exists():
        raise ServerError(f"{library} is missing: run tools/deps.sh, which fetches it.")
    stamp = (cache_dir() / "chdb" / "stamp").read_bytes()
    version = hashlib.sha256(SOURCE.read_bytes() + stamp).hexdigest()[:16]
    program = cache_dir() / "chdb" / "bin" / f"chdb_server-{version}"
    if program.exists():
        return str(program)
    program.parent.mkdir(parents=True, exist_ok=True)
    part = program.with_suffix(f".part{os.getpid()}")
    command = [find_program("gcc", "g++"), "-O1", "-Wall", "-Wextra", "-o", str(part), str(SOURCE)]
    command += [f"-L{library.parent}", "-lchdb", f"-Wl,-rpath,{library.parent}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ServerError(f"{SOURCE} does not compile: {result.stderr.strip()}")
    part.replace(program)
    return str(program)
