"""What the control socket is asked: each request and what answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent import killswitch, status
from agent.clock import wall_ms
from agent.control import Reply
from agent.errors import ControlError

if TYPE_CHECKING:
    from agent.main import Agent

Request = dict[str, Any]
Handler = Callable[[Request, Reply], None]


def requests_of(agent: Agent) -> dict[str, Handler]:  # noqa: C901  # one for each request
    """Return the handlers by the request's `do`."""

    def on_status(_request: Request, reply: Reply) -> None:
        reply(**status.answer(agent))

    def on_workers(_request: Request, reply: Reply) -> None:
        reply(workers=agent.roster.rows())

    def on_restart(request: Request, reply: Reply) -> None:
        agent.roster.restart(_target(request), lambda results: _tell(request, reply, results))

    def on_stop_worker(request: Request, reply: Reply) -> None:
        agent.roster.stop(_target(request), lambda results: _tell(request, reply, results))

    def on_outbox(_request: Request, reply: Reply) -> None:
        now_ms = wall_ms()
        reply(
            items=[
                {
                    "id": entry.id,
                    "event": entry.event,
                    "job": entry.key,
                    "bytes": entry.size,
                    "age_s": max(0.0, (now_ms - entry.stored_ms) / 1000.0),
                    "tries": entry.strikes,
                    "parked": entry.parked,
                }
                for entry in agent.outbox.entries()
            ]
        )

    def on_flush(_request: Request, reply: Reply) -> None:
        count = agent.outbox.flush()
        agent.link.drop("the outbox is to be sent again")
        reply(count=count)

    def on_policy(_request: Request, reply: Reply) -> None:
        rows = [
            {"side": side, "key": key, "value": value, "where": where}
            for side, key, value, where in agent.policy.rows()
        ]
        reply(rows=rows)

    def on_pause(request: Request, reply: Reply) -> None:
        killswitch.turn_on(agent.settings.dirs.state, str(request.get("reason", "")))
        reply()

    def on_resume(_request: Request, reply: Reply) -> None:
        reply(was_paused=killswitch.turn_off(agent.settings.dirs.state))

    def on_stop(_request: Request, reply: Reply) -> None:
        agent.ending.begin(reply)

    def noted(name: str, handler: Handler) -> Handler:
        """What somebody on this machine changes by hand is a line in the log."""

        def on_request(request: Request, reply: Reply) -> None:
            agent.log.info(
                "asked by an admin", request=name, target=str(request.get("target", ""))[:80]
            )
            handler(request, reply)

        return on_request

    answers: dict[str, Handler] = {
        "status": on_status,
        "workers": on_workers,
        "outbox": on_outbox,
        "policy": on_policy,
    }
    changes: dict[str, Handler] = {
        "worker_restart": on_restart,
        "worker_stop": on_stop_worker,
        "outbox_flush": on_flush,
        "pause": on_pause,
        "resume": on_resume,
        "stop": on_stop,
    }
    return answers | {name: noted(name, handler) for name, handler in changes.items()}


def _target(request: Request) -> str:
    target = request.get("target")
    if not isinstance(target, str) or not target:
        raise ControlError("bad_request", "target must be a worker's id, a kind, or all")
    return target


def _tell(request: Request, reply: Reply, results: list[dict[str, Any]]) -> None:
    if not results and request.get("target") != "all":
        reply.fail(ControlError("not_found", f"no worker is called {request.get('target')!r}"))
    else:
        reply(results=results)
