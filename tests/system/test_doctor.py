"""`jackline doctor` against real servers: a good one, one that refuses, wrong certificates."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.hubs import HubOptions, NodeHub, ScriptedHub
from tests.doubles.proxy import AuthProxy
from tests.doubles.tls import Authority, RecordingServer, self_signed

CLIENT, TOKEN = "agent-1", "a secret of the tests"
JACKLINE = str(Path(sys.executable).parent / "jackline")
Findings = dict[str, dict[str, str]]
Doctor = Callable[..., Findings]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Run the doctor with a configuration; give the findings by check."""
    dirs = {
        f"JACKLINE_{n}_DIR": str(tmp_path / n.lower()) for n in ("CONFIG", "STATE", "RUN", "LOG")
    }

    def run(url: str, environ: dict[str, str] | None = None, **config: Any) -> Findings:
        path = tmp_path / "agent-config.json"
        content = {"clientId": CLIENT, "serverUrl": url, "authToken": TOKEN, **config}
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        done = subprocess.run(
            [JACKLINE, "doctor", "--json", "--config", str(path)],
            env={"PATH": os.environ["PATH"], **dirs, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert TOKEN not in done.stdout + done.stderr
        found = {finding["check"]: finding for finding in json.loads(done.stdout)}
        is_bad = any(finding["state"] == "failed" for finding in found.values())
        assert done.returncode == (1 if is_bad else 0)
        return found

    return run


@pytest.mark.parametrize("kind", [ScriptedHub, NodeHub])
def test_doctor_is_accepted_by_a_real_hub(
    doctor: Doctor, kind: type[ScriptedHub | NodeHub]
) -> None:
    with kind(HubOptions(tokens={CLIENT: TOKEN})) as hub:
        found = doctor(hub.url)
    states = {name: found[name]["state"] for name in ("dns", "tcp", "websocket", "auth")}
    assert set(states.values()) == {"ok"}


def test_doctor_tells_a_wrong_key(doctor: Doctor) -> None:
    with ScriptedHub(HubOptions(tokens={CLIENT: "another one"})) as hub:
        found = doctor(hub.url)
    assert found["websocket"]["state"] == "ok"
    assert found["auth"]["state"] == "failed"
    assert "auth_failed" in found["auth"]["sentence"]
    assert "authToken" in found["auth"]["cure"]


def test_doctor_tells_that_websocket_is_refused(doctor: Doctor) -> None:
    options = HubOptions(tokens={CLIENT: TOKEN}, modes={"websocketStatus": 403})
    with NodeHub(options) as hub:
        found = doctor(hub.url)
    assert found["websocket"]["state"] == "warning"
    assert "403" in found["websocket"]["sentence"]


def test_doctor_goes_through_a_proxy_that_wants_a_password(doctor: Doctor) -> None:
    with ScriptedHub(HubOptions(tokens={CLIENT: TOKEN})) as hub, AuthProxy() as proxy:
        found = doctor(hub.url, {"HTTP_PROXY": proxy.url})
        assert found["auth"]["state"] == "ok"
        assert len(proxy.tunnels) >= 2
        refused = doctor(hub.url, {"HTTP_PROXY": proxy.url_without_credentials})
        assert refused["proxy"]["state"] == "failed"


@pytest.mark.parametrize("fault", ["self-signed", "expired", "wrong host"])
def test_doctor_tells_a_bad_certificate_and_sends_nothing(
    doctor: Doctor, tmp_path: Path, fault: str
) -> None:
    authority = Authority(tmp_path)
    match fault:
        case "self-signed":
            files = self_signed(tmp_path)
        case "expired":
            files = authority.issue(ends=datetime.timedelta(days=-1))
        case _:
            files = authority.issue("elsewhere.example")
    with RecordingServer(files) as server:
        url = f"https://127.0.0.1:{server.port}"
        found = doctor(url, transport={"caFile": str(authority.ca_file)})
        assert found["tls"]["state"] == "failed"
        assert all(not exchange.plaintext for exchange in server.exchanges)


def test_doctor_warns_of_a_certificate_that_ends_soon(doctor: Doctor, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue(ends=datetime.timedelta(days=5))
    options = HubOptions(tokens={CLIENT: TOKEN}, cert_file=files.cert, key_file=files.key)
    with ScriptedHub(options) as hub:
        found = doctor(hub.url, transport={"caFile": str(authority.ca_file)})
    assert found["tls"]["state"] == "warning"
    assert "more days" in found["tls"]["sentence"]
    assert found["auth"]["state"] == "ok"
