"""What the operators' commands print: tables for people, JSON for programs.

Rules: results on stdout, everything else on stderr; a table is drawn by rich on a terminal and is
plain columns elsewhere; colour never with NO_COLOR; control characters of what others wrote never
reach the terminal.
Source: docs/reference/cli.rst.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_EIGHT_BIT = re.compile(r"[\x7f-\x9f]")  # the controls that JSON leaves as they are
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def parser(words: str, about: str) -> argparse.ArgumentParser:
    """Return a parser for `jackline WORDS`."""
    return argparse.ArgumentParser(prog=f"jackline {words}", description=about, allow_abbrev=False)


def add_format(to: argparse.ArgumentParser) -> None:
    """Let a command be asked for JSON: `-o json`, or `--json`."""
    to.add_argument(
        "-o", dest="format", choices=("table", "json"), default="table", help="default: table"
    )
    to.add_argument(
        "--json", dest="format", action="store_const", const="json", help="same as -o json"
    )


def wants_json(options: argparse.Namespace) -> bool:
    """Was JSON asked for?"""
    return bool(options.format == "json")


def print_json(value: Any) -> None:
    """Print one JSON document, indented for a person, plain for a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    print(_EIGHT_BIT.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print columns; None becomes a dash."""
    texts = [[clean("-" if cell is None else cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(head, texts)
        return
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    for row in (head, *texts):
        pairs = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in pairs).rstrip())


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print `name   value` lines; None is left out."""
    shown = [(name, clean(value)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")


def note(sentence: str) -> None:
    """Tell a person something that is not the result; what a machine said may have lines."""
    for line in sentence.splitlines() or [""]:
        print(f"jackline: {clean(line)}", file=sys.stderr)


def clean(value: Any) -> str:
    """Return a value as text that only prints."""
    return _CONTROL.sub("\ufffd", str(value))


def clean_lines(text: str) -> str:
    """Return a text of several lines as one that only prints."""
    return "\n".join(map(clean, text.split("\n")))


def _draw(head: Sequence[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
