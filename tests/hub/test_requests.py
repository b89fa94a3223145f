"""Routes and what they depend on run on the loop: a thread for each request is what costs most."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from hub.app import routers


def calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for one in dependant.dependencies:
        yield from calls(one)


def is_async(call: Any) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004  (an object whose call is async)
    )


def test_no_route_of_the_api_needs_a_thread_to_be_called() -> None:
    routes = [one for router in routers() for one in router.routes if isinstance(one, APIRoute)]
    assert len(routes) > 100
    threaded = {
        f"{route.path}: {call!r}"
        for route in routes
        for call in calls(route.dependant)
        if call is not None and not is_async(call)
    }
    assert threaded == set()
