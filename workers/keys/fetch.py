"""Get a GitHub user's public keys over HTTPS, within bounds.

Rules: blocks, so never on the loop's thread; TLS is always verified, by the system's own store or
by the configured CA file alone; no redirect, no environment, no cookie, no compression; only a
complete answer 200 with keys in it is an answer. The total deadline is the caller's (an `Errand`):
a server that sends one byte a second never trips a socket's own timeout.

Source: contract 1.6; fault cases K.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workers.keys.errors import SyncError

if TYPE_CHECKING:
    import requests

DEADLINE_S = 10.0
MAX_BODY_BYTES = 1 << 20
_USER = re.compile(r"[A-Za-z0-9-]{1,39}")


def import_all() -> None:
    """Import what `fetch` does, and what that imports only when a connection is made."""
    import requests  # noqa: F401
    import truststore  # noqa: F401

    from workers import https  # noqa: F401

    "github.com".encode("idna")


def keys_url(base_url: str, github_user: str) -> str:
    """Return the address of a user's keys.

    Raises:
        SyncError: `bad_user`: not a GitHub login. `bad_url`: not https, nor http to loopback.
    """
    if _USER.fullmatch(github_user) is None or github_user.startswith("-"):
        raise SyncError("bad_user", "a GitHub login has 1 to 39 letters, digits or inner hyphens")
    parts = urlsplit(base_url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    if not secure or not parts.hostname or parts.query or parts.fragment:
        raise SyncError("bad_url", "keys.baseUrl is neither https nor http to loopback")
    return f"{base_url.rstrip('/')}/{github_user}.keys"


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def fetch(url: str, ca_file: str | None, proxies: dict[str, str]) -> bytes:
    """Return the body behind `url`, at most MAX_BODY_BYTES, never empty.

    Args:
        ca_file: trust these authorities and no others; None: the system's.
        proxies: by http, https, all and no; nothing else is used.

    Raises:
        SyncError: `tls`, `timeout`, `unreachable`, `proxy`, `redirect`, `http_<status>`, `html`,
            `too_large`, `bad_body` or `empty`.
    """
    import requests

    try:
        with _session(url, ca_file, proxies) as session:
            with session.get(
                url, allow_redirects=False, stream=True, timeout=DEADLINE_S, headers=_HEADERS
            ) as answer:
                return _body(answer)
    except requests.exceptions.ProxyError as e:
        raise SyncError("proxy", "the proxy refused or did not answer") from e
    except requests.exceptions.SSLError as e:
        raise SyncError("tls", _tls_reason(e)) from e
    except requests.exceptions.Timeout as e:
        raise SyncError("timeout", f"no answer within {DEADLINE_S:g} s") from e
    except requests.exceptions.RequestException as e:
        raise SyncError("unreachable", type(e).__name__) from e


_HEADERS = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "jackline"}


def _session(url: str, ca_file: str | None, proxies: dict[str, str]) -> requests.Session:
    import requests

    from workers.https import proxies_for

    context = _tls_context(ca_file)

    class Adapter(requests.adapters.HTTPAdapter):
        """Use our TLS context, and keep the library's own CA bundle out of it."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, ssl_context=context)

        def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, **options, ssl_context=context)

        def cert_verify(self, conn: Any, *_: Any) -> None:
            conn.cert_reqs = "CERT_REQUIRED"

    session = requests.Session()
    session.trust_env = False
    session.proxies.update(proxies_for(url, proxies))
    session.mount("https://", Adapter(max_retries=0))
    return session


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is not None:
        try:
            return ssl.create_default_context(cafile=ca_file)
        except OSError as e:
            raise SyncError("tls", f"the CA file cannot be used: {type(e).__name__}") from e
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _tls_reason(error: BaseException) -> str:
    """Return OpenSSL's own sentence, which names no secret, or the class of the failure."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        arguments = [part for part in cause.args if isinstance(part, BaseException)]
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else next(iter(arguments), None)
    return "the connection could not be secured"


def _body(answer: requests.Response) -> bytes:
    import urllib3

    status = answer.status_code
    if 300 <= status < 400:
        raise SyncError("redirect", f"the server answered {status}; no redirect is followed")
    if status != 200:
        raise SyncError(f"http_{status}", f"the server answered {status}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise SyncError("bad_body", "the body is compressed, which was not asked for")
    try:
        body = _read(answer.raw)
    except urllib3.exceptions.TimeoutError as e:
        raise SyncError("timeout", f"the body did not come within {DEADLINE_S:g} s") from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise SyncError("unreachable", f"the body broke off: {type(e).__name__}") from e
    return _checked(body, answer.headers.get("Content-Type", ""))


def _read(raw: Any) -> bytes:
    body = b""
    # Until the empty read: only that one tells an answer that broke off from one that is whole.
    while len(body) <= MAX_BODY_BYTES:
        chunk: bytes = raw.read(1 << 16, decode_content=False)
        if not chunk:
            break
        body += chunk
    return body


def _checked(body: bytes, content_type: str) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise SyncError("too_large", f"the body is larger than {MAX_BODY_BYTES} bytes")
    if "html" in content_type.lower() or body.lstrip().startswith(b"<"):
        raise SyncError("html", "the server sent a web page instead of keys")
    if not body.strip():
        raise SyncError("empty", "the user has no keys; the existing ones stay")
    return body
