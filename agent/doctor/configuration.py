"""Check what the machine's owner wrote: configuration, policy, directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent import dirs
from agent.config import Report
from agent.doctor.finding import Finding, Scene
from agent.errors import DirectoryError

_CURE = "`jackline config check` says it again after each change"


def check(scene: Scene) -> Iterator[Finding]:
    """Tell every fault and warning of the configuration and of policy.yaml."""
    policy_faults, policy_warnings = policy(scene.report)
    faults = [*map(str, scene.report.faults), *policy_faults]
    warnings = [*scene.report.warnings, *policy_warnings]
    for fault in faults:
        yield Finding("configuration", "failed", fault, _CURE)
    for warning in warnings:
        yield Finding("configuration", "warning", warning, _CURE)
    if not faults and not warnings:
        where = scene.report.config_file or "the environment"
        yield Finding("configuration", "ok", f"{where} is good")


def policy(report: Report) -> tuple[list[str], list[str]]:
    """Return what is wrong and what is doubtful in what decides; policy.yaml is a part of it."""
    from workers import policy as engine
    from workers import policy_file

    found = report.settings
    try:
        if found is None:  # the sections are not to be had; the owner's file can be read anyway
            folder = report.config_file.parent if report.config_file else dirs.find().config
            policy_file.read(folder / policy_file.FILE_NAME)
            return [], []
        loaded = engine.load(
            found.sections, found.policy_file, state_dir=found.dirs.state, origins=found.origins
        )
        return [], loaded.warnings()
    except engine.PolicyError as e:
        return [str(fault) for fault in e.faults], []


def check_directories(scene: Scene) -> Iterator[Finding]:
    """Tell which directory an agent of this user would refuse."""
    places = dirs.find(scene.environ)
    owner = dirs.owner_of(places.state)
    yield _directory("state", places.state, owner)
    yield _directory("run", places.run, owner, may_be_passed=True)


def _directory(name: str, path: Path, owner: int, *, may_be_passed: bool = False) -> Finding:
    if not os.path.lexists(path):
        if os.access(_nearest(path), os.W_OK):
            return Finding("directories", "ok", f"{path} will be made when the agent starts")
        cure = f"run as its owner, or set JACKLINE_{name.upper()}_DIR"
        return Finding("directories", "failed", f"{path} cannot be made", cure)
    try:
        dirs.check(path, owner=owner, may_be_passed=may_be_passed)
    except DirectoryError as e:
        cure = f"look inside, then `chmod 700 {path}` and give it to the agent's user"
        return Finding("directories", "failed", str(e), cure)
    return Finding("directories", "ok", f"{path} is for uid {owner} alone")


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())
