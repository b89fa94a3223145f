"""A Socket.IO client that hands events over in the order in which they came.

The library starts a thread for each packet, and threads overtake each other; here the thread that
reads the socket runs the handlers, which therefore must be quick.
Source: python-socketio 5.18, engineio 4.15: `Client._trigger_event`, `run_async`.
"""

from __future__ import annotations

from typing import Any

import engineio
import socketio


class _Engine(engineio.Client):  # type: ignore[misc]  # published without types
    def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any:
        return super()._trigger_event(event, *args, **{**kwargs, "run_async": False})


class LiveSocket(socketio.Client):  # type: ignore[misc]  # published without types
    """See the module; never reconnects by itself."""

    def __init__(self, http_session: Any = None) -> None:
        super().__init__(
            reconnection=False,
            handle_sigint=False,
            http_session=http_session,
            websocket_extra_options={"redirect_limit": 0, "skip_utf8_validation": True},
        )

    def hang_up(self) -> None:
        """Close the connection at once; one that was lost leaves its descriptor open otherwise."""
        if self.eio.ws is not None:
            self.eio.ws.shutdown()

    def _engineio_client_class(self) -> type[_Engine]:
        return _Engine
