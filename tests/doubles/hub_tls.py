"""The real hub over https, with a certificate of its own authority, which its tokens pin."""

from __future__ import annotations

import ssl

from tests.doubles.hub_process import HubProcess


class TlsHub(HubProcess):
    """See the module; the test itself believes whatever answers on loopback."""

    def __init__(self, env: dict[str, str] | None = None) -> None:
        super().__init__(env={"JACKLINE_HUB_TLS_OWN_CA": "true", **(env or {})})
        self.env["JACKLINE_HUB_PUBLIC_URL"] = self.url
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"
