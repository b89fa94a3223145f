"""`jackline login` asks for what the hub wants and keeps the session."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hub.cli import exits, login, login_file
from hub.cli.client import Client
from hub.errors import CliError

HUB = "http://127.0.0.1:8480"


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JACKLINE_CONFIG_DIR", str(tmp_path))
    return tmp_path


def hub_of(monkeypatch: pytest.MonkeyPatch, *, has_totp: bool) -> None:
    def post(self: Client, path: str, body: dict, **_: object) -> dict:
        assert path == "/api/v1/sessions"
        if body["password"] != "right":
            raise CliError("wrong name or password (login_failed)", exits.NOT_PERMITTED)
        if has_totp and body.get("totp") != "123456":
            raise CliError("code", exits.NOT_PERMITTED, reason="totp_required")
        return {"token": "jls_x", "user": body["user"], "expires_at": "2030"}

    monkeypatch.setattr(Client, "post", post)


@pytest.mark.parametrize("typed, has_totp", [("right\n", False), ("right\n123456\n", True)])
def test_the_session_is_kept(monkeypatch: pytest.MonkeyPatch, typed: str, has_totp: bool) -> None:
    hub_of(monkeypatch, has_totp=has_totp)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert login.run(["--hub", HUB, "--user", "ann", "--password-stdin"]) == exits.OK
    kept = login_file.load()
    assert (kept.hub, kept.token, kept.user) == (HUB, "jls_x", "ann")


def test_a_refusal_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, config_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub_of(monkeypatch, has_totp=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong\n"))
    code = login.run(["--hub", HUB, "--user", "ann", "--password-stdin"])
    assert code == exits.NOT_PERMITTED
    assert list(config_dir.iterdir()) == []
    assert "wrong name" in capsys.readouterr().err


class DeviceFlow:
    """A hub whose answers to a polling device are given one after the other."""

    def __init__(self, *answers: dict | CliError) -> None:
        self.answers = list(answers)
        self.slept: list[float] = []

    def post(self, path: str, body: dict) -> dict:
        if path == "/api/v1/device/code":
            return {
                "device_code": "d",
                "user_code": "BCDF-GHJK",
                "verification_uri": f"{HUB}/device",
                "expires_in": 900,
                "interval": 5,
            }
        assert (path, body["device_code"]) == ("/api/v1/device/token", "d")
        answer = self.answers.pop(0)
        if isinstance(answer, CliError):
            raise answer
        return answer


def refusal(reason: str, code: int = exits.USAGE) -> CliError:
    return CliError(reason, code, reason=reason)


GIVEN = {"access_token": "jls_y", "user": "ann", "expires_at": "2030", "token_type": "bearer"}


def test_a_device_polls_as_slowly_as_it_is_told_until_it_is_approved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub = DeviceFlow(
        refusal("authorization_pending"),
        refusal("slow_down"),
        CliError("gone", exits.UNAVAILABLE),
        GIVEN,
    )
    made = login.by_device(hub, hub.slept.append)  # type: ignore[arg-type]
    assert made["token"] == "jls_y"
    assert hub.slept == [5.0, 5.0, 10.0, 10.0]
    assert "BCDF-GHJK" in capsys.readouterr().err


@pytest.mark.parametrize("reason", ["access_denied", "expired_token", "invalid_grant"])
def test_a_device_that_is_refused_gives_up(reason: str) -> None:
    hub = DeviceFlow(refusal(reason))
    with pytest.raises(CliError):
        login.by_device(hub, hub.slept.append)  # type: ignore[arg-type]
