"""Backups: planned, approved by somebody who may, watched to verified, one file restored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import ADMIN, AUDITOR, OPERATOR, NewPerson
from tests.doubles.agent_process import AgentProcess
from tests.doubles.hub_process import HubProcess
from tests.doubles.operator_desk import asset_of, linked
from tests.facilities import require

KIB_S = 500


def plan(
    page: Page, asset_id: str, name: str, source: Path, dest: Path, layout: str = "mirror"
) -> None:
    page.goto(f"/agents/{asset_id}/backups")
    form = page.locator("form", has=page.get_by_role("button", name="Plan it"))
    if not form.is_visible():
        page.get_by_text("New backup").click()
    form.get_by_label("Name", exact=True).fill(name)
    form.get_by_label("Directories").fill(str(source))
    form.get_by_label("Destination root").fill(str(dest))
    form.get_by_label("Leave out").fill("*.tmp")
    form.get_by_label("Layout").select_option(layout)
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", name="What a run copies")).to_be_visible()


def test_backup_from_plan_to_verified_and_one_file_back(
    new_person: NewPerson, asset_id: str, tmp_path: Path
) -> None:
    require("rsync")
    source = tmp_path / "site"
    (source / "sub").mkdir(parents=True)
    (source / "index.html").write_bytes(b"<h1>here</h1>")
    (source / "sub" / "big.bin").write_bytes(bytes(range(256)) * 8000)
    (source / "left.tmp").write_bytes(b"x")
    olga, ada = new_person(OPERATOR), new_person(ADMIN)
    plan(olga.page, asset_id, "the <b>site</b>", source, tmp_path / "copies")
    page = olga.page
    expect(page.get_by_text("2 files, 2.0 MiB")).to_be_visible()
    expect(page.get_by_text("2 new")).to_be_visible()
    expect(page.get_by_text("index.html").first).to_be_visible()
    expect(page.get_by_role("button", name="Approve", exact=True)).to_be_disabled()
    olga.screenshots("backup-planned")

    ada.show(page.url.removeprefix(olga.url))
    ada.page.get_by_role("button", name="Approve", exact=True).click()
    expect(ada.page.get_by_text("by ada")).to_be_visible()
    run = page.get_by_role("button", name="Run now")
    run.click()
    expect(page.get_by_text("Copied.", exact=True)).to_be_visible()
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_text("Copied and verified.")).to_be_visible()

    page.get_by_role("button", name="List the copies").click()
    page.get_by_role("button", name="Look inside").first.click()
    expect(page.get_by_role("cell", name="site/sub/big.bin")).to_be_visible()
    page.reload()
    expect(page.get_by_role("cell", name="site/sub/big.bin")).to_be_visible()
    (source / "index.html").unlink()
    page.get_by_label("Paths").fill("site/index.html")
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("overwritten")
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(page.get_by_text("1 file back where it was")).to_be_visible()
    assert (source / "index.html").read_bytes() == b"<h1>here</h1>"
    olga.screenshots("backup")

    here = page.url
    page.get_by_role("button", name="Ask the machine").click()
    expect(page.get_by_text("This machine runs no backup by itself.")).to_be_visible()
    page.goto(here)
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_role("button", name="Set the schedule").click()
    expect(page.get_by_text("At 02:30 AM, Europe/Berlin")).to_be_visible()
    expect(page.get_by_role("heading", name="the <b>site</b>")).to_be_visible()
    expect(page.get_by_text("Everything is backed up.")).to_be_visible()
    olga.screenshots("backups")


def test_failed_backup_cannot_be_overlooked_and_an_auditor_presses_nothing(
    new_person: NewPerson, asset_id: str, tmp_path: Path
) -> None:
    require("rsync")
    source = tmp_path / "gone"
    source.mkdir()
    ada = new_person(ADMIN)
    plan(ada.page, asset_id, "gone", source, tmp_path / "copies")
    source.rmdir()
    ada.page.get_by_role("button", name="Approve and run").click()
    expect(ada.page.get_by_role("alert")).to_contain_text("The last run failed")
    arne = new_person(AUDITOR)
    page = arne.show(f"/agents/{asset_id}/backups")
    expect(page.locator(".hero")).to_contain_text("The last run failed")
    expect(page.get_by_role("button", name="Ask the machine")).to_be_disabled()
    arne.screenshots("backups-failed")
    expect(page.get_by_title("Open alerts")).to_be_visible()
    arne.show("/alerts")
    expect(page.get_by_role("row", name=re.compile("the last backup failed"))).to_be_visible()
    arne.screenshots("alerts-open")
    ada.page.get_by_role("button", name="Put away").click()
    ada.page.get_by_role("dialog").get_by_role("button", name="Put away").click()
    expect(ada.page.locator(".hero")).not_to_contain_text("failed")


@contextmanager
def machine(hub: HubProcess, name: str, *, path: str = "") -> Iterator[AgentProcess]:
    """Run an agent of its own; `path` is searched first for the programs that it starts."""
    require("rsync")
    agent = AgentProcess(hub.url, {"clientId": name, "authToken": hub.add_agent(name)})
    agent.env["PATH"] = f"{path}:{agent.env['PATH']}"
    try:
        linked(agent.start())
        yield agent
    finally:
        agent.close()


@pytest.fixture
def slow_id(hub: HubProcess, tmp_path: Path) -> Iterator[str]:
    """Return a machine whose rsync copies slowly."""
    rsync = require("rsync")
    shim = tmp_path / "bin" / "rsync"
    shim.parent.mkdir()
    shim.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--dry-run*|--version*|-V*) exec {rsync} "$@";; esac\n'
        f'exec {rsync} --bwlimit={KIB_S} "$@"\n'
    )
    shim.chmod(0o755)
    with machine(hub, "box-slow", path=str(shim.parent)):
        yield asset_of(hub, "box-slow")


def test_a_running_backup_is_followed_after_a_reload_and_ended(
    new_person: NewPerson, slow_id: str, tmp_path: Path
) -> None:
    source = tmp_path / "site"
    source.mkdir()
    for name in ("first.bin", "second.bin"):
        (source / name).write_bytes(bytes(range(256)) * 40 * KIB_S)
    person = new_person(ADMIN)
    page = person.page
    plan(page, slow_id, "site", source, tmp_path / "copies")
    page.get_by_role("button", name="Approve and run").click()
    line = page.locator(".progress-line")
    words = r"\d+ % · .* of .* MiB · .*/s · .* left · .*\.bin"
    expect(line).to_have_text(re.compile(words))
    page.reload()
    expect(line).to_have_text(re.compile(words))
    shown = percent(line.inner_text())
    expect(line).not_to_have_text(re.compile(rf"^{shown} %"))
    assert percent(line.inner_text()) > shown
    person.screenshots("backup-running")
    page.goto(f"/agents/{slow_id}/backups")
    expect(page.locator(".progress-line")).to_have_text(re.compile(words))
    page.get_by_role("link", name="site").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text("What has been copied so far stays")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("cell", name="cancelled")).to_be_visible()


def percent(text: str) -> int:
    return int(text.partition(" ")[0])


def test_what_a_retention_drops_is_shown_and_then_removed(
    hub: HubProcess, new_person: NewPerson, tmp_path: Path
) -> None:
    source, copies = tmp_path / "site", tmp_path / "copies"
    source.mkdir()
    (source / "a.txt").write_bytes(b"here")
    page = new_person(ADMIN).page
    with machine(hub, "box-keeping") as agent:
        plan(page, asset_of(hub, "box-keeping"), "site", source, copies, layout="snapshot")
        page.get_by_role("button", name="Approve and run").click()
        expect(page.get_by_text("Copied.", exact=True)).to_be_visible()
        (source / "a.txt").write_bytes(b"there, later")
        page.get_by_role("button", name="Run now").click()
        expect(page.get_by_role("row", name=re.compile("^Backup run succeeded"))).to_have_count(2)
        agent.terminate()
        agent.config["backup"] = {"retention": {"keep_last": 1}}
        linked(agent.start())
        page.get_by_role("button", name="What would go").click()
        page.get_by_role("button", name="Remove 1", exact=True).click()
        expect(page.get_by_role("dialog")).to_contain_text("1 of the copies of site")
        before = snapshots(copies)
        page.get_by_role("dialog").get_by_role("button", name="Remove 1").click()
        expect(page.get_by_text("Gone, by the machine's retention")).to_be_visible()
        assert len(before) == 2 and snapshots(copies) == before[1:]


def snapshots(copies: Path) -> list[str]:
    """Return the copies that are there, the oldest first."""
    return sorted(path.parent.name for path in copies.rglob("a.txt"))
