"""How `jackline run` reads its command line: without argparse where that is plain enough."""

from __future__ import annotations

import pytest

from agent.cli.run import parsed_options, plain_options


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--config", "agent-config.json"],
        ["--config=a=b.json", "--insecure"],
        ["--log-level", "debug", "--config", "a.json", "--config", "b.json"],
    ],
)
def test_run_reads_plain_options_as_argparse_does(argv: list[str]) -> None:
    options = plain_options(argv)
    assert options is not None
    assert options == parsed_options(argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--config"],
        ["--config", ""],
        ["--config", "--insecure"],
        ["--insecure=yes"],
        ["--conf", "a.json"],
        ["agent-config.json"],
    ],
)
def test_run_leaves_what_is_not_plain_to_argparse(argv: list[str]) -> None:
    assert plain_options(argv) is None
