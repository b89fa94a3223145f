"""The heartbeat: when to beat, with what, and what an answer means.

Rules: core thread only; the disk thread reads and writes what is remembered; calls go out one at a
time: beat, artifact, renewal, in this order. A command's beginning and its end are told at once,
unless the hub is failing. A credential that was changed means a new worker. What could not be
stored is not carried out, and what was not answered is told again.

Source: contract part 2; fault cases A (mTLS), C.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.clock import wall_ms
from agent.collection import Collection
from agent.heartbeat_caller import Caller, Failure, Outcome
from agent.heartbeat_errands import Errands
from agent.heartbeat_memory import Memory
from agent.heartbeat_pace import Pace
from agent.heartbeat_store import Counts, Draft, HeartbeatStore, Offer
from agent.identity import Identity
from agent.identity_keeper import IdentityKeeper
from agent.log import Log
from wire import bodies, paths, problem
from wire.errors import WireError
from wire.heartbeat import HeartbeatResponse
from wire.problem import Code, Problem
from workers.loop import Loop, Timer
from workers.messages_heartbeat import HubAnswer

STOCK_FIRST_S = 2.0
STOCK_EVERY_S = 6 * 3600.0
MIN_GAP_S = 0.2


@dataclass
class Condition:
    """How it is going, for `status`."""

    state: str = "starting"
    answered_s: float | None = None
    failure: Failure | None = None
    failed_s: float = 0.0
    beats: int = 0
    counts: Counts = field(default_factory=Counts)


class Heartbeat:
    """See the module.

    Args:
        boot_id: the kernel's, or one kept for this boot.
        on_policy: takes the tenant's policy; returns why it cannot be used, or None.
    """

    def __init__(
        self,
        loop: Loop,
        memory: Memory,
        caller: Caller,
        keeper: IdentityKeeper,
        boot_id: Callable[[], str],
        on_policy: Callable[[dict[str, Any]], str | None],
        log: Log,
        pace: Pace | None = None,
    ) -> None:
        self._loop = loop
        self._memory = memory
        self._caller = caller
        self._keeper = keeper
        self._boot_id = boot_id
        self._on_policy = on_policy
        self._log = log
        self._pace = pace or Pace()
        self.condition = Condition()
        self.collection: Collection  # set by whoever puts the parts together
        self._timer: Timer | None = None
        self._is_busy = False
        self._is_due = False
        self._is_failing = False
        self._is_stopping = False
        self._wants_inventory = False
        self._newest: bytes | None = None
        self._hub_told: tuple[float, float] | None = None  # its clock, and ours when it said so
        self._errands = Errands(
            loop, caller, memory, keeper, self.hub_s, self._soon, self._rest, log
        )
        keeper.on_change.append(self._on_identity)

    # -- what others say -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to beat."""
        self._caller.start()
        self._memory.ask(lambda store: store.recover(_moment()), self._on_recovered)
        self._due_in(0.0)
        self._loop.call_later(STOCK_FIRST_S, self._take_stock)

    def stop(self) -> None:
        """End the worker, for good."""
        self._is_stopping = True
        self._caller.stop()

    def close(self) -> None:
        """Close the store, after what was asked of it."""
        self._memory.close()

    def poll_now(self) -> None:
        """The hub has something: beat at once."""
        self._due_in(MIN_GAP_S)

    def on_sample(self, sample: bytes, *, is_live: bool) -> None:
        """A sample was taken; one that nobody saw live is kept until it is told."""
        if is_live:
            self._newest = sample
        else:
            self._memory.ask(lambda store: store.add_sample(sample), lambda _: None)

    def hub_s(self) -> float:
        """Return the hub's clock, seconds since the epoch, as well as it is known."""
        if self._hub_told is None:
            return wall_ms() / 1000.0
        hub_s, at_s = self._hub_told
        return hub_s + self._loop.clock() - at_s

    def is_expired(self, moment: str) -> bool:
        """Has the hub's clock passed that moment?"""
        try:
            return bodies.wall_s(moment) <= self.hub_s()
        except ValueError:
            return True

    @property
    def identity(self) -> Identity:
        """Who this machine is now."""
        return self._keeper.identity

    @property
    def interval_s(self) -> float:
        """The hub's interval."""
        return self._pace.interval_s

    def next_s(self) -> float | None:
        """Return in how many seconds the next beat is due."""
        if self._timer is None or self._timer.callback is None:
            return None
        return max(0.0, self._timer.due_s - self._loop.clock())

    # -- what becomes of a command ---------------------------------------------------------------

    def begun(self, command_id: str) -> None:
        """A command is being carried out."""
        at = _moment()
        self._memory.ask(lambda store: store.begin(command_id, at), lambda _: self._soon())

    def ended(
        self,
        command_id: str,
        error: str | None,
        summary: dict[str, Any] | None = None,
        artifact: bytes | None = None,
    ) -> None:
        """A command has ended; its artifact goes up before that is told."""
        at = _moment()

        def stored(_: None) -> None:
            if artifact is None:
                self._soon()
            else:
                self._errands.note_artifact()
                self._pump()

        self._memory.ask(
            lambda store: store.finish(command_id, at, error, summary, artifact), stored
        )

    def stocktaken(self, text: bytes, digest: str) -> None:
        """An inventory is there."""
        self._memory.ask(lambda store: store.set_inventory(text, digest), lambda _: self._soon())

    def _take_stock(self) -> None:
        self.collection.take_stock()
        spread = random.uniform(0.9, 1.1)
        self._loop.call_later(STOCK_EVERY_S * spread, self._take_stock)

    def _on_recovered(self, offers: list[Offer]) -> None:
        for offer in offers:
            self.collection.run(offer)

    # -- when ------------------------------------------------------------------------------------

    def _due_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_stopping:
            self._timer = self._loop.call_later(seconds, self._on_due)

    def _soon(self) -> None:
        """There is something to tell: not long from now, but no sooner than a failing hub wants."""
        left = self.next_s()
        if not self._is_failing and (left is None or left > MIN_GAP_S):
            self._due_in(MIN_GAP_S)

    def _on_due(self) -> None:
        self._is_due = True
        self._pump()

    def _pump(self) -> None:
        """Make the next call, if there is one to make."""
        if self._is_busy or self._is_stopping:
            return
        self._is_busy = True
        if self._is_due:
            self._is_due = False
            self._write_beat()
        elif self._is_failing or not self._errands.begin():
            self._is_busy = False

    def _rest(self) -> None:
        """A call is over."""
        self._is_busy = False
        self._loop.call_soon(self._pump)

    # -- a beat ----------------------------------------------------------------------------------

    def _write_beat(self) -> None:
        head = {
            "agent_id": self._keeper.identity.agent_id,
            "sent_at": _moment(),
            "boot_id": self._boot_id(),
        }
        newest, wants = self._newest, self._wants_inventory

        def written(found: list[Draft]) -> None:
            draft = found[0] if found else self._bare(head)
            self._caller.call(
                paths.HEARTBEAT, draft.text, lambda outcome: self._on_outcome(draft, outcome)
            )

        self._memory.try_(lambda store: store.draft(head, newest, wants_inventory=wants), written)

    def _bare(self, head: dict[str, Any]) -> Draft:
        """The disk is in trouble: say at least that we are here."""
        body = {**head, "seq": self.condition.beats + 1}
        return Draft(msgspec.json.encode(body), 0, 0, (), (), None)

    def _on_outcome(self, draft: Draft, outcome: Outcome) -> None:
        if not isinstance(outcome, HubAnswer):
            told = outcome if isinstance(outcome, Failure) else Failure("internal", "no answer")
            self._fail(told)
        elif outcome.status == 200:
            self._on_answer(draft, outcome.body)
        else:
            self._on_refusal(problem.read(outcome.status, outcome.body), outcome.retry_after_s)
        self._rest()

    def _on_answer(self, draft: Draft, body: bytes) -> None:
        try:
            response = bodies.decode(HeartbeatResponse, body, len(body))
        except WireError as e:
            self._fail(Failure("bad_answer", f"the hub's answer makes no sense: {e.detail}"))
            return
        if self.condition.state != "up":
            self._log.info("heartbeat is up", url=self._keeper.identity.http_url)
        self._is_failing = False
        self.condition.state = "up"
        self.condition.answered_s = self._loop.clock()
        self.condition.beats += 1
        self._hub_told = response.server_ts / 1000.0, self._loop.clock()
        self._newest = None
        self._errands.note_artifact()  # those that waited for the hub, or for an earlier agent
        self._due_in(self._pace.after_answer(response.next_interval_sec))
        self._settle(draft, response)
        self._obey(response)

    def _settle(self, draft: Draft, response: HeartbeatResponse) -> None:
        """Note what was told and what is wanted, then begin with it."""
        offers = [
            Offer(one.command_id, one.command_type, one.params, one.expires_at)
            for one in response.pending_commands
        ]

        def noted(store: HeartbeatStore) -> tuple[list[Offer], Counts]:
            store.told(draft)
            fresh = store.take(offers, float(response.server_ts))
            return fresh, store.counts()

        def begin(found: tuple[list[Offer], Counts]) -> None:
            fresh, self.condition.counts = found
            for offer in fresh:
                self.collection.run(offer)
            if len(offers) > len(fresh):
                self._soon()  # the hub has not heard of those: say again how far they are
            if self.condition.counts.samples:
                self._soon()  # an outage left more than one beat takes

        self._memory.ask(noted, begin)

    def _obey(self, response: HeartbeatResponse) -> None:
        self._wants_inventory = False
        if response.want_inventory:
            self._wants_inventory = True
            self._memory.ask(HeartbeatStore.has_inventory, self._on_inventory_wanted)
        known = self._keeper.identity
        if response.agents_url is not None and response.agents_url != known.agents_url:
            self._keeper.change(agents_url=response.agents_url)
        if response.policy is not None and response.policy != known.policy:
            self._take_policy(response.policy)

    def _on_inventory_wanted(self, is_there: bool) -> None:
        if is_there:
            self._soon()
        else:
            self.collection.take_stock()

    def _take_policy(self, policy: dict[str, Any]) -> None:
        wrong = self._on_policy(policy)
        if wrong is None:
            self._keeper.change(policy=policy)
            self._log.info("the tenant's policy has changed")
        else:
            self._log.error("the tenant's policy cannot be used", why=wrong)

    def _on_refusal(self, refusal: Problem, retry_after_s: float | None) -> None:
        known = self._keeper.identity
        if refusal.code == Code.BEARER_RETIRED and not known.mtls:
            self._log.info("the hub asks for the client certificate from now on")
            self._keeper.change(mtls=True, agents_url=refusal.agents_url or known.agents_url)
            self._due_in(0.0)
            return
        sentence = f"the hub refused the beat: {refusal.detail or refusal.title}"
        self._fail(Failure(refusal.code, sentence), retry_after_s)

    def _fail(self, failure: Failure, retry_after_s: float | None = None) -> None:
        self._is_failing = True
        condition = self.condition
        known = condition.failure.reason if condition.failure is not None else None
        is_news = condition.state != "failing" or known != failure.reason
        condition.state = "failing"
        condition.failure, condition.failed_s = failure, self._loop.clock()
        wait_s = self._pace.after_failure(failure.reason, retry_after_s)
        if is_news:
            self._log.warning(
                "heartbeat failed",
                reason=failure.reason,
                detail=failure.sentence,
                next_in_s=round(wait_s, 1),
            )
        self._due_in(wait_s)
        self._memory.ask(HeartbeatStore.counts, self._note_counts)

    def _note_counts(self, counts: Counts) -> None:
        self.condition.counts = counts

    # -- inside ----------------------------------------------------------------------------------

    def _on_identity(self, before: Identity, now: Identity) -> None:
        """A new credential, or another place: for the next call already."""
        if (before.certificate, before.http_url) != (now.certificate, now.http_url):
            self._caller.refresh()


def _moment() -> str:
    return bodies.moment(wall_ms() / 1000.0)
