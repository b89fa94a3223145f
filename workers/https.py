"""Calls to the hub over HTTPS: `requests`, with TLS as we want it. Blocking.

Rules: plain http to loopback alone; certificates by the system's store or by the given ones alone;
no redirect, no cookie, nothing of the environment; connections are kept and used again. An answer
is read to its end, within bounds. The total deadline is the caller's (an `Errand`): a server that
sends one byte a second never trips a socket's own timeout. `import_all` first where the process
will be confined: nothing is imported later.

Source: contract 1.1 (proxies, no redirects), part 2.
"""

from __future__ import annotations

import ipaddress
import ssl
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from workers.client_tls import load_client
from workers.errors import CertificateError, HttpsError

TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 512 << 10
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "jackline"}


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the hub is reached and how we show who we are.

    `proxies` has the keys http, https, all and no, as the environment gives them. `ca_data`: the
    only certificates that are believed, PEM; None: the system's. `also_ca`: believed beside them.
    Certificate and key go together.
    """

    base_url: str
    ca_data: str | None = None
    also_ca: str | None = None
    skip_verify: bool = False
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)


class Answer(NamedTuple):
    """What came back. `retry_after_s` is None where nothing was said."""

    status: int
    body: bytes
    retry_after_s: float | None = None


def import_all() -> None:
    """Import what a call does, and what that imports only when a connection is made.

    For a process that stays: it guesses no encoding, and need not hold what would (1.5 MiB).
    """
    for guesser in ("charset_normalizer", "chardet"):
        sys.modules.setdefault(guesser, None)  # type: ignore[arg-type]  # None hides it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # requests says that it cannot guess
        import requests  # noqa: F401
    import truststore  # noqa: F401

    "hub.example".encode("idna")


def may_be_plain(url: str) -> bool:
    """Is this https, or http to this very machine?"""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


class Https:
    """One hub, over connections that are kept.

    Raises:
        HttpsError: `bad_url`, or `tls`: certificates that cannot be used.
    """

    def __init__(self, access: Access) -> None:
        try:
            allowed = may_be_plain(access.base_url) and bool(urlsplit(access.base_url).hostname)
        except ValueError:
            allowed = False
        if not allowed:
            raise HttpsError("bad_url", "the hub's URL is neither https nor http to loopback")
        self._base = access.base_url.rstrip("/")
        self._session = _session(access)

    def get(self, path: str) -> Answer:
        """Ask for something.

        Raises:
            HttpsError: why there is no answer.
        """
        return self._call("GET", path, None, {}, {})

    def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send something; JSON unless `headers` say otherwise.

        Raises:
            HttpsError: why there is no answer; it may have arrived all the same.
        """
        said = {"Content-Type": "application/json", **(headers or {})}
        return self._call("POST", path, body, said, query or {})

    def close(self) -> None:
        self._session.close()

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> Answer:
        import requests

        try:
            with self._session.request(
                method,
                self._base + path,
                data=body,
                headers={**_HEADERS, **headers},
                params=query,
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as answer:
                return _read(answer)
        except requests.exceptions.RequestException as e:
            raise _told(e) from e


def proxies_for(url: str, told: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies that `requests` is to use for a URL, by scheme.

    Args:
        told: by http, https, all and no, as the environment gives them.
    """
    from requests.utils import should_bypass_proxies

    if should_bypass_proxies(url, no_proxy=told.get("no") or ""):
        return {}
    every = told.get("all")
    found = {scheme: told.get(scheme) or every for scheme in ("http", "https")}
    return {
        scheme: proxy if "://" in proxy else f"http://{proxy}"
        for scheme, proxy in found.items()
        if proxy
    }


def bearer(token: str) -> dict[str, str]:
    """Show a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _session(access: Access) -> Any:
    import requests

    context = _context(access)

    class Adapter(requests.adapters.HTTPAdapter):
        """Use our TLS context, and keep the library's own CA bundle out of it."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, ssl_context=context)

        def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, **options, ssl_context=context)

        def cert_verify(self, conn: Any, *_: Any) -> None:
            conn.cert_reqs = "CERT_NONE" if access.skip_verify else "CERT_REQUIRED"
            conn.assert_hostname = False if access.skip_verify else None

    session = requests.Session()
    session.trust_env = False
    session.proxies.update(proxies_for(access.base_url, access.proxies))
    session.mount("https://", Adapter(max_retries=0, pool_maxsize=1))
    return session


def _context(access: Access) -> ssl.SSLContext:
    try:
        context = _verifying(access)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if access.also_ca is not None and not access.skip_verify:
            context.load_verify_locations(cadata=access.also_ca)
        if access.certificate and access.key:
            load_client(context, access.certificate, access.key)
    except (OSError, ssl.SSLError) as e:
        raise HttpsError("tls", "the CA certificates cannot be used") from e
    except CertificateError as e:
        raise HttpsError("tls", str(e)) from e
    return context


def _verifying(access: Access) -> ssl.SSLContext:
    if access.skip_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.ca_data is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=access.ca_data)
    else:
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return context


def _read(answer: Any) -> Answer:
    import urllib3

    body = b""
    try:
        # Until the empty read: only that one tells an answer that broke off from one that is whole.
        while chunk := answer.raw.read(1 << 16, decode_content=False):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise HttpsError("too_large", f"the answer is over {MAX_ANSWER_BYTES} bytes")
    except urllib3.exceptions.TimeoutError as e:
        raise HttpsError("timeout", "the answer did not come to its end in time") from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise HttpsError("unreachable", f"the answer broke off: {type(e).__name__}") from e
    if 300 <= answer.status_code < 400:
        raise HttpsError("redirect", f"the hub answered {answer.status_code}; none is followed")
    return Answer(answer.status_code, body, _seconds(answer.headers.get("Retry-After")))


def _seconds(value: str | None) -> float | None:
    """Read `Retry-After` in seconds; a date is not worth believing somebody's clock."""
    if value is None or not value.strip().isascii() or not value.strip().isdigit():
        return None
    return float(value.strip()[:9])


def _told(error: Exception) -> HttpsError:
    import requests

    match error:
        case requests.exceptions.ProxyError():
            return HttpsError("proxy", "the proxy refused or did not answer")
        case requests.exceptions.SSLError():
            return HttpsError("tls", f"the hub's certificate is refused: {_tls_reason(error)}")
        case requests.exceptions.Timeout():
            return HttpsError("timeout", f"no answer within {TIMEOUT_S:g} s")
        case _:
            return HttpsError("unreachable", f"the hub cannot be reached: {_os_reason(error)}")


def _tls_reason(error: BaseException) -> str:
    """Return OpenSSL's own sentence, which names no secret, or the class of the failure."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason
    return "the connection could not be secured"


def _os_reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(found) < 8:
        found.append(cause)
        inner = [part for part in cause.args if isinstance(part, BaseException)]
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else next(iter(inner), None)
    return found
