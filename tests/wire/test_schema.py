"""The protocol's reference is what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.facilities import ROOT
from tests.wire.strategies import ROWS
from wire.events import Direction
from wire.schema import documents, main


def test_reference_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    reference = ROOT / "docs" / "reference"
    code = main(["--check", str(reference)])
    assert code == 0, capsys.readouterr().err + "run: python -m wire.schema docs/reference"


def test_schema_has_every_event() -> None:
    files = documents()
    for direction in Direction:
        document = json.loads(files[f"protocol/{direction.value}.json"])
        assert set(document["$events"]) == {name for way, name in ROWS if way is direction}
        for event in document["$events"].values():
            assert event["payload"]["$ref"].removeprefix("#/$defs/") in document["$defs"]


def test_writing_then_checking_agrees(tmp_path: Path) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert main([]) == 2
