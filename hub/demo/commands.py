"""Run hub and agent on this machine in one go, or check that all of it works (`--check`)."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.cli import exits

PORT = 8480
_TRY = """
hub      {url}
log in   {admin} / {password}

Three things to try, in another terminal:

  echo '{password}' | jackline login --hub {url} --user {admin} --password-stdin
  jackline shell {name}
  jackline exec {name} -- uname -a

or open {url} in a browser. Ctrl-C ends it and leaves nothing behind.
"""


def run(argv: list[str]) -> int:
    """Run `jackline demo`.

    Args:
        argv: what follows `demo` on the command line.

    Returns:
        0, or 1 where a step of `--check` failed.
    """
    chosen = _options(argv)
    try:
        from hub.demo.check import check
        from hub.demo.stage import Stage
    except ModuleNotFoundError as error:
        print(f"jackline demo: pip install 'jackline[hub]' ({error.name})", file=sys.stderr)
        return exits.UNAVAILABLE
    from hub.errors import CliError

    folder = Path(chosen.dir).absolute() if chosen.dir else None
    try:
        with _ended_in_order(), Stage(folder, None if chosen.check else chosen.port) as stage:
            if chosen.check:
                return exits.OK if check(stage) else exits.FAILED
            return _show(stage)
    except CliError as error:
        print(f"jackline demo: {error}", file=sys.stderr)
        return exits.FAILED
    except KeyboardInterrupt:
        return 130


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let a closed terminal and SIGTERM be what Ctrl-C is: nothing is left behind then either."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), _interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show(stage: object) -> int:
    from hub.demo.stage import ADMIN, Stage

    assert isinstance(stage, Stage)
    stage.start_hub()
    stage.log_in()
    stage.enrol()
    stage.start_agent()
    name = stage.machine()["name"]
    print(_TRY.format(url=stage.url, admin=ADMIN, password=stage.password, name=name), flush=True)
    stage.wait()
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="jackline demo", description="Hub and agent on this machine.", allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="drive the whole loop and exit")
    parser.add_argument("--dir", metavar="DIR", help="an empty directory; default: a temporary one")
    parser.add_argument("--port", type=int, default=PORT, metavar="P", help=f"default {PORT}")
    return parser.parse_args(argv)
