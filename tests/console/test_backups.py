"""Backups: planned, approved by somebody who may, watched to verified, one file restored."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.console.conftest import ADMIN, AUDITOR, OPERATOR, NewPerson
from tests.facilities import require


def plan(page: Page, asset_id: str, name: str, source: Path, dest: Path) -> None:
    page.goto(f"/agents/{asset_id}/backups")
    form = page.locator("form", has=page.get_by_role("button", name="Plan it"))
    if not form.is_visible():
        page.get_by_text("New backup").click()
    form.get_by_label("Name", exact=True).fill(name)
    form.get_by_label("Directories").fill(str(source))
    form.get_by_label("Destination root").fill(str(dest))
    form.get_by_label("Leave out").fill("*.tmp")
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
    assert olga.axe() == []
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
    expect(page.get_by_text("1 file to where they were")).to_be_visible()
    assert (source / "index.html").read_bytes() == b"<h1>here</h1>"
    assert olga.axe() == []
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
    assert olga.axe() == []
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
    assert arne.axe() == []
    arne.screenshots("backups-failed")
    ada.page.get_by_role("button", name="Put away").click()
    expect(ada.page.locator(".hero")).not_to_contain_text("failed")
