"""Finding our place in each layout of control groups, from the kernel's own words."""

from __future__ import annotations

import os
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("Linux control groups", allow_module_level=True)

from workers import cgroups
from workers.cgroups import JobCgroup, Place, places


@pytest.fixture
def proc(tmp_path):
    """A stand-in for /proc/self; `describe` writes what the kernel would say."""

    class Proc:
        directory = tmp_path / "proc"
        tree = tmp_path / "fs"

        def describe(self, groups: list[str], mounts: list[tuple[str, str, str, str]]) -> None:
            self.directory.mkdir()
            (self.directory / "cgroup").write_text("".join(f"{each}\n" for each in groups))
            lines = []
            for number, (root, point, kind, options) in enumerate(mounts):
                where = str(self.tree / point).replace(" ", "\\040")
                lines.append(
                    f"{30 + number} 23 0:{number} {root} {where} rw,relatime shared:9 - "
                    f"{kind} {kind} {options}\n"
                )
            lines.append("99 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
            (self.directory / "mountinfo").write_text("".join(lines))

        def group(self, path: str, **files: str) -> str:
            directory = self.tree / path
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in {"cgroup.procs": "", **files}.items():
                (directory / name.replace("__", ".")).write_text(text)
            return str(directory)

        def places(self) -> list[Place]:
            return places(str(self.directory))

    return Proc()


def test_version_2_gives_groups_below_ours_without_limits(proc):
    proc.describe(["0::/system.slice/jackline.service"], [("/", "cgroup", "cgroup2", "rw")])
    own = proc.group("cgroup/system.slice/jackline.service", cgroup__subtree_control="")
    assert proc.places() == [Place(own, True, frozenset())]


def test_delegated_leaf_gives_neighbours_with_limits(proc, monkeypatch):
    monkeypatch.setattr(cgroups, "_is_delegated", lambda directory: True)
    proc.describe(["0::/system.slice/jackline.service/agent"], [("/", "cg", "cgroup2", "rw")])
    parent = proc.group("cg/system.slice/jackline.service", cgroup__subtree_control="pids memory")
    proc.group("cg/system.slice/jackline.service/agent", cgroup__procs="1\n")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(cgroups, "_write", lambda path, text: asked.append((path, text)))
    assert proc.places() == [Place(parent, True, frozenset({"pids", "memory"}))]
    assert asked == [
        (f"{parent}/cgroup.subtree_control", f"+{name}") for name in ("pids", "memory")
    ]


def test_leaf_of_a_group_that_was_not_handed_to_us_is_left_alone(proc):
    proc.describe(["0::/user.slice/agent"], [("/", "cg", "cgroup2", "rw")])
    proc.group("cg/user.slice", cgroup__subtree_control="")
    own = proc.group("cg/user.slice/agent", cgroup__subtree_control="")
    if os.geteuid() != 0:
        pytest.skip("an ordinary user owns what a test makes, and ownership is delegation")
    assert proc.places() == [Place(own, True, frozenset())]


def test_leaf_beside_members_of_the_parent_is_left_alone(proc, monkeypatch):
    monkeypatch.setattr(cgroups, "_is_delegated", lambda directory: True)
    proc.describe(["0::/unit/agent"], [("/", "cg", "cgroup2", "rw")])
    proc.group("cg/unit", cgroup__procs="77\n", cgroup__subtree_control="")
    own = proc.group("cg/unit/agent", cgroup__subtree_control="")
    assert proc.places() == [Place(own, True, frozenset())]


def test_hybrid_layout_gives_one_place_for_each_tree_we_use(proc):
    proc.describe(
        ["9:name=systemd:/", "8:pids:/a", "4:memory:/a/b", "1:cpu,cpuacct:/a", "0::/a"],
        [
            ("/", "systemd", "cgroup", "rw,name=systemd"),
            ("/", "pids", "cgroup", "rw,pids"),
            ("/", "memory", "cgroup", "rw,memory"),
            ("/", "unified", "cgroup2", "rw"),
        ],
    )
    pids, memory = proc.group("pids/a"), proc.group("memory/a/b")
    unified = proc.group("unified/a", cgroup__subtree_control="")
    assert proc.places() == [
        Place(pids, False, frozenset({"pids"})),
        Place(memory, False, frozenset({"memory"})),
        Place(unified, True, frozenset()),
    ]


def test_containers_mount_shows_a_part_of_the_tree(proc):
    proc.describe(
        ["0::/docker/abc/inner"], [("/docker/abc", "cg", "cgroup2", "rw"), ("/", "x", "tmpfs", "")]
    )
    own = proc.group("cg/inner", cgroup__subtree_control="pids")
    assert proc.places() == [Place(own, True, frozenset({"pids"}))]


def test_group_outside_the_mount_is_nowhere(proc):
    proc.describe(["0::/elsewhere"], [("/docker/abc", "cg", "cgroup2", "rw")])
    proc.group("cg")
    assert proc.places() == []


def test_mount_point_with_a_space_is_understood(proc):
    proc.describe(["0::/"], [("/", "with space", "cgroup2", "rw")])
    own = proc.group("with space", cgroup__subtree_control="")
    assert proc.places() == [Place(own, True, frozenset())]


def test_without_the_kernels_files_there_is_no_place(tmp_path):
    assert places(str(tmp_path / "nothing")) == []


@pytest.mark.parametrize("job_id", ["", "../x", "a/b", "a b", "x" * 101, "é"])
def test_only_plain_words_name_a_group(proc, job_id):
    place = Place(proc.group("cg"), True, frozenset())
    assert JobCgroup.create(job_id, [place]) is None
    assert JobCgroup.find(job_id, [place]) is None


def test_no_place_gives_no_group():
    assert JobCgroup.create("job", []) is None


def test_place_that_cannot_be_written_gives_no_group(tmp_path):
    place = Place(str(tmp_path / "gone"), True, frozenset())
    assert JobCgroup.create("job", [place]) is None
