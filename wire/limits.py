"""Sizes, windows and steps that both ends of a link must agree on.

Only figures that show on the wire stand here. Units are in the names.

Source: contract 1.1, 1.2, 1.4, 1.5, 1.7 and part 2; the shared constants of the fault cases.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# Sizes of one event, `["name",payload]` as JSON text with ENVELOPE_BYTES for what stands around it.
MAX_EVENT_BYTES = 240 * KIB
PAYLOAD_MARGIN_BYTES = 4 * KIB  # kept free below the server's `maxPayload`
FOREIGN_AGENT_EVENT_BYTES = 32 * KIB  # a fielded agent's client library dies above
MAX_INBOUND_BYTES = MIB
ENVELOPE_BYTES = 64  # packet type, namespace, acknowledgement id, brackets, quotes, comma

# Fields. Identifiers are short; whatever a policy judges (command, path, host) is bounded by the
# event alone, so that the family can answer with its own reason.
MAX_ID_CHARS = 256
MAX_TOKEN_CHARS = 4096
MAX_NAME_CHARS = 256
MAX_SAFE_INTEGER = 2**53 - 1
MAX_JOBS = 1024
MAX_FEATURES = 256

# The connect query.
CLIENT_ID_PATTERN = r"[A-Za-z0-9._-]{1,128}"
SKEW_WINDOW_MS = 300_000  # inclusive
ONE_TIME_TTL_S = 660
MAX_QUERY_CHARS = 4096

# Reconnecting: each wait is uniform in [BACKOFF_JITTER x d, d].
BACKOFF_STEPS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
BACKOFF_JITTER = 0.5
REVOKED_WAIT_S = 600.0
CONNECT_REPLY_TIMEOUT_S = 10.0
NO_HELLO_FLUSH_S = 5.0  # a server that never says hello: the outbox is flushed this long after

# Credit, in bytes of the raw stream.
CREDIT_INITIAL_BYTES = 64 * KIB
CREDIT_MAX_BYTES = 256 * KIB
REPLAY_BYTES = MIB  # what a worker keeps of output that is not acknowledged

# Families.
MIN_TERMINAL_CELLS = 1
MAX_TERMINAL_CELLS = 1000
DEFAULT_COLS = 80
DEFAULT_ROWS = 24
LOG_TAIL_LINES_DEFAULT = 10
LOG_TAIL_LINES_MAX = 200
BACKUP_SAMPLES = 25
BACKUP_PROGRESS_MIN_GAP_S = 1.0
BACKUP_PROGRESS_MAX_GAP_S = 2.0
JOB_ID_KEPT_S = 7 * 24 * 3600

# The heartbeat link: sizes of a body as JSON, and how many of each a beat may carry.
MAX_BODY_BYTES = 64 * KIB
MAX_BEAT_BYTES = 4 * MIB
MAX_PEM_CHARS = 32 * KIB
MAX_INVENTORY_BYTES = 2 * MIB
BEAT_METRICS = 200
BEAT_RESULTS = 100
BEAT_COMMANDS = 50
METRICS_KEPT = 1000  # newest, through an outage
MAX_SUMMARY_BYTES = 16 * KIB  # a larger result goes up as an artifact
MAX_ARTIFACT_BYTES = 64 * MIB
BEAT_INTERVAL_S = 60.0
BEAT_INTERVAL_MIN_S = 1.0
BEAT_INTERVAL_MAX_S = 3600.0
COMMAND_LEASE_S = 60.0
COMMAND_ID_KEPT_S = 7 * 24 * 3600
ENROLMENT_RETRY_S = 600  # how long a lost reply can be had again
RENEW_AFTER = 2 / 3  # of a certificate's life
RENEWED_OVERLAP_S = 24 * 3600  # how long the certificate before stays valid


def event_limit(max_payload: int | None) -> int:
    """Give the most that an outgoing event may measure on a link.

    Args:
        max_payload: the server's Engine.IO `maxPayload` in bytes; None or 0 when it told none.

    Returns:
        bytes, for `encode` and `encode_within`.
    """
    if not max_payload:
        return MAX_EVENT_BYTES
    return max(0, min(MAX_EVENT_BYTES, max_payload - PAYLOAD_MARGIN_BYTES))
