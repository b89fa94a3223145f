"""The hub as the operators' commands see it: its API, and its live socket.

Rules: nothing of the hub's own packages is imported, so the commands work from anywhere; redirects
are not followed; plain http only to this machine, unless `--insecure` was said at log-in; every
failure is a `CliError` that carries the exit code. A command is wrapped in `reporting`.
Source: docs/reference/cli.rst, docs/reference/api.rst.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests

from hub.cli import exits, output
from hub.cli.login_file import Saved, load
from hub.errors import CliError

if TYPE_CHECKING:
    import socketio

TIMEOUT_S = 30.0
CONNECT_S = 10.0
NAMESPACE = "/console"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CODES = {
    400: exits.USAGE,
    401: exits.NOT_PERMITTED,
    403: exits.NOT_PERMITTED,
    404: exits.NOT_FOUND,
    409: exits.REFUSED,
    422: exits.USAGE,
    429: exits.TRY_LATER,
    503: exits.UNAVAILABLE,
    507: exits.UNAVAILABLE,
}
_EVENT_CODES = {
    "bad_request": exits.USAGE,
    "unauthenticated": exits.NOT_PERMITTED,
    "forbidden": exits.NOT_PERMITTED,
    "not_found": exits.NOT_FOUND,
    "has_writer": exits.REFUSED,
    "agent_offline": exits.UNAVAILABLE,
    "unavailable": exits.UNAVAILABLE,
    "no_space": exits.UNAVAILABLE,
}
_BY_REASON = {"policy_denied": exits.REFUSED, "totp_required": exits.NOT_PERMITTED}


def reporting(run: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """Let a command's `CliError` end as one line on stderr and its exit code."""

    @functools.wraps(run)
    def reported(argv: list[str]) -> int:
        try:
            return run(argv)
        except CliError as error:
            output.note(str(error))
            return error.exit_code

    return reported


class Client:
    """A hub, and who is logged in there; `token` None: nobody."""

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self.url = saved.hub.rstrip("/")
        self._http = requests.Session()
        self._http.verify = self._verify()
        self._http.headers["Accept"] = "application/json"
        if saved.token:
            self._http.headers["Authorization"] = f"Bearer {saved.token}"
        _check_url(saved)

    @classmethod
    def from_login(cls) -> Client:
        """Return the client of whoever is logged in.

        Raises:
            CliError: nobody is.
        """
        return cls(load())

    def get(self, path: str, **query: Any) -> Any:
        """GET; returns the JSON body. None values of the query are left out.

        Raises:
            CliError: with the exit code; so do all of these.
        """
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """POST a JSON body; `key` is sent as Idempotency-Key."""
        return self.call("POST", path, body=body, headers={"Idempotency-Key": key} if key else {})

    def put(self, path: str, body: Any = None) -> Any:
        """PUT a JSON body."""
        return self.call("PUT", path, body=body)

    def patch(self, path: str, body: Any = None) -> Any:
        """PATCH with a JSON body."""
        return self.call("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.call("DELETE", path)

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Walk through every page of a list."""
        cursor = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next")
            if cursor is None:
                return

    def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send one request and return its JSON body, None when it is empty."""
        reply = self._send(method, path, query or {}, body, headers or {})
        if not reply.ok:
            raise _refused(reply)
        if not reply.content:
            return None
        try:
            return reply.json()
        except ValueError as error:
            raise CliError(f"{self.url} does not answer as a hub", exits.UNAVAILABLE) from error

    def download(self, path: str, **query: Any) -> bytes:
        """GET a body that is no JSON."""
        reply = self._send("GET", path, query, None, {})
        if not reply.ok:
            raise _refused(reply)
        return reply.content

    def socket(self) -> socketio.Client:
        """Return a connected socket on the console's namespace; `disconnect` it at the end."""
        import socketio

        from hub.cli.live_socket import LiveSocket

        made = LiveSocket(self._http)
        try:
            made.connect(
                self.url,
                namespaces=[NAMESPACE],
                transports=["websocket"],
                auth={"token": self.saved.token},
                wait_timeout=CONNECT_S,
            )
        except socketio.exceptions.ConnectionError as error:
            raise CliError(f"{self.url}: no live socket: {error}", exits.UNAVAILABLE) from error
        return made

    def _send(
        self, method: str, path: str, query: dict[str, Any], body: Any, headers: dict[str, str]
    ) -> requests.Response:
        given = {name: value for name, value in query.items() if value is not None}
        try:
            return self._http.request(
                method,
                self.url + path,
                params=given,
                json=body,
                headers=headers,
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise CliError(f"{self.url}: {_short(error)}", exits.UNAVAILABLE) from error

    def _verify(self) -> bool | str:
        if self.saved.insecure:
            output.note("warning: the hub's certificate is not checked")
            return False
        if self.saved.ca_file:
            return self.saved.ca_file
        if self.url.startswith("https:"):
            import truststore

            truststore.inject_into_ssl()
        return True


def segment(text: str) -> str:
    """Write a text as one segment of a path."""
    return quote(text, safe="")


def _check_url(saved: Saved) -> None:
    parts = urlsplit(saved.hub)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(f"{saved.hub}: a hub's URL starts with https://", exits.USAGE)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not saved.insecure:
        raise CliError("plain http would show your password: use https", exits.USAGE)


def _refused(reply: requests.Response) -> CliError:
    problem = _problem(reply)
    reason = str(problem.get("code", reply.status_code))
    code = _BY_REASON.get(reason) or _CODES.get(reply.status_code, exits.FAILED)
    said = str(problem.get("detail") or problem.get("title") or reply.reason)
    faults = problem.get("faults")
    if isinstance(faults, list):
        said += "".join(f"; {one.get('where')}: {one.get('what')}" for one in faults)
    return CliError(f"{said} ({reason})", code, reason=reason, problem=problem)


def refused_event(error: dict[str, Any]) -> CliError:
    """Turn the `error` of a live event's acknowledgement into what a command raises."""
    reason = str(error.get("code", ""))
    said = str(error.get("detail") or reason.replace("_", " "))
    return CliError(f"{said} ({reason})", _EVENT_CODES.get(reason, exits.FAILED), reason=reason)


def _problem(reply: requests.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _short(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted; --ca-file names another authority"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "cannot be reached"


def read_json(text: str, what: str) -> Any:
    """Read JSON that somebody typed.

    Raises:
        CliError: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise CliError(f"{what}: {error}", exits.USAGE) from error


def confirm(question: str) -> bool:
    """Ask a person; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
