"""A server that takes any certificate or none, and one whose Python does not let it.

Handshakes in memory, with real certificates.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hub import openssl
from tests.doubles.simulated_agent import SimulatedAgent
from tests.doubles.tls import DAY, Authority, CertFiles


class Site:
    """A server's authority, and the certificates that clients come with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ours, self._foreign = Authority(folder), Authority(folder, "Foreign CA")
        self._server = self._ours.issue()

    def client(self, which: str) -> CertFiles | None:
        """Lay a client's certificate and key down: `ours`, `expired`, `foreign` or `none`."""
        if which == "none":
            return None
        agent = SimulatedAgent()
        authority = self._foreign if which == "foreign" else self._ours
        ends = -DAY if which == "expired" else DAY
        cert, key = self._folder / f"{which}.pem", self._folder / f"{which}.key"
        cert.write_text(authority.sign(agent.csr(), "agent", -2 * DAY, ends))
        key.write_text(agent.key_pem())
        return CertFiles(cert, key)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server.cert, self._server.key)
        context.load_verify_locations(self._ours.ca_file)
        return context

    def handshake(self, server: ssl.SSLContext, files: CertFiles | None) -> bytes | None:
        """Shake hands in memory; return what the server was shown.

        Raises:
            ssl.SSLError: the server refused it.
        """
        client = ssl.create_default_context(cafile=str(self._ours.ca_file))
        client.check_hostname = False
        if files is not None:
            client.load_cert_chain(files.cert, files.key)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        theirs = client.wrap_bio(down, up)
        ours = server.wrap_bio(up, down, server_side=True)
        while not (_is_through(theirs) & _is_through(ours)):
            pass
        return ours.getpeercert(binary_form=True)


def _is_through(side: ssl.SSLObject) -> bool:
    """Go on with a handshake as far as the other side lets it."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("which", ["ours", "expired", "foreign", "none"])
def test_any_certificate_and_none_is_taken_and_told(site: Site, which: str) -> None:
    context = site.context()
    assert openssl.ask_for_any_certificate(context)
    files = site.client(which)
    shown = site.handshake(context, files)
    wanted = None if files is None else ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    assert shown == wanted


@pytest.mark.parametrize("which", ["ours", "none"])
def test_where_openssl_is_out_of_reach_a_good_certificate_or_none_is_taken(
    site: Site, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "_library", lambda: None)
    context = site.context()
    assert not openssl.ask_for_any_certificate(context)
    assert (site.handshake(context, site.client(which)) is None) is (which == "none")


@pytest.mark.parametrize("which", ["expired", "foreign"])
def test_where_openssl_is_out_of_reach_a_bad_certificate_ends_at_the_handshake(
    site: Site, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "_library", lambda: None)
    context = site.context()
    assert not openssl.ask_for_any_certificate(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        site.handshake(context, site.client(which))


def test_pointer_that_is_not_the_contexts_is_found_out_and_nothing_is_changed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Python may keep its pointer elsewhere: reading there must not be believed."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pointer = openssl._pointer(other)
    monkeypatch.setattr(openssl, "_pointer", lambda _context: pointer)
    context = site.context()
    assert not openssl.ask_for_any_certificate(context)
    assert context.verify_mode is ssl.CERT_OPTIONAL


@pytest.mark.parametrize("missing", ["__file__", "symbols"])
def test_static_build_is_found_out(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    import _ssl

    if missing == "__file__":
        monkeypatch.delattr(_ssl, "__file__")
    else:
        monkeypatch.setattr(_ssl, "__file__", None)  # the program itself, which exports none
    assert openssl._library() is None
