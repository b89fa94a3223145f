"""Every page of the console, in one list."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from hub.console import (
    agents,
    alerts,
    audit,
    backups,
    batches,
    commands,
    enrolment,
    exports,
    faults,
    jobs,
    login,
    machinery,
    one_agent,
    people,
    shells,
)
from hub.console.static_files import PackagedFiles

PAGES = (
    login,
    agents,
    alerts,
    one_agent,
    jobs,
    commands,
    enrolment,
    people,
    audit,
    shells,
    machinery,
    backups,
    batches,
    exports,
)


def routers() -> list[APIRouter]:
    """Return the routes of every page."""
    return [module.router for module in PAGES]


def install(app: FastAPI) -> None:
    """Put the pages, their files and their error pages into an application."""
    for router in routers():
        app.include_router(router)
    app.mount("/static", PackagedFiles(), "static")
    faults.install(app)
