"""One live session between consoles and an agent: one writer, any number of observers.

Rules: runs on the loop, waits for nothing and asks no database: who may write was settled when the
writer attached, and whoever takes that away calls `detach`. Output is numbered by the raw stream's
offsets, and each console is told every byte from where it stands, or of the gap. An agent's credit
follows what the writer has shown (`consumed`); observers never hold a writer up, and without a
writer the session goes on into its recording. What is acknowledged to the agent is on the disk and
shown, so that a hub that is killed loses nothing.
Source: contract 1.2, 1.3, 1.7; architecture, "Follow one keystroke".
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from hub.errors import AgentOfflineError, ConflictError
from hub.shell.audience import Audience, Screen, Viewer
from hub.shell.credit import Credit
from hub.shell.recording import Recording
from hub.shell.replay import Replay
from wire import features
from wire.limits import KIB, MIB
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResize,
    ShellResume,
)
from wire.shorten import split_text

ACK_STEP_BYTES = 32 * KIB
RECORDING_BACKLOG_BYTES = MIB
UNRECORDED_BYTES = 2 * MIB
"""What a console may have been shown, at most, that a hub which was killed had not recorded."""
_INPUT_ROOM_BYTES = 128 * KIB
_ENCODER = msgspec.json.Encoder()

ToAgent = ShellAck | ShellClose | ShellCredit | ShellInput | ShellResize | ShellResume


class Peer(Protocol):
    """An agent's link, as far as a session needs it."""

    @property
    def features(self) -> frozenset[str] | None: ...


@dataclass(frozen=True)
class Facts:
    """What never changes of a session."""

    id: str
    tenant_id: str
    asset_id: str
    user_id: str
    user_name: str
    opened_ms: int


@dataclass(eq=False)
class Live:
    """See the module.

    Args:
        post: sends a message on a link, in order, without waiting.
        now: a monotonic clock, in seconds.
        is_rebuilt: an earlier hub process had it; where its output stands, the agent will tell.
    """

    facts: Facts
    cols: int
    rows: int
    recording: Recording
    post: Callable[[Any, ToAgent], None]
    now: Callable[[], float]
    link: Peer | None = None
    is_rebuilt: bool = False
    wanted: str | None = None

    def __post_init__(self) -> None:
        self.audience = Audience(self.facts.id)
        self.replay = Replay(0 if self.is_rebuilt else self.recording.end)
        self.credit = Credit(self.replay.end)
        self.used_s = self.left_s = self._over_s = self.now()
        self._acked = 0
        self._counts_for_agent = False
        self._closed: dict[str, Any] | None = None
        self.recording.on_flushed = self.regulate

    # -- consoles --------------------------------------------------------------------------------

    def attach(self, screen: Screen, offset: int | None) -> int:
        """Make a console the writer; whoever was it is told that it no longer is.

        Args:
            offset: the first byte that it has not seen; None: it has seen nothing.

        Returns:
            the offset of the first byte that it will be shown.
        """
        self.detach(screen)
        self.used_s = self.now()
        return self._begin(self.audience.seat(screen, self._start(offset), is_writer=True))

    def observe(self, screen: Screen, offset: int | None) -> int:
        """Show a console the session, read-only."""
        self.detach(screen)
        start = self._begin(self.audience.seat(screen, self._start(offset), is_writer=False))
        self._tell_watched()
        return start

    def detach(self, screen: Screen, reason: str | None = None) -> bool:
        """Show a console nothing more; with a reason, it is told. False: it was not here."""
        viewer = self.audience.of(screen)
        if viewer is None:
            return False
        if reason is not None:
            viewer.tell("shell_detached", reason=reason)
        self._forget(viewer)
        self._tell_watched()
        self.regulate()
        return True

    @property
    def has_ended(self) -> bool:
        """Tell whether it is over."""
        return self._closed is not None

    def dismiss_writer(self, reason: str) -> None:
        """Whoever types here no longer does, and is told why."""
        if self.audience.writer is not None:
            self.detach(self.audience.writer.screen, reason)

    def input(self, screen: Screen, data: str) -> None:
        """Type.

        Raises:
            ConflictError: `not_attached`, `session_ended`; AgentOfflineError: it has no link.
        """
        link = self._writable(screen)
        self.used_s = self.now()
        if len(data) * 6 <= _INPUT_ROOM_BYTES:
            self.post(link, ShellInput(session=self.facts.id, data=data))
            return
        for part in split_text(data, _INPUT_ROOM_BYTES):
            self.post(link, ShellInput(session=self.facts.id, data=part))

    def resize(self, screen: Screen, cols: int, rows: int) -> None:
        """Change the terminal's size.

        Raises:
            ConflictError: `not_attached`, `session_ended`; AgentOfflineError: it has no link.
        """
        link = self._writable(screen)
        if (cols, rows) == (self.cols, self.rows):
            return
        self.cols, self.rows = cols, rows
        self.post(link, ShellResize(session=self.facts.id, cols=cols, rows=rows))
        self.recording.resize(cols, rows)
        for viewer in list(self.audience.observers):
            viewer.tell("shell_resized", cols=cols, rows=rows)

    def consumed(self, screen: Screen, offset: int) -> None:
        """A console has shown everything below an offset; only the writer's word counts."""
        writer = self.audience.writer
        if writer is not None and writer.screen is screen:
            writer.consumed = min(max(offset, writer.consumed), writer.position)
            self.regulate()

    # -- the agent -------------------------------------------------------------------------------

    def on_link(self, link: Peer) -> None:
        """An agent that still has the session is linked: let it go on from where we stand."""
        self.link = link
        if self._may(features.RESUME):
            offset = 0 if self.is_rebuilt else self.replay.end
            self.credit.begin(offset)
            self.post(link, ShellResume(session=self.facts.id, offset=offset))
        else:
            self._counts_for_agent = True
            self._settle(self.recording.end)
            self.credit.begin(self.replay.end)
        if self.wanted is not None:
            self.post(link, ShellClose(session=self.facts.id))
        self.audience.tell("shell_link", up=True)

    def on_unlink(self, link: Peer) -> None:
        """The link is gone; the session may come back with the next one."""
        if self.link is link:
            self.link = None
            self.audience.tell("shell_link", up=False)

    def on_output(self, link: Peer, message: ShellOutput) -> None:
        """Output: to the recording, and to every console."""
        if self.link is not link or self.has_ended:
            return
        data = _raw(message)
        offset = self.replay.end if message.offset is None else message.offset
        self._settle(offset)
        fresh = self.replay.append(offset, data)
        self.credit.received(self.replay.end)
        self.recording.output(offset, data)
        is_whole = len(fresh) == len(data)
        payload = _payload(offset, message) if is_whole else None
        for viewer in self.audience.everybody():
            if payload is not None and viewer.position == offset:
                viewer.position = self.replay.end
                viewer.screen.emit_json("shell_output", payload)
            else:
                self._catch_up(viewer)
        if self._counts_for_agent:
            self.recording.flush()  # it cannot say again what a hub that is killed has forgotten
        self.regulate()

    def on_gap(self, link: Peer, message: ShellGap) -> None:
        """The agent has lost output for ever."""
        if self.link is not link or self.has_ended or message.end <= message.start:
            return
        self.credit.skipped(message.end - message.start)
        self._settle(message.end)
        self.replay.skip_to(message.end)
        self.recording.lost(message.end)
        for viewer in self.audience.everybody():
            self._catch_up(viewer)

    def close(self, reason: str) -> None:
        """End the session's processes, now or when the agent is back."""
        if self.wanted is None and not self.has_ended:
            self.wanted = reason
            self._over_s = self.now()
            if self.link is not None:
                self.post(self.link, ShellClose(session=self.facts.id))

    def end(self, payload: dict[str, Any]) -> None:
        """It is over: every console is told, after the last output."""
        if self.has_ended:
            return
        self._closed = payload
        self._over_s = self.now()
        for viewer in self.audience.everybody():
            viewer.screen.emit("shell_closed", payload)
            self.audience.remove(viewer)

    def regulate(self) -> None:
        """Grant what the writer has taken; acknowledge what is on the disk besides."""
        self._regulate(ACK_STEP_BYTES)

    def tick(self) -> None:
        """Send what has gathered to the disk; acknowledge even a little."""
        self.recording.flush()
        self._regulate(1)

    def idle_s(self) -> float:
        """Return for how long nobody has typed."""
        return self.now() - self.used_s

    def detached_s(self) -> float:
        """Return for how long nobody has looked."""
        return 0.0 if self.audience else self.now() - self.left_s

    def over_s(self) -> float:
        """Return for how long it has been over, or was wanted to be."""
        return self.now() - self._over_s

    # -- inside ----------------------------------------------------------------------------------

    def _tell_watched(self) -> None:
        """Whoever types knows how many look on."""
        for viewer in self.audience.everybody():
            viewer.tell("shell_watched", watching=len(self.audience.observers))

    def _start(self, offset: int | None) -> int:
        """Say where a console starts: where it left off, or with all that is kept."""
        if offset is not None and self.is_rebuilt:
            return offset
        if offset is not None:
            self._advance(offset)
            # An agent that says again what a killed hub was told may not be there yet.
            is_near = offset - self.replay.end <= UNRECORDED_BYTES
            return offset if is_near else self.replay.end
        if self.is_rebuilt:
            return max(0, self.recording.end - len(self.recording.scrollback))
        return self.replay.kept_from

    def _begin(self, viewer: Viewer) -> int:
        start = viewer.position
        self._catch_up(viewer)
        if self._closed is not None:
            viewer.screen.emit("shell_closed", self._closed)
            self._forget(viewer)
        return start

    def _catch_up(self, viewer: Viewer) -> None:
        if not self.is_rebuilt:
            viewer.miss(self.replay.kept_from)
            viewer.show(self.replay.read(viewer.position))
            return
        # Until the agent is back there is only the recording, for whoever has seen nothing.
        start = self.recording.end - len(self.recording.scrollback)
        if viewer.position == start:
            viewer.show(self.recording.scrollback)

    def _settle(self, offset: int) -> None:
        """After a restart of the hub: the first word of the agent tells where it stands."""
        if not self.is_rebuilt:
            return
        self.is_rebuilt = False
        start = self.recording.end - len(self.recording.scrollback)
        if start < offset <= self.recording.end:
            self.replay = Replay(start)
            self.replay.append(start, self.recording.scrollback[: offset - start])
        else:
            self.replay = Replay(offset)
        for viewer in self.audience.everybody():
            self._advance(viewer.position)

    def _advance(self, offset: int) -> None:
        """A console was shown more than was recorded, of an agent that does not count itself.

        What comes next is numbered behind that, or the console would take it for known.
        """
        ahead = offset - self.replay.end
        if not self._counts_for_agent or not 0 < ahead <= UNRECORDED_BYTES:
            return
        self.recording.lost(offset)
        self.replay.skip_to(offset)
        for viewer in self.audience.everybody():
            if viewer.position < offset:
                self._catch_up(viewer)

    def _regulate(self, ack_step: int) -> None:
        if self.link is None or self.is_rebuilt:
            return
        consumed = self.replay.end
        if self.audience.writer is not None:
            consumed = min(consumed, self.audience.writer.consumed)
        if self._may(features.CREDIT) and self.recording.backlog < RECORDING_BACKLOG_BYTES:
            more = self.credit.grant(consumed)
            if more:
                self.post(self.link, ShellCredit(session=self.facts.id, bytes=more))
        on_disk = self.recording.flushed_to
        safe = consumed if on_disk is None else min(consumed, on_disk)
        if safe - self._acked >= ack_step and self._may(features.RESUME):
            self._acked = safe
            self.post(self.link, ShellAck(session=self.facts.id, offset=safe))

    def _writable(self, screen: Screen) -> Peer:
        if not self.audience.writes(screen):
            raise ConflictError("attach to the session first", code="not_attached")
        if self.has_ended or self.wanted is not None:
            raise ConflictError("the session is over", code="session_ended")
        if self.link is None:
            raise AgentOfflineError("the agent is not linked")
        return self.link

    def _forget(self, viewer: Viewer) -> None:
        self.audience.remove(viewer)
        self.left_s = self.now()

    def _may(self, feature: str) -> bool:
        agreed = self.link.features if self.link is not None else None
        return agreed is not None and feature in agreed


def _payload(offset: int, message: ShellOutput) -> bytes:
    """Write what every console is sent, once."""
    return _ENCODER.encode(message if message.offset == offset else replace(message, offset=offset))


def _raw(message: ShellOutput) -> bytes:
    if message.encoding is None:
        return message.data.encode()
    try:
        return base64.b64decode(message.data)
    except ValueError:
        return b""
