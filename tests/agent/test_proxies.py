"""Which proxy: environment, configuration, exceptions, credentials."""

from __future__ import annotations

import base64

import pytest

from agent.errors import LinkError
from agent.proxies import Proxy, ProxySettings, from_environment, proxy_for


def chosen(settings: ProxySettings, host: str = "hub.example", port: int = 443) -> Proxy | None:
    return proxy_for(settings, host, port, is_tls=port == 443)


def test_proxy_is_taken_by_the_scheme_of_what_is_reached() -> None:
    settings = from_environment({"HTTPS_PROXY": "http://s:1", "http_proxy": "http://p:2"})
    assert str(chosen(settings)) == "s:1"
    assert str(chosen(settings, port=80)) == "p:2"


def test_proxy_lower_case_and_all_proxy() -> None:
    assert str(chosen(from_environment({"https_proxy": "a:1", "HTTPS_PROXY": "b:2"}))) == "a:1"
    assert str(chosen(from_environment({"ALL_PROXY": "http://c"}))) == "c:80"
    assert chosen(from_environment({})) is None


def test_proxy_configured_goes_before_the_environment() -> None:
    environ = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x.example"}
    assert str(chosen(from_environment(environ, "http://b:2"))) == "b:2"
    assert chosen(from_environment(environ, "http://b:2"), "x.example") is None
    assert chosen(from_environment(environ, "")) is None


def test_proxy_credentials_are_decoded_and_not_shown() -> None:
    proxy = chosen(ProxySettings(https="http://us%3Aer:p%40ss%2Fw@h:8080"))
    assert proxy is not None and proxy.authorization is not None
    assert base64.b64decode(proxy.authorization.split()[1]) == b"us:er:p@ss/w"
    assert "Basic" not in repr(proxy)
    assert "p%40ss" not in repr(ProxySettings(https="http://u:p%40ss@h"))


@pytest.mark.parametrize("url", ["socks5://h:1", "https://h:1", "http://", "http://h:99999"])
def test_proxy_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(LinkError) as caught:
        chosen(ProxySettings(https=url))
    assert caught.value.reason == "bad_proxy"


@pytest.mark.parametrize(
    ("entry", "host", "exempt"),
    [
        ("*", "hub.example", True),
        ("hub.example", "hub.example", True),
        ("HUB.example", "hub.example.", True),
        ("example", "hub.example", True),
        (".example", "hub.example", True),
        (".example", "example", True),
        ("*.example", "hub.example", True),
        ("ample", "hub.example", False),
        ("hub.example:443", "hub.example", True),
        ("hub.example:8443", "hub.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.1", "hub.example", False),
        ("::1", "::1", True),
        ("[::1]:443", "::1", True),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "10.0.0.1", False),
    ],
)
def test_no_proxy(entry: str, host: str, exempt: bool) -> None:
    settings = from_environment(
        {"HTTPS_PROXY": "http://p:1", "NO_PROXY": f"nobody.example,{entry}"}
    )
    assert (chosen(settings, host) is None) is exempt
