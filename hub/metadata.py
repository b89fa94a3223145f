"""Every table of the hub, gathered: what migrations and checks compare with.

Rule: a family's `models` is imported here, or its tables do not exist.
"""

from __future__ import annotations

from hub.agents import models as agents
from hub.alerts import models as alerts
from hub.audit import models as audit
from hub.backup import models as backup
from hub.cron import models as cron
from hub.db.tables import Table
from hub.heartbeat import models as heartbeat
from hub.idempotency import models as idempotency
from hub.jobs import models as jobs
from hub.operators import models as operators
from hub.policy import models as policy
from hub.shell import models as shell
from hub.telemetry import models as telemetry

FAMILIES = (
    agents,
    alerts,
    audit,
    backup,
    cron,
    heartbeat,
    idempotency,
    jobs,
    operators,
    policy,
    shell,
    telemetry,
)
METADATA = Table.metadata
