"""How a backup stands, in one word and one sentence, and a machine's backups in one.

Rules: pure; what is wrong comes before what is well, and nothing that is wrong is left out. "Did
not run" is wrong.
Source: product "Backups".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.backup.models import BackupPlan
from hub.jobs.models import Job

_DOING = {
    "backup_plan": "planning",
    "backup_run": "running",
    "backup_verify": "verifying",
    "backup_restore": "restoring",
}
_ENDS = {
    "failed": "The last run failed",
    "cancelled": "The last run was cancelled",
    "expired": "The last run never began: the machine was away too long",
    "unknown": "Nobody knows how the last run ended: look at the machine, then run it again",
}
WRONG = ("failed", "overdue", "expired", "unknown", "different")


@dataclass(frozen=True)
class Standing:
    """`doing` is what is under way, whatever the word says of the past."""

    word: str
    sentence: str
    doing: str | None = None

    @property
    def is_wrong(self) -> bool:
        return self.word in WRONG


def of_plan(plan: BackupPlan, job: Job | None, *, is_missed: bool) -> Standing:
    """Say how one plan stands.

    Args:
        job: what is under way for it.
        is_missed: a schedule says that it should have run.
    """
    word, sentence = _past(plan, is_overdue=is_missed or plan.is_late)
    doing = None
    if job is not None:
        doing = "queued" if job.state == "queued" else _DOING[job.kind]
    return Standing(word, sentence, doing)


def _past(plan: BackupPlan, *, is_overdue: bool) -> tuple[str, str]:
    if plan.last_state in ("failed", "expired", "unknown"):
        return plan.last_state, _ENDS[plan.last_state] + _because(plan)
    if is_overdue:
        return "overdue", "It did not run when it should have"
    if plan.is_verified is False:
        return "different", "The copy is not what was copied: run it again"
    if plan.state == "draft":
        if plan.plan_error is None:
            return "draft", "It is not planned yet"
        return "failed", f"It cannot be planned: {plan.plan_detail or plan.plan_error}"
    if plan.state == "planned":
        return "pending", "It waits for approval"
    return _copied(plan)


def _copied(plan: BackupPlan) -> tuple[str, str]:
    if plan.last_state is None:
        return "approved", "It has never run"
    if plan.last_state == "cancelled":
        return "cancelled", _ENDS["cancelled"]
    if plan.last_state == "partial":
        return "partial", "The last run could not read everything"
    if plan.is_verified:
        return "verified", "Copied and verified"
    return "ok", "Copied"


def _because(plan: BackupPlan) -> str:
    why = plan.last_detail or plan.last_error
    return f": {why}" if why else ""


def hero(standings: Sequence[Standing]) -> Standing:
    """Say it of all of a machine's plans in one sentence."""
    if not standings:
        return Standing("none", "Nothing of this machine is backed up")
    wrong = [one for one in standings if one.is_wrong]
    if wrong:
        first = wrong[0].sentence
        count = len(wrong)
        said = first if len(standings) == 1 else f"{count} of {len(standings)} backups: {first}"
        return Standing(wrong[0].word, said)
    for word, sentence in (
        ("partial", "Something could not be read: see the backups marked partial"),
        ("pending", "A backup waits for approval"),
        ("cancelled", "A backup was cancelled and has not been run since"),
        ("approved", "A backup has never run"),
        ("draft", "A backup is not planned yet"),
    ):
        if any(one.word == word for one in standings):
            return Standing(word, sentence)
    return Standing("ok", "Everything is backed up")
