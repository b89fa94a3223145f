"""What a key sync would change, as far as anybody can tell. Pure.

Rules: the machine's file is known only where its policy lets the hub read it, by the account that
commands run as; else every key's fate is `unknown`, with the reason. A key that stands anywhere in
the file is `present`. A key of our block that its user no longer has is `stale`: the agent keeps
it, unless the machine's `keys.mode` is `mirror`, which the hub cannot see.
Source: contract 1.6; workers' block markers, docs/howto/keys.rst.
"""

from __future__ import annotations

from typing import Any

from hub.keys.source import Key, read_line

ADD, PRESENT, UNKNOWN, STALE = "add", "present", "unknown", "stale"


def preview(user: str, keys: list[Key], file: str | None, reason: str | None) -> dict[str, Any]:
    """Compare a user's keys with a machine's file.

    Args:
        file: `authorized_keys` as it is, "" where there is none; None: nobody may tell.
        reason: why nobody may.
    """
    blobs = None if file is None else _blobs(file)
    shown = [
        {
            "algorithm": key.algorithm,
            "fingerprint": key.fingerprint,
            "fate": UNKNOWN if blobs is None else PRESENT if key.base64 in blobs else ADD,
        }
        for key in keys
    ]
    wanted = {key.base64 for key in keys}
    stale = [key for key in _block(file or "", user) if key.base64 not in wanted]
    return {
        "user": user,
        "is_machine_known": file is not None,
        "reason": reason,
        "keys": shown,
        "stale": [{"algorithm": k.algorithm, "fingerprint": k.fingerprint} for k in stale],
    }


def _blobs(file: str) -> set[str]:
    lines = [line for line in file.split("\n") if not line.lstrip().startswith("#")]
    return {word for line in lines for word in line.split() if word.startswith("AAAA")}


def _block(file: str, user: str) -> list[Key]:
    """Return the keys between our markers."""
    name = f"jackline github:{user.lower()} (managed)"
    found: list[Key] = []
    is_inside = False
    for line in file.split("\n"):
        if line.strip() in (f"# BEGIN {name}", f"# END {name}"):
            is_inside = line.strip().startswith("# BEGIN")
        elif is_inside:
            key = read_line(line.strip())
            found += [key] if key is not None else []
    return found
