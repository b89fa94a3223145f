"""The benchmark table's arithmetic: medians, goals, and the page it is put into."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import table
from bench.figures import FIGURES, Figure, Row, percentile


def _row(*goals: tuple[str, float, str | None], plus: tuple[str, float] | None = None) -> Row:
    return Row("p50", "a figure", "ms", goals, plus)


def _taken(**values: list[float]) -> dict[str, dict[str, list[float]]]:
    return {name.replace("_", " "): {"p50": rounds} for name, rounds in values.items()}


@pytest.mark.parametrize("percent, expected", [(0, 1.0), (50, 51.0), (99, 100.0), (100, 100.0)])
def test_percentile_is_a_value_that_was_taken(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_cell_shows_median_and_spread() -> None:
    assert table.cell([3.0, 1.0, 2.0], "ms") == "2.00 ms (1.00–3.00)"
    assert table.cell([], "ms") == "–"
    assert table.cell([12_345.6], "ms") == "12,346 ms"


def test_goal_compares_medians_with_the_peer() -> None:
    row = _row(("<=", 1.4, "Node agent"))
    assert table.goals(row, _taken(Jackline=[1.4, 9, 0], Node_agent=[1.0])).endswith(": met")
    assert table.goals(row, _taken(Jackline=[1.5], Node_agent=[1.0])).endswith("**missed**")
    assert table.goals(row, _taken(Jackline=[1.5])).endswith("not measured")


def test_goal_may_be_a_figure_or_at_least_one() -> None:
    assert table.goals(_row(("<=", 10, None)), _taken(Jackline=[10.0])) == "≤ 10 ms: met"
    row = _row((">=", 0.8, "ssh -tt"))
    assert table.goals(row, {"Jackline": {"p50": [7.0]}, "ssh -tt": {"p50": [10.0]}}).endswith(
        "**missed**"
    )


def test_goal_may_grow_by_a_cost_of_the_machine() -> None:
    row = _row(("<=", 1.5, "Node agent"), plus=("fsync50", 3))
    taken = _taken(Jackline=[4.5], Node_agent=[2.0])
    taken["Jackline"]["fsync50"] = [0.5]
    assert table.goals(row, taken).endswith(": met")


def test_write_replaces_the_table_and_keeps_the_words_around_it(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.rst"
    page.write_text("Benchmarks\n==========\n\nBefore.\n")
    figures = [Figure("one", (_row(("<=", 10, None)),), lambda *_: {})]
    for value in (1.0, 2.0):
        results = {"one": _taken(Jackline=[value])}
        table.write(page, figures, results, "make bench", ["Jackline"])
        page.write_text(page.read_text() + "After.\n" if value == 1.0 else page.read_text())
    text = page.read_text()
    assert text.startswith("Benchmarks") and "Before." in text and text.endswith("After.\n")
    assert "2.00 ms" in text and "1.00 ms" not in text and text.count(table.END) == 1


def test_figures_have_names_of_their_own() -> None:
    names = [figure.name for figure in FIGURES]
    assert len(names) == len(set(names))
