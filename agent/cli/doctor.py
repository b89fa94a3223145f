"""Look for what is wrong between this machine and its server, and say how to mend it.

Exit codes: 0 nothing is wrong (warnings aside); 1 something is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent import exits
from agent.cli import output
from agent.doctor import bundle, examination
from agent.doctor.finding import Finding

_SIGNS = {
    "ok": ("green", "ok"),
    "warning": ("yellow", "warn"),
    "failed": ("red", "FAIL"),
    "skipped": ("dim", "skip"),
}


def run(argv: list[str]) -> int:
    """Examine, print, and pack an archive if one is wanted."""
    parser = output.parser("doctor", "Look for what is wrong and say how to mend it.")
    output.add_format(parser)
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument(
        "--bundle",
        type=Path,
        nargs="?",
        const=bundle.default_path(),
        metavar="FILE",
        help="pack findings, status, configuration and log, without secrets",
    )
    options = parser.parse_args(argv)
    as_json = output.wants_json(options)
    scene = examination.scene(options.config, os.environ)
    findings: list[Finding] = []
    for finding in examination.examine(scene):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        output.print_json([vars(finding) for finding in findings])
    if options.bundle is not None:
        try:
            bundle.write(options.bundle, scene, findings)
        except OSError as e:
            output.note(f"{options.bundle}: cannot be written: {e.strerror}")
            return exits.FAILED
        output.note(f"{options.bundle} holds no secret; look into it before you send it")
    return exits.FAILED if any(f.state == "failed" for f in findings) else exits.OK


def _show(finding: Finding) -> None:
    name, word = _SIGNS[finding.state]
    sign = output.colour(name, f"{word:<4}")
    print(f"{sign}  {finding.check:<13}  {output.clean(finding.sentence)}")
    if finding.cure and finding.state in ("warning", "failed"):
        print(f"      {'':<13}  {output.colour('dim', '-> ' + output.clean(finding.cure))}")
    sys.stdout.flush()
