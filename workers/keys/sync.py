"""One key sync from beginning to end: account, fetch, parse, write.

Rules: blocks, so never on the loop's thread; nothing is written before everything is known.
POSIX only.

Source: contract 1.6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from workers.keys.block import Change, change
from workers.keys.errors import SyncError
from workers.keys.fetch import fetch, keys_url
from workers.keys.parse import Parsed, parse_keys
from workers.messages import KeysEnded, KeysSpec

if sys.platform != "win32":
    from workers.keys.account import find_account
    from workers.keys.authorized_keys import update

assert sys.platform != "win32"


def sync(spec: KeysSpec, go_on: Callable[[], bool]) -> KeysEnded:
    """Do the whole job; blocks.

    Args:
        go_on: asked right before the file is replaced; False gives up.

    Raises:
        SyncError: nothing was changed, and why.
    """
    url = keys_url(spec.base_url, spec.github_user)
    account = find_account(spec.target_user)
    parsed = _usable(fetch(url, spec.ca_file, spec.proxies))
    last = Change(b"", 0, 0)

    def edit(content: bytes) -> bytes:
        nonlocal last
        last = change(content, spec.github_user, parsed.keys, spec.mode)
        return last.content

    written = update(account.home, edit, go_on)
    return KeysEnded(
        ok=True,
        added=last.added,
        removed=last.removed,
        rejected=parsed.rejected,
        warn=written.warn,
        detail=written.detail,
    )


def _usable(body: bytes) -> Parsed:
    parsed = parse_keys(body)
    if not parsed.keys:
        raise SyncError("no_keys", f"none of {parsed.rejected} lines is a key that may be used")
    return parsed
