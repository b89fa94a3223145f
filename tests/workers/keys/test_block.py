from __future__ import annotations

import pytest

from tests.doubles.public_keys import ed25519
from workers.keys.block import Change, Mode, change
from workers.keys.parse import PublicKey, parse_keys

BEGIN = b"# BEGIN jackline github:octocat (managed)\n"
END = b"# END jackline github:octocat (managed)\n"
OWN = b"ssh-rsa AAAAB3Nza own@laptop\n"


def key(seed: object) -> PublicKey:
    (found,) = parse_keys(ed25519(seed).encode()).keys
    return found


def line(seed: object) -> bytes:
    return f"{ed25519(seed)} jackline:github:octocat\n".encode()


def sync(content: bytes, *seeds: object, mode: Mode = "add-only") -> Change:
    return change(content, "octocat", [key(seed) for seed in seeds], mode)


@pytest.mark.parametrize("mode", ["add-only", "mirror"])
def test_change_empty_file_gets_a_block(mode: Mode) -> None:
    assert sync(b"", 1, 2, mode=mode) == (BEGIN + line(1) + line(2) + END, 2, 0)


@pytest.mark.parametrize("mode", ["add-only", "mirror"])
def test_change_same_keys_again_changes_nothing(mode: Mode) -> None:
    content = OWN + BEGIN + line(1) + line(2) + END
    assert sync(content, 1, 2, mode=mode) == (content, 0, 0)
    assert sync(content, 2, 1, mode=mode) == (content, 0, 0)


def test_change_add_only_keeps_a_key_that_the_user_removed() -> None:
    content = BEGIN + line(1) + line(2) + END
    assert sync(content, 2, 3) == (BEGIN + line(1) + line(2) + line(3) + END, 1, 0)


def test_change_mirror_removes_a_key_that_the_user_removed() -> None:
    content = OWN + BEGIN + line(1) + line(2) + END
    assert sync(content, 2, 3, mode="mirror") == (OWN + BEGIN + line(2) + line(3) + END, 1, 1)


def test_change_mirror_removes_what_somebody_wrote_into_the_block() -> None:
    content = BEGIN + line(1) + b'command="x" ' + line(9) + END
    assert sync(content, 1, mode="mirror") == (BEGIN + line(1) + END, 0, 1)


@pytest.mark.parametrize("mode", ["add-only", "mirror"])
@pytest.mark.parametrize("options", [b"", b'from="10.0.0.1",restrict ', b"cert-authority "])
def test_change_key_outside_the_block_is_not_written_again(options: bytes, mode: Mode) -> None:
    """A second line without the options would undo the restriction."""
    content = options + ed25519(1).encode() + b" somebody\n"
    assert sync(content, 1, mode=mode) == (content, 0, 0)
    assert sync(content, 1, 2, mode=mode).content == content + BEGIN + line(2) + END


def test_change_bytes_outside_the_block_stay_as_they_are() -> None:
    before = b"\xff\xfe odd\r\n\x00\rsame line\x0b\x0c\x1c\n"
    after = b"last line without an end"
    changed = sync(before + BEGIN + line(1) + END + after, 2, mode="mirror")
    assert changed.content == before + BEGIN + line(2) + END + after


def test_change_file_without_a_last_newline_gets_one_before_the_block() -> None:
    assert sync(OWN.rstrip(), 1).content == OWN + BEGIN + line(1) + END


def test_change_blocks_of_two_users_do_not_touch() -> None:
    other = change(b"", "hubot", [key(7)], "mirror").content
    content = sync(other, 1, mode="mirror").content
    assert content == other + BEGIN + line(1) + END
    assert change(content, "hubot", [key(8)], "mirror").content == (
        change(b"", "hubot", [key(8)], "mirror").content + BEGIN + line(1) + END
    )


def test_change_login_in_another_case_is_the_same_user() -> None:
    content = sync(b"", 1).content
    assert change(content, "OctoCat", [key(1)], "mirror") == (content, 0, 0)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(BEGIN + OWN, id="no-end"),
        pytest.param(OWN + END, id="no-begin"),
        pytest.param(END + OWN + BEGIN, id="reversed"),
        pytest.param(BEGIN + OWN + BEGIN.replace(b"octocat", b"hubot"), id="interrupted"),
    ],
)
def test_change_marker_without_its_partner_guards_nothing(broken: bytes) -> None:
    """The lines after a lonely marker may be somebody's only keys."""
    assert sync(broken, 1, mode="mirror").content == broken + BEGIN + line(1) + END


def test_change_two_blocks_become_one() -> None:
    content = BEGIN + line(1) + END + OWN + BEGIN + line(2) + END
    assert sync(content, 1, 3, mode="mirror").content == BEGIN + line(1) + line(3) + END + OWN
