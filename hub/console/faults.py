"""What a person sees when a page cannot be shown: the log-in, or one sentence and the way back.

Rules: a request for HTML that is not the API's gets a page; everybody else gets the problem. The
same words as the problem's, nothing more.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from hub import problems
from hub.console.access import to_login
from hub.console.rendering import page
from hub.errors import HubError, LoginNeededError, NotFoundError
from hub.requests import principal_of


def install(app: FastAPI) -> None:
    """Let errors reach a person as pages; after `hub.problems.install`."""
    app.add_exception_handler(HubError, _hub_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    if isinstance(error, LoginNeededError):
        return to_login(request)
    if _wants_page(request):
        return await _page(request, error)
    return await problems.hub_error(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if _wants_page(request) and error.status_code == 404:
        return await _page(request, NotFoundError("there is no such page"))
    return await problems.http_error(request, error)


def _wants_page(request: Request) -> bool:
    is_api = request.url.path.startswith(("/api/", "/static/", "/healthz", "/readyz", "/metrics"))
    return not is_api and "text/html" in request.headers.get("accept", "")


async def _page(request: Request, error: HubError) -> Response:
    caller = await principal_of(request)
    if caller is None:
        return to_login(request)
    template = "fragment_fault.html" if request.headers.get("hx-request") else "fault.html"
    return page(request, template, caller, status=error.status, fault=error)
