"""Commands: the allow list and every known way around it (contract 1.4; cases B, last row)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy import AdminSection, Launch, Policy, PolicyError, Sections, Verdict
from workers.policy_file import parse
from workers.policy_programs import Programs


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Programs of the test's own, a twin of the directory, and something that is no program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ls", "grep", "crontab", "id"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "data").write_text("")
    (folder / "folder").mkdir()
    (tmp_path / "twin").symlink_to(folder)
    return folder


@pytest.fixture
def allow(bin_dir: Path):
    def make(*commands: str, tenant: str | None = None, **admin: Any) -> Policy:
        twin = bin_dir.parent / "twin"
        section = AdminSection(allowed_commands=list(commands), path=f"{bin_dir}:{twin}", **admin)
        document = None if tenant is None else parse(tenant, "tenant")
        return Policy(Sections(admin=section), tenant=document, environ={"LD_PRELOAD": "x"})

    return make


def launched(answer: Launch | Verdict) -> Launch:
    assert isinstance(answer, Launch), answer
    return answer


def refused(answer: Launch | Verdict, code: int = 126, reason: str = "policy_denied") -> str:
    assert isinstance(answer, Verdict), answer
    assert (answer.allowed, answer.code, answer.reason) == (False, code, reason)
    return answer.sentence


# -- the allow list -----------------------------------------------------------------------------


def test_command_runs_the_listed_program_by_its_absolute_path(allow, bin_dir):
    launch = launched(allow("ls").command("ls -l 'a b'"))
    assert launch.argv == [f"{bin_dir}/ls", "-l", "a b"]
    assert launch.verdict.rule == "admin.allowedCommands[0]"


@pytest.mark.parametrize("commands", [None, []])
def test_absent_and_empty_list_deny_all_and_name_the_cure(commands):
    policy = Policy(Sections(admin=AdminSection(allowed_commands=commands)))
    sentence = refused(policy.command("ls"))
    assert "admin.allowedCommands" in sentence
    assert '["*"]' in sentence


def test_entry_allows_by_leading_tokens(allow):
    policy = allow("ls -l /tmp", "grep x")
    launched(policy.command("ls -l /tmp /etc"))
    launched(policy.command('ls "-l" /tmp'))
    for command in ("ls", "ls -l", "ls /tmp -l", "ls -l /tmpx", "ls -la /tmp", "grep", "grep xy"):
        assert "arguments" in refused(policy.command(command))


def test_star_allows_everything_but_a_program_named_by_the_working_directory(allow, bin_dir):
    policy = allow("*")
    assert launched(policy.command("id -u")).argv == [f"{bin_dir}/id", "-u"]
    assert launched(policy.command("/no/such -u")).argv == ["/no/such", "-u"]
    refused(policy.command("./ls"))
    refused(policy.command("bin/ls"))
    refused(policy.command("../ls"))


def test_star_is_a_wildcard_only_as_an_entry(allow):
    policy = allow("ls *")
    refused(policy.command("ls x"))
    launched(policy.command("ls '*' x"))


@pytest.mark.parametrize(
    "command",
    [
        "ls; id",
        "ls$(id)",
        "ls\nid",
        "ls && id",
        "ls | id",
        "ls `id`",
        "ls > /etc/passwd",
        "ls\0id",
        "ls " + "a" * 1_000_000,
        "'ls",
        "ls \ud800",
    ],
)
def test_what_needs_a_shell_or_cannot_run_at_all_is_a_bad_command(allow, command):
    assert refused(allow("*", "ls").command(command), reason="bad_command")


@pytest.mark.parametrize(
    "command",
    [
        "LS",
        "lѕ",  # a Cyrillic letter
        "ls\u200b",
        "\u202els",
        "ｌｓ",
        "ls\\ -l",
        "'ls -l'",
        "''",
        ".",
        "..",
        "ls/",
        "./ls",
        "/tmp/ls",
        "//tmp/ls",
        "LD_PRELOAD=/tmp/x.so ls",
        "env ls",
        "-l ls",
    ],
)
def test_nothing_but_the_listed_name_is_the_listed_program(allow, command):
    refused(allow("ls").command(command))


def test_absolute_and_bare_names_mean_one_program_only_in_one_directory(allow, bin_dir):
    twin = bin_dir.parent / "twin"
    for entry in ("ls", f"{bin_dir}/ls", f"{twin}/ls"):
        policy = allow(entry)
        for command in ("ls", f"{bin_dir}/ls", f"{twin}/ls"):
            program = launched(policy.command(command)).argv[0]
            assert os.path.samefile(program, bin_dir / "ls")
            assert program in (f"{bin_dir}/ls", entry)
        refused(policy.command("/tmp/ls"))
        refused(policy.command(f"{bin_dir}/../bin/ls"))


def test_a_link_to_the_listed_program_is_not_the_listed_program(allow, bin_dir, tmp_path):
    """A program of many names (busybox) does what its name says."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "ls").symlink_to(bin_dir / "ls")
    (bin_dir / "other").symlink_to(bin_dir / "ls")
    refused(allow("ls").command(f"{tmp_path}/evil/ls"))
    refused(allow("ls").command("other"))


def test_a_program_in_the_working_directory_is_never_looked_at(
    allow, bin_dir, tmp_path, monkeypatch
):
    (tmp_path / "own").write_text("#!/bin/sh\n")
    (tmp_path / "own").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    policy = allow("own", "*", allowed_cwds=[str(tmp_path)])
    refused(policy.command("own", cwd=str(tmp_path)), 127, "not_found")


def test_missing_program_is_127_and_one_that_may_not_be_run_126(allow):
    policy = allow("gone", "data", "folder")
    assert "admin.path" in refused(policy.command("gone -x"), 127, "not_found")
    assert "executed" in refused(policy.command("data"))
    refused(policy.command("folder"), 127, "not_found")


def test_unlisted_program_is_refused_before_it_is_looked_for(allow):
    refused(allow("ls").command("gone"))


def test_a_path_of_a_message_is_never_looked_up(allow, monkeypatch, bin_dir):
    looked: list[str] = []
    real = os.stat
    policy = allow("ls", "*")

    def stat(path, *args, **kwargs):
        looked.append(os.fspath(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    launched(policy.command("/hung/mount/ls", cwd=None))
    assert not [path for path in looked if "hung" in path]


@pytest.mark.parametrize(
    "entry", ["ls; id", "'ls", "", "  ", "./ls", "bin/ls", "ls | wc", "ls \0", "a" * 200_000]
)
def test_malformed_list_is_a_start_up_error_that_names_the_entry(entry):
    with pytest.raises(PolicyError) as caught:
        Policy(Sections(admin=AdminSection(allowed_commands=["ok", entry])))
    assert [fault.key for fault in caught.value.faults] == ["admin.allowedCommands[1]"]


@pytest.mark.parametrize("path", [".:/bin", "/bin:", "bin", "/bin::/usr/bin"])
def test_relative_directory_in_the_path_is_a_start_up_error(path):
    with pytest.raises(PolicyError, match=r"admin\.path"):
        Policy(Sections(admin=AdminSection(path=path)))


@given(st.lists(st.text(st.sampled_from("ab'\" /.-*"), max_size=6), max_size=4))
def test_whatever_is_launched_begins_with_the_entry(words):
    policy = Policy(Sections(admin=AdminSection(allowed_commands=["/bin/echo a"])))
    answer = policy.command(" ".join(["/bin/echo", *words]))
    if isinstance(answer, Launch):
        assert answer.argv[:2] == ["/bin/echo", "a"]


def test_same_is_a_comparison_of_text_for_directories_that_nobody_listed():
    programs = Programs("/bin", ["/opt/x/ls"])
    assert programs.same("/opt/x/ls", "/opt/x/ls")
    assert not programs.same("/elsewhere/ls", "/elsewhere/../elsewhere/ls")


# -- environment and directory ------------------------------------------------------------------


def test_environment_is_built_and_never_inherited(allow, bin_dir):
    launch = launched(allow("ls").command("ls"))
    assert launch.env == {"LANG": "C.UTF-8", "PATH": f"{bin_dir}:{bin_dir.parent}/twin"}


def test_language_and_time_zone_are_taken_over():
    given_ = {"LC_ALL": "de_DE.UTF-8", "TZ": "UTC", "AUTH_TOKEN": "s", "SSH_AUTH_SOCK": "/x"}
    policy = Policy(Sections(admin=AdminSection(allowed_commands=["*"])), environ=given_)
    env = launched(policy.command("/bin/true")).env
    assert set(env) == {"LANG", "LC_ALL", "TZ", "PATH"}


def test_listed_variable_is_set_and_another_refused(allow):
    policy = allow("ls", allowed_env=["FOO"])
    assert launched(policy.command("ls", env={"FOO": "a b"})).env["FOO"] == "a b"
    assert "BAR" in refused(policy.command("ls", env={"FOO": "1", "BAR": "2"}))
    assert "FOO" in refused(allow("ls").command("ls", env={"FOO": "1"}))


NEVER = """
    LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES PYTHONPATH PYTHONSTARTUP BASH_ENV
    BASH_FUNC_ls ENV PATH IFS PERL5LIB PERL5OPT RUBYOPT NODE_OPTIONS GIT_SSH_COMMAND GIT_PAGER
    SHELLOPTS CDPATH PS4 PROMPT_COMMAND PAGER EDITOR VISUAL LESSOPEN MANPAGER JAVA_TOOL_OPTIONS
    _JAVA_OPTIONS OPENSSL_CONF SSH_ASKPASS TAR_OPTIONS RSYNC_RSH HOSTALIASES GCONV_PATH HOME
    JACKLINE_JOB ld_preload Path
"""


@pytest.mark.parametrize("name", NEVER.split())
def test_variable_that_runs_something_else_is_never_taken_even_if_listed(allow, name):
    refused(allow("ls", allowed_env=[name]).command("ls", env={name: "x"}))


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A\0", "Ä", "BASH_FUNC_ls%%", "A\n"])
def test_variable_with_an_impossible_name_is_refused(allow, name):
    refused(allow("ls", allowed_env=[name]).command("ls", env={name: "x"}))


@pytest.mark.parametrize("name", ["REGION", "LESSON", "MANAGER", "CURRENT", "GITHUB", "RAILS_ENV"])
def test_harmless_variable_may_be_listed(allow, name):
    launched(allow("ls", allowed_env=[name]).command("ls", env={name: "x"}))


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 200_000])
def test_impossible_value_is_refused(allow, value):
    refused(allow("ls", allowed_env=["FOO"]).command("ls", env={"FOO": value}))


@pytest.mark.parametrize("cwds", [None, []])
def test_any_cwd_is_refused_without_a_list(allow, cwds):
    assert "admin.allowedCwds" in refused(allow("ls", allowed_cwds=cwds).command("ls", cwd="/tmp"))


@pytest.mark.parametrize("cwd", ["tmp", "./tmp", "/tmp\0x", "/tmp/\ud800"])
def test_impossible_cwd_is_refused(allow, cwd):
    refused(allow("ls", allowed_cwds=["/tmp"]).command("ls", cwd=cwd))


def test_cwd_is_handed_to_the_worker_with_its_roots(allow):
    spec = launched(allow("ls", allowed_cwds=["/srv"]).command("ls", cwd="/srv/x")).spec(5.0)
    assert (spec.cwd, spec.cwd_roots, spec.timeout_s) == ("/srv/x", [["/srv"]], 5.0)


def test_no_cwd_means_home(allow):
    assert launched(allow("ls").command("ls", cwd="")).spec(5.0).cwd == ""


# -- the cron form ------------------------------------------------------------------------------

CRON = "echo 'QUJDCg==' | base64 -d | crontab -"


def test_cron_form_feeds_crontab(allow, bin_dir):
    for entry in ("crontab", "crontab -", "*"):
        spec = launched(allow(entry).command(CRON)).spec(5.0)
        assert spec.argv == [f"{bin_dir}/crontab", "-"]
        assert spec.stdin == b"ABC\n"
        assert spec.keep_crontab


def test_cron_form_needs_an_entry_that_covers_it(allow):
    refused(allow("crontab -l", "echo", "base64").command(CRON))


def test_cron_form_without_base64_is_a_bad_command(allow):
    refused(allow("*").command("echo A | base64 -d | crontab -"), reason="bad_command")


def test_reading_the_crontab_keeps_nothing(allow):
    assert not launched(allow("crontab").command("crontab -l")).keep_crontab


# -- two sides ----------------------------------------------------------------------------------


def test_tenant_narrows_the_commands(allow):
    policy = allow("ls", "id", tenant="admin: {allowedCommands: [ls]}")
    launched(policy.command("ls"))
    answer = policy.command("id")
    refused(answer)
    assert answer.where == "tenant:1"


def test_tenant_cannot_widen_the_commands(allow):
    policy = allow("ls", tenant='{"admin": {"allowedCommands": ["*"], "allowedCwds": ["/"]}}')
    refused(policy.command("id"))
    refused(policy.command("ls", cwd="/tmp"))


def test_silent_tenant_narrows_nothing(allow):
    launched(allow("ls", tenant="profile: operator").command("ls -l"))


def test_tenant_that_allows_no_command_denies_all(allow):
    refused(allow("ls", tenant="admin: {allowedCommands: []}").command("ls"))


def test_tenant_narrows_the_directories(allow):
    policy = allow("ls", allowed_cwds=["/srv", "/tmp"], tenant="admin: {allowedCwds: [/srv/a, /x]}")
    assert launched(policy.command("ls", cwd="/srv/a")).cwd_roots == [
        ["/srv", "/tmp"],
        ["/srv/a", "/x"],
    ]


# -- the token ----------------------------------------------------------------------------------


def test_token_is_compared_only_when_it_is_required():
    assert Policy(Sections()).command_token(None).allowed
    policy = Policy(Sections(admin=AdminSection(require_token=True, command_token="geheim")))
    assert policy.command_token("geheim").allowed
    for token in (None, "", "Geheim", "geheim ", "gehei", "é", "\ud800"):
        verdict = policy.command_token(token)
        assert (verdict.allowed, verdict.code) == (False, 401)
        assert "geheim" not in repr(verdict)


@pytest.mark.parametrize("token", [None, "", "x"])
def test_required_but_empty_token_refuses_all(token):
    policy = Policy(Sections(admin=AdminSection(require_token=True)))
    assert policy.command_token(token).code == 401
