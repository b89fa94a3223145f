"""The real hub in a network of its own, where a firewall stands between it and its agents."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.doubles.hub_process import DEADLINE_S, HubProcess
from tests.doubles.network import Network

# One call of the API, from within: the request on standard input, status and body on output.
_CALL = """
import json, sys, urllib.error, urllib.request
told = json.load(sys.stdin)
body = None if told["body"] is None else json.dumps(told["body"]).encode()
request = urllib.request.Request(told["url"], body, told["headers"], method=told["method"])
try:
    with urllib.request.urlopen(request, timeout=20) as reply:
        answer = [reply.status, reply.read().decode()]
except urllib.error.HTTPError as e:
    answer = [e.code, e.read().decode()]
except OSError:
    answer = [0, "null"]
json.dump(answer, sys.stdout)
"""


class HubInside(HubProcess):
    """See the module."""

    def __init__(self, network: Network, env: dict[str, str] | None = None) -> None:
        super().__init__(env=env)
        self.prefix = network.prefix

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        told = {"method": method, "url": f"{self.url}{path}", "headers": headers, "body": body}
        done = subprocess.run(
            [*self.prefix, sys.executable, "-c", _CALL],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
        status, text = json.loads(done.stdout)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text
