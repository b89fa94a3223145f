"""The one door to python-socketio and what it stands on; nothing else of ours imports them.

Rules: the packages' own `__init__`s pull in their servers, `requests` and, where installed,
`aiohttp`: 3.5 and 7.5 MiB that an agent never uses. So they are not run: the package objects are
made by hand and only the client's modules are loaded. Whoever asks one of them for something else
later gets the whole package, so a program that also serves Socket.IO is not disturbed.

Source: architecture "python-socketio, what it does not say on the tin", measured on 5.18 / 4.15.
"""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_UNUSED = ("requests", "aiohttp")
# A polling answer holds all that was waiting, one packet per keystroke; the library gives up
# beyond 16 and the link with it.
_MAX_POLLED_PACKETS = 1_000_000


def _light(name: str) -> ModuleType:
    """Put a package into `sys.modules` without running its `__init__`."""
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name)
    module = module_from_spec(spec)
    vars(module)["__getattr__"] = lambda attribute: _whole(module, spec, attribute)
    sys.modules[name] = module
    return module


def _whole(module: ModuleType, spec: ModuleSpec, attribute: str) -> Any:
    """Run the package's own `__init__` after all, for something that we did not load."""
    is_submodule = not attribute.startswith("_") and find_spec(f"{spec.name}.{attribute}")
    if attribute.startswith("__") or is_submodule or spec.loader is None:
        raise AttributeError(attribute)
    vars(module).pop("__getattr__", None)
    spec.loader.exec_module(module)
    return getattr(module, attribute)


def _load() -> tuple[Any, Any, Any, Any, Any]:
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "cannot be imported"
    try:
        engineio = _light("engineio")
        engine_client = importlib.import_module("engineio.client")
        importlib.import_module("engineio.exceptions")
        vars(engineio).setdefault("Client", engine_client.Client)
        _light("socketio")
        client = importlib.import_module("socketio.client")
        payload = importlib.import_module("engineio.payload")
        return (
            client.Client,
            engine_client,
            importlib.import_module("engineio.packet"),
            payload,
            importlib.import_module("websocket"),
        )
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


SocketioClient, _engine_client, engine_packet, _payload, websocket = _load()
EngineClient = _engine_client.Client
connected_clients = _engine_client.base_client.connected_clients
# Its polling code only asks whether `requests` is there; agent/polling.py makes the requests.
_engine_client.requests = _engine_client.requests or object()
_payload.Payload.max_decode_packets = _MAX_POLLED_PACKETS

# For the library's loggers, which would print the signed query.
mute = logging.getLogger("jackline.mute")
mute.propagate = False
mute.setLevel(logging.CRITICAL + 1)
