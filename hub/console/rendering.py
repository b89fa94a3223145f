"""Pages from templates: one Jinja environment, one set of headers.

Rules: everything is escaped, and control characters of what machines call themselves are shown,
not sent; no inline script and no inline event handler, so that the policy can forbid them; a page
says what the caller may do by `may("action")`, and the services decide it again. What a page needs
beyond the strict policy (the terminal's style elements, the player's WebAssembly) it names.
Source: fault cases D; OWASP, "Content Security Policy".
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from hub.authorize import ACTIONS, Principal
from hub.clock import iso
from wire import __version__

STATIC = Path(__file__).parent / "static"
DIGEST_CHARS = 12
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
TERMINAL = {"style-src": "'self' 'unsafe-inline'"}
PLAYER = TERMINAL | {"script-src": "'self' 'wasm-unsafe-eval'", "worker-src": "'self' blob:"}


def page(
    request: Request,
    template: str,
    caller: Principal | None = None,
    *,
    status: int = 200,
    policy: dict[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render one page or fragment.

    Args:
        template: its file below `templates/`.
        caller: who looks at it; None before the log-in.
        policy: directives of the Content-Security-Policy that this page needs otherwise.
        context: what the template names.
    """
    text = (
        environment()
        .get_template(template)
        .render(
            request=request,
            caller=caller,
            may=lambda action: caller is not None and caller.role in ACTIONS[action],
            version=__version__,
            **context,
        )
    )
    return HTMLResponse(text, status, headers(policy))


def headers(policy: dict[str, str] | None = None) -> dict[str, str]:
    """Return the headers of every page."""
    directives = "; ".join(f"{name} {value}" for name, value in (_POLICY | (policy or {})).items())
    return {
        "Content-Security-Policy": directives,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }


@cache
def environment() -> Environment:
    """Return the one environment; templates are in the package."""
    made = Environment(
        loader=PackageLoader("hub.console", "templates"),
        autoescape=select_autoescape(["html"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    made.filters |= {"iso": iso, "size": size, "duration": duration, "with_times": with_times}
    made.globals["asset"] = asset
    return made


def shown(value: Any) -> Any:
    """Show a value: nothing for None, no character that drives a page's direction."""
    if value is None:
        return ""
    if type(value) is str:
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", value)
    return value


def with_times(text: str) -> Markup:
    """Let the stamps in a sentence be told in the viewer's zone."""
    pieces = _STAMP.split(shown(text))
    return Markup("").join(
        Markup('<time datetime="{0}">{0}</time>').format(piece) if at % 2 else piece
        for at, piece in enumerate(pieces)
    )


def size(count: float | None) -> str:
    """Write a count of bytes: `3.1 GiB`."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Write a length of time in its two largest units: `3 d 4 h`."""
    if seconds is None:
        return "–"
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def asset(name: str) -> str:
    """Return the address of one of our files, below the digest of all: it may be kept for ever."""
    return f"/static/{digest()}/{name}"


@cache
def digest() -> str:
    """Return what tells these files from those of another version."""
    told = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            told.update(f"{path.relative_to(STATIC)}\0".encode() + path.read_bytes())
    return told.hexdigest()[:DIGEST_CHARS]
