"""Units, init scripts and crontabs, read as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.heartbeat.services import crontab_lines, services, timers


def write(root: Path, place: str, text: str = "") -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    units = "usr/lib/systemd/system"
    write(tmp_path, f"{units}/ssh.service", "[Install]\nWantedBy=multi-user.target\n")
    write(tmp_path, f"{units}/off.service", "[Install]\nWantedBy=multi-user.target\n")
    write(tmp_path, f"{units}/helper.service", "[Service]\n")
    write(tmp_path, f"{units}/user@.service", "[Service]\n")
    write(tmp_path, f"{units}/masked.service", "[Service]\n")
    write(tmp_path, f"{units}/fstrim.timer", "[Timer]\nOnCalendar=weekly\nOnBootSec=5min\n")
    write(tmp_path, f"{units}/unused.timer", "[Timer]\nOnCalendar=daily\n")
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "ssh.service").symlink_to("/usr/lib/systemd/system/ssh.service")
    (wants / "fstrim.timer").symlink_to("/usr/lib/systemd/system/fstrim.timer")
    (tmp_path / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    (tmp_path / "sys/fs/cgroup/system.slice/ssh.service").mkdir(parents=True)
    write(tmp_path, "etc/init.d/legacy", "#!/bin/sh\n")
    write(tmp_path, "etc/init.d/ssh", "#!/bin/sh\n")
    return tmp_path


def test_services_tell_whether_they_run_and_are_wanted(machine: Path) -> None:
    told = {one.name: (one.state, one.enabled) for one in services(machine)}
    assert told == {
        "helper": (None, "static"),
        "legacy": (None, "init script"),
        "masked": (None, "masked"),
        "off": (None, "disabled"),
        "ssh": ("running", "enabled"),
    }


def test_timers_of_systemd_are_those_that_are_wanted(machine: Path) -> None:
    (timer,), unread = timers(machine)
    assert (timer.name, timer.source, timer.schedule) == ("fstrim", "systemd", "weekly; 5min")
    assert unread == []


def test_every_kind_of_crontab_is_read(tmp_path: Path) -> None:
    write(tmp_path, "etc/crontab", "SHELL=/bin/sh\n17 * * * * root run-parts /etc/cron.hourly\n")
    write(tmp_path, "etc/cron.d/backup", "# at night\n@daily backup /usr/bin/backup --all\n")
    write(tmp_path, "var/spool/cron/crontabs/alice", "*/5 * * * *\t/home/alice/check 'a b'\n")
    write(tmp_path, "etc/cron.daily/logrotate", "#!/bin/sh\n")
    found, _ = timers(tmp_path)
    told = [(t.source, t.name, t.schedule, t.user, t.command) for t in found]
    assert told == [
        ("cron.d/backup", "backup", "@daily", "backup", "/usr/bin/backup --all"),
        ("cron.daily", "logrotate", "@daily", "root", None),
        ("crontab", "run-parts", "17 * * * *", "root", "run-parts /etc/cron.hourly"),
        ("crontab of alice", "check", "*/5 * * * *", "alice", "/home/alice/check 'a b'"),
    ]


def test_variables_of_a_crontab_are_not_told() -> None:
    text = "MAILTO=root\nPASSWORD = hunter2\n 0 5 * * 1 /bin/true # x\n"
    assert list(crontab_lines(text, has_user=False)) == [("0 5 * * 1", None, "/bin/true # x")]


@pytest.mark.parametrize("line", ["", "#", "* * * *", "nonsense", "=", "\0", "@"])
def test_other_lines_are_none(line: str) -> None:
    assert list(crontab_lines(line, has_user=False)) == []


def test_crontab_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc/cron.d/folder").mkdir(parents=True)
    _, unread = timers(tmp_path)
    assert unread == ["timers: cron.d/folder: Is a directory"]
