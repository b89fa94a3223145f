"""What every test meets: the options of `make`, and an environment that is nobody's own."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.facilities import ROOT

if TYPE_CHECKING:
    from tests.doubles.postgres import PostgresServer

HOUSES = ("agent", "hub", "wire", "workers")
FILE_SECONDS = "jackline/file-seconds"  # in pytest's cache; of full runs, with a suffix


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jackline")
    group.addoption("--soak", action="store_true", help="fault and load runs only, in full size")
    group.addoption("--family", help="with --soak: the one family to run")
    group.addoption(
        "--installed", action="store_true", help="refuse to run against anything but the wheel"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Whoever started us with nohup, or in a script's background, handed its choice down to every
    # program that a test starts.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The Node that packaging/fetch-node.sh took from PyPI, where the system has none.
    os.environ["PATH"] = f"{ROOT / '.node' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # A developer's own agent is none of the tests' business.
    for name in [name for name in os.environ if name.startswith("JACKLINE_")]:
        del os.environ[name]
    if config.getoption("--installed"):
        _refuse_a_checkout()
    if config.getoption("numprocesses", None):
        config.pluginmanager.register(FileClock(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep only fault and load runs under --soak, of one family if one is named."""
    _longest_first(config, items)
    if not config.getoption("--soak"):
        return
    wanted = config.getoption("--family")
    families = {item: item.get_closest_marker("family") for item in items}
    kept = [
        item
        for item, marker in families.items()
        if marker is not None and wanted in (None, marker.args[0])
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    # A first run has no clock to go by: what is known to be long says so.
    items[:] = sorted(kept, key=lambda item: -families[item].kwargs.get("minutes", 0))


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether fault and load runs have their full size: `kills = 280 if soak else 25`."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test run's own."""
    from tests.doubles.postgres import PostgresServer

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def closed_desks() -> Iterator[None]:
    """Every desk's loop holds descriptors: none outlives its test."""
    yield
    desks = sys.modules.get("tests.doubles.desk")
    if desks is not None:
        desks.close_all()


def _longest_first(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several workers take a file each, in this order: none is left alone with a long one."""
    if hasattr(config, "workerinput") and config.cache is not None:
        seconds = config.cache.get(_clock_of(config), {})
        items.sort(key=lambda item: -seconds.get(_file_of(item.nodeid), 0.0))


class FileClock:
    """Keeps how long each file took, for the next run on this machine."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[_file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        if self._config.cache is not None:
            before = self._config.cache.get(_clock_of(self._config), {})
            self._config.cache.set(_clock_of(self._config), {**before, **self._seconds})


def _clock_of(config: pytest.Config) -> str:
    return FILE_SECONDS + ("-soak" if config.getoption("--soak") else "")


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _refuse_a_checkout() -> None:
    site = Path(sysconfig.get_path("purelib"))
    for house in HOUSES:
        spec = importlib.util.find_spec(house)
        if spec is None or spec.origin is None or site not in Path(spec.origin).parents:
            pytest.exit(f"{house} is not the installed wheel's: {spec}", returncode=4)
