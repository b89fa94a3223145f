"""Show the agent's log, or follow it.

Exit codes: 0; 4 there is no log yet; 77 not permitted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agent import control_client, exits
from agent.cli import output
from agent.errors import ControlError

LINES = 50
EVERY_S = 0.2
_LEVEL_COLOURS = {"error": "red", "warning": "yellow", "debug": "dim"}


def run(argv: list[str]) -> int:
    """Print the last lines, then with `-f` each new one."""
    parser = output.parser("logs", "Show the agent's log.")
    output.add_format(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with each new line")
    parser.add_argument("-n", "--lines", type=int, default=LINES, metavar="N")
    parser.add_argument("--config", type=Path, metavar="FILE", help="whose log, with no agent up")
    options = parser.parse_args(argv)
    path = find_log(options.config)
    as_json = output.wants_json(options)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in deque(file, maxlen=max(0, options.lines)):
                _print(line, as_json=as_json)
            if options.follow:
                for line in follow(path, file):
                    _print(line, as_json=as_json)
                    sys.stdout.flush()
    except FileNotFoundError:
        output.note(f"{path}: there is no log yet")
        return exits.NOT_FOUND
    except PermissionError:
        output.note(f"{path}: not permitted; try as root")
        return exits.NOT_PERMITTED
    return exits.OK


def find_log(config_file: Path | None) -> Path:
    """Ask the agent where its log is; without one, what the configuration says."""
    if config_file is None:
        try:
            log = control_client.ask("status").get("log")
            if isinstance(log, dict) and log.get("file"):
                return Path(log["file"])
        except ControlError:
            pass  # no agent: read what it would read
    from agent import config

    return config.inspect(config.Options(config=config_file)).log_file


def follow(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield each new line; after a rotation go on with the new file, and close the old one."""
    held = ""
    try:
        while True:
            for part in iter(file.readline, ""):
                held += part
                if held.endswith("\n"):
                    yield held
                    held = ""
            replacement = _replacement(path, file)
            if replacement is None:
                time.sleep(EVERY_S)
            else:
                file.close()
                file = replacement
    finally:
        file.close()


def _replacement(path: Path, file: IO[str]) -> IO[str] | None:
    try:
        named, held = os.stat(path), os.fstat(file.fileno())
        if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino):
            return None
        return open(path, encoding="utf-8", errors="replace")  # the caller reads on
    except OSError:
        return None


def _print(line: str, *, as_json: bool) -> None:
    print(line.rstrip("\n") if as_json else _readable(line))


def _readable(line: str) -> str:
    try:
        record = json.loads(line)
        time_, level, sentence = record.pop("ts"), record.pop("level"), record.pop("msg")
    except (ValueError, KeyError, AttributeError, TypeError):
        return output.clean(line.rstrip("\n"))
    fields = " ".join(f"{name}={json.dumps(value)}" for name, value in record.items())
    told = output.clean(f"{time_} {level:<7} {sentence} {fields}".rstrip())
    return output.colour(_LEVEL_COLOURS[level], told) if level in _LEVEL_COLOURS else told
