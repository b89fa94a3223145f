"""What hardening sets on a real process, and what its children must not inherit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux settings")

DEADLINE_S = 120.0

AGENT = """
import json, os, resource, subprocess, sys
from workers.hardening import harden_agent, harden_worker, relax
resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
before = open("/proc/self/oom_score_adj").read()
hardening = harden_agent()
child = subprocess.Popen([sys.executable, "-c", '''
import json, os, resource, sys
sys.stdin.read(1)
from workers.hardening import harden_worker
harden_worker()
score = open("/proc/self/oom_score_adj").read()
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), score]))
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
relax(child.pid, hardening)
child_limit, child_score = json.loads(child.communicate(b"x")[0])
print(json.dumps({
    "limit": resource.getrlimit(resource.RLIMIT_CORE), "missing": hardening.missing,
    "before": before, "score": open("/proc/self/oom_score_adj").read(),
    "child_limit": child_limit, "child_score": child_score,
}))
if sys.argv[1:] == ["abort"]:
    sys.stdout.flush(); os.chdir(os.environ["WHERE"]); os.abort()
"""


def run_agent(*arguments: str, **env: str) -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", AGENT, *arguments],
        capture_output=True,
        timeout=DEADLINE_S,
        env={**os.environ, **env},
        cwd="/",
        check=False,
    )
    return json.loads(ran.stdout)


def test_agent_is_hardened_and_its_children_get_their_own():
    found = run_agent()
    if found["missing"]:  # without CAP_SYS_RESOURCE, in a container say: told, and left alone
        assert "memory score" in found["missing"][0]
        assert found["score"] == found["before"]
    else:
        assert found["score"].strip() == "-500"
    assert found["limit"] == [0, 8192]
    assert found["child_limit"] == [4096, 8192]
    assert found["child_score"].strip() == "500"


def test_hardened_agent_leaves_no_core(tmp_path):
    run_agent("abort", WHERE=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
