"""Turn whatever ended an attempt or a link into one `LinkError`, fit for the log and `status`.

Source: contract 1.1, "Refusals, HTML, no namespace CONNECT reply".
"""

from __future__ import annotations

import msgspec

from agent.errors import LinkError
from agent.socketio_client import websocket

_MAX_SAID = 120
# Answers that another transport will not change.
_REJECTED = (401, 407, 429)
_LIKE_A_BLOCKED_WEBSOCKET = frozenset(
    {"http_status", "html", "closed", "timeout", "not_engineio", "server_closed"}
)


def failure_of(error: BaseException) -> LinkError:
    """Find the reason in a chain of exceptions."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, LinkError):
            return link
    for link in chain:
        if isinstance(link, websocket.WebSocketBadStatusException):
            headers = link.resp_headers or {}
            is_html = "html" in str(headers.get("content-type", "")).lower()
            return http_failure(link.status_code, link.resp_body or b"", is_html=is_html)
        if isinstance(link, websocket.WebSocketTimeoutException | TimeoutError):
            return LinkError("timeout", "the server did not answer in time")
        if isinstance(link, websocket.WebSocketConnectionClosedException | OSError):
            return LinkError("closed", "the connection was closed")
    return LinkError("not_engineio", f"the server does not speak Engine.IO 4: {_name(chain)}")


def http_failure(status: int, body: bytes, *, is_html: bool = False) -> LinkError:
    """Say what an HTTP answer means that is not the one we asked for."""
    if 300 <= status < 400:
        return LinkError(
            "redirected", f"the server redirects ({status}); redirects are not followed"
        )
    if is_html or body.lstrip()[:1] == b"<":
        return LinkError("html", f"the server answered with a web page ({status})")
    said = _said(body)
    reason = "rejected" if status in _REJECTED else "http_status"
    return LinkError(reason, f"the server answered {status}{said and f': {said}'}")


def may_poll_instead(error: LinkError) -> bool:
    """Is this how a network looks that blocks WebSockets but lets HTTP through?"""
    return error.reason in _LIKE_A_BLOCKED_WEBSOCKET


def _said(body: bytes) -> str:
    """Give Engine.IO's own error message, if the answer is one."""
    try:
        message = msgspec.json.decode(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    if not isinstance(message, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in message[:_MAX_SAID])


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _name(chain: list[BaseException]) -> str:
    return type(chain[-1]).__name__
