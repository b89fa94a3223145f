"""Shells through a real hub at a real agent: typed, shown, observed, recorded, ended."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from hub.authorize import Role
from hub.operators.models import User
from hub.shell import cast
from tests.doubles.console_socket import ConsoleSocket
from tests.doubles.hub_site import HubSite, hub_site


@pytest.fixture(scope="module")
def site() -> Iterator[HubSite]:
    with hub_site() as made:
        yield made


@pytest.fixture
def console(site: HubSite) -> Iterator[ConsoleSocket]:
    with site.console() as made:
        yield made


def error_of(reply: dict[str, Any]) -> str:
    return str(reply["error"]["code"])


def test_a_shell_answers_and_its_exit_code_comes_back(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    console.type(session, "echo grüße-$((6*7))\n")
    console.until_output(session, "grüße-42\r\n")
    console.type(session, "exit 7\n")
    ended = console.until_event("shell_closed", session=session)
    assert (ended["reason"], ended["code"]) == ("exit", 7)
    row = site.until_ended(session)
    assert (row["reason"], row["code"], row["user"]) == ("exit", 7, "ann")


def test_the_shell_knows_its_size_and_its_operator(site: HubSite, console: ConsoleSocket) -> None:
    session = console.open(site.asset_id, cols=101, rows=33, purpose="ticket 5")
    console.type(session, "echo $JACKLINE_OPERATOR; stty size\n")
    console.until_output(session, "33 101\r\n")
    assert "ann\r\n" in console.output(session)
    console.call("shell_resize", session=session, cols=90, rows=20)
    console.type(session, "stty size\n")
    console.until_output(session, "20 90\r\n")
    console.call("shell_close", session=session)
    console.until_event("shell_closed", session=session, reason="closed")


def test_three_thousand_numbered_inputs_arrive_in_order(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    console.type(session, "cat > /dev/null; echo don''e\n")
    for number in range(3000):
        console.type(session, f"{number}\n")
    console.type(session, "\x04")
    console.until_output(session, "done\r\n")
    console.type(session, "stty raw -echo; echo go; head -c 13890 | sha256sum; stty sane -echo\n")
    console.until_output(session, "go\n")
    lines = [f"{number}\n" for number in range(3000)]
    for line in lines:
        console.type(session, line)
    wanted = hashlib.sha256("".join(lines).encode()).hexdigest()
    console.until_output(session, wanted)
    console.call("shell_close", session=session)


def test_a_paste_of_200_kb_arrives_whole(site: HubSite, console: ConsoleSocket) -> None:
    session = console.shell(site.asset_id)
    text = "".join(f'{number:06} "ü\\" \t\n' for number in range(13_500))
    size = len(text.encode())
    assert size > 200_000
    console.type(session, f"stty raw; echo go; head -c {size} | sha256sum; stty sane -echo\n")
    console.until_output(session, "go\n")
    console.type(session, text)
    console.until_output(session, hashlib.sha256(text.encode()).hexdigest())
    console.call("shell_close", session=session)


def test_output_of_many_megabytes_comes_whole_under_credit(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    console.type(session, "seq 1 300000; echo en''d\n")
    text = console.until_output(session, "end\r\n")
    numbers = "".join(f"{number}\r\n" for number in range(1, 300_001))
    assert numbers in text
    console.call("shell_close", session=session)


def test_bytes_that_are_no_text_come_as_they_are(site: HubSite, console: ConsoleSocket) -> None:
    session = console.shell(site.asset_id)
    console.type(session, r"printf '\377\000\376'; echo en''d" + "\n")
    console.until_output(session, "end")
    assert b"\xff\x00\xfe" in bytes(console.screens[session].data)
    console.call("shell_close", session=session)


def test_a_reload_goes_on_where_it_was_and_a_new_console_has_the_scrollback(site: HubSite) -> None:
    with site.console() as first:
        session = first.shell(site.asset_id)
        first.type(session, "echo before; sleep 1; echo mean''while\n")
        first.until_output(session, "before\r\n")
        screens = first.screens
    with site.console() as second:
        second.screens = screens
        reply = second.attach(session)
        assert reply["offset"] == screens[session].end or "error" not in reply
        second.until_output(session, "meanwhile\r\n")
        second.type(session, "echo after\n")
        second.until_output(session, "after\r\n")
        with site.console() as third:
            assert "error" not in third.attach(session, take_over=True)
            third.until_output(session, "after\r\n")
            assert third.output(session) == second.output(session)
            second.until_event("shell_detached", session=session, reason="taken_over")
            third.call("shell_close", session=session)


def test_only_one_console_writes_and_the_second_says_take_over(site: HubSite) -> None:
    with site.console() as first, site.console() as second:
        session = first.shell(site.asset_id)
        assert error_of(second.attach(session)) == "has_writer"
        assert error_of(second.call("shell_input", session=session, data="x")) == "not_attached"
        assert "error" not in second.attach(session, take_over=True)
        assert error_of(first.call("shell_input", session=session, data="x")) == "not_attached"
        second.call("shell_close", session=session)


def test_an_auditor_observes_and_never_types(site: HubSite, console: ConsoleSocket) -> None:
    session = console.shell(site.asset_id)
    with site.console(site.user(Role.AUDITOR)) as observer:
        reply = observer.attach(session, "shell_observe")
        assert reply["opened_by"] == "ann"
        writing: dict[str, dict[str, Any]] = {
            "shell_input": {"data": "x"},
            "shell_resize": {"cols": 9, "rows": 9},
            "shell_attach": {},
            "shell_close": {},
        }
        for event, more in writing.items():
            refused = observer.call(event, session=session, **more)
            assert error_of(refused) == "forbidden"
        assert error_of(observer.call("shell_open", asset_id=site.asset_id)) == "forbidden"
        console.type(session, "echo seen\n")
        observer.until_output(session, "seen\r\n")
    console.call("shell_close", session=session)


def test_another_operator_observes_and_an_admin_may_write(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    with site.console(site.user(Role.OPERATOR)) as other:
        assert error_of(other.attach(session, take_over=True)) == "forbidden"
        assert error_of(other.call("shell_close", session=session)) == "forbidden"
        assert "error" not in other.attach(session, "shell_observe")
    with site.console(site.user(Role.TENANT_ADMIN)) as admin:
        assert "error" not in admin.attach(session, take_over=True)
        admin.type(session, "echo admin was here\n")
        admin.until_output(session, "admin was here\r\n")
        admin.call("shell_close", session=session)


def test_another_tenant_finds_no_agent_no_session_and_no_recording(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    token = site.user(Role.TENANT_ADMIN, "elsewhere")
    with site.console(token) as foreign:
        for event in ("shell_attach", "shell_observe", "shell_close"):
            assert error_of(foreign.call(event, session=session)) == "not_found"
        assert error_of(foreign.call("shell_open", asset_id=site.asset_id)) == "not_found"
    for path in (f"/{session}", f"/{session}/recording"):
        assert site.hub.get(f"/api/v1/shells{path}", token)[0] == 404
    assert site.hub.get("/api/v1/shells", token)[1]["items"] == []
    console.call("shell_close", session=session)


def test_observers_that_show_nothing_hold_nobody_up(site: HubSite, console: ConsoleSocket) -> None:
    session = console.shell(site.asset_id)
    with site.console() as observer:
        observer.shows = False
        observer.attach(session, "shell_observe")
        console.type(session, "seq 1 200000; echo en''d\n")
        console.until_output(session, "end\r\n")
        observer.until_output(session, "end\r\n")
    console.call("shell_close", session=session)


def test_a_console_that_shows_nothing_stops_its_own_session_alone(site: HubSite) -> None:
    with site.console() as slow, site.console() as fast:
        stuck = slow.shell(site.asset_id)
        slow.shows = False
        slow.type(stuck, "yes\n")
        slow.until(lambda: len(slow.screens[stuck].data) >= 60_000)
        other = fast.shell(site.asset_id)
        fast.type(other, "echo quick\n")
        fast.until_output(other, "quick\r\n")
        assert len(slow.screens[stuck].data) <= 300_000
        slow.type(stuck, "\x03")
        slow.emit("shell_ack", session=stuck, offset=slow.screens[stuck].end)
        slow.shows = True
        slow.type(stuck, "echo free\n")
        slow.until_output(stuck, "free\r\n")
        slow.call("shell_close", session=stuck)
        fast.call("shell_close", session=other)


def test_a_session_opened_by_http_waits_for_who_attaches(
    site: HubSite, console: ConsoleSocket
) -> None:
    body = {"asset_id": site.asset_id, "cols": 70, "rows": 20}
    status, row = site.hub.request("POST", "/api/v1/shells", site.token, body)
    assert status == 201, str(row)
    session = row["id"]
    assert "error" not in console.attach(session)
    console.type(session, "stty size; exit\n")
    console.until_output(session, "20 70\r\n")
    assert site.until_ended(session)["code"] == 0


def test_sessions_are_listed_closed_and_never_reopened(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.shell(site.asset_id)
    status, page = site.hub.get(f"/api/v1/shells?state=live&asset_id={site.asset_id}", site.token)
    assert status == 200
    assert session in [row["id"] for row in page["items"]]
    status, _ = site.hub.request("POST", f"/api/v1/shells/{session}/close", site.token)
    assert status == 200
    assert site.until_ended(session)["reason"] == "closed"
    console.until_event("shell_closed", session=session, reason="closed")
    assert error_of(console.call("shell_input", session=session, data="x")) == "not_attached"
    late = console.attach(session)
    assert late["has_ended"] is True


def test_a_recording_plays_back_what_was_shown_and_its_digest_is_in_the_audit_log(
    site: HubSite, console: ConsoleSocket
) -> None:
    session = console.open(site.asset_id)
    console.type(session, "PS1=; stty -echo; echo rea''dy; seq 1 5000\n")
    console.until_output(session, "5000\r\n")
    console.call("shell_resize", session=session, cols=132, rows=50)
    console.type(session, "printf '\\033[1mhé\\033[0m\\n'; exit 3\n")
    console.until_event("shell_closed", session=session)
    row = site.until_ended(session)
    status, text = site.hub.get(f"/api/v1/shells/{session}/recording", site.token)
    assert status == 200
    data = text.encode()
    assert hashlib.sha256(data).hexdigest() == row["recording_sha256"]
    header, events = cast.read(data.splitlines(keepends=True))
    listed = list(events)
    assert (header.term.cols, header.term.rows) == (80, 24)
    assert cast.outputs(listed) == console.output(session)
    assert [event.data for event in listed if event.code == "r"] == ["132x50"]
    assert listed[-1].code == "x"
    assert listed[-1].data == "3"
    audit = site.hub.read(lambda database: _audit(database, session))
    assert ("session.recorded", row["recording_sha256"]) in audit
    assert "shell.open" in [action for action, _ in audit]


def test_an_agent_that_is_away_has_no_shells_to_open(site: HubSite, console: ConsoleSocket) -> None:
    session = console.shell(site.asset_id)
    site.agent.terminate()
    console.until_event("shell_link", session=session, up=False)
    assert error_of(console.call("shell_input", session=session, data="rm x\n")) == "agent_offline"
    site.hub.until(
        lambda: error_of(console.call("shell_open", asset_id=site.asset_id)) == "agent_offline"
    )
    site.agent.start()
    console.until_event("shell_link", session=session, up=True)
    console.type(session, "echo back again\n")
    console.until_output(session, "back again\r\n")
    assert "rm x" not in console.output(session)
    console.call("shell_close", session=session)


@pytest.mark.parametrize("how", ["disabled", "demoted"])
def test_an_operator_who_is_disabled_or_demoted_loses_the_shell(site: HubSite, how: str) -> None:
    name = f"leaver-{how}"
    token = site.hub.add_user(name, Role.OPERATOR)
    with site.console(token) as leaver, site.console() as watcher:
        session = leaver.shell(site.asset_id)
        watcher.attach(session, "shell_observe")

        def change(database: object) -> None:
            user = database.scalar(select(User).where(User.name == name))  # type: ignore[attr-defined]
            if how == "disabled":
                user.disabled_ms = 1
            else:
                user.role = Role.AUDITOR

        site.hub.write(change)
        watcher.until_event("shell_closed", session=session, reason="operator_lost")
        leaver.until(lambda: not leaver.is_up)
    assert site.until_ended(session)["reason"] == "operator_lost"


def test_a_shell_that_the_machine_refuses_says_why(site: HubSite, console: ConsoleSocket) -> None:
    site.agent.command("pause", "maintenance")
    session = console.open(site.asset_id)
    ended = console.until_event("shell_closed", session=session)
    assert (ended["reason"], ended["detail"]) == ("busy", "locked_by_host")
    site.agent.command("resume")
    assert site.until_ended(session)["reason"] == "busy"


@pytest.mark.parametrize(
    "payload",
    [
        {}, {"session": 5, "data": "x"}, {"session": "s", "data": 7}, {"session": "", "data": "x"},
        {"session": "s" * 300, "data": "x"}, {"session": "no such", "data": "x"},
    ],
)  # fmt: skip
def test_an_input_that_is_none_is_answered_and_nothing_breaks(
    console: ConsoleSocket, payload: dict[str, object]
) -> None:
    assert error_of(console.call("shell_input", **payload)) in ("bad_request", "not_attached")


def _audit(database: object, session: str) -> list[tuple[str, str | None]]:
    from hub.audit.models import AuditRow

    rows = database.scalars(select(AuditRow).where(AuditRow.object_id == session))  # type: ignore[attr-defined]
    return [(row.action, row.detail.get("sha256")) for row in rows]


def test_ids_are_new_for_every_session(site: HubSite, console: ConsoleSocket) -> None:
    sessions = [console.open(site.asset_id) for _ in range(3)]
    assert len(set(sessions)) == 3
    assert all(re.fullmatch(r"[0-9a-f-]{36}", session) for session in sessions)
    for session in sessions:
        console.call("shell_close", session=session)
