"""What holds under every version of supervisor that we support; a class for each runs this."""

from __future__ import annotations

import os
import signal
import time

from tests.doubles.supervised import (
    BACK_ONLINE_S,
    DEADLINE_S,
    Supervised,
    await_link,
    end_shell,
    go_on,
    jobs_of,
    open_shell,
    type_into,
    until,
)
from wire import __version__


class SupervisorContract:
    """See the module. Its `supervisord` is a fixture of the test module."""

    def test_supervisord_starts_agent_and_watch(self, supervised: Supervised) -> None:
        assert supervised.state() == "RUNNING" or until(
            lambda: supervised.state() == "RUNNING", "the agent is RUNNING"
        )
        assert supervised.state("agent-watch") in ("RUNNING", "STARTING")
        assert supervised.jackline("--version").stdout.strip() == f"jackline {__version__}"

    def test_supervisorctl_worker_lists_shows_restarts_and_stops(
        self, supervised: Supervised
    ) -> None:
        session = open_shell(supervised.hub)
        listed = supervised.ctl("worker", "list")
        assert listed.returncode == 0
        rows = [line.split() for line in listed.stdout.splitlines()]
        [shell] = [row[0] for row in rows if row[1] == "shell"]
        assert shell in supervised.ctl("worker", "show", "shell").stdout
        assert supervised.ctl("worker", "restart", shell).stdout == f"{shell}: restarted\n"
        type_into(supervised.hub, session, "again")
        assert supervised.ctl("worker", "stop", shell).stdout == f"{shell}: stopped\n"
        supervised.hub.wait_for("shell_closed", session=session)
        missing = supervised.ctl("worker", "restart", "nothing")
        assert "ERROR" in missing.stdout
        assert missing.returncode != 0
        assert "worker list" in supervised.ctl("help", "worker").stdout

    def test_supervisorctl_restart_keeps_an_open_shell_and_a_running_command(
        self, supervised: Supervised
    ) -> None:
        hub = supervised.hub
        session, job = open_shell(hub), f"j-{time.monotonic_ns()}"
        begun, go = supervised.root / "begun", supervised.root / "go"
        command = f"sh -c 'touch {begun}; until [ -e {go} ]; do sleep 0.1; done; echo done'"
        hub.emit(
            "admin_run", {"token": job, "jobId": job, "cmd": {"command": command, "timeoutSec": 60}}
        )
        until(begun.exists, "the command runs")
        before = until(lambda: jobs_of(supervised, 2), "both jobs")
        old_pid, mark = supervised.agent_pid(), hub.record.mark()
        assert "agent: started" in supervised.ctl("restart", "agent").stdout
        await_link(hub, mark)
        assert supervised.agent_pid() != old_pid
        assert until(lambda: jobs_of(supervised, 2), "both jobs, adopted") == before
        go_on(hub, session)
        go.touch()
        result = hub.wait_for("admin_result", timeout=DEADLINE_S, token=job).payload["result"]
        assert (result["summary"]["code"], result["stdout"]) == (0, "done\n")
        assert len(hub.events("admin_result", token=job)) == 1
        end_shell(hub, session)

    def test_agent_watch_kills_a_stopped_agent_and_its_jobs_live(
        self, supervised: Supervised
    ) -> None:
        hub = supervised.hub
        session = open_shell(hub)
        pid, mark = supervised.agent_pid(), hub.record.mark()
        began_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await_link(hub, mark)
        took_s = time.monotonic() - began_s
        assert supervised.agent_pid() != pid
        go_on(hub, session)
        end_shell(hub, session)
        assert took_s < BACK_ONLINE_S
