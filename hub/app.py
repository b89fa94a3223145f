"""The ASGI application: routes, sockets, errors, in one place to read.

Rules: assembles only. `/healthz` tells that the process answers, `/readyz` that its database does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from sqlalchemy import text

from hub import listeners, metrics, problems, trespass
from hub.admin import api as admin_api
from hub.agents import api as agents_api
from hub.agents import workers_api
from hub.alerts import api as alerts_api
from hub.assembly import Hub
from hub.audit import api as audit_api
from hub.backup import api as backup_api
from hub.borders import Borders
from hub.console import routes as console
from hub.cron import api as cron_api
from hub.files import api as files_api
from hub.heartbeat import api_approval, api_beats, api_commands, api_enrolment
from hub.idempotency.middleware import Idempotency
from hub.jobs import api as jobs_api
from hub.keys import api as keys_api
from hub.metrics import Metrics
from hub.operators import (
    account_api,
    device_api,
    login_api,
    tenants_api,
    tokens_api,
    users_api,
)
from hub.policy import api as policy_api
from hub.requests import TheHub, public
from hub.shell import api as shell_api
from hub.sockets.guards import SocketApp
from hub.telemetry import api as telemetry_api
from wire import __version__

router = APIRouter()
PEOPLE = [
    login_api.router,
    account_api.router,
    users_api.router,
    tenants_api.router,
    tokens_api.router,
    device_api.router,
    audit_api.router,
]


def build(hub: Hub) -> FastAPI:
    """Return the application of a hub."""
    app = FastAPI(
        title="Jackline hub",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"description": "a problem, RFC 9457"}},
    )
    app.state.hub = hub
    problems.install(app)
    for one in routers():
        app.include_router(one)
    console.install(app)
    trespass.install(app)
    app.add_middleware(Idempotency, hub=hub, routers=[*routers(), *console.routers()])
    app.add_middleware(Metrics)
    app.add_middleware(
        SocketApp,
        server=hub.sockets,
        origins=lambda: hub.origins,
        has_signature=hub.admission.has_signature,
    )
    app.add_middleware(Borders, names=hub.addresses.names, bound=hub.settings.host)
    return app


def routers() -> list[APIRouter]:
    """Return every family's routes."""
    return [
        router,
        metrics.router,
        *PEOPLE,
        api_enrolment.router,
        api_approval.router,
        api_beats.router,
        api_commands.router,
        jobs_api.router,
        admin_api.router,
        policy_api.router,
        cron_api.router,
        keys_api.router,
        alerts_api.router,
        agents_api.router,
        telemetry_api.router,
        shell_api.router,
        workers_api.router,
        files_api.router,
        backup_api.router,
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: Hub = app.state.hub
    await hub.start()
    async with listeners.serving_agents(hub, app):
        yield
    await hub.stop()


@router.get("/healthz", response_class=PlainTextResponse, dependencies=[public()])
async def healthz() -> str:
    """Tell that the process answers."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, dependencies=[public()])
async def readyz(hub: TheHub) -> str:
    """Tell that the database answers.

    Raises:
        UnavailableError: it does not.
    """
    await hub.database.read(None, lambda session: session.execute(text("SELECT 1")).one())
    return "ok\n"
