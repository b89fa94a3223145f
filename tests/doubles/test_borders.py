"""The proxy and TLS doubles, checked with the standard library and `requests` as clients."""

from __future__ import annotations

import datetime
import socket
import ssl
from pathlib import Path

import pytest
import requests

from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.proxy import AuthProxy
from tests.doubles.tls import Authority, RecordingServer, self_signed


def test_proxy_lets_an_authenticated_client_through_to_a_tls_hub(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue()
    with ScriptedHub(HubOptions(cert_file=files.cert, key_file=files.key)) as hub:
        with AuthProxy() as proxy, requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                f"{hub.url}/socket.io/?EIO=4&transport=polling",
                proxies={"https": proxy.url},
                verify=str(authority.ca_file),
                timeout=10,
            )
            assert answer.status_code == 200 and answer.text.startswith("0{")
        assert [request.method for request in proxy.tunnels] == ["CONNECT"]


def test_proxy_refuses_a_client_without_credentials() -> None:
    with AuthProxy() as proxy, requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            "http://127.0.0.1:9/", proxies={"http": proxy.url_without_credentials}, timeout=10
        )
        assert answer.status_code == 407
        assert proxy.tunnels == [] and len(proxy.requests) == 1


def test_recording_server_sees_the_query_of_a_client_that_trusts_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with RecordingServer(authority.issue()) as server:
        _ask(server.port, ssl.create_default_context(cafile=str(authority.ca_file)))
    assert b"sig=canary" in server.exchanges[0].plaintext


@pytest.mark.parametrize("fault", ["expired", "wrong-host", "self-signed", "unknown-authority"])
def test_recording_server_sees_no_query_of_a_client_that_does_not(
    tmp_path: Path, fault: str
) -> None:
    authority = Authority(tmp_path)
    trusted = Authority(tmp_path, "Other CA") if fault == "unknown-authority" else authority
    if fault == "self-signed":
        files = self_signed(tmp_path)
    elif fault == "wrong-host":
        files = authority.issue("elsewhere.example")
    else:
        files = authority.issue(ends=datetime.timedelta(days=-1 if fault == "expired" else 1))
    with RecordingServer(files) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            _ask(server.port, ssl.create_default_context(cafile=str(trusted.ca_file)))
    assert server.exchanges[0].plaintext == b"" and b"canary" not in server.exchanges[0].wire


def _ask(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(b"GET /socket.io/?sig=canary HTTP/1.1\r\n\r\n")
