"""A client of a hub's API that needs no socket: requests go straight to the ASGI application.

Rules: the hub runs on a loop of its own in a thread, started and stopped as a server would; a
fault that the application lets through is a 500 here, as it is on the wire.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

import httpx
from fastapi import FastAPI

from hub.app import build
from hub.assembly import Hub

T = TypeVar("T")
URL = "http://127.0.0.1:8480"
DEADLINE_S = 120


class HubClient:
    """A browser or a program at a hub; keeps cookies, follows no redirect."""

    def __init__(self, hub: Hub, address: str = "127.0.0.1") -> None:
        self.hub = hub
        self.app: FastAPI = build(hub)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub-loop")
        self._lifespan: AbstractAsyncContextManager[Any] = self.app.router.lifespan_context(
            self.app
        )
        self.address = address
        self.http = self._client()

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self.http.aclose())
            self.run(self._lifespan.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Run something on the hub's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(DEADLINE_S)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for what the hub does after its answer; fail when it never comes."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert time.monotonic() < deadline_s, "never came true"
            time.sleep(0.01)
        return found

    def request(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self.run(self.http.request(method, path, **how))

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.request("GET", path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.request("POST", path, **how)

    def put(self, path: str, **how: Any) -> httpx.Response:
        return self.request("PUT", path, **how)

    def patch(self, path: str, **how: Any) -> httpx.Response:
        return self.request("PATCH", path, **how)

    def delete(self, path: str, **how: Any) -> httpx.Response:
        return self.request("DELETE", path, **how)

    def _client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=False, client=(self.address, 50_000)
        )
        return httpx.AsyncClient(transport=transport, base_url=URL)
