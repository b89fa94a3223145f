from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.doubles.desk import DeskDouble
from workers.telemetry.mounts import (
    MAX_STUCK,
    Mount,
    Space,
    Spaces,
    list_mounts,
    may_hang,
    percent,
    statvfs,
    worth_asking,
)

ROOT = Mount("/", "/dev/vda", "ext4")
NFS = Mount("/srv/nfs", "server:/export", "nfs4")
DATA = Mount("/srv/data", "/dev/vdb", "xfs")


class Disk:
    """Answers for every mount save those that hang until they are released."""

    def __init__(self, *hanging: str) -> None:
        self.released = {path: threading.Event() for path in hanging}
        self.threads: dict[str, threading.Thread] = {}
        self.asked: list[str] = []

    def __call__(self, path: str) -> Space:
        self.asked.append(path)
        self.threads[path] = threading.current_thread()
        if path in self.released:
            assert self.released[path].wait(60)
        return Space(used=30, available=70)

    def revive(self, path: str) -> None:
        self.released[path].set()
        self.threads[path].join(60)


@pytest.fixture
def desk() -> DeskDouble:
    return DeskDouble()


def measure(desk: DeskDouble, spaces: Spaces, *mounts: Mount) -> list[str]:
    answers: list[list[dict[str, Any]]] = []
    spaces.measure(list(mounts), answers.append)
    desk.run_until(lambda: answers)
    return [row["mount"] for row in answers[0]]


def test_spaces_row_is_what_the_wire_wants(desk: DeskDouble) -> None:
    answers: list[list[dict[str, Any]]] = []
    Spaces(desk.loop, desk.log, Disk()).measure([ROOT], answers.append)
    row = {"mount": "/", "fsname": "/dev/vda", "fstype": "ext4"}
    assert answers == [[row | {"used": 30, "avail": 70, "capacity": 30.0}]]


def test_spaces_dead_mount_does_not_stop_the_others(desk: DeskDouble) -> None:
    disk = Disk("/srv/nfs")
    spaces = Spaces(desk.loop, desk.log, disk, deadline_s=0.1)
    assert measure(desk, spaces, ROOT, NFS, DATA) == ["/", "/srv/data"]
    assert [(log.sentence, log.fields["mount"]) for log in desk.logs] == [
        ("mount does not answer", "/srv/nfs")
    ]
    disk.revive("/srv/nfs")


def test_spaces_dead_mount_is_not_asked_again_until_it_comes_back(desk: DeskDouble) -> None:
    disk = Disk("/srv/nfs")
    spaces = Spaces(desk.loop, desk.log, disk, deadline_s=0.1)
    for _ in range(3):
        assert measure(desk, spaces, ROOT, NFS) == ["/"]
    assert disk.asked.count("/srv/nfs") == 1
    disk.revive("/srv/nfs")
    desk.run_until(lambda: measure(desk, spaces, ROOT, NFS) == ["/", "/srv/nfs"])
    assert [log.sentence for log in desk.logs] == ["mount does not answer", "mount answers again"]


def test_spaces_asks_the_network_from_another_thread_only(desk: DeskDouble) -> None:
    disk = Disk()
    below = Mount("/srv/nfs/usb", "/dev/sdb1", "vfat")
    measure(desk, Spaces(desk.loop, desk.log, disk), ROOT, NFS, below)
    here = threading.current_thread()
    assert {path: thread is here for path, thread in disk.threads.items()} == {
        "/": True,
        "/srv/nfs": False,
        "/srv/nfs/usb": False,
    }


def test_spaces_waits_for_a_slow_answer_within_the_deadline(desk: DeskDouble) -> None:
    disk = Disk("/srv/nfs")
    answers: list[Any] = []
    Spaces(desk.loop, desk.log, disk, deadline_s=30).measure([ROOT, NFS], answers.append)
    desk.run_until(lambda: "/srv/nfs" in disk.asked)
    assert answers == []
    disk.revive("/srv/nfs")
    desk.run_until(lambda: answers)
    assert [row["mount"] for row in answers[0]] == ["/", "/srv/nfs"]


def test_spaces_mount_that_may_not_be_asked_is_left_out(desk: DeskDouble) -> None:
    def refuse(path: str) -> Space:
        if path in ("/srv/nfs", "/srv/data"):
            raise PermissionError(13, "no")
        return Space(1, 1)

    spaces = Spaces(desk.loop, desk.log, refuse)
    assert measure(desk, spaces, ROOT, NFS, DATA) == ["/"]


def test_spaces_many_dead_mounts_take_a_bounded_number_of_threads(desk: DeskDouble) -> None:
    mounts = [Mount(f"/net/{number:03}", "server:/x", "nfs") for number in range(50)]
    disk = Disk(*(mount.path for mount in mounts))
    spaces = Spaces(desk.loop, desk.log, disk, deadline_s=0.1)
    for _ in range(5):
        assert measure(desk, spaces, ROOT, *mounts) == ["/"]
    assert len(disk.threads) == MAX_STUCK + 1
    for path in set(disk.threads) - {"/"}:
        disk.revive(path)


def test_worth_asking_leaves_out_what_has_no_size_of_its_own() -> None:
    mounts = [
        ROOT,
        Mount("/proc", "proc", "proc"),
        Mount("/run", "tmpfs", "tmpfs"),
        Mount("/snap/core/1", "/dev/loop0", "squashfs"),
        Mount("/run/netns", "/dev/vda", "ext4"),
        Mount("/var/lib/docker/overlay2/x/merged", "overlay", "overlay"),
        NFS,
        Mount("/srv/other", "server:/export", "nfs4"),
    ]
    assert [mount.path for mount in worth_asking(mounts)] == ["/", "/srv/nfs", "/srv/other"]


def test_worth_asking_of_two_mounts_on_one_path_takes_the_visible_one() -> None:
    assert worth_asking([Mount("/", "rootfs", "rootfs"), ROOT]) == [ROOT]
    assert may_hang([Mount("/", "rootfs", "rootfs"), ROOT]) == set()


def test_worth_asking_container_root_counts() -> None:
    root = Mount("/", "overlay", "overlay")
    assert worth_asking([root]) == [root]


def test_may_hang_unknown_kind_is_doubted() -> None:
    mounts = [ROOT, Mount("/x", "y", "brand-new"), Mount("/x/y", "/dev/vdc", "ext4"), DATA]
    assert may_hang(mounts) == {"/x", "/x/y"}
    assert may_hang([Mount("/x", "y", "nfs"), Mount("/xy", "/dev/vdc", "ext4")]) == {"/x"}


def test_percent_counts_as_df_does() -> None:
    assert percent(Space(1, 2)) == 33.3
    assert percent(Space(0, 0)) == 0.0


def test_list_mounts_and_statvfs_of_this_machine() -> None:
    root = next(mount for mount in list_mounts() if mount.path == "/")
    space = statvfs(root.path)
    assert space.used > 0
    assert space.available >= 0
