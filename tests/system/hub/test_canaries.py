"""Secrets that a hub is told, or makes, are nowhere that they need not be.

Planted in every way that they come in, used rightly and wrongly, then looked for: in the log, in
every answer but the one that hands a secret out, in the database's files, in what the system shows
of the process.
"""

from __future__ import annotations

import json
import secrets
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from hub.authorize import Role
from hub.operators import passwords, service
from tests.doubles.hub_process import HubProcess


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    process = HubProcess(env={"JACKLINE_HUB_LOG_LEVEL": "debug"})
    try:
        yield process.start()
    finally:
        process.close()


class Scanner:
    """Remembers secrets, and looks for them in what the hub says."""

    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub
        self.canaries: dict[str, str] = {}
        self.answers: list[str] = []

    def plant(self, name: str, secret: str | None = None) -> str:
        self.canaries[name] = secret or f"canary{secrets.token_hex(16)}"
        return self.canaries[name]

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Ask something whose answer may hold no secret at all."""
        status, answer = self.hub.request(method, path, token, body)
        self.answers.append(json.dumps(answer))
        return status, answer

    def give(self, path: str, body: Any, token: str | None, secret: str) -> Any:
        """Ask for a secret: this answer alone may hold it."""
        status, answer = self.hub.request("POST", path, token, body)
        assert status in (200, 201), answer
        self.plant(path + str(len(self.canaries)), answer[secret])
        return answer

    def found(self, text: str) -> list[str]:
        spelled = {
            name: {secret, urllib.parse.quote(secret, safe="")}
            for name, secret in self.canaries.items()
        }
        return [name for name, forms in spelled.items() if any(form in text for form in forms)]


CODES = 10  # of one address in a minute there are not many


@pytest.mark.family("hub")
def test_secrets_are_nowhere_that_they_need_not_be(hub: HubProcess, soak: bool) -> None:
    scanner = Scanner(hub)
    password = scanner.plant("password")

    def add(session) -> None:
        tenant = service.find_tenant(session, "default")
        kept = passwords.hash_password(password)
        service.add_user(session, tenant.id, "ann", Role.TENANT_ADMIN, kept)

    hub.write(add)
    log_in = {"user": "ann", "password": password}
    session = scanner.give("/api/v1/sessions", log_in, None, "token")["token"]
    totp = scanner.give("/api/v1/me/totp", {"password": password}, session, "secret")["secret"]
    scanner.plant("auth token", hub.add_agent("web-1"))
    for round_ in range(50 if soak else 3):
        token = scanner.give("/api/v1/tokens", {"label": f"t{round_}"}, session, "token")["token"]
        scanner.give("/api/v1/enrolment/tokens", {"uses": 1}, token, "token")
        if round_ < CODES:
            scanner.give("/api/v1/device/code", {"client_id": "cli"}, None, "device_code")
        wrongly(scanner, session, token, totp)
    scan(scanner)


def wrongly(scanner: Scanner, session: str, token: str, totp: str) -> None:
    """Put every secret where it does not belong."""
    typed = scanner.plant(f"typed {len(scanner.canaries)}")
    ask = scanner.ask
    ask("POST", "/api/v1/sessions", {"user": typed, "password": typed})
    ask("POST", "/api/v1/sessions", {"user": "ann", "password": {"x": typed}})
    ask("POST", "/api/v1/sessions", {"user": "ann", "password": typed, "totp": typed})
    ask("POST", "/api/v1/me/password", {"password": typed, "new_password": typed}, token)
    ask("POST", "/api/v1/me/totp/confirm", {"code": pyotp.TOTP(totp).now()[::-1]}, session)
    ask("POST", "/api/v1/users", {"name": "x", "role": "auditor", "password": [typed]}, token)
    ask("POST", "/api/v1/agents/enroll", {"token": typed})
    body = {"grant_type": "x", "device_code": typed, "client_id": "cli"}
    ask("POST", "/api/v1/device/token", body)
    for secret in (typed, session, token):
        quoted = urllib.parse.quote(secret)
        ask("GET", f"/api/v1/users?cursor={quoted}", None, token)
        ask("GET", f"/api/v1/agents/{quoted}", None, token)
        ask("GET", f"/socket.io/?EIO=4&transport=polling&sig={quoted}&token={quoted}")
        ask("GET", "/api/v1/me", None, secret + "x")
    for path in ("users", "tokens", "logins", "audit", "jobs", "enrolment/tokens", "me", "agents"):
        ask("GET", f"/api/v1/{path}", None, token)


def scan(scanner: Scanner) -> None:
    hub = scanner.hub
    assert len(scanner.canaries) >= 10
    echoed = [found for answer in scanner.answers if (found := scanner.found(answer))]
    assert echoed == []
    proc = Path(f"/proc/{hub.pid}")
    shown = (proc / "cmdline").read_text() + (proc / "environ").read_text()
    assert scanner.found(shown) == []
    hub.stop()
    assert scanner.found(hub.log()) == []
    kept = [path for path in hub.state_dir.rglob("*") if path.is_file() and path.name != "stderr"]
    assert any(path.name == "hub.db" for path in kept)
    for path in kept:
        assert scanner.found(path.read_bytes().decode("latin-1")) == [], path


def test_the_scanner_finds_what_is_there(hub: HubProcess) -> None:
    scanner = Scanner(hub)
    secret = scanner.plant("it", "a/b")
    assert scanner.found(f"x{secret}x") == ["it"]
    assert scanner.found("x=a%2Fb") == ["it"]
    assert scanner.found("nothing") == []
