"""What rsync's exit code and last words mean: a word, and a sentence with the cure.

Pure. Source: rsync(1), "EXIT VALUES"; ssh(1) exit status 255; cases H.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from workers.backup import itemize

Verdict = Literal["done", "partial", "again", "failed"]
MAX_NAMED = 500

_CODES: dict[int, tuple[Verdict, str, str]] = {
    0: ("done", "", ""),
    1: ("failed", "rsync_usage", "rsync refuses its arguments: its version is too old or changed"),
    2: ("failed", "protocol", "the other end's rsync speaks another protocol, or is none"),
    3: ("failed", "bad_path", "rsync cannot choose its files: source or destination is not usable"),
    4: ("failed", "unsupported", "the other end's rsync cannot do what is asked"),
    5: ("failed", "protocol", "the other end does not let rsync start"),
    10: ("again", "connection", "the connection failed: look at the network and the other host"),
    11: ("failed", "io_error", "a file could not be read or written: look at the disks"),
    12: ("again", "connection", "the connection broke off: look at the network and the other host"),
    13: ("failed", "rsync_failed", "rsync could not report its own errors"),
    14: ("failed", "resources", "rsync's processes cannot talk to each other: is memory used up?"),
    20: ("again", "killed", "rsync was ended by a signal"),
    21: ("failed", "rsync_failed", "rsync lost one of its own processes"),
    22: ("failed", "resources", "rsync has no memory left"),
    23: ("partial", "", "some files could not be read or written"),
    24: ("partial", "", "some files vanished while they were being copied"),
    25: ("failed", "too_many_deletions", "more would be deleted than is allowed"),
    30: ("again", "timeout", "no byte moved within the timeout: look at the network and the disks"),
    35: ("again", "timeout", "the other end does not answer"),
    127: ("failed", "no_rsync", "the other host has no rsync: install it there"),
    255: ("again", "ssh", "ssh could not connect"),
}
# The last words that say more than the code does; the first that is found counts.
_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|No .* host key is known",
        "host_key",
        "the other host's key is unknown or has changed; compare, then `backup trust-host HOST`",
    ),
    (r"No space left on device|Disk quota exceeded", "no_space", "the destination is full"),
    (
        r"Permission denied \((?:publickey|password|keyboard|gssapi)|Too many authentication fail",
        "ssh_auth",
        "the other host does not accept our key: look at backup.ssh.identityFile",
    ),
    (r"rsync: (?:command )?not found", "no_rsync", "the other host has no rsync: install it there"),
    (
        r"Bad owner or permissions|bad permissions|Load key",
        "ssh_config",
        "ssh refuses its key file",
    ),
    (
        r"Read-only file system",
        "read_only",
        "the destination's file system is mounted read-only",
    ),
)
# Atomic: the first word of a line counts, or a line of nothing but such words takes for ever.
_UNSUPPORTED = re.compile(
    r"^(?>.*?(?:xattr|acl)).*Operation not supported", re.IGNORECASE | re.MULTILINE
)
_ABSENT = re.compile(r'link_stat ".*" failed: No such file or directory')
_BLOCKED = re.compile(r"could not make way for new [a-z ]+: (.+)")


class Words(msgspec.Struct):
    """Standard error of one rsync: what it names, as far as it is kept.

    `unsaid`: lines that hold this are none; "": all count.
    """

    unsaid: str = ""
    lines: list[str] = []
    total: int = 0
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of standard error."""
        pieces = (self._rest + chunk).split(b"\n")
        self._rest = pieces.pop()[-4096:]
        for piece in pieces:
            self._keep(piece)

    def end(self) -> None:
        """The last line may have no end."""
        self._keep(self._rest)
        self._rest = b""

    def _keep(self, piece: bytes) -> None:
        text = piece.decode("utf-8", "replace").strip()
        if not text or (self.unsaid and self.unsaid in text):
            return
        self.total += 1
        if len(self.lines) < MAX_NAMED:
            self.lines.append(text[:4096])
        else:
            self.lines[-1] = text[:4096]  # the last words are the summary

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def lacks_attributes(self) -> bool:
        """Does the destination refuse ACLs or extended attributes as such?"""
        return _UNSUPPORTED.search(self.text) is not None

    def blocked(self) -> list[bytes]:
        """Return the files that something else stands in the way of; no line tells of them."""
        found = (_BLOCKED.match(line) for line in self.lines)
        return [itemize.plain_name(each[1].encode()) for each in found if each]

    def absent(self) -> int:
        """Return how many of the files that were asked for are not there."""
        return sum(_ABSENT.search(line) is not None for line in self.lines)

    def errors(self) -> list[str]:
        """Return one sentence for each file that something happened to."""
        return [line for line in self.lines if not _is_summary(line)]


class Outcome(msgspec.Struct, frozen=True):
    """How one rsync ended."""

    verdict: Verdict
    error: str = ""
    sentence: str = ""


def judge(code: int, words: Words) -> Outcome:
    """Say what an exit code (-n: ended by signal n) and the last words mean."""
    if code < 0:
        return Outcome("again", "killed", f"rsync was ended by signal {-code}")
    verdict, error, sentence = _CODES.get(
        code, ("failed", "rsync_failed", f"rsync ended with code {code}")
    )
    if verdict == "done":
        return Outcome(verdict)
    for pattern, word, cure in _WORDS:
        if re.search(pattern, words.text):
            return Outcome("failed", word, _with(cure, words))
    if verdict == "partial":
        return Outcome(verdict, error, sentence)
    return Outcome(verdict, error, _with(sentence, words))


def _with(sentence: str, words: Words) -> str:
    """Add the words that the sentence was made from."""
    said = [line for line in words.lines if not line.startswith(("rsync error:", "@"))]
    return f"{sentence} ({said[0]})" if said else sentence


def _is_summary(line: str) -> bool:
    # Of a connection that cannot be shared: ssh then makes one of its own.
    if line.startswith(("mux_client_", "ControlSocket ")):
        return True
    return line.startswith(("rsync error:", "rsync warning:")) or "IO error encountered" in line
