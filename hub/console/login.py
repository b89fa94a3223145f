"""The log-in page, and the way out.

Rules: a form without a cookie counts only from an origin of ours, so that nobody is logged in as
somebody else from another site; the same sentence for every wrong name, password or code.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from hub.console.access import safe_next
from hub.console.rendering import page
from hub.errors import HubError, UnauthorizedError
from hub.operators import credentials, login_api
from hub.operators.logins import Attempt
from hub.requests import TheHub, address_of, check_origin, principal_of, public
from wire import __version__

router = APIRouter(include_in_schema=False)

HELLO = f"""Jackline hub {__version__}

Log in from a terminal:   jackline login --hub URL
The API:                  /openapi.json
"""


@router.get("/", dependencies=[public()])
async def start(request: Request) -> Response:
    """Lead a person to the agents or to the log-in; tell a program what this is."""
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(HELLO)
    if await principal_of(request) is not None:
        return RedirectResponse("/agents", 303)
    return _form(request)


@router.get("/login", dependencies=[public()])
async def login_page(request: Request, next: str = "/agents") -> Response:  # noqa: A002  (its name in the address)
    """Show the log-in."""
    return _form(request, next_path=safe_next(next))


@router.post("/login", dependencies=[public()])
async def log_in(
    request: Request,
    hub: TheHub,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)],
    code: Annotated[str, Form(max_length=16)] = "",
    next: Annotated[str, Form(max_length=2048)] = "/agents",  # noqa: A002  (its name in the form)
) -> Response:
    """Begin a session in a cookie."""
    check_origin(hub, request)
    attempt = Attempt(name, password, code.replace(" ", "") or None, "browser", address_of(request))
    try:
        done = await hub.logins.log_in(attempt)
    except HubError as error:
        return _form(request, name, safe_next(next), _sentence(error), error.status)
    response = RedirectResponse(safe_next(next), 303)
    login_api.set_cookie(response, done.text, is_secure=request.url.scheme == "https")
    return response


@router.post("/logout", dependencies=[public()])
async def log_out(request: Request, hub: TheHub) -> Response:
    """End the session, if there is one."""
    check_origin(hub, request)
    caller = await principal_of(request)
    if caller is not None:
        await hub.database.write(caller.tenant_id, login_api.end_own, caller)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(credentials.COOKIE, path="/")
    return response


def _form(
    request: Request,
    name: str = "",
    next_path: str = "/agents",
    fault: str = "",
    status: int = 200,
) -> Response:
    hub_url = str(request.base_url).rstrip("/")
    return page(
        request,
        "login.html",
        status=status,
        name=name,
        next=next_path,
        fault=fault,
        hub_url=hub_url,
    )


def _sentence(error: HubError) -> str:
    if isinstance(error, UnauthorizedError) and error.code == "totp_required":
        return "This account needs its one-time code, too."
    if isinstance(error, UnauthorizedError):
        return "Wrong name, password or one-time code."
    return error.detail or error.code
