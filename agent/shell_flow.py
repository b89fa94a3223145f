"""One session's output on its way from the worker to the hub.

Rules: offsets count the raw bytes of the terminal. Credit is the hub's where it has the feature,
else what has left our own send queue. After a replay was asked for, frames of before it may still
be under way; only what continues the output is taken, so that no byte is lost, doubled or out of
its place. Source: contract 1.3, 1.7 `credit`, `resume`, `base64`.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.stream_text import StreamText
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.limits import CREDIT_INITIAL_BYTES
from wire.shell import ShellGap, ShellOutput
from workers.loop import Loop, Timer
from workers.messages import Acked, Credit, Hello, Linked, Replay

OWN_WINDOW_BYTES = 256 << 10  # in our send queue, for a server without `credit`
RESUME_PATIENCE_S = 10.0


class Flow:
    """See the module.

    Args:
        key: the session's name on the wire.
        offset: where the output begins.
    """

    def __init__(
        self, loop: Loop, uplink: Uplink, worker: Worker, key: str, offset: int = 0
    ) -> None:
        self._loop = loop
        self._uplink = uplink
        self._key = key
        self._text = self._new_text(offset)
        self._drained = 0  # offset below which everything has left us
        self._acked = 0  # offset below which the hub has everything
        self._granted = 0  # offset up to which the worker has had leave to print
        self._resume_timer: Timer | None = None
        self.worker = worker
        self.is_on = False  # output may go out on this link
        self.seen = 0  # offset below which the output is known to exist

    @property
    def offset(self) -> int:
        """Of the next byte that is not in an event."""
        return self._text.offset

    @property
    def fed(self) -> int:
        """Of the next byte to come from the worker."""
        return self._text.fed

    def begin(self, worker: Worker, offset: int) -> None:
        """A worker's first output goes out, or waits for a link, from `offset`."""
        self.worker = worker
        if not self.is_on:
            worker.send(Linked(up=False))
            return
        self._granted = max(self._granted, offset + self._window())
        worker.send(Credit(bytes=self._window()))

    def take(self, offset: int, data: bytes) -> None:
        """A frame of the worker's."""
        skip = self._text.fed - offset
        if skip != 0:
            data = data[skip:] if 0 < skip < len(data) else b""
        self.seen = max(self.seen, self._text.fed + len(data))
        if data and self._text.fed + len(data) > self._granted:
            detail = "ipc_protocol: output without credit"
            self.worker.kill(Gone(reason="worker_died", detail=detail))
            return
        self._say(data)

    def take_gap(self, start: int, end: int) -> None:
        """The worker has lost what lies between; ignored where the output stands elsewhere."""
        if start <= self._text.fed < end:
            self.skip_to(end)

    def skip_to(self, end: int) -> None:
        """What follows is the output from `end`: the bytes before it are gone, and it is told."""
        self.flush()
        start = self._text.fed
        if features.RESUME in self._uplink.features:
            self._uplink.data(self._key, ShellGap(session=self._key, start=start, end=end), 0)
        else:
            line = f"\r\n[jackline: {end - start} bytes of output were lost here]\r\n"
            self._uplink.data(self._key, ShellOutput(session=self._key, data=line), 0)
        self._text = self._new_text(end)
        self._drained += end - start
        self._granted += end - start
        self.seen = max(self.seen, end)

    def flush(self) -> None:
        """Say what is held back of a character whose rest will not come."""
        self._say(b"", is_last=True)

    def credit(self, count: int) -> None:
        """The consumer takes that much more."""
        if features.CREDIT in self._uplink.features:
            self._granted += count
            self.worker.send(Credit(bytes=count))

    def ack(self, offset: int) -> None:
        """The consumer has everything below `offset`."""
        if features.RESUME in self._uplink.features:
            self._acked = max(self._acked, min(offset, self._text.offset))
            self.worker.send(Acked(offset=self._acked))

    def drained(self, cost: int) -> None:
        """That much has left our send queue."""
        if not self.is_on:
            return
        self._drained += cost
        if features.RESUME not in self._uplink.features:
            self.worker.send(Acked(offset=self._drained))
        if features.CREDIT not in self._uplink.features:
            self._granted += cost
            self.worker.send(Credit(bytes=cost))

    def replay(self, offset: int) -> None:
        """Let output go out from `offset`."""
        self._stop_waiting()
        self.is_on = True
        self._drained = offset
        self._text = self._new_text(offset)
        self._granted = max(self._granted, offset + self._window())
        self.worker.send(Replay(offset=offset, credit=self._window()))

    def attach(self, on_replayed: Callable[[], object]) -> None:
        """A link is up: go on at once, or when a hub that knows `resume` says from where.

        Args:
            on_replayed: called when a hub that said nothing for 10 s gets the output all the same.
        """
        if self.is_on:  # begun on this link, before it was known who the peer is
            self._text.as_base64 = features.BASE64 in self._uplink.features
        elif features.RESUME not in self._uplink.features:
            self.replay(self._drained)
        else:

            def unasked() -> None:
                if not self.is_on and self._uplink.is_up:
                    self.replay(self._acked)
                    on_replayed()

            self._resume_timer = self._loop.call_later(RESUME_PATIENCE_S, unasked)

    def halt(self) -> None:
        """No link: the terminal goes on into its ring."""
        self.is_on = False
        self._stop_waiting()
        self.worker.send(Linked(up=False))

    def on_hello(self, hello: Hello) -> None:
        """The worker has answered (again): go on where its reader left off."""
        self.seen = hello.offset
        if self.is_on:
            # Dialled again, or asked for before it answered: what was under way is lost.
            self.replay(min(self._text.offset, hello.offset))
            return
        self.start_at(hello.kept_from, seen=hello.offset)
        self.halt()

    def start_at(self, offset: int, *, seen: int) -> None:
        """Everything below `offset` was read by somebody; there is output up to `seen`."""
        self._drained = self._acked = offset
        self._text = self._new_text(offset)
        self.seen = seen

    def _stop_waiting(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.cancel()

    def _new_text(self, offset: int) -> StreamText:
        return StreamText(offset, as_base64=features.BASE64 in self._uplink.features)

    def _window(self) -> int:
        has_credit = features.CREDIT in self._uplink.features
        return CREDIT_INITIAL_BYTES if has_credit else OWN_WINDOW_BYTES

    def _say(self, data: bytes, *, is_last: bool = False) -> None:
        with_offset = features.RESUME in self._uplink.features
        for piece in self._text.pieces(data, self._uplink.event_limit, is_last=is_last):
            event = ShellOutput(
                session=self._key,
                data=piece.data,
                offset=piece.offset if with_offset else None,
                encoding=piece.encoding,
            )
            self._uplink.data(self._key, event, piece.cost)
