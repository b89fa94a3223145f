"""The reference pages name every command, every key and every variable."""

from __future__ import annotations

import tomllib

import pytest

from agent.configkeys import KEYS, Key
from hub.cli.control import WORDS
from hub.settings import HubSettings
from tests.facilities import ROOT

REFERENCE = ROOT / "docs" / "reference"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("word", sorted(PROJECT["entry-points"]["jackline.commands"]))
def test_cli_page_names_every_command(word: str) -> None:
    assert f"``jackline {word}" in (REFERENCE / "cli.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_configuration_page_names_every_key_and_fielded_variable(key: Key) -> None:
    page = (REFERENCE / "configuration.rst").read_text(encoding="utf-8")
    assert f"``{key.name}``" in page
    if key.fielded:
        assert f"``{key.fielded}``" in page


@pytest.mark.parametrize(
    "key", [key for key in HubSettings.__struct_fields__ if key != "state_dir"]
)
def test_hub_page_names_every_setting(key: str) -> None:
    assert f"``{key}``" in (REFERENCE / "hub.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", sorted(WORDS))
def test_cli_page_names_every_word_of_the_hub(word: str) -> None:
    page = (REFERENCE / "cli.rst").read_text(encoding="utf-8")
    assert f"``{word} " in page or f"``{word}``" in page or f"``jackline hub {word} " in page
