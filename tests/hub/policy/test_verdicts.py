"""A tenant's policy narrows, by profile, by list, by tag; it never widens."""

from __future__ import annotations

import pytest

from hub.policy.document import PolicyDocument
from hub.policy.verdicts import Family, refusal


def document(**keys: object) -> PolicyDocument:
    return PolicyDocument.model_validate(keys)


@pytest.mark.parametrize("family", ["admin", "shell", "keys", "backup", "files", "tools"])
def test_empty_policy_narrows_nothing(family: Family) -> None:
    assert refusal(document(), ["prod"], family, "rm -rf / ; $(id)") is None


@pytest.mark.parametrize(
    ("profile", "family", "is_allowed"),
    [
        ("reporter", "admin", False),
        ("reporter", "backup", False),
        ("operator", "admin", True),
        ("operator", "shell", False),
        ("full", "shell", True),
    ],
)
def test_profile_is_the_most_that_is_allowed(
    profile: str, family: Family, is_allowed: bool
) -> None:
    assert (refusal(document(profile=profile), [], family, "ls") is None) == is_allowed


@pytest.mark.parametrize(
    "command",
    ["uptime", "uptime -p", "systemctl restart nginx", "systemctl restart nginx --no-block",
     "grep 'a|b' f", 'uptime "a;b"'],
)  # fmt: skip
def test_listed_command_is_allowed(command: str) -> None:
    allowed = ["uptime", "systemctl restart nginx", "grep"]
    assert refusal(document(admin={"allowedCommands": allowed}), [], "admin", command) is None


@pytest.mark.parametrize(
    "command",
    ["ls", "Uptime", "uptime; id", "uptime$(id)", "uptime\nid", "uptime `id`", 'uptime "$(id)"',
     "uptime | sh", "uptime > /etc/passwd", "systemctl restart", "uptime 'open", "/usr/bin/uptime",
     "uptime \\\nid", "uptіme", "up\0time"],
)  # fmt: skip
def test_command_that_is_not_listed_or_asks_for_a_shell_is_refused(command: str) -> None:
    allowed = ["uptime", "systemctl restart nginx"]
    why = refusal(document(admin={"allowedCommands": allowed}), [], "admin", command)
    assert why is not None and "admin.allowedCommands" in why


def test_empty_list_denies_all_and_a_star_none() -> None:
    assert refusal(document(admin={"allowedCommands": []}), [], "admin", "true") is not None
    assert refusal(document(admin={"allowedCommands": ["*"]}), [], "admin", "a; b") is None


def test_tag_narrows_its_machines_alone_and_the_strictest_wins() -> None:
    found = document(
        admin={"allowedCommands": ["uptime", "reboot"]},
        tags={"prod": {"admin": {"allowedCommands": ["uptime"], "enableShell": False}}},
    )
    assert refusal(found, [], "admin", "reboot") is None
    assert refusal(found, ["prod"], "admin", "uptime") is None
    assert refusal(found, ["prod"], "admin", "reboot") == (
        "tags.prod: admin.allowedCommands does not list the command"
    )
    assert refusal(found, ["prod"], "shell") == "tags.prod: admin.enableShell is false"
    assert refusal(found, ["prod"], "admin", "ls") is not None
