"""A job as people and programs see it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from hub.clock import iso, iso_or_none
from hub.jobs.models import Job

StateName = Literal[
    "queued", "sent", "running", "succeeded", "failed", "cancelled", "expired", "unknown"
]


class JobOut(BaseModel):
    """One job. `result` is the family's; `error` says why it did not simply end."""

    id: str
    asset_id: str
    kind: str
    state: StateName
    request: dict[str, Any]
    when_offline: str
    batch_id: str | None
    created_at: str
    created_by: str
    expires_at: str
    sent_at: str | None
    deadline_at: str | None
    cancel_requested_at: str | None
    ended_at: str | None
    error: str | None
    result: dict[str, Any] | None

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """Show a row."""
        return cls(
            id=job.id,
            asset_id=job.asset_id,
            kind=job.kind,
            state=job.state,  # type: ignore[arg-type]
            request={
                name: value for name, value in job.request.items() if not name.endswith("_sealed")
            },
            when_offline=job.when_offline,
            batch_id=job.batch_id,
            created_at=iso(job.created_ms),
            created_by=job.created_name,
            expires_at=iso(job.expires_ms),
            sent_at=iso_or_none(job.sent_ms),
            deadline_at=iso_or_none(job.deadline_ms),
            cancel_requested_at=iso_or_none(job.cancel_ms),
            ended_at=iso_or_none(job.ended_ms),
            error=job.error,
            result=job.result,
        )
