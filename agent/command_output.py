"""A command's output, live: from its worker's pieces to `admin_output`.

Rules: offsets count each stream's own bytes. What was on its way when a link ended is not sent
again, and what a command prints while there is no link is not kept for it: a command is never held
up by the link. The hub sees where the output goes on by the offset, and `admin_result` holds head
and tail of the whole. Source: contract 1.7 `stream`; docs/adr/0010.
"""

from __future__ import annotations

from typing import Literal

from agent.stream_text import Piece, StreamText
from agent.uplink import Uplink
from wire import features
from wire.admin import AdminOutput
from workers.messages import STREAM_STDERR, STREAM_STDOUT

NAMES: dict[int, Literal["stdout", "stderr"]] = {STREAM_STDOUT: "stdout", STREAM_STDERR: "stderr"}


class LiveOutput:
    """One command's. `turn` is its name in the send queue: a session may be called like a job."""

    def __init__(self, uplink: Uplink, job_id: str) -> None:
        self.turn = f"job\n{job_id}"
        self._uplink = uplink
        self._job_id = job_id
        self._texts: dict[int, StreamText] = {}

    def take(self, stream: int, offset: int, data: bytes) -> None:
        """Pass on what the worker has read; dropped where this link has no `stream`."""
        if stream not in NAMES or features.STREAM not in self._uplink.features:
            return
        text = self._texts.get(stream)
        if text is None or text.fed != offset:
            text = self._texts[stream] = StreamText(offset, as_base64=True)
        for piece in text.pieces(data, self._uplink.event_limit):
            self._say(stream, piece)

    def end(self) -> None:
        """Nothing follows."""
        for stream, text in self._texts.items():
            for piece in text.pieces(b"", self._uplink.event_limit, is_last=True):
                self._say(stream, piece)

    def _say(self, stream: int, piece: Piece) -> None:
        event = AdminOutput(
            job_id=self._job_id,
            stream=NAMES[stream],
            offset=piece.offset,
            data=piece.data,
            encoding=piece.encoding,
        )
        self._uplink.data(self.turn, event, piece.cost)
