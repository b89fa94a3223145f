"""What the endpoint's commands share: tables, JSON, colour, and errors as exit codes.

Rules: results on stdout, everything else on stderr; colour only on a terminal and never with
NO_COLOR; nothing imported that a 150 ms command could not afford.
Source: docs/reference/cli.rst.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agent import exits
from agent.errors import ControlError

if TYPE_CHECKING:
    import argparse

_CODES = {
    "bad_request": exits.USAGE,
    "not_found": exits.NOT_FOUND,
    "refused": exits.REFUSED,
    "busy": exits.TRY_LATER,
    "failed": exits.FAILED,
    "unavailable": exits.UNAVAILABLE,
    "not_permitted": exits.NOT_PERMITTED,
}
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
# What another machine wrote (a job's name, a refusal) must not drive this terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def parser(word: str, about: str) -> argparse.ArgumentParser:
    """Return a parser for `jackline WORD`."""
    import argparse  # here: `jackline run`, which says things, too, must not keep it

    return argparse.ArgumentParser(
        prog=f"jackline {word}", description=about, allow_abbrev=False, formatter_class=_help
    )


def _help(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal. Left to find that out, argparse loads every compressor there is."""
    import argparse

    told = os.environ.get("COLUMNS", "")
    try:
        columns = int(told) if told.isdecimal() else os.get_terminal_size().columns
    except OSError:
        columns = 80
    return argparse.HelpFormatter(prog, width=max(columns, 40) - 2)


def add_format(to: argparse.ArgumentParser) -> None:
    """Let a command be asked for JSON: `--json`, or `-o json`."""
    to.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    to.add_argument("-o", dest="format", choices=("table", "json"), help="same as --json: -o json")


def wants_json(options: argparse.Namespace) -> bool:
    """Was JSON asked for, in either way?"""
    return bool(options.as_json or options.format == "json")


def print_json(value: Any) -> None:
    """Print one JSON document, indented for a person, plain for a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, ensure_ascii=False, indent=indent))


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns; None becomes a dash."""
    texts = [[clean("-" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    print(colour("bold", _aligned(head, widths)))
    for row in texts:
        print(_aligned(row, widths))


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print `name   value` lines; None is left out."""
    shown = [(name, clean(value)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{colour('dim', name.ljust(width))}  {value}")


def note(sentence: str) -> None:
    """Tell a person something that is not the result."""
    print(f"jackline: {clean(sentence)}", file=sys.stderr)


def refused(error: ControlError, *, as_json: bool = False) -> int:
    """Tell why a request failed and return its exit code."""
    if as_json:
        print_json({"ok": False, "error": error.code, "message": str(error)})
    note(str(error))
    return _CODES.get(error.code, exits.FAILED)


def colour(name: str, text: str) -> str:
    """Return `text` in a colour where that is wanted."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def clean(value: Any) -> str:
    """Return a value as text that only prints."""
    return _CONTROL.sub("\ufffd", str(value))


def duration(seconds: float | None) -> str | None:
    """Return `3 d 4 h`, `2 h 5 min`, `1 min 3 s`, `4.2 s`."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below} {smaller}"
    return f"{whole // 60} min {whole % 60} s"


def size(number: float | None) -> str | None:
    """Return bytes as `12.3 MiB`."""
    if number is None:
        return None
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024 or unit == "GiB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return None


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()
