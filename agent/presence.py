"""Is anybody at the other end? When to ask, and when to stop asking. Pure: time is an argument.

Rules: whatever comes in shows that the link lives (a ping, a pong, an event, a packet of the
engine itself); what we send does not. When nothing of ours was sent for half of `pong_timeout_s`,
looked at every `heartbeat_s`, we ask with a `ping`. When nothing came in for `pong_timeout_s`, the
link is dead.

Source: contract 1.9; fault cases C "Half-open", "SIGSTOP hub".
"""

from __future__ import annotations

from typing import Literal


class Presence:
    """One connection's signs of life, in seconds of a clock that never goes back."""

    def __init__(self, heartbeat_s: float, pong_timeout_s: float, now_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._pong_timeout_s = pong_timeout_s
        self.last_pong_s = now_s
        self._next_look_s = now_s + heartbeat_s
        self._asked: tuple[float, float] | None = None
        self.rtt_ms: float | None = None

    def came(self, now_s: float) -> None:
        """Something has come in."""
        self.last_pong_s = now_s

    def answered(self, ts: object, now_s: float) -> None:
        """A pong has come in; `ts` is what it echoes."""
        self.came(now_s)
        if self._asked is not None and self._asked[0] == ts:
            self.rtt_ms = (now_s - self._asked[1]) * 1000.0
            self._asked = None

    def asked(self, ts: float, now_s: float) -> None:
        """A ping with this `ts` is being sent."""
        self._asked = (ts, now_s)

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing needs to be looked at."""
        return max(0.0, min(self._next_look_s, self.last_pong_s + self._pong_timeout_s) - now_s)

    def look(self, now_s: float, last_sent_s: float) -> Literal["ping", "dead"] | None:
        """Say what to do now."""
        if now_s - self.last_pong_s >= self._pong_timeout_s:
            return "dead"
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + self._heartbeat_s
        return "ping" if now_s - last_sent_s >= self._pong_timeout_s / 2 else None
