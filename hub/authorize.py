"""One question, one answer: may this principal do that to this object?

Rules: every route and every event names an action of `ACTIONS`; there is no other way to a service.
What belongs to another tenant does not exist for the caller (`not_found`, the same body), save for
a system_admin, who acts in every tenant. Both verdicts are audited by whoever asked.
Source: fault cases B.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from hub.errors import ForbiddenError, NotFoundError, UnauthorizedError


class Role(StrEnum):
    """What a person or a program may be in a tenant; each may do more than the one before it."""

    AUDITOR = "auditor"
    OPERATOR = "operator"
    TENANT_ADMIN = "tenant_admin"
    SYSTEM_ADMIN = "system_admin"


RANK = {role: rank for rank, role in enumerate(Role)}
_EVERYBODY = frozenset(Role)
_OPERATORS = frozenset({Role.OPERATOR, Role.TENANT_ADMIN, Role.SYSTEM_ADMIN})
_ADMINS = frozenset({Role.TENANT_ADMIN, Role.SYSTEM_ADMIN})
_SYSTEM = frozenset({Role.SYSTEM_ADMIN})
_AGENTS: frozenset[Role] = frozenset()

ACTIONS: dict[str, frozenset[Role]] = {
    # people
    "self.read": _EVERYBODY,
    "self.write": _EVERYBODY,
    "users.read": _EVERYBODY,
    "users.write": _ADMINS,
    "tenants.read": _EVERYBODY,
    "tenants.write": _SYSTEM,
    "tokens.read": _EVERYBODY,
    "tokens.write": _OPERATORS,
    "device.approve": _OPERATORS,
    "audit.read": _EVERYBODY,
    # machines
    "agents.read": _EVERYBODY,
    "agents.tag": _OPERATORS,
    "agents.approve": _ADMINS,
    "agents.write": _ADMINS,
    "enrolment.read": _EVERYBODY,
    "enrolment.write": _ADMINS,
    "telemetry.read": _EVERYBODY,
    "alerts.read": _EVERYBODY,
    "alerts.acknowledge": _OPERATORS,
    "alerts.write": _ADMINS,
    "policy.read": _EVERYBODY,
    "policy.write": _ADMINS,
    # jobs
    "jobs.read": _EVERYBODY,
    "jobs.cancel": _OPERATORS,
    "shell.open": _OPERATORS,
    "shell.observe": _EVERYBODY,
    "sessions.read": _EVERYBODY,
    "admin.run": _OPERATORS,
    "cron.read": _EVERYBODY,
    "cron.write": _OPERATORS,
    "keys.preview": _OPERATORS,
    "keys.sync": _OPERATORS,
    "backup.read": _EVERYBODY,
    "backup.plan": _OPERATORS,
    "backup.approve": _ADMINS,
    "backup.run": _OPERATORS,
    "backup.restore": _OPERATORS,
    "files.read": _OPERATORS,
    "workers.read": _EVERYBODY,
    "workers.restart": _OPERATORS,
    "commands.read": _EVERYBODY,
    "commands.run": _OPERATORS,
    "tools.read": _EVERYBODY,
    "tools.call": _OPERATORS,
    # the system itself
    "system.read": _SYSTEM,
    # what agents alone do, by their own credential
    "agent.beat": _AGENTS,
    "agent.link": _AGENTS,
}


@dataclass(frozen=True)
class Principal:
    """Who asks. `credential_id` is the session's or the API token's; `address` where from."""

    kind: Literal["user", "agent", "system"]
    id: str
    name: str
    tenant_id: str
    role: Role | None
    credential_id: str | None = None
    address: str | None = None

    @property
    def scope(self) -> str | None:
        """Return the tenant that database work is narrowed to; None: all of them."""
        return None if self.role is Role.SYSTEM_ADMIN else self.tenant_id


def authorize(principal: Principal | None, action: str, tenant_id: str | None = None) -> Principal:
    """Let a principal do something, or raise.

    Args:
        principal: None for somebody who is not logged in.
        action: a key of `ACTIONS`.
        tenant_id: the object's tenant, where there is an object already.

    Returns:
        the principal.

    Raises:
        UnauthorizedError: nobody is logged in.
        ForbiddenError: the role may not do this.
        NotFoundError: the object is another tenant's; audit `cross_tenant_denied`.
    """
    allowed = ACTIONS[action]
    if principal is None:
        raise UnauthorizedError("log in first: `jackline login`, or send an API token")
    is_agents_own = principal.kind == "agent" and action.startswith("agent.")
    if not is_agents_own and principal.kind != "system" and principal.role not in allowed:
        raise ForbiddenError(f"{principal.role or principal.kind} may not do `{action}`")
    if tenant_id is not None and principal.scope not in (None, tenant_id):
        raise NotFoundError
    return principal
