"""The heartbeat kind: one hub, called over HTTPS, as the agent says and when it says so.

Rules: what a call needs is imported and the credential is in the TLS context before the process is
confined; afterwards it may speak to the internet and open nothing of the agent's. One call at a
time, in a thread of its own with a deadline: a TLS stack that hangs ends this worker, and the agent
starts another. What is sent and when is the agent's to know.

Source: contract part 2; architecture "Privileges".
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from wire import bodies, paths, problem
from wire.enrolment import RenewRequest, RenewResponse
from wire.errors import WireError
from workers import certificates, hardening, https
from workers.blocking import Errand
from workers.errors import CertificateError, HttpsError
from workers.https import Access, Answer, Https
from workers.kind import Desk, StreamlessWorker, Worker
from workers.messages import Spec, Stopped, ToAgent, ToWorker
from workers.messages_heartbeat import (
    HeartbeatSpec,
    HubAnswer,
    HubCall,
    HubSilence,
    Renew,
    Renewed,
)

DEADLINE_S = 60.0


class HeartbeatWorker(StreamlessWorker):
    """See the module.

    Args:
        confine: gives up every right that a call does not need; called once, before the first.
        deadline_s: how long a call may take in all.
    """

    def __init__(
        self, desk: Desk, confine: Callable[[Desk], None], deadline_s: float = DEADLINE_S
    ) -> None:
        self._desk = desk
        self._confine = confine
        self._deadline_s = deadline_s
        self._body: list[bytes] = []
        self._errand: Errand[ToAgent] | None = None
        self._is_settled = False

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, HeartbeatSpec)
        self._headers = https.bearer(spec.bearer) if spec.bearer is not None else {}
        hardening.share_one_arena()
        https.import_all()
        try:
            self._hub = Https(
                Access(
                    base_url=spec.base_url,
                    ca_data=spec.ca_data,
                    also_ca=spec.also_ca,
                    skip_verify=spec.skip_verify,
                    certificate=spec.certificate,
                    key=spec.key,
                    proxies=spec.proxies,
                )
            )
        except HttpsError as e:
            self._desk.send(HubSilence(call_id=0, reason=e.reason, sentence=str(e)))
            self._desk.finish(Stopped(reason=e.reason))
            return
        self._confine(self._desk)

    def on_data(self, data: bytes) -> None:
        self._body.append(data)

    def on_message(self, message: ToWorker) -> None:
        match message:
            case HubCall():
                body, self._body = b"".join(self._body), []
                self._begin(message.call_id, lambda: self._call(message, body))
            case Renew():
                self._begin(message.call_id, lambda: self._renew(message.call_id))
            case _:
                super().on_message(message)

    def end(self, reason: str) -> None:
        if self._errand is not None:
            self._errand.abandon()
        self._desk.finish(Stopped(reason=reason))

    def _begin(self, call_id: int, call: Callable[[], ToAgent]) -> None:
        if self._errand is not None:
            self._desk.send(HubSilence(call_id=call_id, reason="busy", sentence="one at a time"))
            return
        self._errand = Errand(
            self._desk.loop,
            lambda _: _answered(call_id, call),
            self._on_answer,
            lambda: self._on_late(call_id),
            self._deadline_s,
        )

    def _on_answer(self, answer: ToAgent | Exception) -> None:
        self._errand = None
        if isinstance(answer, Exception):
            raise answer
        self._desk.send(answer)
        self._desk.progress()
        if not self._is_settled:
            self._is_settled = True
            hardening.settle_memory()  # what imports and handshake left over goes back

    def _on_late(self, call_id: int) -> None:
        """The thread may hang for ever; so may the connection. Another process is cheaper."""
        sentence = f"no whole answer within {self._deadline_s:g} s"
        self._desk.send(HubSilence(call_id=call_id, reason="timeout", sentence=sentence))
        self._desk.finish(Stopped(reason="timeout"))

    def _call(self, call: HubCall, body: bytes) -> ToAgent:
        headers = {**self._headers, **call.headers}
        answer = self._hub.post(call.path, body, headers, call.query)
        return HubAnswer(
            call_id=call.call_id,
            status=answer.status,
            body=answer.body,
            retry_after_s=answer.retry_after_s,
        )

    def _renew(self, call_id: int) -> ToAgent:
        key = certificates.new_key()
        request = RenewRequest(csr=certificates.request(key, "agent"))
        answer = self._hub.post(paths.RENEW, bodies.encode(request), self._headers)
        if answer.status != 200:
            return HubSilence(call_id=call_id, reason=_code(answer), sentence="not renewed")
        given = bodies.decode(RenewResponse, answer.body, len(answer.body))
        good = certificates.life(given.certificate, key)
        return Renewed(
            call_id=call_id,
            certificate=given.certificate,
            ca_chain=given.ca_chain,
            key=key,
            not_before=good.not_before,
            not_after=good.not_after,
        )


def make(desk: Desk) -> Worker:
    """Return the worker that `workers.entry` runs."""
    return HeartbeatWorker(desk, confine_heartbeat)


def confine_heartbeat(desk: Desk) -> None:
    """Keep the internet, and nothing else."""
    if sys.platform != "win32":
        from workers.confine import Confinement, confine

        report = confine(
            Confinement(network=True, secret_dirs=tuple(desk.secret_dirs), fallback_user="nobody")
        )
        for sentence in report.missing:
            desk.log("warning", "worker less confined", kind="heartbeat", missing=sentence)


def _answered(call_id: int, call: Callable[[], ToAgent]) -> ToAgent:
    """Turn what can go wrong on the way into a message; anything else is a fault of ours."""
    try:
        return call()
    except HttpsError as e:
        return HubSilence(call_id=call_id, reason=e.reason, sentence=str(e))
    except WireError as e:
        return HubSilence(call_id=call_id, reason="bad_answer", sentence=e.detail)
    except CertificateError as e:
        return HubSilence(call_id=call_id, reason="bad_certificate", sentence=str(e))


def _code(answer: Answer) -> str:
    return problem.read(answer.status, answer.body).code
