"""The signed connect query, against the vectors that every implementation shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import FUZZ
from wire.errors import AuthError
from wire.signature import check, is_client_id, parse_query, sign, signed_query, verify

VECTORS = json.loads((Path(__file__).parent / "vectors" / "signature.json").read_text())
FIRST = VECTORS["signatures"][0]


def verdict(query: str, auth_token: str) -> tuple[str | None, str | None]:
    try:
        check(parse_query(query), auth_token, FIRST["ts"])
    except AuthError as error:
        return error.reason, error.hint
    return None, None


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=lambda v: v["clientId"][:16])
def test_signature_is_the_vector_s(vector: dict[str, Any]) -> None:
    identity = (vector["clientId"], vector["authToken"], vector["ts"])
    assert sign(*identity) == vector["sig"]
    assert verify(*identity, vector["sig"])


@pytest.mark.parametrize("vector", VECTORS["queries"], ids=lambda v: v["note"])
def test_query_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    assert verdict(vector["query"], FIRST["authToken"]) == (vector["reason"], vector["hint"])


@pytest.mark.parametrize("vector", VECTORS["window"], ids=lambda v: str(v["skewMs"]))
def test_window_is_inclusive(vector: dict[str, Any]) -> None:
    ts = FIRST["ts"] + vector["skewMs"]
    query = urlencode(signed_query("agent-01", "k", ts))
    assert verdict(query, "k") == (vector["reason"], vector["hint"])


def test_unknown_client_fails_like_a_wrong_signature() -> None:
    query = parse_query(urlencode(signed_query("agent-01", "0" * 64, FIRST["ts"])))
    with pytest.raises(AuthError) as caught:
        check(query, None, FIRST["ts"])
    assert caught.value.reason == "auth_failed"


def test_wrong_signature_is_told_before_the_window() -> None:
    query = parse_query(urlencode(signed_query("agent-01", "k", 1_000_000_000_000)))
    with pytest.raises(AuthError) as caught:
        check(query, "another", FIRST["ts"])
    assert caught.value.reason == "auth_failed"


@pytest.mark.parametrize("sig", ["", "é" * 64, "\ud800", "f" * 100_000, FIRST["sig"].upper()])
def test_verify_never_fails(sig: str) -> None:
    assert not verify(FIRST["clientId"], FIRST["authToken"], FIRST["ts"], sig)


@pytest.mark.parametrize("text", ["..", ".", "a/b", "a\n", "", "ü", "x" * 129, "１"])
def test_client_id_is_a_name_and_no_path(text: str) -> None:
    assert not is_client_id(text)


@FUZZ
@given(text=st.text(max_size=80), position=st.integers(0, 200))
def test_any_query_is_read_or_refused(text: str, position: int) -> None:
    good = urlencode(signed_query("agent-01", "k", FIRST["ts"]))
    for query in (text, good[:position] + text + good[position:], f"{good}&{text}"):
        if verdict(query, "k")[0] != "auth_malformed":
            parsed = parse_query(query)
            assert is_client_id(parsed.client_id) and len(parsed.sig) == 64
