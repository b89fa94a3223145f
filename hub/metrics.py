"""Figures of a hub for Prometheus: requests, links, machines by presence, jobs by state.

Rules: no tenant, no machine and no path with an id in it is named: a route by its template. Local
requests need no log-in; any other is a system_admin's. What the database knows is asked when
somebody looks.
Source: Prometheus, "Metric and label naming".
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.assembly import Hub
from hub.authorize import authorize
from hub.jobs.models import Job
from hub.requests import TheHub, principal_of
from wire import __version__

router = APIRouter()
Scope = MutableMapping[str, Any]


class Metrics:
    """ASGI middleware that counts requests, and what `/metrics` shows."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "jackline_http_requests", "requests answered", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "jackline_http_request_seconds", "until answered", registry=self.registry
        )
        self._links = Gauge("jackline_links", "agents linked", registry=self.registry)
        self._agents = Gauge(
            "jackline_agents", "machines known", ("presence",), registry=self.registry
        )
        self._jobs = Gauge("jackline_jobs", "jobs", ("state",), registry=self.registry)
        self._info = Gauge("jackline_info", "this hub", ("version",), registry=self.registry)
        self._info.labels(__version__).set(1)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["jackline.metrics"] = self
        began_s, status = time.monotonic(), 500

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "other"
            self._requests.labels(method, route, status).inc()
            self._seconds.observe(time.monotonic() - began_s)

    async def shown(self, hub: Hub) -> bytes:
        """Return everything in Prometheus' text format."""
        self._links.set(len(hub.links))
        agents, jobs = await hub.database.read(None, _counted)
        for gauge, counts in ((self._agents, agents), (self._jobs, jobs)):
            gauge.clear()
            for name, count in counts.items():
                gauge.labels(name).set(count)
        return generate_latest(self.registry)


def _counted(session: Session) -> tuple[dict[str, int], dict[str, int]]:
    known = select(Asset.presence, func.count()).where(Asset.deleted_ms.is_(None))
    agents = session.execute(known.group_by(Asset.presence))
    jobs = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {row[0]: row[1] for row in agents}, {row[0]: row[1] for row in jobs}


def may_scrape() -> Any:
    """Declare that a request is local, or a system_admin's."""

    async def checked(request: Request) -> None:
        if not is_local(request):
            authorize(await principal_of(request), "system.read")

    checked.action = "system.read"  # type: ignore[attr-defined]
    return Depends(checked)


def is_local(request: Request) -> bool:
    """Tell whether a request comes from this machine and was not forwarded by a proxy on it."""
    if {"x-forwarded-for", "forwarded"} & set(request.headers) or request.client is None:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


@router.get("/metrics", response_class=Response, dependencies=[may_scrape()])
async def metrics(hub: TheHub, request: Request) -> Response:
    """Show the hub's figures to Prometheus."""
    found: Metrics = request.scope["jackline.metrics"]
    return Response(await found.shown(hub), media_type=CONTENT_TYPE_LATEST)
