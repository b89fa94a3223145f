"""Packaging files that cannot be run here: what can be read in them."""

from __future__ import annotations

import configparser
import re
import subprocess

import pytest

from tests.facilities import ROOT

PACKAGING = ROOT / "packaging"


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined, comments left out."""
    text = (PACKAGING / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.split("\n"))]


def of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


@pytest.mark.parametrize("name", ["CLIENT_CONFIG_PATH", "LOG_FILE", "TZ"])
def test_dockerfile_honours_the_variables_of_a_fielded_image(name: str) -> None:
    assert any(re.search(rf"\b{name}=", rest) for rest in of("ENV"))


def test_dockerfile_starts_the_agent_itself_as_process_one() -> None:
    assert of("ENTRYPOINT") == ['["jackline"]']
    assert of("CMD")[-1] == '["run"]'
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_dockerfile_installs_little_and_leaves_no_lists() -> None:
    runs = [rest for rest in of("RUN") if "apt-get install" in rest]
    assert runs
    for rest in runs:
        assert "--no-install-recommends" in rest
        assert "rm -rf /var/lib/apt/lists/*" in rest
    assert all("--require-hashes" in rest for rest in of("RUN") if "requirements.txt" in rest)


def test_dockerfile_names_its_base_and_takes_nothing_from_afar() -> None:
    [base] = of("ARG")
    assert re.fullmatch(r"BASE=[a-z]+:[0-9][0-9a-z.-]*", base)
    assert all(rest.startswith("${BASE}") for rest in of("FROM"))
    assert of("ADD") == []


@pytest.mark.parametrize("pattern", [".git", "agent-config.*", ".venv*", "**/node_modules"])
def test_image_context_leaves_out_what_no_image_may_hold(pattern: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert pattern in ignored


def test_install_script_is_posix_shell() -> None:
    subprocess.run(["sh", "-n", str(PACKAGING / "install.sh")], check=True)


def test_supervisor_conf_says_what_the_design_says() -> None:
    conf = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    conf.read(ROOT / "supervisor.conf", encoding="utf-8")
    agent = conf["program:agent"]
    assert agent["autorestart"] == "unexpected"
    assert agent["exitcodes"] == "0,75,78"
    assert (agent["startsecs"], agent["stopwaitsecs"]) == ("5", "10")
    assert int(agent["startretries"]) >= 100
    assert (agent["stopasgroup"], agent["killasgroup"]) == ("false", "false")
    assert agent["stdout_logfile"] == "NONE"
    watch = conf["eventlistener:agent-watch"]
    assert watch["buffer_size"] == "1024"
    assert {"PROCESS_LOG_STDOUT", "PROCESS_STATE", "TICK_5"} == set(watch["events"].split(","))
    plugin = conf["ctlplugin:worker"]["supervisor.ctl_factory"]
    assert plugin == "agent.supervisor.ctlplugin:make_worker_plugin"


def test_supervisor_conf_tells_what_stop_does() -> None:
    text = (ROOT / "supervisor.conf").read_text(encoding="utf-8")
    assert "lease" in text
    assert "jackline stop" in text
