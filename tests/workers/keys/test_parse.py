from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.public_keys import blob, ecdsa, ed25519, encode, rsa
from workers.keys.errors import SyncError
from workers.keys.parse import MAX_KEYS, parse_keys, parse_line

TOKEN = b"sk-ssh-ed25519@openssh.com"
TOKEN_ECDSA = b"sk-ecdsa-sha2-nistp256@openssh.com"
DSA = "ssh-dss " + encode(b"ssh-dss", b"\x01" * 129, b"\x01" * 21, b"\x01" * 128, b"\x01" * 128)
CERTIFICATE = b"ssh-ed25519-cert-v01@openssh.com"


@pytest.mark.parametrize(
    "line",
    [
        ed25519(1),
        rsa(2048),
        rsa(4096),
        ecdsa("nistp256", 65),
        ecdsa("nistp384", 97),
        ecdsa("nistp521", 133),
        f"{TOKEN.decode()} {encode(TOKEN, bytes(32), b'ssh:')}",
        f"{TOKEN_ECDSA.decode()} " + encode(TOKEN_ECDSA, b"nistp256", b"\x04" + bytes(64), b"ssh:"),
    ],
    ids=lambda line: line.split()[0],
)
def test_parse_line_known_type_is_kept(line: str) -> None:
    key = parse_line(line.encode())
    assert key is not None
    assert f"{key.algorithm} {key.base64}" == line


GOOD = ed25519("good")
BASE64 = GOOD.split()[1]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f'command="id" {GOOD}', id="option"),
        pytest.param(f'environment="LD_PRELOAD=/x.so" {GOOD}', id="environment"),
        pytest.param(f"restrict,pty {GOOD}", id="options"),
        pytest.param(f"cert-authority {GOOD}", id="cert-authority"),
        pytest.param(f"@revoked * {GOOD}", id="revoked"),
        pytest.param(f"ssh-ed25519-cert-v01@openssh.com {encode(CERTIFICATE)}", id="certificate"),
        pytest.param(f"ssh-rsa {BASE64}", id="type-differs-from-blob"),
        pytest.param(f"SSH-ED25519 {BASE64}", id="upper-case"),
        pytest.param(f"ssh-ed25519 {BASE64[:-8]}", id="truncated-blob"),
        pytest.param(f"ssh-ed25519 {BASE64[:-1]}", id="truncated-base64"),
        pytest.param(f"ssh-ed25519 {BASE64[:-2]}%=", id="bad-base64"),
        pytest.param("ssh-ed25519", id="no-blob"),
        pytest.param(BASE64, id="no-type"),
        pytest.param(f"ssh-ed25519\x00 {BASE64}", id="nul"),
        pytest.param(f"ssh-ed25519 {encode(b'ssh-ed25519', bytes(32), b'x')}", id="rest"),
        pytest.param(f"ssh-ed25519 {encode(b'ssh-ed25519', bytes(31))}", id="short-key"),
        pytest.param(rsa(1024), id="rsa-1024"),
        pytest.param(rsa(2040), id="rsa-2040"),
        pytest.param(rsa(16_392), id="rsa-too-long"),
        pytest.param(rsa(2048, b"\x01"), id="rsa-exponent-1"),
        pytest.param(rsa(2048, b"\x04"), id="rsa-even-exponent"),
        pytest.param(rsa(2048, b"\x81"), id="rsa-negative"),
        pytest.param(rsa(2048, b"\x00\x03"), id="rsa-padded-number"),
        pytest.param(DSA, id="dsa"),
        pytest.param(ecdsa("nistp256", 97), id="wrong-point"),
        pytest.param(ecdsa("nistp192", 49), id="unknown-curve"),
        pytest.param(f"ssh-xmss@openssh.com {encode(b'ssh-xmss@openssh.com')}", id="unknown"),
        pytest.param("ssh-ed25519 " + "A" * 1_000_000, id="1-mb"),
        pytest.param("", id="blank"),
    ],
)
def test_parse_line_anything_odd_is_dropped(line: str) -> None:
    assert parse_line(line.encode()) is None


def test_parse_line_second_spelling_of_a_blob_is_dropped() -> None:
    """Two texts for one blob would pass as two keys."""
    two_over = base64.b64encode(blob(b"ssh-ed25519", bytes(32)))[:-1]
    for last in b"BCDEFGHIJKLMNOP":
        assert parse_line(b"ssh-ed25519 " + two_over[:-1] + bytes([last]) + b"=") is None


def test_parse_keys_counts_what_it_drops() -> None:
    text = f'{GOOD} me@laptop\r\n\n# a comment\ncommand="id" {GOOD}\n{ed25519(2)}\n<html>\n'
    parsed = parse_keys(text.encode())
    assert [f"{key.algorithm} {key.base64}" for key in parsed.keys] == [GOOD, ed25519(2)]
    assert parsed.rejected == 2


def test_parse_keys_same_key_twice_is_one() -> None:
    assert len(parse_keys(f"{GOOD} a\n{GOOD} b\n".encode()).keys) == 1


def test_parse_keys_a_hundred_are_taken_and_one_more_refuses_all() -> None:
    lines = [ed25519(number) for number in range(MAX_KEYS + 1)]
    assert len(parse_keys("\n".join(lines[:-1]).encode()).keys) == MAX_KEYS
    with pytest.raises(SyncError, match="too_many: 101 keys"):
        parse_keys("\n".join(lines).encode())


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda rest: GOOD.encode() + rest))
def test_parse_keys_any_bytes_give_lines_that_are_clean(text: bytes) -> None:
    for key in parse_keys(text).keys:
        assert parse_line(f"{key.algorithm} {key.base64}".encode()) == key
        assert f"{key.algorithm}{key.base64}".isascii()
        assert not set(f"{key.algorithm}{key.base64}") & set(' \t\r\n\0"#,')
