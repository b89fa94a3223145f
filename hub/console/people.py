"""Users and roles, one's own account, and the approval of device codes.

Rules: each form calls the API's own route function, so that page and API cannot differ; what went
wrong is said on the page that asked. A secret (an API token, an authenticator's key) is shown once,
on the page that answers the form.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

import segno
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from hub.authorize import Role
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.rendering import page
from hub.errors import HubError
from hub.operators import account_api, device_api, tokens_api, users_api
from hub.requests import Caller, TheHub

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=1024)]


@router.get("/users")
async def users(request: Request, hub: TheHub, caller: Caller = may_see("users.read")) -> Response:
    """List the users."""
    return await _users(request, hub, caller)


@router.post("/users")
async def add_user(
    request: Request,
    hub: TheHub,
    name: Text,
    role: Text,
    password: Text,
    caller: Caller = may_see("users.write"),
) -> Response:
    """Make a user."""
    try:
        body = checked(users_api.NewUser, name=name, role=role, password=password)
        await users_api.add_user(hub, body, caller)
    except HubError as fault:
        return await _users(request, hub, caller, fault)
    return RedirectResponse("/users", 303)


@router.post("/users/{user_id}")
async def change_user(
    request: Request,
    hub: TheHub,
    user_id: str,
    act: Text,
    role: Text = "",
    caller: Caller = may_see("users.write"),
) -> Response:
    """Change a role, turn a user off or on, or end what they are logged in by."""
    changes: dict[str, dict[str, Any]] = {
        "role": {"role": role},
        "disable": {"disabled": True},
        "enable": {"disabled": False},
        "reset_totp": {"reset_totp": True},
    }
    try:
        if act == "end_logins":
            await users_api.end_logins(hub, user_id, caller)
        else:
            body = checked(users_api.UserChange, **changes.get(act, {}))
            await users_api.change_user(hub, user_id, body, caller)
    except HubError as fault:
        return await _users(request, hub, caller, fault)
    return RedirectResponse("/users", 303)


@router.get("/account")
async def account(request: Request, hub: TheHub, caller: Caller = may_see("self.read")) -> Response:
    """Show one's own account."""
    return await _account(request, hub, caller)


@router.post("/account/password")
async def password(
    request: Request,
    hub: TheHub,
    password: Text,
    new_password: Text,
    caller: Caller = may_see("self.write"),
) -> Response:
    """Change one's own password."""

    async def change() -> str:
        body = checked(account_api.PasswordChange, password=password, new_password=new_password)
        await account_api.change_password(hub, body, caller)
        return "The password is changed; every other session has ended."

    return await _act(request, hub, caller, change())


@router.post("/account/totp")
async def begin_totp(
    request: Request, hub: TheHub, password: Text, caller: Caller = may_see("self.write")
) -> Response:
    """Show a new key for an authenticator app."""
    try:
        made = await account_api.begin_totp(
            hub, checked(account_api.Confirmed, password=password), caller
        )
    except HubError as fault:
        return await _account(request, hub, caller, fault=fault)
    picture = Markup(segno.make(made.uri).svg_inline(scale=4, border=2))
    return await _account(request, hub, caller, totp=made, picture=picture)


@router.post("/account/totp/confirm")
async def confirm_totp(
    request: Request, hub: TheHub, code: Text, caller: Caller = may_see("self.write")
) -> Response:
    """Let the key count."""

    async def confirm() -> str:
        await account_api.confirm_totp(
            hub, checked(account_api.TotpCode, code=code.replace(" ", "")), caller
        )
        return "Every log-in needs a code from now on."

    return await _act(request, hub, caller, confirm())


@router.post("/account/totp/remove")
async def remove_totp(
    request: Request, hub: TheHub, password: Text, caller: Caller = may_see("self.write")
) -> Response:
    """Need no code any more."""

    async def remove() -> str:
        body = checked(account_api.Confirmed, password=password)
        await account_api.remove_totp(hub, body, caller)
        return "No code is needed any more."

    return await _act(request, hub, caller, remove())


@router.post("/account/tokens")
async def add_token(
    request: Request, hub: TheHub, label: Text = "", caller: Caller = may_see("tokens.write")
) -> Response:
    """Make an API token and show it once."""
    try:
        made = await tokens_api.add_token(hub, checked(tokens_api.NewToken, label=label), caller)
    except HubError as fault:
        return await _account(request, hub, caller, fault=fault)
    return await _account(request, hub, caller, token=made.token)


@router.post("/account/logins/{login_id}/end")
async def end_login(
    request: Request, hub: TheHub, login_id: str, caller: Caller = may_see("self.write")
) -> Response:
    """End one of one's own sessions or tokens."""

    async def end() -> str:
        await tokens_api.end_login(hub, login_id, caller)
        return "It has ended."

    return await _act(request, hub, caller, end())


@router.get("/device")
async def device(
    request: Request,
    hub: TheHub,
    code: str = "",
    caller: Caller = may_see("device.approve"),
) -> Response:
    """Show what a device code would let in."""
    return await _device(request, hub, caller, code)


@router.post("/device")
async def decide(
    request: Request,
    hub: TheHub,
    code: Text,
    act: Text,
    caller: Caller = may_see("device.approve"),
) -> Response:
    """Approve or refuse a device code."""
    act_on = device_api.approve if act == "approve" else device_api.deny
    try:
        await act_on(hub, code, caller)
    except HubError as fault:
        return page(
            request, "people/device.html", caller, code=code, found=None, fault=fault, done=""
        )
    done = "approved" if act == "approve" else "refused"
    return page(request, "people/device.html", caller, code="", found=None, fault=None, done=done)


async def _users(
    request: Request, hub: TheHub, caller: Caller, fault: HubError | None = None
) -> Response:
    found = await users_api.list_users(hub, limit=200, caller=caller)
    return page(
        request,
        "people/users.html",
        caller,
        status=fault.status if fault else 200,
        items=found.items,
        roles=list(Role),
        fault=fault,
    )


async def _act(request: Request, hub: TheHub, caller: Caller, job: Awaitable[str]) -> Response:
    try:
        done = await job
    except HubError as fault:
        return await _account(request, hub, caller, fault=fault)
    return await _account(request, hub, caller, done=done)


async def _account(request: Request, hub: TheHub, caller: Caller, **context: Any) -> Response:
    logins = await tokens_api.list_logins(hub, limit=100, caller=caller)
    users = await users_api.get_user(hub, caller.id, caller)
    shown = {"fault": None, "done": "", "token": None, "totp": None, "picture": None} | context
    fault = shown["fault"]
    return page(
        request,
        "people/account.html",
        caller,
        status=fault.status if fault else 200,
        user=users,
        logins=logins.items,
        **shown,
    )


async def _device(request: Request, hub: TheHub, caller: Caller, code: str) -> Response:
    found, fault = None, None
    if code:
        try:
            found = await device_api.look(hub, code[:16], caller)
        except HubError as error:
            fault = error
    return page(request, "people/device.html", caller, code=code, found=found, fault=fault, done="")
