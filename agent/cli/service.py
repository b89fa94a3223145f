"""Let systemd run the agent, take it away again, or show how it stands.

Exit codes: 0; 1 systemd refused; 3 `status`: it is not active; 69 this machine is not run by
systemd; 77 root is needed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from agent import exits, systemd
from agent.cli import output
from agent.doctor import service as look

UNIT_DIR = Path("/etc/systemd/system")


def run(argv: list[str]) -> int:
    """Carry out `jackline service install|uninstall|status`."""
    options = _parser().parse_args(argv)
    try:
        if options.verb == "install":
            return _install(options)
        if options.verb == "uninstall":
            return _uninstall(options)
        return _status(as_json=output.wants_json(options))
    except PermissionError as e:
        output.note(f"{e.filename}: not permitted; try as root")
        return exits.NOT_PERMITTED


def _parser() -> argparse.ArgumentParser:
    parser = output.parser("service", "Let systemd run the agent.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    install = verbs.add_parser("install", help="write the unit, enable and start it")
    install.add_argument("--user", help="the account to run as (default: root)")
    install.add_argument(
        "--strict", action="store_true", help="for a machine that only reports: no shells, no jobs"
    )
    uninstall = verbs.add_parser("uninstall", help="stop and disable it, remove the unit")
    for one in (install, uninstall):
        one.add_argument("--unit-dir", type=Path, default=UNIT_DIR, metavar="DIR")
        one.add_argument("--no-start", action="store_true", help="only write or remove the file")
    output.add_format(verbs.add_parser("status", help="how the unit stands"))
    return parser


def _install(options: argparse.Namespace) -> int:
    service = systemd.Service(f"{_program()} run", options.user, options.strict)
    path = options.unit_dir / systemd.UNIT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(systemd.unit(service), encoding="utf-8")
    path.chmod(0o644)
    output.note(f"wrote {path}")
    if options.no_start or not _is_systemd():
        if not options.no_start:
            output.note("this machine is not run by systemd: nothing was started")
        return exits.OK
    return _systemctl(["daemon-reload"]) or _systemctl(["enable", "--now", systemd.UNIT])


def _uninstall(options: argparse.Namespace) -> int:
    path = options.unit_dir / systemd.UNIT
    is_live = _is_systemd() and not options.no_start
    if is_live and path.exists():
        _systemctl(["disable", "--now", systemd.UNIT])
    path.unlink(missing_ok=True)
    if is_live:
        _systemctl(["daemon-reload"])
    output.note("removed; jobs that still run end with their leases, or with `jackline stop`")
    return exits.OK


def _status(*, as_json: bool) -> int:
    found = look.shown(systemd.UNIT)
    if found is None:
        output.note("this machine is not run by systemd")
        return exits.UNAVAILABLE
    if as_json:
        output.print_json(found)
    else:
        output.print_fields(found.items())
    return exits.OK if found.get("ActiveState") == "active" else exits.PARTIAL


def _program() -> str:
    """Return the program that runs, as an absolute path that a unit may hold.

    As it was called, links and all: what a link names may change with the next version.
    """
    called = os.path.abspath(sys.argv[0])
    if os.path.basename(called) == "jackline" and os.access(called, os.X_OK):
        return called
    beside = Path(sys.executable).parent / "jackline"
    return str(beside) if beside.exists() else os.path.abspath(shutil.which("jackline") or called)


def _is_systemd() -> bool:
    return os.path.isdir("/run/systemd/system") and shutil.which("systemctl") is not None


def _systemctl(words: list[str]) -> int:
    done = subprocess.run(["systemctl", *words], stdin=subprocess.DEVNULL, check=False)
    return exits.OK if done.returncode == 0 else exits.FAILED
