"""Check audit chains without a hub: from its database, or from an export.

Rules: pure over rows in the order of their sequence; the first bad sequence is named, and why. A
chain begins at 1, or behind a seal up to which rows have left, which a later row of the chain must
tell. A head that does not fit, or a seal of rows that are not there, tells of a cut end.
Source: fault cases J, "audit chain".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.audit import seals, service
from hub.audit.models import AuditHead, AuditRow, AuditSeal


@dataclass(frozen=True)
class Verdict:
    """What was found; `bad_seq` None: the chain is whole."""

    rows: int
    bad_seq: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Chain:
    """One tenant's chain; `head` None where only an export is at hand."""

    rows: Iterable[AuditRow]
    seals: list[AuditSeal]
    head: AuditHead | None


def verify(chain: Chain, key: Ed25519PublicKey) -> Verdict:
    """Check one chain from its first row to its end."""
    forged = next((seal for seal in chain.seals if not seals.is_signed(seal, key)), None)
    if forged is not None:
        return Verdict(0, forged.seq, "the seal is not signed by this keyring")
    walk = _Walk({seal.seq: seal for seal in chain.seals})
    for row in chain.rows:
        why = walk.step(row)
        if why:
            return Verdict(walk.rows, walk.expected, why)
    return walk.end(chain.head)


class _Walk:
    """Goes from row to row; `expected` is the sequence that must come next."""

    def __init__(self, sealed: dict[int, AuditSeal]) -> None:
        self._sealed = sealed
        self._digest = service.GENESIS
        self._left_upto = 0
        self._told_upto = 0
        self.expected = 1
        self.rows = 0

    def step(self, row: AuditRow) -> str:
        """Take the next row; returns what is wrong with it."""
        if self.rows == 0 and row.seq > 1:
            before = self._sealed.get(row.seq - 1)
            if before is None:
                return "the rows before are missing and no seal tells of them"
            self._left_upto, self._digest, self.expected = before.seq, before.digest, row.seq
        if row.seq != self.expected:
            return "the row is missing"
        if row.digest != service.chain(self._digest, row):
            return "the row was altered"
        seal = self._sealed.get(row.seq)
        if seal is not None and seal.digest != row.digest:
            return "the row is not the one that was sealed"
        if row.action == seals.PRUNED and row.actor_kind == service.SYSTEM.kind:
            self._told_upto = max(self._told_upto, int(row.detail.get("upto", 0)))
        self._digest, self.expected, self.rows = row.digest, row.seq + 1, self.rows + 1
        return ""

    def end(self, head: AuditHead | None) -> Verdict:
        """Look behind the last row."""
        if self._told_upto < self._left_upto:
            return Verdict(self.rows, self._left_upto, "the rows up to it left without a word")
        if any(seq >= self.expected for seq in self._sealed):
            return Verdict(self.rows, self.expected, "rows that were sealed are missing")
        if head is not None and (head.seq, head.digest) != (self.expected - 1, self._digest):
            return Verdict(self.rows, self.expected, "the chain's end is not where its head says")
        return Verdict(self.rows)
