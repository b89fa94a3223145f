"""What `jackline backup` prints as its result: tables for people."""

from __future__ import annotations

from typing import Any

from agent.backup_store import Store
from agent.cli import output
from workers import backup_state


def plan(plan_id: str, found: dict[str, Any]) -> None:
    """Print a plan."""
    skipped = found.get("skipped") or {}
    output.print_fields(
        [
            ("plan", plan_id),
            ("files", found["totalFiles"]),
            ("size", output.size(found["totalBytes"])),
            ("to copy", output.size(found.get("transferBytes"))),
            ("new", found["new"]),
            ("changed", found["changed"]),
            ("unchanged", found["unchanged"]),
            ("deleted", found["deleted"] or None),
            ("skipped", ", ".join(f"{n} {why}" for why, n in skipped.items()) or None),
        ]
    )
    folders = found.get("folders") or []
    if folders:
        print()
        output.print_table(
            ("FOLDER", "FILES", "SIZE"),
            [(each["path"], each["files"], output.size(each["bytes"])) for each in folders[:10]],
        )
    for error in (found.get("errors") or [])[:20]:
        output.note(error)
    notes(found)
    print(f"\nrun it with: jackline backup run {plan_id}")


def run(found: dict[str, Any]) -> None:
    """Print how a run went."""
    output.print_fields(
        [
            ("result", "partial" if found.get("partial") else "complete"),
            ("snapshot", found.get("snapshot")),
            ("files", f"{found['files']} ({found['plannedFiles']} planned)"),
            ("copied", output.size(found["transferredBytes"])),
            ("skipped", found["skipped"] or None),
            ("took", output.duration(found["ms"] / 1000)),
        ]
    )
    for error in (found.get("errors") or [])[:20]:
        output.note(error)
    notes(found)


def verify(found: dict[str, Any]) -> None:
    """Print what a verification found."""
    how = "all files" if found["full"] else "a sample"
    output.print_fields(
        [
            ("checked", f"{found['checkedFiles']} of {found['manifestFiles']} files ({how})"),
            ("read", output.size(found["checkedBytes"])),
            ("different", found["different"]),
            ("no checksum", found["withoutChecksum"] or None),
        ]
    )
    for each in found["differences"]:
        print(f"{each['what']:<10} {output.clean(each['path'])}")


def restore(found: dict[str, Any]) -> None:
    """Print what a restore did, or would do."""
    output.print_fields(
        [
            ("would restore" if found.get("dryRun") else "restored", _files(found["files"])),
            ("size", output.size(found["bytes"])),
            ("overwritten", found["overwrites"]),
            ("unchanged", found["unchanged"]),
        ]
    )
    for error in found.get("failed") or []:
        output.note(error)
    if found.get("failedFiles"):
        count = _files(found["failedFiles"])
        output.note(f"{count} could not be brought back; once mended: restore … --failed")


def pruned(found: dict[str, Any]) -> None:
    """Print what was dropped, or would be."""
    word = "would drop" if found.get("dryRun") else "dropped"
    for name in found["dropped"]:
        print(f"{word} {name}")
    print(f"{len(found['kept'])} kept")


def copies(found: dict[str, Any]) -> None:
    """Print a plan's snapshots and runs, or the files of one copy."""
    if "entries" in found:
        rows = [
            (e["mode"], output.size(e["size"]), e["mtime"], e["path"]) for e in found["entries"]
        ]
        output.print_table(("MODE", "SIZE", "CHANGED (UTC)", "PATH"), rows)
        return
    for name in found["snapshots"]:
        print(name)
    runs = [
        (
            each.get("seq"),
            each.get("snapshot"),
            each.get("files"),
            output.size(each.get("bytes")),
            output.size(each.get("transferredBytes")),
            "partial" if each.get("partial") else "complete",
        )
        for each in found["runs"]
    ]
    output.print_table(("RUN", "SNAPSHOT", "FILES", "SIZE", "COPIED", "RESULT"), runs)


def plans(store: Store, *, as_json: bool) -> None:
    """Print every plan and how its last run stands."""
    found = [
        {
            "planId": each.plan_id,
            "sourceDirs": each.source_dirs,
            "host": each.host,
            "destRoot": each.dest_root,
            "layout": each.layout,
            "totalFiles": each.found.get("totalFiles"),
            "totalBytes": each.found.get("totalBytes"),
            "state": backup_state.read(store.folder(each.plan_id))["state"],
        }
        for each in store.plans()
    ]
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            each["planId"],
            ", ".join(each["sourceDirs"]),
            f"{each['host']}:{each['destRoot']}" if each["host"] else each["destRoot"],
            each["totalFiles"],
            output.size(each["totalBytes"]),
            each["state"],
        )
        for each in found
    ]
    output.print_table(("PLAN", "SOURCES", "DESTINATION", "FILES", "SIZE", "LAST RUN"), rows)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def notes(found: dict[str, Any]) -> None:
    """Print what there is to say beside a result."""
    for note in found.get("notes") or []:
        output.note(str(note))
