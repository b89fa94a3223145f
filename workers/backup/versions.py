"""What an rsync can do, read from `rsync --version`.

Pure. An rsync whose answer cannot be read counts as one that can do nothing special.
3.1.3 is the oldest that is used, below 3.5.0 is warned of.
Source: rsync(1); docs/reference/backup.rst.
"""

from __future__ import annotations

import re

import msgspec

OLDEST = (3, 1, 3)
ADVISED = (3, 5, 0)


class Version(msgspec.Struct, frozen=True):
    """One rsync: `number` as in (3, 5, 0); `package` as its distributor counts, or ""."""

    number: tuple[int, int, int]
    acls: bool = False
    xattrs: bool = False
    hard_links: bool = False
    xxh128: bool = False
    package: str = ""

    @property
    def text(self) -> str:
        return ".".join(map(str, self.number))

    @property
    def is_usable(self) -> bool:
        return self.number >= OLDEST


UNKNOWN = Version((0, 0, 0))


def parse(output: str) -> Version:
    """Read the output of `rsync --version`."""
    found = re.search(r"^rsync\s+version\s+v?(\d+)\.(\d+)\.(\d+)", output, re.MULTILINE)
    if found is None:
        return UNKNOWN
    # `no ACLs` counts as none.
    words = re.split(r"[,\n:()]\s*", output)
    able = {word.strip().lower() for word in words}
    return Version(
        number=(int(found[1]), int(found[2]), int(found[3])),
        acls="acls" in able,
        xattrs="xattrs" in able,
        hard_links="hardlinks" in able,
        xxh128=re.search(r"^\s.*\bxxh128\b", output, re.MULTILINE) is not None,
    )


def warning(here: Version, there: Version | None) -> str | None:
    """Return what to say of versions that have known faults."""
    old = [v for v in (here, there) if v is not None and v != UNKNOWN and v.number < ADVISED]
    if not old:
        return None
    return (
        f"rsync {old[0].text} is older than 3.5.0; later ones close holes through which a hostile "
        "peer or a swapped link could reach other files: upgrade it, or see that its package did"
    )
