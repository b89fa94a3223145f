"""The table of docs/benchmarks.rst: median and spread per peer, ratio and goal per row."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, Row
from tests.doubles.node import node_program

BEGIN = ".. the table of the last run: make bench writes it"
END = ".. end of the table"
JACKLINE = "Jackline"

# figure -> peer -> row key -> one value a round
Results = dict[str, dict[str, dict[str, list[float]]]]


def write(
    path: Path, figures: list[Figure], results: Results, command: str, peers: list[str]
) -> None:
    """Put the table between the markers of an rst page; what stands around it stays."""
    text = path.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    page = "\n".join(
        [head.rstrip(), "", BEGIN, "", *lines(figures, results, command, peers), "", END]
    )
    path.write_text(page + (tail or "\n"))


def lines(figures: list[Figure], results: Results, command: str, peers: list[str]) -> Iterator[str]:
    """Yield the table as rst, with the command and the machine above it."""
    yield f"``{command}`` on {machine()}."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for cells in (("figure", *peers, "ratio", "goal"), *_rows(figures, results, peers)):
        for position, cell in enumerate(cells):
            yield f"   {'* -' if position == 0 else '  -'} {cell}".rstrip()


def _rows(figures: list[Figure], results: Results, peers: list[str]) -> Iterator[tuple[str, ...]]:
    for figure in figures:
        taken = results[figure.name]
        for row in figure.rows:
            cells = [cell(taken.get(peer, {}).get(row.key, []), row.unit) for peer in peers]
            yield (row.title, *cells, _ratios(row, taken), goals(row, taken))


def cell(values: list[float], unit: str) -> str:
    """Format one peer's rounds: the median, and the least and the most."""
    if not values:
        return "–"
    median, least, most = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{number(median)} {unit}"
    return f"{number(median)} {unit} ({number(least)}–{number(most)})"


def number(value: float) -> str:
    """Three significant digits, no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratios(row: Row, taken: dict[str, dict[str, list[float]]]) -> str:
    ours = taken.get(JACKLINE, {}).get(row.key)
    peers = [peer for _, _, peer in row.goals if peer and taken.get(peer, {}).get(row.key)]
    if not ours:
        return ""
    return ", ".join(
        f"{statistics.median(ours) / statistics.median(taken[peer][row.key]):.2f}× {peer}"
        for peer in peers
    )


def goals(row: Row, taken: dict[str, dict[str, list[float]]]) -> str:
    """Say each goal and whether it is met; a goal that was not measured says so."""
    ours = taken.get(JACKLINE, {}).get(row.key)
    said = []
    for relation, factor, peer in row.goals:
        bound = factor
        theirs = taken.get(peer, {}).get(row.key) if peer else None
        text = f"{relation} {factor:g}" + (f"× {peer}" if peer else f" {row.unit}")
        if row.plus is not None:
            text += f" + {row.plus[1]:g} × {row.plus[0]}"
        if not ours or (peer and not theirs):
            said.append(f"{text}: not measured")
            continue
        if theirs:
            bound = factor * statistics.median(theirs)
        if row.plus is not None:
            bound += row.plus[1] * statistics.median(taken[JACKLINE][row.plus[0]])
        median = statistics.median(ours)
        is_met = median <= bound if relation == "<=" else median >= bound
        said.append(f"{text}: {'met' if is_met else '**missed**'}")
    return "; ".join(said).replace("<=", "≤").replace(">=", "≥")


def machine() -> str:
    """Say what the figures were taken on."""
    node = subprocess.run([node_program(), "--version"], stdout=subprocess.PIPE, check=True)
    kernel = platform.release().split("-")[0]
    return (
        f"{os.cpu_count()} cores ({_processor()}), Linux {kernel}, "
        f"Python {platform.python_version()}, Node {node.stdout.decode().strip().lstrip('v')}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
