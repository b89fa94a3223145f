"""Check what jobs need of this machine: disk, terminals, cron."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agent import dirs
from agent.doctor.finding import Finding, Scene

LOW_BYTES = 200 << 20
NONE_BYTES = 20 << 20
LOW_FILES = 1_000
TIMEOUT_S = 5.0


def check_disk(scene: Scene) -> Iterator[Finding]:
    """Is there room for results and for the log?"""
    places = dirs.find(scene.environ)
    seen: set[int] = set()
    for path in (places.state, scene.report.log_file.parent, places.run):
        existing = _existing(path)
        device = existing.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _room(existing)


def _room(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    files = None
    if sys.platform != "win32":
        told = os.statvfs(path)
        files = told.f_favail if told.f_files else None
    cure = f"make room on the file system of {path}"
    if files is not None and files < LOW_FILES:
        return Finding("disk", "warning", f"{path} has {files} inodes left", cure)
    sentence = f"{path} has {free >> 20} MiB left"
    if free < NONE_BYTES:
        return Finding("disk", "failed", f"{sentence}: no job is taken", cure)
    return Finding("disk", "warning" if free < LOW_BYTES else "ok", sentence, cure)


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def check_pty(scene: Scene) -> Iterator[Finding]:
    """Can a terminal be had?"""
    del scene
    if sys.platform == "win32":
        yield Finding("pty", "skipped", "ConPTY is not tried")
        return
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError as e:
        cure = "mount devpts on /dev/pts, and look at /proc/sys/kernel/pty/max"
        yield Finding("pty", "failed", f"no terminal can be had: {e.strerror}", cure)
        return
    yield Finding("pty", "ok", "terminals can be had")


def check_crontab(scene: Scene) -> Iterator[Finding]:
    """Can this user's crontab be read?"""
    del scene
    if sys.platform == "win32":
        yield Finding("crontab", "skipped", "there is no crontab on Windows")
        return
    program = shutil.which("crontab", path="/usr/bin:/bin:/usr/local/bin:/usr/sbin")
    if program is None:
        cure = "install cron, if crontabs are to be read and written from afar"
        yield Finding("crontab", "warning", "there is no crontab program", cure)
        return
    try:
        done = subprocess.run(
            [program, "-l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding("crontab", "failed", f"{program} hangs", "look at the name services")
        return
    told = done.stderr.decode(errors="replace").strip().partition("\n")[0]
    if done.returncode == 0 or "no crontab" in told:
        yield Finding("crontab", "ok", f"{program} works")
    else:
        cure = "look at /etc/cron.allow and /etc/cron.deny"
        yield Finding("crontab", "warning", f"{program} refuses: {told}", cure)
