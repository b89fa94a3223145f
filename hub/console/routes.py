"""Every page of the console, in one list."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from hub.console import commands, enrolment, faults, login, one_agent, people
from hub.console.static_files import PackagedFiles


def routers() -> list[APIRouter]:
    """Return the routes of every page."""
    return [login.router, one_agent.router, commands.router, enrolment.router, people.router]


def install(app: FastAPI) -> None:
    """Put the pages, their files and their error pages into an application."""
    for router in routers():
        app.include_router(router)
    app.mount("/static", PackagedFiles(), "static")
    faults.install(app)
