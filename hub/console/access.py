"""Who may see a page: as `hub.requests.may`, but a person who is not logged in is led to log in.

Rules: an address that needs a log-in comes back after it (`next`, a path of ours alone); a request
of htmx is told by HX-Redirect, since a fragment cannot show a log-in.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response

from hub.authorize import ACTIONS, Principal, authorize
from hub.errors import HubError, LoginNeededError
from hub.requests import hub_of, principal_of, refused


def may_see(action: str) -> Any:
    """Declare a page's action: the caller is authorized, or sees the log-in or a refusal."""
    assert action in ACTIONS, action

    async def checked(request: Request) -> Principal:
        principal = await principal_of(request)
        if principal is None:
            raise LoginNeededError
        try:
            return authorize(principal, action)
        except HubError as error:
            await refused(hub_of(request), principal, action, error)
            raise

    checked.action = action  # type: ignore[attr-defined]
    return Depends(checked)


def to_login(request: Request) -> Response:
    """Send a browser to the log-in, and back afterwards."""
    address = f"/login?next={quote(own_path(request), safe='')}"
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


def own_path(request: Request) -> str:
    """Return the path to come back to; only what was read is asked for again."""
    if request.method != "GET" or request.headers.get("hx-request"):
        return "/agents"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def safe_next(path: str) -> str:
    """Return a path of ours: what leads elsewhere is the list of agents."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_ours and path.isprintable() else "/agents"
