"""`python -m bench [FIGURE ...]`: take figures in interleaved rounds and write the table.

Rules: within a round each figure is taken of every peer, one after the other, in an order that
turns from round to round; what takes a figure ends by itself; nothing outlives the bench.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench import table
from bench.figures import FIGURES, SSH, Figure, Values
from bench.peers import Peer
from bench.peers.jackline import JacklinePeer
from bench.peers.node import NodePeer
from bench.peers.ssh import SshServer
from bench.setting import Setting

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5


def main(argv: list[str]) -> int:
    arguments = _arguments(argv)
    figures = [figure for figure in FIGURES if figure.name in (arguments.figures or _names())]
    peers: list[Peer] = [JacklinePeer(), NodePeer()]
    peers = [peer for peer in peers if not arguments.peer or peer.name in arguments.peer]
    has_ssh = SshServer.is_available() and (not arguments.peer or SSH in arguments.peer)
    results: table.Results = {figure.name: {} for figure in figures}
    with Setting(arguments.directory) as setting:
        for number in range(arguments.rounds):
            for figure in figures:
                if number >= (figure.rounds or arguments.rounds):
                    continue
                started = time.monotonic()
                taken = _take(setting, figure, _turned(peers, number), has_ssh)
                for name, values in taken.items():
                    rows = results[figure.name].setdefault(name, {})
                    for key, value in values.items():
                        rows.setdefault(key, []).append(value)
                _progress(number, figure, taken, time.monotonic() - started)
    names = [table.JACKLINE, "Node agent", SSH]
    command = "make bench" if not arguments.figures else f"python -m bench {' '.join(argv)}"
    print("\n".join(table.lines(figures, results, command, names)))
    (ROOT / "bench-results").mkdir(exist_ok=True)
    (ROOT / "bench-results/last.json").write_text(json.dumps(results, indent=1))
    if arguments.write:
        table.write(ROOT / "docs/benchmarks.rst", figures, results, command, names)
    is_complete = all(len(results[figure.name]) >= len(peers) for figure in figures)
    return 0 if is_complete else 1


def _take(setting: Setting, figure: Figure, peers: list[Peer], has_ssh: bool) -> dict[str, Values]:
    jobs: dict[str, Callable[[], Values]] = {
        peer.name: partial(figure.measure, setting, peer) for peer in peers
    }
    if has_ssh and figure.measure_ssh is not None:
        jobs[SSH] = partial(figure.measure_ssh, setting)
    with ThreadPoolExecutor(max_workers=len(jobs) if figure.is_joint else 1) as pool:
        pending = {name: pool.submit(_attempt, name, job) for name, job in jobs.items()}
        return {name: values for name, job in pending.items() if (values := job.result())}


def _attempt(name: str, job: Callable[[], Values]) -> Values:
    """Take one figure of one peer; its failure must not cost the others theirs."""
    try:
        return job()
    except Exception as error:  # noqa: BLE001  (whatever it is, the table says "not measured")
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return {}


def _turned(peers: list[Peer], number: int) -> list[Peer]:
    turn = number % len(peers)
    return peers[turn:] + peers[:turn]


def _progress(number: int, figure: Figure, taken: dict[str, Values], seconds: float) -> None:
    said = "; ".join(
        f"{name} " + " ".join(f"{key}={value:.3g}" for key, value in values.items())
        for name, values in taken.items()
    )
    print(
        f"round {number + 1} {figure.name} ({seconds:.0f} s): {said}", file=sys.stderr, flush=True
    )


def _names() -> list[str]:
    return [figure.name for figure in FIGURES]


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Take the figures.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {' '.join(_names())}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peer", action="append", help="only this peer; may be given again")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="a directory on a real disk"
    )
    parser.add_argument(
        "--no-write", dest="write", action="store_false", help="leave docs/benchmarks.rst alone"
    )
    arguments = parser.parse_args(argv)
    unknown = set(arguments.figures) - set(_names())
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
