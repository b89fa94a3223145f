"""Every message that passes between the agent and a worker, and the specs of the jobs.

A mailbox carries two kinds of frames: DATA (raw bytes of a terminal or of a command's stream) and
MESSAGE (one of the structs below as msgpack). Nothing here crosses the network: what does is in
`wire`. A new agent talks to workers that an older one started, so fields are only ever added, with
defaults, and unknown fields are ignored.

Rules: offsets count the bytes of a stream from its beginning; times are seconds.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from workers.errors import FrameError
from workers.messages_backup import BackupEnded, BackupSpec, BackupStep
from workers.messages_heartbeat import Collected, FromHeartbeat, HeartbeatJob, ToHeartbeat
from workers.messages_zygote import FromZygote, ToZygote

STREAM_TERMINAL = 0
STREAM_STDOUT = 1
STREAM_STDERR = 2

Kind = Literal[
    "shell", "admin", "backup", "keys", "telemetry", "tail", "listing", "heartbeat", "inventory"
]


class _Mail(msgspec.Struct, frozen=True, kw_only=True, tag_field="m", omit_defaults=True):
    pass


class ShellSpec(_Mail, tag="shell", frozen=True, kw_only=True):
    """A terminal session; the worker adds its account's own variables, and home as empty `cwd`."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    cols: int = 80
    rows: int = 24
    first_offset: int = 0  # where this worker's output begins: after a restart, not at 0
    notice: bytes = b""  # printed before the shell's own output


class AdminSpec(_Mail, tag="admin", frozen=True, kw_only=True):
    """One command, run without a shell.

    `argv[0]` is the resolved absolute program. `stdin` is fed and closed. `keep_crontab`: the
    command replaces the crontab of the worker's user; the previous one is stored first in the
    state directory and put back when the command fails. `cwd` empty: the account's home; else the
    worker resolves it and refuses (126) what `cwd_roots` do not hold (`policy_roots`). HOME, USER
    and LOGNAME are the worker's to add: only there may looking up an account take its time.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    timeout_s: float
    cwd_roots: list[list[str]] = []
    stdin: bytes = b""
    stream: bool = False
    keep_crontab: bool = False
    keep_bytes: int = 131_072  # of each stream's head, and of its tail


class KeysSpec(_Mail, tag="keys", frozen=True, kw_only=True):
    """Fetch a GitHub user's public keys into the worker's own user's authorized_keys.

    The worker already runs as the target user (`Start.run_as`).
    """

    github_user: str
    target_user: str
    base_url: str = "https://github.com"
    mode: Literal["add-only", "mirror"] = "add-only"
    ca_file: str | None = None
    proxies: dict[str, str] = {}


class TelemetrySpec(_Mail, tag="telemetry", frozen=True, kw_only=True):
    """Sample this machine every `interval_s`, and at once on `Sample`."""

    interval_s: float


class TailSpec(_Mail, tag="tail", frozen=True, kw_only=True):
    """Follow the agent's own log, across rotation, starting with its last `lines` lines.

    `from_start`: with its first line, whatever `lines` says: the tail before this one finished with
    `rotated`, because it was not allowed to open the new file.
    """

    path: str
    lines: int = 10
    from_start: bool = False


class ListingSpec(_Mail, tag="listing", frozen=True, kw_only=True):
    """List one directory, if `roots` hold it (`policy_roots`)."""

    path: str
    roots: list[list[str]] = []
    max_entries: int = 5_000


Spec = (
    ShellSpec
    | AdminSpec
    | KeysSpec
    | TelemetrySpec
    | TailSpec
    | ListingSpec
    | BackupSpec
    | HeartbeatJob
)


class Dial(_Mail, tag="dial", frozen=True, kw_only=True):
    """First frame of every connection: the 32-byte token of the job's record."""

    token: bytes


class Start(_Mail, tag="start", frozen=True, kw_only=True):
    """Do this. Sent once in a worker's life; a second one is ignored.

    `run_as`: the account to become first. `lease_s`: how long the job goes on with no agent; None:
    until it ends. `secret_dirs`: what a confined kind must not be able to read.
    """

    spec: Spec
    run_as: str | None = None
    lease_s: float | None = None
    secret_dirs: list[str] = []


class Resize(_Mail, tag="resize", frozen=True, kw_only=True):
    cols: int
    rows: int


class End(_Mail, tag="end", frozen=True, kw_only=True):
    """End the job's whole process tree and finish with `reason`."""

    reason: str = "closed"


class Credit(_Mail, tag="credit", frozen=True, kw_only=True):
    """The consumer takes `bytes` more of `stream`. A stream starts with none.

    The agent grants; a worker stops reading its source when the credit is used up.
    """

    bytes: int
    stream: int = STREAM_TERMINAL


class Acked(_Mail, tag="acked", frozen=True, kw_only=True):
    """The consumer has everything below `offset`: it need not be kept for a replay."""

    offset: int
    stream: int = STREAM_TERMINAL


class Replay(_Mail, tag="replay", frozen=True, kw_only=True):
    """Send again from `offset`, with `credit` bytes of fresh credit; Gap where it is gone."""

    offset: int
    credit: int
    stream: int = STREAM_TERMINAL


class Linked(_Mail, tag="linked", frozen=True, kw_only=True):
    """Is there a consumer behind the agent?

    While there is none, a job is not held up by missing credit: the last 1 MiB is kept and older
    output is dropped, to be told as a Gap.
    """

    up: bool


class Sample(_Mail, tag="sample", frozen=True, kw_only=True):
    """Telemetry: send a sample now."""


class Forget(_Mail, tag="forget", frozen=True, kw_only=True):
    """The final result is stored; the worker may go."""


ToWorker = (
    Dial | Start | Resize | End | Credit | Acked | Replay | Linked | Sample | ToHeartbeat | Forget
)


class Hello(_Mail, tag="hello", frozen=True, kw_only=True):
    """Answer to Dial. `offset`: next byte of the terminal stream; `kept_from`: oldest one kept."""

    kind: str
    job_id: str
    pid: int
    started: bool
    finished: bool
    child_pid: int | None = None
    offset: int = 0
    kept_from: int = 0


class Running(_Mail, tag="running", frozen=True, kw_only=True):
    """The job's own process is up."""

    child_pid: int


class Beat(_Mail, tag="beat", frozen=True, kw_only=True):
    """Sent by the loop that does the work, every 2 s. `progress` grows while the job gets on."""

    progress: int


class Gap(_Mail, tag="gap", frozen=True, kw_only=True):
    """Bytes [start, end) of the stream are gone; what follows begins at `end`."""

    start: int
    end: int
    stream: int = STREAM_TERMINAL


class Sampled(_Mail, tag="sampled", frozen=True, kw_only=True):
    """The `data` object of the wire's `stats`."""

    data: dict[str, Any]


class TailText(_Mail, tag="tailtext", frozen=True, kw_only=True):
    data: str


class Log(_Mail, tag="log", frozen=True, kw_only=True):
    """For the agent's log: a constant sentence and fields, never job data or secrets."""

    level: Literal["debug", "info", "warning", "error"]
    sentence: str
    fields: dict[str, Any] = {}


class Captured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a stream: its head, its tail (empty when all fits), its true size."""

    head: bytes = b""
    tail: bytes = b""
    total_bytes: int = 0


class ShellEnded(_Mail, tag="shell_ended", frozen=True, kw_only=True):
    """`offset` is the length of the whole output: the final follows the last byte of it."""

    reason: str
    code: int | None = None
    signal: int | None = None
    detail: str | None = None
    offset: int = 0


class CommandEnded(_Mail, tag="command_ended", frozen=True, kw_only=True):
    code: int
    duration_ms: int
    signal: int | None = None
    stdout: Captured = Captured()
    stderr: Captured = Captured()
    error: str | None = None


class KeysEnded(_Mail, tag="keys_ended", frozen=True, kw_only=True):
    ok: bool
    added: int = 0
    removed: int = 0
    rejected: int = 0
    duration_ms: int = 0
    error: str | None = None
    detail: str | None = None
    warn: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    is_dir: bool
    size: int | None = None


class Listed(_Mail, tag="listed", frozen=True, kw_only=True):
    entries: list[Entry] = []
    error: str | None = None
    truncated: bool = False


class TailEnded(_Mail, tag="tail_ended", frozen=True, kw_only=True):
    reason: str


class NotBegun(_Mail, tag="not_begun", frozen=True, kw_only=True):
    """The job could not begin: its account does not exist, or may not be taken on."""

    reason: str
    detail: str


class Stopped(_Mail, tag="stopped", frozen=True, kw_only=True):
    """A job without a result (telemetry) has ended."""

    reason: str = "closed"


Result = (
    ShellEnded
    | CommandEnded
    | KeysEnded
    | Listed
    | TailEnded
    | BackupEnded
    | Collected
    | Stopped
    | NotBegun
)


class Finished(_Mail, tag="finished", frozen=True, kw_only=True):
    """The job's one final result; sent again on every connection until Forget."""

    result: Result


ToAgent = (
    Hello | Running | Beat | Gap | Sampled | BackupStep | TailText | FromHeartbeat | Log | Finished
)


_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_agent: msgspec.msgpack.Decoder[ToAgent] = msgspec.msgpack.Decoder(ToAgent)

T = TypeVar("T")


def encode(message: ToWorker | ToAgent | ToZygote | FromZygote) -> bytes:
    """Return the body of a MESSAGE frame."""
    return _encoder.encode(message)


def decode_to_worker(body: bytes) -> ToWorker:
    """Decode what an agent sent.

    Raises:
        FrameError: not one of ours; the connection is dropped, the job goes on.
    """
    return _decoded(_to_worker, body)


def decode_to_agent(body: bytes) -> ToAgent:
    """Decode what a worker sent.

    Raises:
        FrameError: not one of ours; the worker is dropped (`ipc_protocol`).
    """
    return _decoded(_to_agent, body)


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:  # ValueError: bad UTF-8
        raise FrameError(f"no message of ours: {e}") from e
