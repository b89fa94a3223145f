"""What passes between the agent and the zygote; part of `workers.messages`, whose rules hold."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from workers.errors import FrameError


class _Mail(msgspec.Struct, frozen=True, kw_only=True, tag_field="m", omit_defaults=True):
    pass


class Spawn(_Mail, tag="spawn", frozen=True, kw_only=True):
    """Fork a worker that listens at `address`; answered by Spawned or SpawnFailed."""

    job_id: str
    kind: str
    address: str
    token: bytes
    spool: str  # path of the file for a result that no agent is there to take


class ForgetExit(_Mail, tag="forget_exit", frozen=True, kw_only=True):
    """The exit of `pid` has been taken note of."""

    pid: int


class Quit(_Mail, tag="quit", frozen=True, kw_only=True):
    """End, leaving the workers alone."""


ToZygote = Spawn | ForgetExit | Quit


class Ready(_Mail, tag="ready", frozen=True, kw_only=True):  # first, to every agent that dials
    pid: int


class Spawned(_Mail, tag="spawned", frozen=True, kw_only=True):
    job_id: str
    pid: int
    start_time: int


class SpawnFailed(_Mail, tag="spawn_failed", frozen=True, kw_only=True):
    job_id: str
    error: str


class Exited(_Mail, tag="exited", frozen=True, kw_only=True):
    """A worker has ended; `status` as from os.waitstatus_to_exitcode (-9: killed by signal 9).

    `out_of_memory`: the kernel has killed some of its job for that.
    """

    job_id: str
    pid: int
    status: int
    out_of_memory: bool = False


FromZygote = Ready | Spawned | SpawnFailed | Exited

_to_zygote: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)
_from_zygote: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)

T = TypeVar("T")


def decode_to_zygote(body: bytes) -> ToZygote:
    """Decode what an agent asks of the zygote.

    Raises:
        FrameError: not one of ours.
    """
    return _decoded(_to_zygote, body)


def decode_from_zygote(body: bytes) -> FromZygote:
    """Decode what the zygote reports.

    Raises:
        FrameError: not one of ours; that zygote is replaced.
    """
    return _decoded(_from_zygote, body)


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:  # ValueError: bad UTF-8
        raise FrameError(f"no message of ours: {e}") from e
