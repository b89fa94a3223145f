"""The agent's log: records of a constant sentence and fields, as JSON lines.

Rules: any thread may write and none ever waits, because a thread of its own does the writing and
what it cannot take in time is counted as dropped; when the file cannot be written, lines go to
stderr; secrets are taken out of every line as the last line of defence, not the first.
Source: contract part 3 "Log"; cases J "Log dir full", "Canary secrets".
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from agent.errors import LogFileError
from agent.logfile import LogFile

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_WAITING_BYTES = 2 * 1024 * 1024
RETRY_S = 5.0
HIDDEN = "(hidden)"
_HIDDEN_NAME = re.compile(r"(?i)(token|secret|password|passphrase|authorization|cookie|^sig$)")
_HIDDEN_PARAMETER = re.compile(r"(?i)\b(sig|token|authToken|password)=[^&\s\"]+")
# A shorter one would be found everywhere, and hide what the log is for.
_SHORTEST_SECRET = 4

_encoder = msgspec.json.Encoder(enc_hook=str)


class Log:
    """What everybody in the agent's process logs to.

    Args:
        file: where the lines go; None: stderr alone.
        level: the least important level that is kept.
        secrets: taken out of every line.
        console: takes a line for stderr; a test passes its own.
    """

    def __init__(
        self,
        file: LogFile | None,
        level: str = "info",
        secrets: Iterable[str] = (),
        console: Callable[[bytes], None] | None = None,
    ) -> None:
        self._file = file
        self._least = LEVELS[level]
        self._hidden = _forms(secrets)
        self._console = console or _to_stderr
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_idle = True
        self._retry_at_s = 0.0
        self._untold = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    # -- for everybody -------------------------------------------------------------------------

    def debug(self, sentence: str, **fields: Any) -> None:
        self.write("debug", sentence, fields)

    def info(self, sentence: str, **fields: Any) -> None:
        self.write("info", sentence, fields)

    def warning(self, sentence: str, **fields: Any) -> None:
        self.write("warning", sentence, fields)

    def error(self, sentence: str, **fields: Any) -> None:
        self.write("error", sentence, fields)

    def fatal(self, sentence: str, **fields: Any) -> None:
        """Log an error that a person who only sees stderr must see, too."""
        self.write("error", sentence, fields, to_console=True)

    def exception(self, sentence: str, error: BaseException, **fields: Any) -> None:
        """Log an error that nobody expected, with where it came from (never with values)."""
        where = [f"{f.filename}:{f.lineno} {f.name}" for f in _frames(error)]
        self.write("error", sentence, {**fields, "error": repr(error), "traceback": where})

    def write(
        self, level: str, sentence: str, fields: Mapping[str, Any], *, to_console: bool = False
    ) -> None:
        """Queue one record.

        Args:
            level: debug, info, warning or error.
            sentence: constant; what varies is in the fields.
            fields: JSON values; others are logged as their text. Never job data.
            to_console: to stderr as well.
        """
        if LEVELS.get(level, 40) < self._least and not to_console:
            return
        line = self._line(level, sentence, fields)
        with self._changed:
            if self._is_closed or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self.dropped += 1
                self._untold += 1
                return
            self._waiting.append((line, to_console))
            self._waiting_bytes += len(line)
            self._is_idle = False
            self._changed.notify_all()

    def hide(self, *secrets: str) -> None:
        """Take these out of every line from now on."""
        self._hidden = (*self._hidden, *_forms(secrets))

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything queued is written; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle, timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, at most `timeout_s` long, and take no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    # -- a line --------------------------------------------------------------------------------

    def _line(self, level: str, sentence: str, fields: Mapping[str, Any]) -> bytes:
        record: dict[str, Any] = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "msg": sentence,
        }
        for name, value in fields.items():
            record[name] = HIDDEN if _HIDDEN_NAME.search(name) and value else value
        try:
            text = _encoder.encode(record).decode()
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            text = json.dumps({**record, **{name: repr(fields[name]) for name in fields}})
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return (_HIDDEN_PARAMETER.sub(rf"\1={HIDDEN}", text) + "\n").encode(errors="replace")

    # -- the writer's thread -------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_idle = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    break
                batch = list(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
            for line, to_console in batch:
                self._deliver(line, to_console=to_console)
        if self._file is not None:
            self._file.close()

    def _deliver(self, line: bytes, *, to_console: bool) -> None:
        is_in_file = self._to_file(line)
        if to_console or not is_in_file:
            self._console(line)

    def _to_file(self, line: bytes) -> bool:
        """Write to the file, at most one try each `RETRY_S` while that fails."""
        if self._file is None:
            return False
        if time.monotonic() < self._retry_at_s:
            self._lose()
            return False
        try:
            if self._untold:
                fields = {"count": self._untold}
                self._file.write(self._line("warning", "Records did not reach this file.", fields))
                self._untold = 0
            self._file.write(line)
        except LogFileError as e:
            if not self._retry_at_s:
                told = self._line("error", "The log file cannot be written.", {"error": str(e)})
                self._console(told)
            self._retry_at_s = time.monotonic() + RETRY_S
            self._lose()
            return False
        self._retry_at_s = 0.0
        return True

    def _lose(self) -> None:
        with self._changed:
            self.dropped += 1
            self._untold += 1


def adopt_library_logs(log: Log) -> None:
    """Send what libraries log with Python's `logging`, from warnings on, to our log."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = "error" if record.levelno >= logging.ERROR else "warning"
            log.write(
                level, "A library logged.", {"logger": record.name, "text": record.getMessage()}
            )

    root = logging.getLogger()
    root.handlers[:] = [Handler()]
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False
    logging.captureWarnings(True)


def _forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return each secret as JSON writes it and as a URL does, the longest first."""
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            forms |= {msgspec.json.encode(secret).decode()[1:-1], quote(secret, safe="")}
            forms.add(json.dumps(secret)[1:-1])
    return tuple(sorted(forms, key=len, reverse=True))


def _frames(error: BaseException) -> Iterable[traceback.FrameSummary]:
    return traceback.extract_tb(error.__traceback__)[-20:]


def _to_stderr(line: bytes) -> None:
    try:
        os.write(2, line)
    except OSError:
        # Nobody is left to tell. EAGAIN: whoever reads stderr does not keep up.
        return
