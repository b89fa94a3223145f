"""TLS and proxies: who is believed, what is never said, and the sentence for each refusal."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.clock import SigningClock
from agent.dial import TlsSettings
from agent.proxies import ProxySettings
from tests.doubles.hubs import HubOptions, NodeHub, ScriptedHub
from tests.doubles.link_side import LinkSide
from tests.doubles.proxy import AuthProxy
from tests.doubles.tls import Authority, CertFiles, RecordingServer, self_signed


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def trusted(authority: Authority) -> TlsSettings:
    return TlsSettings(ca_file=authority.ca_file)


def tls_hub(files: CertFiles, kind: type = ScriptedHub, **modes: object) -> ScriptedHub:
    hub: ScriptedHub = kind(HubOptions(cert_file=files.cert, key_file=files.key, modes=modes))
    return hub


@pytest.mark.parametrize("kind", [ScriptedHub, NodeHub])
@pytest.mark.parametrize("blocked", [None, 403], ids=["websocket", "polling"])
def test_link_comes_up_over_tls(
    authority: Authority, trusted: TlsSettings, tmp_path: Path, kind: type, blocked: int | None
) -> None:
    with tls_hub(authority.issue(), kind, websocketStatus=blocked) as hub:
        with LinkSide(hub, tmp_path, tls=trusted) as side:
            side.until_hello()
            assert side.status().transport == ("polling" if blocked else "websocket")


def bad_certificates(authority: Authority, directory: Path) -> dict[str, CertFiles]:
    (directory / "other").mkdir()
    return {
        "self-signed": self_signed(directory),
        "unknown authority": Authority(directory / "other").issue(),
        "expired": authority.issue(ends=-datetime.timedelta(days=1)),
        "another host": authority.issue("other.example"),
    }


@pytest.mark.parametrize("which", ["self-signed", "unknown authority", "expired", "another host"])
def test_bad_certificate_is_refused_before_a_word_is_said(
    authority: Authority, trusted: TlsSettings, tmp_path: Path, which: str
) -> None:
    files = bad_certificates(authority, tmp_path)[which]
    with RecordingServer(files) as server:
        with LinkSide(f"https://127.0.0.1:{server.port}", tmp_path, tls=trusted) as side:
            sentence = side.until_refused("tls_refused")
            side.until(lambda: len(server.exchanges) >= 3)
            assert "certificate" in sentence
            assert side.log.records[-1][0] == "fatal"
        for exchange in server.exchanges:
            assert not exchange.plaintext
            assert b"clientId" not in exchange.wire


def test_system_authorities_do_not_know_ours(authority: Authority, tmp_path: Path) -> None:
    with RecordingServer(authority.issue()) as server:
        with LinkSide(f"https://127.0.0.1:{server.port}", tmp_path) as side:
            side.until_refused("tls_refused")
        assert not any(exchange.plaintext for exchange in server.exchanges)


def test_unverified_link_warns_at_the_start(authority: Authority, tmp_path: Path) -> None:
    with tls_hub(self_signed(tmp_path)) as hub:
        with LinkSide(hub, tmp_path, tls=TlsSettings(skip_verify=True)) as side:
            side.until_hello()
            assert side.log.records[0][0] == "warning"
            assert "not verified" in side.log.records[0][1]


def test_missing_ca_file_is_told(tmp_path: Path, authority: Authority) -> None:
    with RecordingServer(authority.issue()) as server:
        tls = TlsSettings(ca_file=tmp_path / "absent.pem")
        with LinkSide(f"https://127.0.0.1:{server.port}", tmp_path, tls=tls) as side:
            side.until_refused("ca_file")


def test_plain_server_behind_an_https_url_is_told(tmp_path: Path) -> None:
    with NodeHub() as hub:
        with LinkSide(hub.url.replace("http:", "https:"), tmp_path) as side:
            side.until_refused("tls")


@pytest.mark.parametrize("off_ms", [-360_000, 360_000, -86_400_000])
def test_wrong_clock_is_corrected_by_a_verified_server(
    authority: Authority, trusted: TlsSettings, tmp_path: Path, off_ms: int
) -> None:
    wrong = SigningClock(wall=lambda: time.time_ns() // 1_000_000 + off_ms)
    with tls_hub(authority.issue()) as hub:
        with LinkSide(hub, tmp_path, tls=trusted, clock=wrong) as side:
            side.until_hello()
            (told,) = side.log.of("the system's clock is wrong; signatures use the server's time")
            assert abs(told["off_by_s"] + off_ms / 1000) < 30
            assert abs(side.status().clock_offset_ms + off_ms) < 30_000


def test_wrong_clock_is_not_corrected_by_an_unverified_server(
    authority: Authority, tmp_path: Path
) -> None:
    wrong = SigningClock(wall=lambda: time.time_ns() // 1_000_000 - 360_000)
    with tls_hub(self_signed(tmp_path)) as hub:
        tls = TlsSettings(skip_verify=True)
        with LinkSide(hub, tmp_path, tls=tls, clock=wrong) as side:
            assert "clock off by 360 s" in side.until_refused("auth_expired")
            side.until(lambda: side.log.of("link is down")[2:])
            assert side.status().clock_offset_ms == 0


# -- proxies -------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[AuthProxy]:
    with AuthProxy() as started:
        yield started


@pytest.mark.parametrize("blocked", [None, 403], ids=["websocket", "polling"])
@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])
def test_link_goes_through_an_authenticated_proxy(
    authority: Authority,
    trusted: TlsSettings,
    proxy: AuthProxy,
    tmp_path: Path,
    blocked: int | None,
    is_tls: bool,
) -> None:
    files = authority.issue() if is_tls else None
    options = HubOptions(
        cert_file=files.cert if files else None,
        key_file=files.key if files else None,
        modes={"websocketStatus": blocked},
    )
    with ScriptedHub(options) as hub:
        proxies = ProxySettings(http=proxy.url, https=proxy.url)
        with LinkSide(hub, tmp_path, tls=trusted, proxies=proxies) as side:
            side.until_hello()
        assert proxy.tunnels
        assert {tunnel.target for tunnel in proxy.tunnels} == {f"127.0.0.1:{hub.port}"}


def test_proxy_without_credentials_is_told(proxy: AuthProxy, tmp_path: Path) -> None:
    proxies = ProxySettings(http=proxy.url_without_credentials)
    with NodeHub() as hub, LinkSide(hub, tmp_path, proxies=proxies) as side:
        assert "wants a user and password" in side.until_refused("proxy_auth")


def test_proxy_with_wrong_credentials_is_told_without_them(
    proxy: AuthProxy, tmp_path: Path
) -> None:
    password = "wr0ng/secret"
    url = f"http://u:{quote(password, safe='')}@127.0.0.1:{proxy.port}"
    with NodeHub() as hub, LinkSide(hub, tmp_path, proxies=ProxySettings(http=url)) as side:
        assert "refused them" in side.until_refused("proxy_auth")
        assert password not in str(side.log.records) and "wr0ng" not in str(side.status())


def test_proxy_that_is_not_there_is_told(tmp_path: Path) -> None:
    with NodeHub() as hub:
        proxies = ProxySettings(http="http://127.0.0.1:1")
        with LinkSide(hub, tmp_path, proxies=proxies) as side:
            assert "the proxy 127.0.0.1:1" in side.until_refused("tcp")


def test_no_proxy_goes_around_it(tmp_path: Path) -> None:
    with NodeHub() as hub:
        proxies = ProxySettings(http="http://127.0.0.1:1", no_proxy=("127.0.0.1",))
        with LinkSide(hub, tmp_path, proxies=proxies) as side:
            side.until_hello()
