"""Yesterday's backup of a hub, put back: agents reconcile, and nothing runs again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.authorize import Principal, Role
from hub.jobs import service
from hub.operators.models import User
from tests.doubles.agent_process import running_agent
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.job_parts import KIND, order
from tests.doubles.operator_desk import Desk, Script, asset_of, linked, node_agent


@pytest.mark.parametrize("is_foreign", [False, True], ids=["ours", "foreign"])
def test_restored_hub_runs_nothing_again(tmp_path: Path, script: Script, is_foreign: bool) -> None:
    with running_hub() as hub:
        desk = Desk(hub, hub.add_user("otto", Role.OPERATOR))
        if is_foreign:
            with node_agent(hub, tmp_path, "m"):
                run_back_up_and_restore(hub, desk, script, tmp_path)
        else:
            with running_agent(
                hub.url, {"clientId": "m", "authToken": hub.add_agent("m")}
            ) as agent:
                linked(agent)
                run_back_up_and_restore(hub, desk, script, tmp_path)


def run_back_up_and_restore(hub: HubProcess, desk: Desk, script: Script, folder: Path) -> None:
    asset_id = asset_of(hub, "m")
    before = desk.run(asset_id, script("true"))
    assert desk.ended(before["id"])["state"] == "succeeded"
    # A job that waits while the backup is taken, and runs when the hub is back.
    hub.stop()
    waiting = waiting_job(hub, asset_id, script)
    kept = folder / "hub.backup"
    assert hub.command("backup", str(kept)).returncode == 0
    hub.start()
    assert desk.ended(waiting)["state"] == "succeeded"
    after = desk.run(asset_id, script("true"))
    assert desk.ended(after["id"])["state"] == "succeeded"
    assert script.runs == 3

    hub.stop()
    for path in hub.state_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = hub.command("restore", str(kept))
    assert done.returncode == 0, done.stderr
    hub.start()
    found = desk.job(waiting)
    assert (found["state"], found["error"]) == ("unknown", "hub_restored")
    # Jobs leave in order: had anything been left to send, it would have gone before this one.
    last = desk.run(asset_id, "true")
    assert desk.ended(last["id"])["state"] == "succeeded"
    assert script.runs == 3
    assert desk.job(before["id"])["state"] == "succeeded"
    desk.ask("GET", f"/api/v1/jobs/{after['id']}", want=404)


def waiting_job(hub: HubProcess, asset_id: str, script: Script) -> str:
    """Put a job into the queue of a hub that does not run."""

    def unit(session: Session) -> str:
        user = session.scalar(select(User).where(User.name == "otto"))
        asset = session.get(Asset, asset_id)
        assert user is not None and asset is not None
        who = Principal("user", user.id, user.name, user.tenant_id, Role.OPERATOR)
        asked = order(script("true"), timeout_s=30.0)
        return service.submit(session, who, asset, KIND, asked, is_online=False)[0].id

    return hub.write(unit)
