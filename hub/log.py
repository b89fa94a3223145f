"""The hub's log: one JSON object a line on stderr, the libraries' records included.

Rules: what proves who somebody is never stands in it: signatures, tokens and cookies are cut out of
every line, whoever wrote it. The WebSocket library's line for each connection, query and all, is
not written.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

_SECRETS = re.compile(
    r"((?:[?&](?:sig|token)=)|(?:jackline_session=)|(?:\b[Bb]earer ))[^&\s\"';,]+", re.ASCII
)
_TOKENS = re.compile(r"\b(j[a-z]{2,7}_)[A-Za-z0-9_-]{43}_[0-9a-f]{8}\b", re.ASCII)


def configure(level: str) -> None:
    """Send every logger of this process to stderr as JSON."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
                _redacted,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Drop what uvicorn says of each WebSocket that is refused with a status of its own."""
    return not str(record.msg).startswith("ASGI callable returned without completing handshake")


def redact(line: str) -> str:
    """Cut out of a line what proves who somebody is."""
    return _TOKENS.sub(r"\1[cut]", _SECRETS.sub(r"\1[cut]", line))


def _redacted(_logger: object, _name: str, line: Any) -> str:
    return redact(str(line))
