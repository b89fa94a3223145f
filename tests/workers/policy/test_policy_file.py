"""policy.yaml: every fault with its key, value, reason and line (cases J "Config")."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import PolicyError
from workers.policy_file import applied, parse, read
from workers.policy_sections import AdminSection, Sections


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse(text, "policy.yaml")
    return [str(fault) for fault in caught.value.faults]


def test_all_faults_are_told_together_with_their_lines():
    found = faults(
        """
profile: super
admin:
  enableShel: true
  allowedCommands: ls
  maxConcurrent: many
  allowedEnv:
    - OK
    - 5
keys: {mode: some}
"""
    )
    assert found == [
        "profile = 'super': must be one of reporter, operator, full (policy.yaml:2)",
        "admin.enableShel: is no key of the policy; did you mean enableShell? (policy.yaml:4)",
        "admin.allowedCommands = 'ls': must be a list, not text (policy.yaml:5)",
        "admin.maxConcurrent = 'many': must be a whole number, not text (policy.yaml:6)",
        "admin.allowedEnv[1] = ['OK', 5]: must be text, not a whole number (policy.yaml:9)",
        "keys.mode = 'some': must be one of add-only, mirror (policy.yaml:10)",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("profile: full\nprofile: reporter", "written twice"),
        ("admin:\n  path: /a\n  path: /b", "written twice"),
        ("admin:\n  allowedCommands:\n", "no value"),
        ("admin:", "no value"),
        ("admin: []", "mapping"),
        ("- profile", "mapping"),
        ("full", "mapping"),
        ("a: &x {}\nadmin: *x", "alias"),
        ("admin: {<<: {path: /x}}", "no key"),
        ("[", "not YAML"),
        ("admin: !!python/object:os.system {}", "tag"),
        ("\x07", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("admin: {defaultTimeoutSec: .nan}", "number"),
        ("admin: {defaultTimeoutSec: .inf}", "number"),
        ("admin: {maxConcurrent: true}", "whole number"),
        ("admin: {enableShell: 1}", "true or false"),
        ("admin: {allowedCommands: [yes]}", "text"),
        ("1: 2", "no key"),
        ("[a]: 2", "no key"),
        ("[" * 5_000 + "]" * 5_000, "nested"),
        ("tools: {x: perhaps}", "tools"),
        ("tools: {x: [{rule: allow, arg: {}}]}", "tools"),
    ],
)
def test_every_fault_has_its_reason(text, reason):
    assert reason in " ".join(faults(text))


def test_secret_is_not_shown():
    assert "geheim" not in " ".join(faults("admin: {commandToken: [geheim]}"))


def test_empty_file_says_nothing():
    assert parse("# only a comment\n", "policy.yaml").said == {}


def test_lines_of_keys_and_items():
    document = parse("admin:\n  allowedCommands:\n    - ls\n    - id\n", "policy.yaml")
    assert document.where("admin.allowedCommands[1]") == "policy.yaml:4"
    assert document.where("admin.allowedCommands[9]") == "policy.yaml:2"
    assert document.where("backup.delete") == "policy.yaml"
    assert document.says("admin.allowedCommands")
    assert not document.says("admin.path")


def test_applied_replaces_only_what_is_said():
    base = Sections(admin=AdminSection(path="/bin", max_concurrent=3))
    document = parse(
        "admin: {maxConcurrent: 0, allowedCommands: []}\nbackup: {ssh: {configFile: /c}}", "x"
    )
    merged = applied(base, document.said)
    assert merged.admin.path == "/bin"
    assert merged.admin.max_concurrent == 1
    assert merged.admin.allowed_commands == []
    assert merged.backup.ssh.config_file == "/c"


@given(st.text(max_size=80))
def test_any_text_is_a_policy_or_a_policy_error(text):
    try:
        document = parse(text, "policy.yaml")
    except PolicyError:
        return
    assert isinstance(applied(Sections(), document.said), Sections)


def test_missing_file_is_no_policy(tmp_path: Path):
    assert read(tmp_path / "policy.yaml") is None


@pytest.mark.parametrize("kind", ["folder", "fifo", "writable", "latin", "huge", "dangling loop"])
def test_file_that_cannot_be_trusted_is_an_error_never_no_policy(tmp_path: Path, kind: str):
    path = tmp_path / "policy.yaml"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "writable":
            path.write_text("profile: full")
            path.chmod(0o666)
        case "latin":
            path.write_bytes(b"profile: \xe9")
        case "huge":
            path.write_bytes(b"#" * (1 << 21))
        case _:
            path.symlink_to(path)
    with pytest.raises(PolicyError) as caught:
        read(path)
    assert len(caught.value.faults) == 1
