"""A real PostgreSQL, Debian's, started by the tests: a private data directory, a Unix socket.

Rules: root may not run it, so root's tests run it as `postgres`; it ends with the process that
started it; nothing is synced to the disk. The role `hub` owns the databases of tests and is no
superuser: row-level security holds for it, as it must for a hub's role.
Source: PostgreSQL 15, "Non-Durable Settings".
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.facilities import missing, require

ROLE = "hub"
SUPERUSER = "postgres"
START_S = 60
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "unix_socket_permissions": "0777",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


class PostgresServer:
    """One server for as long as it is open."""

    def __init__(self) -> None:
        self._programs = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="jl-pg-"))
        self._account = pwd.getpwnam(SUPERUSER) if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self.folder.chmod(0o755)
        self._made = 0
        self._init()
        self._process = self._start()

    def create(self, template: str = "template1") -> str:
        """Make a database that `hub` owns, a copy of another; returns its URL."""
        self._made += 1
        name = f"t{os.getpid()}_{self._made}"
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        return self.url(name)

    def create_again(self, url: str) -> None:
        """Make a database of that URL, empty."""
        self.sql(f"CREATE DATABASE {name_of(url)} OWNER {ROLE}")

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        self.sql(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def url(self, name: str, role: str = ROLE) -> str:
        return f"postgresql://{role}@/{name}?host={quote(str(self.folder), safe='')}"

    def sql(self, statement: str, name: str = "postgres") -> None:
        """Run a statement as the superuser."""
        with psycopg.connect(self.url(name, SUPERUSER), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """Cut every connection, as a crash of the machine's service would; data stays."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_S)

    def start_again(self) -> None:
        self._process = self._start()

    def close(self) -> None:
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _init(self) -> None:
        argv = [self._programs / "initdb", "-D", self.folder / "data", "-U", SUPERUSER]
        more = ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        done = self._run([*argv, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = done.communicate(timeout=START_S)
        assert done.returncode == 0, out

    def _start(self) -> subprocess.Popen[bytes]:
        flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
        argv = [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *flags]
        with (self.folder / "log").open("ab") as log:
            process = self._run(argv, stdout=log, stderr=log)
        self._wait(process)
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.sql(_ROLE_ONCE)
                return
            except psycopg.OperationalError:
                log = (self.folder / "log").read_text(errors="replace")
                assert process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.05)

    def _run(self, argv: list[object], **how: object) -> subprocess.Popen[bytes]:
        line = [require("setpriv"), "--pdeathsig", "INT"]
        if self._account:
            ids = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}"]
            line += [*ids, "--clear-groups"]
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(
            [*line, *map(str, argv)],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            **how,  # type: ignore[call-overload]
        )


_ROLE_ONCE = f"""DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
END $$"""


def programs() -> Path:
    """Return the folder of the newest server's programs."""
    require("pg_lsclusters")
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: float(path.parent.parent.name), default=None)
    return (newest or Path(missing("no PostgreSQL server is installed"))).parent


def name_of(url: str) -> str:
    """Return the database's name in a URL of ours."""
    match = re.fullmatch(r"postgresql://\w+@/(\w+)\?.*", url)
    assert match, url
    return match[1]
