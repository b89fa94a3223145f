"""The systemd units: what they must hold, equal to the files in packaging, and verified."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent import exits, systemd
from agent.cli import service
from tests.facilities import ROOT, require

UNITS = ROOT / "packaging" / "systemd"
COMMAND = "/opt/jackline/bin/jackline run"
FULL = systemd.unit(systemd.Service(COMMAND))
STRICT = systemd.unit(systemd.Service(COMMAND, user="jackline", is_strict=True))


@pytest.mark.parametrize(
    "path, text", [("jackline.service", FULL), ("reporter/jackline.service", STRICT)]
)
def test_unit_in_packaging_is_what_install_writes(path: str, text: str) -> None:
    assert (UNITS / path).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", [FULL, STRICT])
@pytest.mark.parametrize(
    "line",
    [
        "KillMode=process",
        "Delegate=yes",
        "RuntimeDirectoryPreserve=yes",
        "RestartPreventExitStatus=75 78",
        "Restart=on-failure",
    ],
)
def test_unit_keeps_the_promise(text: str, line: str) -> None:
    assert line in text.splitlines()


@pytest.mark.parametrize(
    "word",
    ["NoNewPrivileges", "Protect", "Private", "SystemCall", "Restrict", "Capability", "UMask"],
)
def test_unit_for_shells_takes_nothing_from_roots_shell(word: str) -> None:
    lines = [line for line in FULL.splitlines() if not line.startswith("RestartPrevent")]
    assert not any(line.startswith(word) for line in lines)


@pytest.mark.parametrize("path", ["jackline.service", "reporter/jackline.service"])
def test_unit_verifies_without_a_word(path: str, tmp_path: Path) -> None:
    """An unknown key is only a line on stderr, with exit code 0."""
    program = tmp_path / "jackline"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "jackline.service"
    unit.write_text((UNITS / path).read_text().replace("/opt/jackline/bin/jackline", str(program)))
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_of_a_reporter_is_little_exposed() -> None:
    done = subprocess.run(
        [
            require("systemd-analyze"),
            "security",
            "--offline=true",
            "--threshold=30",
            str(UNITS / "reporter/jackline.service"),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_drop_in_for_supervisord_verifies(tmp_path: Path) -> None:
    unit = tmp_path / "supervisor.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    folder = tmp_path / "supervisor.service.d"
    folder.mkdir()
    (folder / "jackline.conf").write_text(
        (UNITS / "supervisor.service.d/jackline.conf").read_text(encoding="utf-8")
    )
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_service_install_writes_and_uninstall_removes_the_unit(tmp_path: Path) -> None:
    where = ["--unit-dir", str(tmp_path), "--no-start"]
    assert service.run(["install", *where, "--user", "jackline"]) == exits.OK
    text = (tmp_path / "jackline.service").read_text(encoding="utf-8")
    assert "User=jackline" in text
    [start] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert Path(start.removeprefix("ExecStart=").split()[0]).is_absolute()
    assert service.run(["install", *where]) == exits.OK
    assert "User=" not in (tmp_path / "jackline.service").read_text(encoding="utf-8")
    assert service.run(["uninstall", *where]) == exits.OK
    assert list(tmp_path.iterdir()) == []
    assert service.run(["uninstall", *where]) == exits.OK
