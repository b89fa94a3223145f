"""The `jackline` program: find the file that a word of the command line belongs to, and call it.

It imports nothing of the four houses, so that `status` answers at once and the zygote holds no code
but its own. It stands in `workers` because that is the lowest house that starts processes: the
agent starts `_zygote`, the zygote starts `_worker`, in a frozen build too.

A word is an entry point of the group `jackline.commands`: `word = module:run`, where
`run(argv: list[str]) -> int` takes what follows the word and returns an exit code. Our own are
read straight from our `entry_points.txt`; `importlib.metadata`, whose import alone takes as long as
all of `jackline status` should, is asked only for a word that is not ours. So a package that is
installed beside ours may bring words of its own, but never replace one.

Exit codes: 2 for an unknown word, else what the word's own `run` returns.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

COMMANDS = "jackline.commands"
INTERNAL = "jackline.internal"
USAGE = "usage: jackline [--help | --version] COMMAND ..."

Run = Callable[[list[str]], int]


def main(argv: list[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: what follows the program's name; default: the process's own.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing is left to tell it, at interpreter exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def own_command() -> list[str]:
    """Return the argv that starts this very program again, to which a word is appended.

    `-P` keeps the working directory, which may be anybody's, out of the import path.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-P", "-m", "workers.program"]


def own_words(group: str) -> dict[str, str]:
    """Return our own words of an entry point group and where each lives, `module:function`."""
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith("jackline-") and name.endswith(".dist-info"):
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                    return _section(file.read(), group)
    return {}


def all_words() -> dict[str, str]:
    """Return every public word that is installed, ours first."""
    from importlib.metadata import entry_points

    words = {point.name: point.value for point in entry_points(group=COMMANDS)}
    return words | own_words(COMMANDS)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help(to_stderr=not words)
        return 0 if words else 2
    word, rest = words[0], words[1:]
    if word in ("-V", "--version"):
        print("jackline", importlib.import_module("wire").__version__)
        return 0
    place = own_words(INTERNAL if word.startswith("_") else COMMANDS).get(word)
    place = place or all_words().get(word)
    if place is None:
        return _refuse(word)
    return _load(place)(rest)


def _load(place: str) -> Run:
    module, _, name = place.partition(":")
    run: Run = getattr(importlib.import_module(module), name)
    return run


def _section(text: str, group: str) -> dict[str, str]:
    """Read one section of an entry_points.txt (packaging.python.org, "Entry points")."""
    found: dict[str, str] = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == group and "=" in line:
            name, _, place = line.partition("=")
            found[name.strip()] = place.strip()
    return found


def _print_help(*, to_stderr: bool) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    print(USAGE, end="\n\n", file=out)
    for word, place in sorted(all_words().items()):
        print(f"  {word:<10} {_summary(place)}", file=out)
    print("\n`jackline COMMAND --help` tells each one's options.", file=out)


def _summary(place: str) -> str:
    """Return the first line of a command's docstring; a broken one does not break the list."""
    try:
        doc = importlib.import_module(place.partition(":")[0]).__doc__ or ""
    except ImportError as error:
        return f"(not available: {error})"
    return doc.strip().partition("\n")[0]


def _refuse(word: str) -> int:
    import difflib

    near = difflib.get_close_matches(word, all_words(), n=1)
    hint = f"; did you mean `{near[0]}`?" if near else "; `jackline --help` lists them"
    print(f"jackline: there is no command `{word}`{hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
