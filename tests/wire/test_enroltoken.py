"""Enrolment tokens: what was cut or mistyped is told before anybody is asked."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import enroltoken
from wire.errors import WireError

RANDOM = bytes(range(16))
TOKEN = enroltoken.make(RANDOM)
URL = "https://hub.example:8443/jackline"
PIN = hashlib.sha256(b"ca").hexdigest()
CARRYING = enroltoken.carrying(TOKEN, URL, PIN)


@given(random=st.binary(min_size=16, max_size=16))
def test_token_is_read_as_it_was_made(random: bytes) -> None:
    token = enroltoken.make(random)
    assert enroltoken.read(f" {token}\r\n") == (token, None, None)


@given(
    random=st.binary(min_size=16, max_size=16), pin=st.none() | st.binary(min_size=32, max_size=32)
)
def test_carrying_form_brings_token_url_and_fingerprint(random: bytes, pin: bytes | None) -> None:
    token = enroltoken.make(random)
    text = enroltoken.carrying(token, URL, pin.hex() if pin else None)
    assert enroltoken.read(text) == (token, URL, pin.hex() if pin else None)


@pytest.mark.parametrize("text", [TOKEN, CARRYING])
def test_every_cut_and_every_changed_letter_is_told(text: str) -> None:
    for at in range(len(text)):
        for wrong in (text[:at], text[:at] + text[at + 1 :], text[:at] + "2" + text[at + 1 :]):
            if wrong != text:
                with pytest.raises(WireError):
                    enroltoken.read(wrong)


@pytest.mark.parametrize("text", ["", "jle__", "jle_a_aaaaaaa", TOKEN.upper(), TOKEN * 2, "ü" * 40])
def test_other_text_is_no_token(text: str) -> None:
    with pytest.raises(WireError):
        enroltoken.read(text)


def test_error_does_not_repeat_the_token() -> None:
    with pytest.raises(WireError) as caught:
        enroltoken.read(TOKEN[:-1])
    assert TOKEN[4:20] not in str(caught.value)


@pytest.mark.parametrize("form", [TOKEN, CARRYING])
def test_double_click_takes_the_whole(form: str) -> None:
    assert form.replace("_", "").isalnum() and form.islower()


def test_hub_keeps_the_hash_of_the_plain_form() -> None:
    assert enroltoken.digest(TOKEN + "\n") == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert enroltoken.digest(enroltoken.read(CARRYING).token) == enroltoken.digest(TOKEN)


def test_what_cannot_be_carried_is_refused() -> None:
    for url, pin in (("", None), ("https://" + "x" * 500, None), (URL, "00")):
        with pytest.raises(ValueError):
            enroltoken.carrying(TOKEN, url, pin)
    with pytest.raises(ValueError):
        enroltoken.make(b"short")
