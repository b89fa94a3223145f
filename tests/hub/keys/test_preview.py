"""What a sync would change, and what nobody can know."""

from __future__ import annotations

import pytest

from hub.errors import BadRequestError
from hub.keys.preview import preview
from hub.keys.source import Key, parse, read_line, url_of
from tests.doubles.public_keys import ed25519, rsa


def key(seed: int) -> Key:
    found = read_line(ed25519(seed))
    assert found is not None
    return found


def fates(found: dict) -> list[str]:
    return [one["fate"] for one in found["keys"]]


def test_key_that_stands_anywhere_is_there_and_the_others_are_added() -> None:
    file = f'command="x" {ed25519(1)} me\n# {ed25519(2)}\n'
    found = preview("octocat", [key(1), key(2)], file, None)
    assert fates(found) == ["present", "add"]


def test_unknown_file_is_said_to_be_unknown() -> None:
    found = preview("octocat", [key(1)], None, "not allowed")
    assert fates(found) == ["unknown"]
    assert (found["is_machine_known"], found["reason"], found["stale"]) == (
        False,
        "not allowed",
        [],
    )


def test_key_of_our_block_that_is_gone_at_the_source_is_stale() -> None:
    file = (
        f"{ed25519(9)} mine\n# BEGIN jackline github:octocat (managed)\n{ed25519(1)} c\n"
        f"{ed25519(2)} c\n# END jackline github:octocat (managed)\n{ed25519(8)} mine\n"
    )
    found = preview("OctoCat", [key(1)], file, None)
    assert [one["fingerprint"] for one in found["stale"]] == [key(2).fingerprint]


@pytest.mark.parametrize(
    "line",
    [
        'command="id" ' + ed25519(1),
        "ssh-rsa " + ed25519(1).split()[1],
        rsa(1024),
        ed25519(1)[:-8],
        "ssh-dss AAAAB3NzaC1kc3M=",
        "@revoked " + ed25519(1),
        "ssh-ed25519 " + "A" * 9000,
        "\0",
    ],
)
def test_line_that_is_no_plain_good_key_is_rejected(line: str) -> None:
    assert read_line(line) is None


def test_good_keys_are_read_once_each() -> None:
    text = f"{ed25519(1)}\n\n# no\n{ed25519(1)} again\n{rsa(2048)}\nhello\n"
    keys, rejected = parse(text)
    assert ([one.algorithm for one in keys], rejected) == (["ssh-ed25519", "ssh-rsa"], 1)


def test_too_many_are_none() -> None:
    with pytest.raises(BadRequestError) as caught:
        parse("\n".join(ed25519(n) for n in range(101)))
    assert caught.value.code == "too_many"


@pytest.mark.parametrize("user", ["", "-x", "../root", "a:b", "a\n", "a" * 40, "ü"])
def test_what_is_no_login_is_refused(user: str) -> None:
    with pytest.raises(BadRequestError):
        url_of("https://github.com", user)


@pytest.mark.parametrize("url", ["http://github.com", "ftp://x", "https://", "http://10.0.0.1"])
def test_source_must_be_https_or_loopback(url: str) -> None:
    with pytest.raises(BadRequestError):
        url_of(url, "octocat")
    assert url_of("http://127.0.0.1:1/", "octocat") == "http://127.0.0.1:1/octocat.keys"
