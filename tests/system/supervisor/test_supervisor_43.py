"""The agent under supervisor 4.3, which stands beside jackline; and what is the agent's alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.supervised import (
    CLIENT,
    JACKLINE_BIN,
    Supervised,
    await_link,
    end_shell,
    go_on,
    jobs_of,
    open_shell,
    running_supervisord,
    runs,
    until,
)
from tests.facilities import require_path
from tests.system.supervisor.contract import SupervisorContract


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervised]:
    with running_supervisord(_newest()) as running:
        yield running


def _newest() -> Path:
    return require_path(JACKLINE_BIN / "supervisord", "install jackline").parent


class TestSupervisor43(SupervisorContract):
    """The newest."""


def test_killed_agent_is_started_again_and_its_shell_goes_on(supervised: Supervised) -> None:
    hub = supervised.hub
    session, mark = open_shell(hub), hub.record.mark()
    os.kill(supervised.agent_pid(), signal.SIGKILL)
    await_link(hub, mark)
    go_on(hub, session)
    end_shell(hub, session)


def test_supervisorctl_stop_leaves_jobs_and_jackline_stop_ends_them(
    supervised: Supervised,
) -> None:
    open_shell(supervised.hub)
    [pid] = jobs_of(supervised, 1).values()
    assert "agent: stopped" in supervised.ctl("stop", "agent").stdout
    assert runs(pid)
    assert supervised.jackline("status").returncode == 69
    done = supervised.jackline("stop")
    assert done.returncode == 0, done.stderr
    assert not runs(pid)
    assert supervised.state() == "STOPPED"


def test_jackline_stop_with_a_running_agent_leaves_nothing_and_stays_stopped(
    supervised: Supervised,
) -> None:
    session = open_shell(supervised.hub)
    until(lambda: supervised.state() == "RUNNING", "RUNNING: an exit before that is a failed start")
    pids = [w["pid"] for w in supervised.workers()] + [supervised.agent_pid()]
    done = supervised.jackline("stop")
    assert done.returncode == 0, done.stderr
    assert [pid for pid in pids if runs(pid)] == []
    supervised.hub.wait_for("shell_closed", session=session)
    assert until(lambda: supervised.state() == "EXITED", "EXITED")


def test_second_agent_on_the_same_state_exits_75(supervised: Supervised) -> None:
    done = supervised.jackline("run")
    assert done.returncode == 75
    assert "already running" in done.stderr


# With our startretries FATAL takes hours; here it takes two failed starts, however slow they are.
IMPATIENT = {
    "startsecs=5\n": "startsecs=60\n",
    "startretries=100\n": "startretries=1\n",
    "_watch agent\n": "_watch agent 5\n",
}


def test_agent_that_became_fatal_is_started_once_its_configuration_is_mended() -> None:
    wrong = {"clientId": "not valid"}
    with running_supervisord(_newest(), config=wrong, changes=IMPATIENT) as supervised:
        until(lambda: supervised.state() == "FATAL", "FATAL")
        supervised.write_config(clientId=CLIENT)
        await_link(supervised.hub, since=0)
        assert supervised.state() == "STARTING"
