"""The whole API by its own description, as four roles: no fault, nothing undocumented.

`make test` asks each operation a few times, `make soak FAMILY=hub` 25 times as each role on each
kind of database, with examples of its own for each of the eight.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as openapi

from hub.authorize import RANK, Role
from tests.doubles.hub_process import HubProcess

WANTED = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.ignored_auth,
]
# It ends the log-in that all the others are asked with.
LEFT_OUT = ("/api/v1/sessions/current",)
EXAMPLES = 3
SOAK_EXAMPLES = 25


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
    process = HubProcess(url)
    try:
        yield process.start()
    finally:
        process.close()


@pytest.mark.family("hub", minutes=7)
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.timeout(1200)
def test_no_fault_and_nothing_undocumented(hub: HubProcess, role: Role, soak: bool) -> None:
    is_odd = RANK[role] % 2 == 1
    if not soak and is_odd != ("postgresql" in str(hub.env)):
        pytest.skip("in full by make soak: here each role asks one kind of database")
    headers = {"Authorization": f"Bearer {hub.add_user(f'{role}.fuzz', role)}"}
    schema = schemathesis.openapi.from_url(f"{hub.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [one for one in operations if one.path not in LEFT_OUT]
    assert len(operations) > 50
    examples = SOAK_EXAMPLES if soak else EXAMPLES
    of_its_own = zlib.crc32(f"{role} {hub.env}".encode())
    faults = {one.label: ask(one, headers, of_its_own, examples) for one in operations}
    found = {label: fault for label, fault in faults.items() if fault}
    assert found == {}
    assert '"request failed"' not in hub.log()


def ask(operation, headers: dict[str, str], of_its_own: int, examples: int) -> str:
    """Ask one operation; returns what was wrong, so that the others are asked, too."""

    @seed(of_its_own)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def asked(case) -> None:
        case.call_and_validate(headers=headers, checks=WANTED)

    try:
        asked()
    except (FailureGroup, Failure) as fault:
        return "\n".join(map(str, getattr(fault, "exceptions", [fault])))
    return ""
