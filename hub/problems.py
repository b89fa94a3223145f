"""RFC 9457 problems: every error that leaves by HTTP.

Rules: no stack, no path, no SQL, no value of a header; a fault of ours is `internal` with an id
that the log has, too.
"""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hub.errors import HubError, RateLimitedError, StorageFullError, UnavailableError
from hub.ids import new_id

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger()
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def problem(status: int, code: str, detail: str = "", **extra: Any) -> JSONResponse:
    """Write one problem."""
    body = {"type": "about:blank", "status": status, "title": code.replace("_", " "), "code": code}
    if detail:
        body["detail"] = detail
    headers = {}
    if "retry_after_s" in extra:
        headers["Retry-After"] = str(extra.pop("retry_after_s"))
    return JSONResponse(body | extra, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of an application leave as a problem."""
    app.add_exception_handler(HubError, hub_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, _fault)


async def hub_error(_request: Request, error: Exception) -> JSONResponse:
    """Write a `HubError`."""
    assert isinstance(error, HubError)
    extra = dict(error.extra)
    if isinstance(error, RateLimitedError):
        extra["retry_after_s"] = error.retry_after_s
    elif isinstance(error, UnavailableError):
        extra.setdefault("retry_after_s", 2)
    elif isinstance(error, StorageFullError):
        extra.setdefault("retry_after_s", 30)
    return problem(error.status, error.code, error.detail, **extra)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        {"where": ".".join(map(str, fault["loc"])), "what": fault["msg"]}
        for fault in error.errors()
    ]
    return problem(400, "bad_request", "the request does not fit its schema", faults=faults)


async def http_error(_request: Request, error: Exception) -> JSONResponse:
    """Write what the framework refused: no such route, no such method."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, _CODES.get(error.status_code, "bad_request"))


async def _fault(request: Request, error: Exception) -> JSONResponse:
    fault_id = new_id()
    _log.error("request failed", route=request.url.path, fault_id=fault_id, exc_info=error)
    return problem(500, "internal", f"a fault of the hub's; its log has it as {fault_id}")
