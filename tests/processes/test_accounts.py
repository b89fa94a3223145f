"""Becoming another account, for good, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("POSIX accounts", allow_module_level=True)

from workers import accounts
from workers.errors import AccountError

DEADLINE_S = 120.0

DROP = """
import json, os, sys
from workers import accounts
from workers.errors import AccountError
for name in sys.argv[1:]:
    try:
        accounts.drop_to(name)
    except AccountError as e:
        print(json.dumps(str(e)))
    else:
        print(json.dumps([os.getresuid(), os.getresgid(), sorted(os.getgroups())]))
try:
    os.setuid(0)
    print(json.dumps("root again" if os.getuid() == 0 else "no"))
except PermissionError:
    print(json.dumps("no way back"))
"""


def drop(*names: str) -> list:
    ran = subprocess.run(
        [sys.executable, "-c", DROP, *names],
        capture_output=True,
        timeout=DEADLINE_S,
        cwd="/",
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize(
    "name", ["no-such-user", "", "a\nb", "nul\0", "\udc80", "-1", "4294967295", "٣", "9" * 50]
)
def test_lookup_refuses_what_is_no_account(name):
    with pytest.raises(AccountError, match="there is no account"):
        accounts.lookup(name)


def test_lookup_takes_a_name_or_a_number():
    by_name = accounts.lookup("nobody")
    assert accounts.lookup(str(by_name.uid)) == by_name
    assert by_name.home and by_name.shell


def test_own_account_is_that_of_this_process():
    assert accounts.own().uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_root_becomes_another_with_its_groups_and_for_good():
    nobody = accounts.lookup("nobody")
    (ids, way_back) = drop("nobody")
    groups = sorted({nobody.gid, *os.getgrouplist("nobody", nobody.gid)})
    assert ids == [[nobody.uid] * 3, [nobody.gid] * 3, groups]
    assert way_back == "no way back"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_others_may_only_stay_who_they_are():
    first, again, other, _ = drop("nobody", "nobody", "root")
    assert again == first
    assert other == "only root can become 'root'"
