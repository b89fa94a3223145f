"""Machines as CSV: what a spreadsheet would run is a text."""

from __future__ import annotations

import csv

import pytest

from hub.console.exports import line


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_that_looks_like_a_formula_is_a_text(name: str) -> None:
    assert next(csv.reader([line([name, "plain"])], strict=True))[0][:1] == "'"


def test_quotes_commas_and_numbers_stay_what_they_are() -> None:
    cells = next(csv.reader([line(['a "quoted", name', 1.5, None, "x-y"])], strict=True))
    assert cells == ['a "quoted", name', "1.5", "", "x-y"]
