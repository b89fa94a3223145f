"""`jackline demo --check`: the main job, from an empty folder to an adopted shell, step by step.

Rules: every step goes the way that an operator's would (API, live socket, command line); one line
each with its time; what this machine lacks is skipped and says what to install; the first step that
fails ends it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from hub.demo.stage import Stage
from hub.demo.terminal import Shell
from hub.errors import CliError
from hub.ids import new_id

DENIED = 126
_FILES = {"notes.txt": "kept\n", "deep/er/data.bin": "x" * 100_000}


class Check:
    """The steps; each returns what to say of it, or a sentence that begins with `skipped`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._asset = ""
        self._shell: Shell | None = None
        self._shell_pid = ""

    def run(self) -> bool:
        """Go through the steps; tell whether all of them held."""
        for name, step in self._steps():
            started = time.monotonic()
            try:
                said, is_well = step(), True
            except CliError as error:
                said, is_well = str(error), False
            word = "skip" if said.startswith("skipped") else "ok" if is_well else "FAIL"
            print(f"{word:<4} {time.monotonic() - started:6.2f} s  {name}: {said}", flush=True)
            if not is_well:
                return False
        return True

    def _steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("hub", self._hub),
            ("enrolment", self._enrolment),
            ("agent", self._agent),
            ("inventory by heartbeat", self._inventory),
            ("shell", self._open_shell),
            ("command", self._command),
            ("refused command", self._refused),
            ("crontab", self._crontab),
            ("backup", self._backup),
            ("worker restart beside the shell", self._restart),
            ("agent killed, shell adopted", self._adoption),
            ("end", self._end),
        ]

    def _hub(self) -> str:
        self._stage.start_hub()
        self._stage.log_in()
        return f"{self._stage.url}, logged in"

    def _enrolment(self) -> str:
        self._stage.enrol()
        return "a token was burnt, this machine has an identity"

    def _agent(self) -> str:
        self._stage.start_agent()
        machine = self._stage.machine()
        self._asset = machine["asset_id"]
        return f"{machine['name']} is online"

    def _inventory(self) -> str:
        asked = {
            "asset_id": self._asset,
            "command_type": "collect_inventory",
            "idempotency_key": new_id(),
        }
        made = self._stage.client.post("/api/v1/commands", asked)
        path = f"/api/v1/commands/{made['command_id']}"
        ended = self._ended(path, ("completed", "failed"))
        if ended["state"] != "completed":
            raise CliError(f"it failed: {ended.get('error')}", 1)
        return f"{ended['state']}, {len(ended.get('result_summary') or {})} figures"

    def _open_shell(self) -> str:
        self._shell = Shell(self._stage.client, self._asset)
        echoed = self._shell.answer("echo mark=$((6*7))=", "mark")
        self._shell_pid = self._shell.answer("echo pid=$$=", "pid")
        return f"an echo came back ({echoed}), process {self._shell_pid}"

    def _command(self) -> str:
        job = self._admin("uname -s")
        if job["state"] != "succeeded":
            raise CliError(f"it ended {job['state']}: {job.get('error')}", 1)
        return str(job["result"]["stdout"]).strip()

    def _refused(self) -> str:
        job = self._admin("rm -rf /nothing-of-the-kind")
        code = (job.get("result") or {}).get("code")
        if code != DENIED:
            raise CliError(f"it was not refused: {job['state']}, code {code}", 1)
        return f"code {code}: {str(job['result']['stderr']).strip().splitlines()[0][:90]}"

    def _crontab(self) -> str:
        if shutil.which("crontab") is None:
            return "skipped: install cron"
        result = self._admin("crontab -l").get("result") or {}
        lines = str(result.get("stdout", "")).splitlines()
        return f"{len(lines)} lines" if result.get("code") == 0 else "none is set"

    def _backup(self) -> str:
        if shutil.which("rsync") is None:
            return "skipped: install rsync"
        stage, source = self._stage, self._stage.root / "data"
        for name, text in _FILES.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text, encoding="utf-8")
        path = f"/api/v1/agents/{self._asset}/backups"
        target = {"source_dirs": [str(source)], "dest_root": str(stage.root / "backups")}
        plan = stage.client.post(path, target)
        self._job(plan["job"])
        path += f"/{plan['id']}"
        planned = stage.client.get(path)
        stage.client.post(f"{path}/approve", {"version": planned["version"]})
        run = self._job(stage.client.post(f"{path}/run", {}))
        self._job(stage.client.post(f"{path}/verify", {"full": True}))
        if run["result"]["files"] != len(_FILES):
            raise CliError(f"of {len(_FILES)} files {run['result']['files']} were copied", 1)
        return f"{planned['found']['total_files']} files planned, approved, copied and verified"

    def _restart(self) -> str:
        path = f"/api/v1/agents/{self._asset}/workers"
        items = self._stage.client.get(path)["items"]
        telemetry = next(one["id"] for one in items if one["kind"] == "telemetry")
        self._stage.client.post(f"{path}/{telemetry}/restart")
        return f"{telemetry.partition('-')[0]} restarted, process {self._same_shell()} goes on"

    def _adoption(self) -> str:
        assert self._shell is not None
        self._stage.kill_agent()
        self._shell.until_link(False)
        self._stage.start_agent()
        self._shell.until_link(True)
        return f"process {self._same_shell()} was adopted"

    def _end(self) -> str:
        assert self._shell is not None
        self._shell.close()
        self._stage.close()
        return "nothing is left"

    def _same_shell(self) -> str:
        assert self._shell is not None
        pid = self._shell.answer("echo pid=$$=", "pid")
        if pid != self._shell_pid:
            raise CliError(f"the shell is another: {pid}, it was {self._shell_pid}", 1)
        return pid

    def _admin(self, command: str) -> dict[str, Any]:
        body = {"command": command, "timeout_sec": 20}
        made = self._stage.client.post(f"/api/v1/agents/{self._asset}/admin", body)
        return self._end_of(made)

    def _job(self, made: dict[str, Any]) -> dict[str, Any]:
        """Wait for a job, which must succeed."""
        job = self._end_of(made)
        if job["state"] != "succeeded":
            raise CliError(f"{job['kind']} ended {job['state']}: {job['error']}", 1)
        return job

    def _end_of(self, made: dict[str, Any]) -> dict[str, Any]:
        open_states = ("queued", "sent", "running")
        return self._until(
            f"/api/v1/jobs/{made['id']}", lambda job: job["state"] not in open_states
        )

    def _ended(self, path: str, states: tuple[str, ...]) -> dict[str, Any]:
        return self._until(path, lambda found: found["state"] in states)

    def _until(self, path: str, is_over: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self._stage.client.get(path)
            return found if is_over(found) else None

        result: dict[str, Any] = self._stage.until("it ends", look)
        return result


def check(stage: Stage) -> bool:
    """Run every step on a fresh stage."""
    started = time.monotonic()
    is_well = Check(stage).run()
    stage.is_temporary = stage.is_temporary and is_well  # logs of a failure are kept
    word = "all of it works" if is_well else f"it does not work; logs are in {stage.root}"
    print(f"{word}, {time.monotonic() - started:.1f} s", file=sys.stderr)
    return is_well
