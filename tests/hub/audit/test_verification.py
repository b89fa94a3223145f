"""Whoever changes a row in the database is found, and the first bad sequence is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit import exports, seals, service
from hub.audit.models import AuditHead, AuditRow, AuditSeal
from hub.audit.verification import Chain, Verdict, verify
from hub.errors import BadRequestError


@pytest.fixture
def log(hub: Hub) -> Hub:
    """A hub with ten audit rows of tenant t1, the first six of them sealed."""
    record(hub, 6)
    hub.database.write_now(None, lambda session: seals.seal_heads(session, hub.keyring))
    record(hub, 4)
    return hub


def record(hub: Hub, count: int) -> None:
    def add(session: Session) -> None:
        for n in range(count):
            service.record(session, "t1", service.SYSTEM, "test", n=n, name="é")

    hub.database.write_now(None, add)


def chain_of(session: Session) -> Chain:
    rows = session.scalars(
        select(AuditRow).where(AuditRow.tenant_id == "t1").order_by(AuditRow.seq)
    )
    kept = session.scalars(select(AuditSeal).where(AuditSeal.tenant_id == "t1"))
    return Chain(list(rows), list(kept), session.get(AuditHead, "t1"))


def verdict(hub: Hub) -> Verdict:
    chain = hub.database.read_now(None, chain_of)
    return verify(chain, hub.keyring.signer.public_key())


def tamper(hub: Hub, *statements: str) -> None:
    def run(session: Session) -> None:
        for statement in statements:
            session.execute(text(statement))

    hub.database.write_now(None, run)


def test_an_untouched_chain_is_whole(log: Hub) -> None:
    assert verdict(log) == Verdict(10)


@pytest.mark.parametrize(
    "statement, bad_seq",
    [
        ("UPDATE audit SET outcome = 'ok2' WHERE seq = 4", 4),
        ("UPDATE audit SET detail = '{}' WHERE seq = 9", 9),
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq = 10", 10),
        ("DELETE FROM audit WHERE seq <= 3", 1),
        ("DELETE FROM audit WHERE seq <= 6", 6),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET seq = seq + 1 WHERE seq = 10", 10),
        ("UPDATE audit_heads SET seq = 9", 11),
        ("UPDATE audit_seals SET digest = '0'", 6),
        ("UPDATE audit_seals SET signature = 'zz'", 6),
        ("UPDATE audit_seals SET seq = 7", 7),
    ],
)
def test_the_first_bad_sequence_is_named(log: Hub, statement: str, bad_seq: int) -> None:
    tamper(log, statement)
    found = verdict(log)
    assert (found.bad_seq, bool(found.why)) == (bad_seq, True)


def test_a_cut_end_is_found_though_the_head_was_changed_with_it(log: Hub) -> None:
    """The seal knows that there was more."""
    tamper(
        log,
        "DELETE FROM audit WHERE seq > 5",
        "UPDATE audit_heads SET seq = 5, digest = (SELECT digest FROM audit WHERE seq = 5)",
    )
    assert verdict(log).bad_seq == 6


def test_a_rewritten_chain_is_found_by_its_seal(log: Hub) -> None:
    """Whoever has the database can compute every digest anew, but not sign."""

    def rewrite(session: Session) -> None:
        before = service.GENESIS
        for row in session.scalars(select(AuditRow).order_by(AuditRow.seq)):
            if row.seq == 2:
                row.outcome = "rewritten"
            before = row.digest = service.chain(before, row)
        session.get_one(AuditHead, "t1").digest = before

    log.database.write_now(None, rewrite)
    assert verdict(log).bad_seq == 6


def test_rows_leave_up_to_a_seal_and_the_rest_is_whole(hub: Hub) -> None:
    for _ in range(4):
        record(hub, 5)
        hub.database.write_now(None, lambda session: seals.seal_heads(session, hub.keyring))
    gone = hub.database.write_now(None, lambda session: seals.prune(session, 2**52))
    assert gone == 15
    assert verdict(hub) == Verdict(6)
    record(hub, 3)
    assert verdict(hub) == Verdict(9)


def test_a_leaping_clock_lets_no_more_leave_than_two_hours_of_the_oldest(hub: Hub) -> None:
    for _ in range(10):
        record(hub, 1)
        hub.database.write_now(None, lambda session: seals.seal_heads(session, hub.keyring))
    assert hub.database.write_now(None, lambda session: seals.prune(session, 2**52)) == 3
    assert hub.database.write_now(None, lambda session: seals.prune(session, 0)) == 0


def test_an_unchanged_chain_is_not_sealed_again(log: Hub) -> None:
    def seal(session: Session) -> int:
        return seals.seal_heads(session, log.keyring)

    assert [log.database.write_now(None, seal) for _ in range(2)] == [1, 0]


def exported(hub: Hub) -> str:
    chain = hub.database.read_now(None, chain_of)
    return "".join(exports.write("t1", chain.rows, chain.seals, hub.keyring))


def test_an_export_is_checked_with_the_public_key_alone(log: Hub) -> None:
    assert exports.check(exported(log), log.keyring.signer.public_key()) == Verdict(10)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:3] + lines[4:],
        lambda lines: [line.replace('"ok"', '"no"') for line in lines],
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [],
        lambda lines: ["é\n"],
    ],
)
def test_a_changed_export_is_refused(log: Hub, change: Callable[[list[str]], list[str]]) -> None:
    lines = exported(log).splitlines(keepends=True)
    with pytest.raises(BadRequestError):
        exports.check("".join(change(lines)), log.keyring.signer.public_key())
