"""The real hub: `jackline hub serve` in a process of its own, on a free port, with its own state.

Rules: leaves nothing behind; the environment is built, not inherited; secrets cross on stdin. Its
port stays when it is killed and started again. With SQLite `jackline hub init` ran once for all
hubs of a test process: each gets a copy.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hub import keyring, settings
from hub.agents import service as agents
from hub.authorize import Role
from hub.db.database import Database
from hub.operators import credentials, service
from tests.doubles.asking import pause

JACKLINE = [sys.executable, "-P", "-m", "workers.program"]
ADMIN, PASSWORD = "root", "a password of the tests"
BUILT_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
DEADLINE_S = 120.0


class HubProcess:
    """See the module.

    Args:
        database_url: None for SQLite in the state directory.
        env: more variables, such as `JACKLINE_HUB_TRANSPORTS`.
    """

    def __init__(self, database_url: str | None = None, env: dict[str, str] | None = None) -> None:
        self.state_dir = Path(tempfile.mkdtemp(prefix="jlh-", dir="/tmp"))
        self.port = free_port()
        self.env = {**BUILT_ENV, **(env or {})}
        if database_url is not None:
            self.env["JACKLINE_HUB_DATABASE_URL"] = database_url
        self.context: ssl.SSLContext | None = None  # how https is judged
        self.prefix: list[str] = []  # argv that starts it, e.g. in a network of its own
        self.process: subprocess.Popen[bytes] | None = None
        if database_url is None:
            shutil.copytree(_initialised(), self.state_dir, dirs_exist_ok=True)
        else:
            _initialise(self.state_dir, self.env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> HubProcess:
        """Start it and wait until it serves."""
        with open(self.state_dir / "stderr", "ab") as stderr:
            self.process = subprocess.Popen(
                [*self.prefix, *JACKLINE, "hub", "serve", *self._where(), "--port", str(self.port)],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self.until(lambda: self.get("/readyz")[0] == 200)
        return self

    def beside(self) -> HubProcess:
        """Return a second process over the same files and database, not started; `kill` ends it."""
        other = copy.copy(self)
        other.port, other.process = free_port(), None
        return other

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM: an orderly end."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def suspend(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `jackline hub WORD ...` over its files."""
        return _command(self.state_dir, self.env, *words, stdin=stdin)

    def add_agent(self, client_id: str, tenant: str = "default") -> str:
        """Register an agent; return its `authToken`."""
        keys = keyring.load(self.state_dir)

        def add(session: Session) -> str:
            found = service.find_tenant(session, tenant) or service.add_tenant(session, tenant)
            asset = agents.add_asset(session, found.id, client_id)
            return agents.add_agent(session, keys, asset, client_id)[1]

        token: str = self.write(add)
        return token

    def add_user(self, name: str, role: Role, tenant: str = "default") -> str:
        """Make a user with an API token; return the token."""

        def add(session: Session) -> str:
            found = service.find_tenant(session, tenant) or service.add_tenant(session, tenant)
            user = service.add_user(session, found.id, name, role, None)
            return credentials.issue(session, user, "token", ttl_ms=None)[1]

        return self.write(add)

    def token(self) -> str:
        """Return an API token of the first admin."""

        def issue(session: Session) -> str:
            user = service.find_user(session, ADMIN)
            assert user is not None
            return credentials.issue(session, user, "token", ttl_ms=None)[1]

        return self.write(issue)

    def write(self, work: Callable[[Session], Any], tenant: str | None = None) -> Any:
        """Run a unit of work on its database, beside it."""
        with self.database() as database:
            return database.write_now(tenant, work)

    def read(self, work: Callable[[Session], Any]) -> Any:
        """Look into its database, beside it."""
        with self.database() as database:
            return database.read_now(None, work)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        database = Database(settings.load(self.state_dir, environ=self.env).url)
        try:
            yield database
        finally:
            database.close()

    def keyring(self) -> keyring.Keyring:
        return keyring.load(self.state_dir)

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        return self.request("GET", path, token)

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> tuple[int, Any]:
        """Call its API; return status and body, parsed where it is JSON. 0: nobody answers."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S, context=self.context) as reply:
                return reply.status, _body(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _body(error)
        except OSError:
            return 0, None

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait until something is true that only asking tells; fail when it never comes."""
        begun_s = time.monotonic()
        while not (found := condition()):
            dead = self.process is not None and self.process.poll() is not None
            if dead or time.monotonic() - begun_s > timeout_s:
                raise AssertionError(f"never came true; the log's end:\n{self.log()[-4000:]}")
            pause(begun_s)
        return found

    def log(self) -> str:
        """Return what it wrote on stderr so far."""
        path = self.state_dir / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End it and remove its files."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def _where(self) -> list[str]:
        return ["--state-dir", str(self.state_dir)]


@contextlib.contextmanager
def running_hub(
    database_url: str | None = None, env: dict[str, str] | None = None
) -> Iterator[HubProcess]:
    """Start a hub, and end it afterwards."""
    hub = HubProcess(database_url, env)
    try:
        yield hub.start()
    finally:
        hub.close()


@functools.cache
def _initialised() -> Path:
    """Return a state directory that `jackline hub init` has made, to be copied."""
    place = Path(tempfile.mkdtemp(prefix="jlh-", dir="/tmp"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    _initialise(place, BUILT_ENV)
    return place


def _initialise(state_dir: Path, env: dict[str, str]) -> None:
    """Run `jackline hub init`."""
    words = ("init", "--admin", ADMIN, "--password-stdin")
    _command(state_dir, env, *words, stdin=f"{PASSWORD}\n").check_returncode()


def _command(
    state_dir: Path, env: dict[str, str], word: str, *rest: str, stdin: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JACKLINE, "hub", word, "--state-dir", str(state_dir), *rest],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _body(reply: Any) -> Any:
    data = reply.read()
    if data and "json" in reply.headers.get("Content-Type", ""):
        return json.loads(data)
    return data.decode(errors="replace")
