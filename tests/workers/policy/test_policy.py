"""Profiles, the kill switch, the two sides and the other families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers import policy_roots
from workers.policy import (
    KILL_SWITCH,
    AdminSection,
    DirBrowseSection,
    Document,
    Policy,
    PolicyError,
    Sections,
    load,
    tenant_document,
)
from workers.policy_file import parse


def policy(text: str = "", tenant: str | None = None, **sections: Any) -> Policy:
    return Policy(
        Sections(**sections),
        parse(text, "policy.yaml"),
        tenant=None if tenant is None else parse(tenant, "tenant"),
    )


SHELLS = AdminSection(enable_shell=True, allowed_commands=["*"])


@pytest.mark.parametrize(
    ("profile", "families"),
    [
        ("reporter", {"telemetry", "collection", "updates"}),
        (
            "operator",
            {"telemetry", "collection", "updates", "admin", "keys", "files", "backup", "tools"},
        ),
        (
            "full",
            {
                *("telemetry", "collection", "updates", "admin", "keys", "files", "backup"),
                *("tools", "shell"),
            },
        ),
    ],
)
def test_profile_is_the_most_that_is_allowed(profile, families):
    everything = policy(f"profile: {profile}", admin=SHELLS)
    assert {f for f in policy_families() if everything.family(f).allowed} == families


def policy_families() -> set[Any]:
    return {
        *("telemetry", "collection", "updates", "admin", "keys", "files", "backup", "tools"),
        "shell",
    }


def test_reporter_without_commands_leaves_no_doubt():
    assert policy("profile: reporter\nadmin: {allowedCommands: []}").warnings() == []
    assert policy("profile: operator\nadmin: {allowedCommands: []}").warnings()


def test_reporter_refuses_everything_that_acts():
    reporter = policy("profile: reporter\ntools: {'*': allow}", admin=SHELLS)
    refusals = [
        reporter.shell(),
        reporter.command("ls"),
        reporter.keys(),
        reporter.tail(),
        reporter.listing("/tmp"),
        reporter.backup("/srv", "allowedSourceRoots"),
        reporter.tool("x", {}),
    ]
    for refusal in refusals:
        assert (refusal.allowed, refusal.reason, refusal.code) == (False, "policy_denied", 126)
        assert (refusal.rule, refusal.where) == ("profile", "policy.yaml:1")
    assert reporter.telemetry().allowed


def test_fielded_configuration_alone_has_profile_full():
    assert policy(admin=SHELLS).shell().allowed
    assert policy().shell().reason == "disabled"


def test_operator_has_no_shell_even_where_shells_are_on():
    assert policy("profile: operator", admin=SHELLS).shell().reason == "policy_denied"


def test_policy_file_is_stronger_than_the_configuration_and_weaker_than_the_environment():
    text = "admin: {allowedCommands: [/bin/ls], enableShell: false}"
    sections = Sections(admin=AdminSection(enable_shell=True, allowed_commands=["/bin/id"]))
    plain = Policy(sections, parse(text, "policy.yaml"))
    assert plain.command("/bin/id").allowed is False
    assert plain.shell().where == "policy.yaml:1"
    origins = {"admin.allowedCommands": "environment ADMIN_ALLOWED_COMMANDS"}
    forced = Policy(sections, parse(text, "policy.yaml"), origins=origins)
    assert forced.command("/bin/id").argv == ["/bin/id"]
    refusal = forced.command("/bin/ls")
    assert refusal.where == "environment ADMIN_ALLOWED_COMMANDS"


def test_key_that_the_policy_file_leaves_out_stays_as_configured():
    admin = AdminSection(max_concurrent=4, allowed_commands=["/bin/id"])
    both = policy("admin: {enableShell: true}", admin=admin)
    assert both.sections.admin.max_concurrent == 4
    assert both.sections.admin.enable_shell


@pytest.mark.parametrize(
    ("machine", "tenant", "decides"),
    [
        ("profile: full", "profile: operator", "tenant:1"),
        ("profile: operator", "profile: full", "policy.yaml:1"),
        ("profile: full", "admin: {enableShell: false}", "tenant:1"),
        ("admin: {enableShell: false}", "admin: {enableShell: true}", "policy.yaml:1"),
    ],
)
def test_a_deny_from_either_side_wins(machine, tenant, decides):
    verdict = policy(machine, tenant, admin=SHELLS).shell()
    assert not verdict.allowed
    assert verdict.where == decides


def test_tenant_that_agrees_changes_nothing():
    assert policy("", "profile: full", admin=SHELLS).shell().allowed


# -- the kill switch ----------------------------------------------------------------------------


def test_kill_switch_refuses_everything_but_telemetry(tmp_path: Path):
    both = Policy(
        Sections(admin=SHELLS), parse("tools: {'*': allow}", "policy.yaml"), state_dir=tmp_path
    )
    assert both.locked() is None
    assert both.shell().allowed
    (tmp_path / KILL_SWITCH).touch()
    refusals = [
        both.locked(),
        both.shell(),
        both.command("/bin/ls"),
        both.keys(),
        both.tail(),
        both.listing("/"),
        both.backup("/", "allowedDestRoots"),
        both.tool("x", {}),
    ]
    for refusal in refusals:
        assert (refusal.allowed, refusal.reason, refusal.code) == (False, "locked_by_host", 126)
    assert both.telemetry().allowed
    (tmp_path / KILL_SWITCH).unlink()
    assert both.shell().allowed


def test_kill_switch_that_is_a_broken_link_locks(tmp_path: Path):
    (tmp_path / KILL_SWITCH).symlink_to("nowhere")
    assert Policy(Sections(), state_dir=tmp_path).locked() is not None


def test_kill_switch_that_cannot_be_looked_at_locks(tmp_path: Path):
    (tmp_path / "file").touch()
    assert Policy(Sections(), state_dir=tmp_path / "file").locked() is not None


# -- places -------------------------------------------------------------------------------------


def test_listing_is_judged_by_its_worker_not_by_its_text():
    both = policy(dir_browse=DirBrowseSection(allowed_roots=["/srv"]))
    assert both.listing("/elsewhere").allowed
    assert both.listing_roots() == [["/srv"]]
    assert policy().listing_roots() == []


@pytest.mark.parametrize("path", ["", "tmp", "../x", "/tmp/\0", "/\ud800"])
def test_listing_of_what_is_no_path_is_refused(path):
    assert not policy().listing(path).allowed


@pytest.mark.parametrize(
    ("machine", "tenant", "roots"),
    [
        (["/srv"], ["/srv/a", "/etc"], [["/srv"], ["/srv/a", "/etc"]]),
        (["/srv/a", "/etc"], ["/srv"], [["/srv/a", "/etc"], ["/srv"]]),
        (["/srv"], [], [["/srv"]]),
        ([], ["/srv"], [["/srv"]]),
        (["/srv"], ["/srvx"], [["/srv"], ["/srvx"]]),
    ],
)
def test_roots_of_two_sides_are_both_for_the_worker_to_look_at(machine, tenant, roots):
    both = policy(
        f"dirBrowse: {{allowedRoots: {machine}}}", f"dirBrowse: {{allowedRoots: {tenant}}}"
    )
    assert both.listing_roots() == roots
    assert both.listing("/srv").allowed is (tenant != ["/srvx"])


def test_place_lies_in_the_roots_of_both_sides_with_their_links_resolved(tmp_path: Path):
    (tmp_path / "owner" / "a").mkdir(parents=True)
    (tmp_path / "owner" / "out").symlink_to("/etc")
    owner = [f"{tmp_path}/owner"]
    assert policy_roots.holds([owner, [f"{tmp_path}/owner/a"]], f"{tmp_path}/owner/a/b")
    assert not policy_roots.holds([owner, [f"{tmp_path}/owner/a"]], f"{tmp_path}/owner")
    assert not policy_roots.holds([owner, [f"{tmp_path}/owner/out"]], "/etc")
    assert policy_roots.holds([], "/anywhere")


def test_backup_exclusions_of_both_sides_add_up():
    both = policy("backup: {excludeGlobs: ['*.key', x]}", "backup: {excludeGlobs: [x, private]}")
    assert both.backup_excludes() == ["*.key", "x", "private"]
    assert policy("profile: operator").backup_excludes() == []


def test_backup_roots_are_told():
    both = policy("backup: {allowedDestRoots: [/backup]}")
    assert both.backup("/backup/x", "allowedDestRoots").allowed
    assert both.backup_roots("allowedDestRoots") == [["/backup"]]
    assert not both.backup("relative", "allowedDestRoots").allowed


# -- tools --------------------------------------------------------------------------------------

TOOLS = """
tools:
  "*": deny
  http: ask
  read:
    - {rule: allow, args: {path: {under: [/var/log]}}}
    - {rule: deny, args: {path: {under: [/var/log/private]}}}
  scale:
    - {rule: allow, args: {n: {maximum: 5}, mode: {oneOf: [fast, 1]}}}
    - {rule: ask, args: {n: {maximum: 9}}}
"""


@pytest.mark.parametrize(
    ("tool", "args", "answer"),
    [
        ("http", {}, "ask"),
        ("other", {}, "deny"),
        ("read", {"path": "/var/log/syslog"}, "allow"),
        ("read", {"path": "/var/log/../../etc/shadow"}, "deny"),
        ("read", {"path": "/var/log/private/x"}, "deny"),
        ("read", {"path": "/var/logs"}, "deny"),
        ("read", {"path": "var/log/x"}, "deny"),
        ("read", {"path": ["/var/log/x"]}, "deny"),
        ("read", {}, "deny"),
        ("scale", {"n": 5, "mode": "fast"}, "ask"),
        ("scale", {"n": 6, "mode": "fast"}, "ask"),
        ("scale", {"n": 10, "mode": "fast"}, "deny"),
        ("scale", {"n": True, "mode": "fast"}, "deny"),
        ("scale", {"n": "5", "mode": "fast"}, "deny"),
        ("scale", {"n": 5, "mode": True}, "ask"),
    ],
)
def test_strictest_rule_that_applies_answers(tool, args, answer):
    verdict = policy(TOOLS).tool(tool, args)
    assert ("deny" if not verdict.allowed else "ask" if verdict.asks else "allow") == answer


def test_tool_without_any_rule_is_denied():
    assert not policy().tool("http", {}).allowed


def test_tenant_can_ask_or_deny_but_not_allow():
    assert policy("tools: {x: allow}", "tools: {x: ask}").tool("x", {}).asks
    assert not policy("tools: {x: allow}", "tools: {x: deny}").tool("x", {}).allowed
    assert not policy("tools: {x: deny}", "tools: {x: allow}").tool("x", {}).allowed
    assert policy("tools: {x: allow}", "profile: full").tool("x", {}).allowed


# -- what is said -------------------------------------------------------------------------------


def test_rows_say_where_each_value_is_from_and_keep_the_secret():
    admin = AdminSection(command_token="geheim", require_token=True)
    rows = list(policy("profile: operator", "profile: reporter", admin=admin).rows())
    assert ("this machine", "profile", "operator", "policy.yaml:1") in rows
    assert ("the tenant", "profile", "reporter", "tenant:1") in rows
    assert [row for row in rows if row[0] == "the tenant"] == [rows[-1]]
    assert "geheim" not in repr(rows)


@pytest.mark.parametrize(
    "entry",
    """sh /bin/bash env python python3 python3.11 find xargs tar rsync sudo awk|sh -c|env -i
    |sudo -u root|find /var/log -name x|busybox|perl -e|sudo find /|git status|ssh host""".replace(
        "\n", "|"
    )
    .replace(" rsync", "|rsync")
    .split("|"),
)
def test_full_escape_is_warned_of(entry):
    for word in [entry.strip()] if " " in entry.strip() else entry.split():
        warnings = policy(admin=AdminSection(allowed_commands=[word])).warnings()
        assert [w for w in warnings if "admin.allowedCommands[0]" in w], word


@pytest.mark.parametrize(
    "entry",
    ["ls", "/bin/sh /opt/report.sh", "python3 /opt/x.py", "systemctl restart nginx", "uptime"],
)
def test_ordinary_entry_is_not_warned_of(entry):
    assert policy(admin=AdminSection(allowed_commands=[entry])).warnings() == []


def test_warnings_name_what_is_allowed_by_the_letter_only(tmp_path: Path):
    tmp_path.chmod(0o777)
    admin = AdminSection(
        allowed_commands=["*", "ls *"],
        allowed_env=["LD_PRELOAD"],
        allowed_cwds=["srv"],
        require_token=True,
        path=str(tmp_path),
    )
    text = "\n".join(policy(admin=admin).warnings())
    for part in ("every command", "wildcard", "LD_PRELOAD", "'srv'", "commandToken", str(tmp_path)):
        assert part in text


def test_empty_allow_list_is_warned_of_because_older_agents_took_it_as_all():
    assert "refused" in policy().warnings()[0]


def test_load_reads_the_file_beside_the_configuration(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    assert load(Sections(admin=SHELLS), path, state_dir=tmp_path).shell().allowed
    path.write_text("profile: reporter\n")
    assert not load(Sections(admin=SHELLS), path, state_dir=tmp_path).shell().allowed


def test_tenant_s_policy_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    """What the hub says later narrows from then on; what cannot be understood changes nothing."""
    engine = Policy(Sections(profile="full"), state_dir=tmp_path)
    assert engine.family("shell").allowed
    engine.narrow(tenant_document({"profile": "operator"}))
    assert not engine.family("shell").allowed
    wrongs: list[dict[str, Any]] = [{"profil": "full"}, {"profile": "everything"}, {"admin": []}]
    for wrong in wrongs:
        with pytest.raises(PolicyError):
            engine.narrow(tenant_document(wrong))
        assert not engine.family("shell").allowed
    engine.narrow(None)
    assert engine.family("shell").allowed
    with pytest.raises(PolicyError):
        load(Sections(), tmp_path / "none", state_dir=tmp_path, tenant=Document("t", {"x": 1}))
