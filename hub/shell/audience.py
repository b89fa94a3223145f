"""Who is shown a session: one writer at most, and observers, each with its own place in the output.

Rules: a viewer is told every byte from where it stands, or of the gap; output that is shown again
goes as base64, so that a cut character is nobody's trouble.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Protocol

from wire.limits import KIB

_STEP_BYTES = 48 * KIB


class Screen(Protocol):
    """A console's connection."""

    def emit(self, event: str, payload: dict[str, Any]) -> None: ...

    def emit_json(self, event: str, payload: bytes) -> None: ...


@dataclass(eq=False)
class Viewer:
    """One console: `position` is the next byte for it, below `consumed` it has shown everything."""

    session: str
    screen: Screen
    position: int
    consumed: int

    def show(self, data: bytes) -> None:
        """Send what follows."""
        for start in range(0, len(data), _STEP_BYTES):
            part = data[start : start + _STEP_BYTES]
            text = base64.b64encode(part).decode()
            self.tell("shell_output", offset=self.position, data=text, encoding="base64")
            self.position += len(part)

    def miss(self, offset: int) -> None:
        """What lies before `offset` is lost to it."""
        if self.position < offset:
            self.tell("shell_gap", **{"from": self.position, "to": offset})
            self.position = offset

    def tell(self, event: str, **fields: Any) -> None:
        """Send an event about the session."""
        self.screen.emit(event, {"session": self.session, **fields})


class Audience:
    """The viewers of one session."""

    def __init__(self, session: str) -> None:
        self._session = session
        self.writer: Viewer | None = None
        self.observers: list[Viewer] = []

    def __bool__(self) -> bool:
        return self.writer is not None or bool(self.observers)

    def everybody(self) -> list[Viewer]:
        """Return every viewer; the audience may change meanwhile."""
        return [*([self.writer] if self.writer else []), *self.observers]

    def seat(self, screen: Screen, position: int, *, is_writer: bool) -> Viewer:
        """Take a console in; a writer before it is told and shown nothing more."""
        viewer = Viewer(self._session, screen, position, position)
        if not is_writer:
            self.observers.append(viewer)
            return viewer
        if self.writer is not None:
            self.writer.tell("shell_detached", reason="taken_over")
        self.writer = viewer
        return viewer

    def of(self, screen: Screen) -> Viewer | None:
        """Return a console's place."""
        return next((one for one in self.everybody() if one.screen is screen), None)

    def writes(self, screen: Screen) -> bool:
        """Tell whether a console is the writer."""
        return self.writer is not None and self.writer.screen is screen

    def remove(self, viewer: Viewer) -> None:
        """Show a viewer nothing more; it may be gone already."""
        if viewer is self.writer:
            self.writer = None
        elif viewer in self.observers:
            self.observers.remove(viewer)

    def tell(self, event: str, **fields: Any) -> None:
        """Send everybody an event about the session."""
        for viewer in self.everybody():
            viewer.tell(event, **fields)
