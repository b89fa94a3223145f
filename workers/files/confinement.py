"""What a tail and a listing may still do.

Rules: a tail keeps the log's directory, so that it can follow a rotation; the log alone where that
directory also holds secrets. A listing keeps the names below its roots, and as root its way through
closed directories, but only where Landlock keeps the contents closed all the same. POSIX only.

Source: architecture "Privileges".
"""

from __future__ import annotations

import os
import sys

from workers.messages import ListingSpec, TailSpec

if sys.platform != "win32":
    from workers import capabilities, landlock
    from workers.confine import Confinement, Report, confine

assert sys.platform != "win32"


def confine_to(spec: TailSpec | ListingSpec, secret_dirs: list[str]) -> Report:
    """Confine this process, for good; the report names what the kernel lacks.

    Raises:
        ConfinementError: the worker must not go on.
    """
    secrets = tuple(secret_dirs)
    if isinstance(spec, TailSpec):
        return confine(_for_tail(spec.path, secrets))
    keep = {capabilities.CAP_DAC_READ_SEARCH} if landlock.version() else set()
    roots = tuple(spec.roots[0]) if spec.roots else ("/",)  # the owner's, where there are two
    return confine(Confinement(list_dirs=roots, keep=frozenset(keep), secret_dirs=secrets))


def _for_tail(path: str, secrets: tuple[str, ...]) -> Confinement:
    directory = os.path.dirname(path)
    if any(_lies_in(secret, directory) for secret in secrets):
        return Confinement(read_files=(path,), secret_dirs=secrets)
    return Confinement(read_dirs=(directory,), secret_dirs=secrets)


def _lies_in(path: str, directory: str) -> bool:
    inner, outer = os.path.realpath(path), os.path.realpath(directory)
    return os.path.commonpath((inner, outer)) == outer
