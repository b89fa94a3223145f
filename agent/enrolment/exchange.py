"""The calls of an enrolment: pin the hub, burn the token, have a lost reply again; RFC 8628.

Rules: no secret goes to a hub that was not verified. The one unverified call asks for the hub's CA,
and believes it only by the fingerprint that the token carries. A call that may have arrived is
repeated with the same key, and what a hub then wants signed is signed.

Source: contract part 2; RFC 8628, section 3.5; fault cases A.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from agent.errors import EnrolmentError
from agent.exits import FAILED, REFUSED, UNAVAILABLE, USAGE
from wire import bodies, paths, problem
from wire.bodies import AnyBody, Body
from wire.enrolment import (
    CaResponse,
    DeviceCodeRequest,
    DeviceCodeResponse,
    DeviceTokenRequest,
    DeviceTokenResponse,
    EnrollRequest,
    EnrollResponse,
    UnenrollRequest,
)
from wire.errors import WireError
from wire.problem import Code, Problem
from workers import certificates
from workers.errors import HttpsError
from workers.https import Access, Answer, Https, bearer

TRIES = 6
WAIT_MAX_S = 20.0
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# A hub that says so has stored nothing, or what it stored can be had again.
_COME_BACK = frozenset({429, 500, 502, 503, 504, 507})

Sleep = Callable[[float], object]


def pinned(access: Access, ca_sha256: str) -> Access:
    """Find the hub's CA by its fingerprint; every later call believes that one alone.

    Raises:
        EnrolmentError: another hub answers there, or none.
    """
    answer = _asked(replace(access, skip_verify=True), lambda hub: hub.get(paths.CA))
    if answer.status != 200:
        raise EnrolmentError(FAILED, f"the hub does not tell its CA ({answer.status})")
    found = certificates.has_fingerprint(_read(CaResponse, answer).ca_chain, ca_sha256)
    if found is None:
        raise EnrolmentError(
            REFUSED, "the hub is not the one that the token names: its CA has another fingerprint"
        )
    return replace(access, ca_data=found)


def enrol(
    access: Access, request: EnrollRequest, key: str, sleep: Sleep = time.sleep
) -> EnrollResponse:
    """Burn a token or code and return the identity.

    Args:
        request: without nonce and proof.
        key: the one that its CSR shows.

    Raises:
        EnrolmentError: refused, or not to be reached for long; the same request may be tried again.
    """
    asked, failures = request, 0
    while True:
        wait_s = _wait_s(failures)
        try:
            answer = _posted(access, paths.ENROLL, asked)
        except EnrolmentError as e:
            if failures == TRIES - 1 or e.code != UNAVAILABLE:
                raise
        else:
            if answer.status == 200:
                return _read(EnrollResponse, answer)
            refusal = problem.read(answer.status, answer.body)
            if refusal.code == Code.TOKEN_USED and refusal.nonce is not None and asked is request:
                proof = certificates.proof(key, refusal.nonce)
                asked = msgspec.structs.replace(request, nonce=refusal.nonce, proof=proof)
                continue
            if answer.status not in _COME_BACK or failures == TRIES - 1:
                raise _refused(refusal)
            wait_s = _wait_s(failures, answer.retry_after_s)
        asked = request  # a proof that may have arrived is good once: have another nonce
        failures += 1
        sleep(wait_s)


def device_code(access: Access, request: DeviceCodeRequest) -> DeviceCodeResponse:
    """Ask for a code that a person approves.

    Raises:
        EnrolmentError: why there is none.
    """
    answer = _posted(access, paths.DEVICE_CODE, request)
    if answer.status != 200:
        raise _refused(problem.read(answer.status, answer.body))
    return _read(DeviceCodeResponse, answer)


def approval(access: Access, code: DeviceCodeResponse, sleep: Sleep = time.sleep) -> None:
    """Wait until somebody has approved the code.

    Raises:
        EnrolmentError: denied, expired, or the hub went away for good.
    """
    request = DeviceTokenRequest(grant_type=GRANT, device_code=code.device_code, client_id="agent")
    interval_s, waited_s = float(code.interval), 0.0
    while waited_s <= code.expires_in + interval_s:
        sleep(interval_s)
        waited_s += interval_s
        try:
            answer = _posted(access, paths.DEVICE_TOKEN, request)
        except EnrolmentError as e:
            if e.code != UNAVAILABLE:
                raise
            interval_s = min(interval_s * 2, 60.0)  # RFC 8628: back off when the hub is gone
            continue
        if answer.status == 200:
            _read(DeviceTokenResponse, answer)
            return
        refusal = problem.read(answer.status, answer.body)
        if refusal.code == Code.SLOW_DOWN:
            interval_s += 5.0
        elif refusal.code != Code.AUTHORIZATION_PENDING and answer.status not in _COME_BACK:
            raise _refused(refusal)
    raise EnrolmentError(REFUSED, "nobody approved the code before it expired")


def unenrol(access: Access, agent_id: str, token: str | None) -> None:
    """Give an identity back; one that the hub knows no more is given back already.

    Args:
        token: the bearer token; None where the client certificate is shown.

    Raises:
        EnrolmentError: the hub cannot be reached, or wants to keep it.
    """
    headers = bearer(token) if token is not None else {}
    body = bodies.encode(UnenrollRequest(agent_id=agent_id))
    answer = _asked(access, lambda hub: hub.post(paths.UNENROLL, body, headers))
    if answer.status in (200, 204):
        return
    refusal = problem.read(answer.status, answer.body)
    if refusal.code not in (Code.AGENT_REVOKED, Code.UNAUTHENTICATED, Code.CERT_REVOKED):
        raise _refused(refusal)


def _asked(access: Access, call: Callable[[Https], Answer]) -> Answer:
    try:
        hub = Https(access)
        try:
            return call(hub)
        finally:
            hub.close()
    except HttpsError as e:
        code = {"tls": REFUSED, "redirect": REFUSED, "bad_url": USAGE}.get(e.reason, UNAVAILABLE)
        raise EnrolmentError(code, str(e)) from e


def _posted(access: Access, path: str, body: Body) -> Answer:
    return _asked(access, lambda hub: hub.post(path, bodies.encode(body)))


def _read(cls: type[AnyBody], answer: Answer) -> AnyBody:
    try:
        return bodies.decode(cls, answer.body, limit=len(answer.body))
    except WireError as e:
        raise EnrolmentError(FAILED, f"the hub's answer makes no sense: {e.detail}") from e


def _wait_s(attempt: int, asked_s: float | None = None) -> float:
    """Wait as long as was asked, else with full jitter, longer each time."""
    if asked_s is not None:
        return min(asked_s, 60.0)
    return random.uniform(0.0, min(WAIT_MAX_S, 2.0**attempt))


_SENTENCES = {
    Code.TOKEN_UNKNOWN: "the hub does not know this token; was it made by another hub?",
    Code.TOKEN_EXPIRED: "the token has expired; have another made",
    Code.TOKEN_USED: "the token has been used already; have another made",
    Code.NOT_FOUND: "the token is not one of that tenant",
    Code.BAD_PROOF: "the hub did not believe that this machine used the token before",
    Code.RATE_LIMITED: "the hub has seen too many wrong tokens from here; try again later",
    Code.ACCESS_DENIED: "the enrolment was denied",
    Code.EXPIRED_TOKEN: "nobody approved the code before it expired",
}


def _refused(refusal: Problem) -> EnrolmentError:
    try:
        sentence = _SENTENCES[Code(refusal.code)]
    except (KeyError, ValueError):
        sentence = f"the hub refused it: {refusal.detail or refusal.title} ({refusal.code})"
    return EnrolmentError(REFUSED, sentence)
