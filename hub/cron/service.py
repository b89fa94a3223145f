"""The family: a crontab is read and replaced by commands, and each version is kept.

Rules: reading is `crontab -l`; replacing is the contract's one form, which the machine keeps the
previous crontab for. A version is added when a reading shows something new, and when a replacement
has succeeded, both in the unit that stores the result. Whoever edits says which version they
edited: a newer one that the hub knows of refuses theirs.
Source: contract 1.4 "Cron".
"""

from __future__ import annotations

import base64
import difflib
import hashlib
from dataclasses import replace

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hub.admin import requests
from hub.admin.requests import AdminIn, Timing
from hub.admin.service import Admin
from hub.agents.models import Asset
from hub.authorize import Principal
from hub.clock import now_ms
from hub.cron.models import Crontab
from hub.errors import BadRequestError, ConflictError, NotFoundError
from hub.heartbeat import inventories
from hub.ids import new_id
from hub.jobs.models import Job
from hub.jobs.states import State
from hub.policy.verdicts import CRON_FORM
from wire.admin import AdminResult

GET, SET = "cron_get", "cron_set"
READ = "crontab -l"
TIMEOUT_S = 30.0
MAX_CHARS = 100_000
_NONE = ("no crontab", "No such file")


class Cron:
    """See the module."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        admin.add_kind(GET, "cron.read", on_result=self._on_read)
        admin.add_kind(SET, "cron.write", on_result=self._on_set)

    def read(self, session: Session, who: Principal, asset: Asset, timing: Timing) -> Job:
        """Ask a machine for its crontab."""
        asked = AdminIn(command=READ, timeout_sec=TIMEOUT_S, **timing.model_dump())
        order = requests.order_of(self._admin.keyring, asked)
        return self._admin.submission.put(session, who, asset, GET, order)

    def install(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        text: str,
        timing: Timing,
        expected: str | None = None,
    ) -> Job:
        """Replace a machine's crontab.

        Args:
            text: all of it; a missing newline at the end is added.
            expected: the digest of the version that was edited.

        Raises:
            BadRequestError: `bad_crontab`; ConflictError: `changed`.
        """
        text = checked(text)
        known = newest(session, asset.id)
        if expected is not None and (known.digest if known else digest("")) != expected:
            raise ConflictError("the crontab was changed meanwhile: read it again", code="changed")
        # An empty line is an empty crontab; no text at all would be no cron form.
        encoded = base64.b64encode(text.encode() or b"\n").decode()
        command = f"echo {encoded} | base64 -d | crontab -"
        asked = AdminIn(command=command, timeout_sec=TIMEOUT_S, **timing.model_dump())
        order = requests.order_of(self._admin.keyring, asked)
        order = replace(order, request={**order.request, "text": text})
        return self._admin.submission.put(session, who, asset, SET, order, CRON_FORM)

    def undo(
        self,
        session: Session,
        who: Principal,
        asset: Asset,
        timing: Timing,
        version_id: str | None = None,
    ) -> Job:
        """Install an earlier version again: the one before the newest, or the one that is named.

        Raises:
            NotFoundError: there is none.
        """
        if version_id is not None:
            return self.install(
                session, who, asset, version(session, asset, version_id).text, timing
            )
        latest = session.scalars(_of(asset.id).limit(2)).all()
        if len(latest) < 2:
            raise NotFoundError("there is no earlier version of this crontab")
        return self.install(session, who, asset, latest[1].text, timing)

    def _on_read(self, session: Session, job: Job, message: AdminResult) -> None:
        outcome = message.result
        code = outcome.summary.code
        is_none = code == 1 and any(words in outcome.stderr for words in _NONE)
        if outcome.summary.truncated or not (code == 0 or is_none):
            return
        text = "" if is_none else outcome.stdout
        if is_none:
            job.state, job.error = State.SUCCEEDED, None
        latest = newest(session, job.asset_id)
        if latest is None or latest.digest != digest(text):
            _add(session, job, text, "seen")

    def _on_set(self, session: Session, job: Job, message: AdminResult) -> None:
        if job.state == State.SUCCEEDED:
            _add(session, job, job.request["text"], "set")


def checked(text: str) -> str:
    """Return a crontab that crontab(1) would take.

    Raises:
        BadRequestError: `bad_crontab`.
    """
    if "\0" in text or len(text) > MAX_CHARS:
        raise BadRequestError(
            f"a crontab has at most {MAX_CHARS} characters and no NUL", code="bad_crontab"
        )
    text = text.replace("\r\n", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def digest(text: str) -> str:
    """Return what a version is compared by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def newest(session: Session, asset_id: str) -> Crontab | None:
    """Return what is known of a machine's crontab."""
    return session.scalar(_of(asset_id).limit(1))


def version(session: Session, asset: Asset, version_id: str) -> Crontab:
    """Return one version.

    Raises:
        NotFoundError: this machine has none such.
    """
    found = session.scalar(
        select(Crontab).where(Crontab.asset_id == asset.id, Crontab.id == version_id)
    )
    if found is None:
        raise NotFoundError("there is no such version")
    return found


def zone_of(session: Session, asset_id: str) -> str | None:
    """Return a machine's time zone, where its inventory told it."""
    try:
        told = inventories.body(inventories.version(session, asset_id, None))
    except NotFoundError:
        return None
    zone = (told.get("os") or {}).get("timezone")
    return zone if isinstance(zone, str) else None


def difference(before: str, after: str) -> str:
    """Return the unified diff of two crontabs."""
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), "before", "after"
        )
    )


def _of(asset_id: str) -> Select[Crontab]:
    return select(Crontab).where(Crontab.asset_id == asset_id).order_by(Crontab.id.desc())


def _add(session: Session, job: Job, text: str, origin: str) -> None:
    session.add(
        Crontab(
            id=new_id(),
            tenant_id=job.tenant_id,
            asset_id=job.asset_id,
            job_id=job.id,
            text=text,
            digest=digest(text),
            origin=origin,
            made_by=job.created_name if origin == "set" else "",
            at_ms=now_ms(),
        )
    )
    session.flush()
