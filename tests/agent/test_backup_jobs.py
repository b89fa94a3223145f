"""What a worker is told, and how a plan is told to the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.backup_events import planned
from agent.backup_jobs import job_of
from agent.backup_store import Plan, Store, plan_of
from workers import policy
from workers.backup_request import normalised
from workers.policy_sections import BackupSection, Sections


def test_owner_bounds_the_bandwidth_and_may_cross_file_systems(tmp_path: Path) -> None:
    plan = plan_of("p", normalised(["/a/b"], "/d", None, None, None, None), "mirror")

    def told(section: BackupSection, limit_kib_s: int = 0) -> tuple[int, bool]:
        engine = policy.load(Sections(backup=section), tmp_path / "policy.yaml", state_dir=tmp_path)
        job = job_of(plan, Store(tmp_path), engine, limit_kib_s=limit_kib_s)
        return job.limit_kib_s, job.one_file_system

    owners = BackupSection(limit_kib_per_sec=500, one_file_system=False)
    assert told(BackupSection()) == (0, True)
    assert told(owners) == (500, False)
    assert told(owners, 20) == (20, False)
    assert told(BackupSection(limit_kib_per_sec=-1)) == (0, True)


@pytest.mark.parametrize(
    ("files", "changed", "is_cut"), [(25, 0, None), (26, 0, True), (1, 26, True)]
)
def test_samples_are_25_and_what_was_cut_is_told(
    files: int, changed: int, is_cut: bool | None
) -> None:
    found = {
        "totalFiles": files,
        "totalBytes": 1,
        "changed": changed,
        "files": [f"src/{number}" for number in range(min(files, 30))],
        "modifies": [f"src/{number}" for number in range(min(changed, 30))],
    }
    told = planned(Plan(plan_id="p", source_dirs=["/src"], dest_root="/d", found=found), None)
    assert (len(told.files), len(told.modifies)) == (min(files, 25), min(changed, 25))
    assert told.truncated is is_cut
    empty = planned(Plan(plan_id="p", source_dirs=["/src"], dest_root="/d"), None)
    assert (empty.files, empty.modifies) == ((), ())
