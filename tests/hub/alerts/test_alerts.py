"""Alerts: raised once, resolved, sent to a real webhook, and a target that stays secret."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.alerts import conditions, service
from hub.alerts.models import Alert
from hub.alerts.sending import Sending
from hub.alerts.watch import Alerts, notify
from hub.assembly import Hub
from hub.audit.models import AuditRow
from hub.audit.service import SYSTEM
from hub.backup import plans
from hub.backup.models import BackupPlan
from hub.backup.requests import PlanIn
from hub.clock import now_ms
from hub.heartbeat.models import Certificate
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.doubles.job_parts import HeardConsole, machine
from tests.doubles.loop import run
from tests.hub.conftest import Headers, People

HOUR_MS = 3_600_000
CANARY = "canary-in-the-path"


class Receiver:
    """Takes what a webhook is sent; answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.messages: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.messages.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_port}/{CANARY}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Watch:
    """The watch over one machine, driven by the test."""

    def __init__(self, hub: Hub, tenant: Tenant) -> None:
        self.hub, self.tenant = hub, tenant
        self.console = HeardConsole()
        self.alerts = Alerts(hub.database, hub.keyring, self.console)  # type: ignore[arg-type]
        self.asset, self.agent = machine(hub.database, tenant.id, "web-1")

    def set(self, **values: Any) -> None:
        where = Asset.id == self.asset.id
        self.write(lambda session: session.execute(update(Asset).where(where).values(**values)))

    def backup(self, name: str) -> str:
        """Make a backup that has last run well six days ago; return its id."""

        def work(session: Session) -> str:
            asked = PlanIn(name=name, source_dirs=["/srv/a"], dest_root="/mnt/b")
            plan = plans.add(session, SYSTEM, session.get_one(Asset, self.asset.id), asked)
            plan.success_ms = now_ms() - 6 * 24 * HOUR_MS
            return plan.id

        return str(self.write(work))

    def schedules(self, *told: dict[str, Any]) -> None:
        """The machine has had these for long."""

        def work(session: Session) -> None:
            asset = session.get_one(Asset, self.asset.id)
            plans.note_schedules(session, asset, list(told))
            row = plans.schedules_of(session, asset.id)
            assert row is not None
            row.schedules = [{**one, "since_ms": 1} for one in row.schedules]
            plans.note_schedules(session, asset, list(told))

        self.write(work)

    def change(self, plan_id: str, **values: Any) -> None:
        where = BackupPlan.id == plan_id
        self.write(
            lambda session: session.execute(update(BackupPlan).where(where).values(**values))
        )

    def write(self, work: Any) -> Any:
        return self.hub.database.write_now(None, work)

    def look(self) -> None:
        asyncio.run(self.alerts.look())

    def send(self) -> None:
        asyncio.run(self.alerts.send())

    def open(self) -> list[str]:
        query = select(Alert.kind).where(Alert.open_key.is_not(None)).order_by(Alert.kind)
        return self.hub.database.read_now(None, lambda session: list(session.scalars(query)))


@pytest.fixture
def watch(hub: Hub, acme: Tenant) -> Watch:
    return Watch(hub, acme)


def certificate(session: Session, agent: Agent, left_ms: int, life_ms: int, serial: str) -> None:
    session.add(
        Certificate(
            serial=serial,
            tenant_id=agent.tenant_id,
            agent_id=agent.id,
            key_thumbprint="t",
            not_before_ms=now_ms() + left_ms - life_ms,
            not_after_ms=now_ms() + left_ms,
        )
    )


@pytest.mark.parametrize(
    ("trouble", "calm", "kind"),
    [
        (
            {"presence": "offline", "presence_since_ms": 1},
            {"presence": "online"},
            "offline",
        ),
        ({"presence": "conflict"}, {"presence": "online"}, "identity_conflict"),
        ({"disk_percent": 93.0}, {"disk_percent": 80.0}, "disk_filling"),
        ({"last_backup_ok": False}, {"last_backup_ok": True}, "backup_failed"),
    ],
)
def test_trouble_is_raised_once_and_resolved_when_it_is_over(
    watch: Watch, trouble: dict, calm: dict, kind: str
) -> None:
    watch.look()
    assert watch.open() == []
    watch.set(**trouble)
    watch.look()
    watch.look()
    assert watch.open() == [kind]
    watch.set(**calm)
    watch.look()
    assert watch.open() == []
    states = [payload["state"] for _, topic, _, payload in watch.console.heard if topic == "alerts"]
    assert states == ["open", "resolved"]
    watch.set(**trouble)
    watch.look()
    assert watch.open() == [kind]


def test_backup_is_overdue_by_its_own_schedule_and_by_what_its_machine_says(watch: Watch) -> None:
    """A weekly one may be six days old, one by hand any age; what runs now is not overdue."""
    weekly = {"id": "w", "cron": "0 3 * * *", "tz": "UTC", "enabled": True}
    plan_id = watch.backup("files")
    watch.backup("by hand")
    watch.set(last_backup_ms=1)
    watch.look()
    assert watch.open() == []
    for cron, is_overdue in (("0 3 * * *", True), (a_week_on(), False), ("0 3 * * *", True)):
        watch.schedules({**weekly, "plan_id": plan_id, "cron": cron})
        watch.look()
        assert watch.open() == ["backup_overdue"] * is_overdue, cron
    watch.change(plan_id, progress_ms=now_ms())
    watch.look()
    assert watch.open() == []
    watch.change(plan_id, overdue_ms=None, is_late=True)
    watch.look()
    assert watch.open() == ["backup_overdue"]
    watch.change(plan_id, removed_ms=1)
    watch.look()
    assert watch.open() == []


def a_week_on() -> str:
    """Return a cron line whose next time after six days ago is yet to come."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return f"0 {tomorrow.hour} * * {tomorrow.isoweekday() % 7}"


def test_machine_that_has_only_just_gone_is_left_a_while(watch: Watch) -> None:
    watch.set(presence="offline", presence_since_ms=now_ms())
    watch.look()
    assert watch.open() == []


def test_disk_at_the_edge_raises_nothing_and_resolves_nothing(watch: Watch) -> None:
    watch.set(disk_percent=88.0)
    watch.look()
    assert watch.open() == []
    watch.set(disk_percent=91.0)
    watch.look()
    watch.set(disk_percent=88.0)
    watch.look()
    assert watch.open() == ["disk_filling"]


def test_revoked_machine_raises_nothing(watch: Watch) -> None:
    watch.set(presence="offline", presence_since_ms=1)
    watch.write(lambda session: session.execute(update(Agent).values(state="revoked")))
    watch.look()
    assert watch.open() == []


def test_certificate_that_was_not_renewed_is_told_until_it_is(watch: Watch) -> None:
    life = 90 * 24 * HOUR_MS
    watch.write(lambda session: certificate(session, watch.agent, life // 2, life, "1"))
    watch.look()
    assert watch.open() == []
    expiring = update(Certificate).values(not_before_ms=0, not_after_ms=now_ms() + HOUR_MS)
    watch.write(lambda session: session.execute(expiring))
    watch.look()
    assert watch.open() == ["certificate_expiring"]
    watch.write(lambda session: certificate(session, watch.agent, life, life, "2"))
    watch.look()
    assert watch.open() == []


def test_messages_reach_the_webhook_once_each(
    watch: Watch, api: HubClient, as_role: Headers, receiver: Receiver
) -> None:
    body = {"url": receiver.url}
    set_it = api.request("PUT", "/api/v1/alerts/target", json=body, headers=as_role("tenant_admin"))
    assert set_it.json() == {"url": "json://****"}
    watch.set(disk_percent=95.0)
    watch.look()
    watch.send()
    watch.send()
    assert receiver.titles == ["disk_filling: web-1"]
    assert "95 %" in receiver.messages[0]["message"]
    watch.set(disk_percent=10.0)
    watch.look()
    watch.send()
    watch.send()
    assert receiver.titles == ["disk_filling: web-1", "resolved: web-1"]


def test_target_that_fails_is_tried_again_later(
    watch: Watch, api: HubClient, as_role: Headers, receiver: Receiver
) -> None:
    body = {"url": receiver.url}
    api.request("PUT", "/api/v1/alerts/target", json=body, headers=as_role("tenant_admin"))
    receiver.status = 500
    watch.set(presence="conflict")
    watch.look()
    watch.send()
    receiver.status = 200
    watch.send()
    assert receiver.titles == [], "not yet: it waits"
    watch.write(lambda session: session.execute(update(Alert).values(next_try_ms=1)))
    watch.send()
    assert receiver.titles == ["identity_conflict: web-1"]


def test_trouble_that_was_over_before_anybody_heard_is_not_told(
    watch: Watch, receiver: Receiver, api: HubClient, as_role: Headers
) -> None:
    body = {"url": receiver.url}
    api.request("PUT", "/api/v1/alerts/target", json=body, headers=as_role("tenant_admin"))
    watch.set(presence="conflict")
    watch.look()
    watch.set(presence="online")
    watch.look()
    watch.send()
    assert receiver.messages == []


def test_target_is_sealed_and_never_shown(
    hub: Hub, api: HubClient, as_role: Headers, receiver: Receiver
) -> None:
    admin, auditor = as_role("tenant_admin"), as_role("auditor")
    body = {"url": receiver.url}
    replies = [
        api.request("PUT", "/api/v1/alerts/target", json=body, headers=admin),
        api.get("/api/v1/alerts/target", headers=auditor),
        api.post("/api/v1/alerts/target/test", headers=admin),
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 204]
    assert receiver.titles == ["a test of Jackline's alerts"]

    def look(session: Session) -> str:
        rows = session.scalars(select(AuditRow)).all()
        return repr([(row.action, row.detail) for row in rows]) + repr(
            session.scalars(select(Tenant.alert_url)).all()
        )

    everything = hub.database.read_now(None, look) + "".join(reply.text for reply in replies)
    assert CANARY not in everything
    off = api.request("PUT", "/api/v1/alerts/target", json={"url": None}, headers=admin)
    assert off.json() == {"url": None}
    assert api.post("/api/v1/alerts/target/test", headers=admin).json()["code"] == "no_target"


@pytest.mark.parametrize("url", ["nonsense", "dbus://", "syslog://", "windows://", "nope://x"])
def test_target_that_is_none_or_local_to_the_hub_is_refused(
    api: HubClient, as_role: Headers, url: str
) -> None:
    reply = api.request(
        "PUT", "/api/v1/alerts/target", json={"url": url}, headers=as_role("tenant_admin")
    )
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_target")


def test_alert_is_acknowledged_by_whoever_may(
    watch: Watch, api: HubClient, as_role: Headers, people: People
) -> None:
    watch.set(presence="conflict")
    watch.look()
    found = api.get("/api/v1/alerts?state=open", headers=as_role("auditor")).json()["items"]
    path = f"/api/v1/alerts/{found[0]['id']}/acknowledge"
    assert api.post(path, headers=as_role("auditor")).status_code == 403
    done = api.post(path, headers=as_role("operator")).json()
    assert (done["state"], done["acknowledged_by"]) == ("acknowledged", "operator.acme")
    assert api.get("/api/v1/alerts?state=open", headers=as_role("auditor")).json()["items"] == []
    watch.set(presence="online")
    watch.look()
    assert api.post(path, headers=as_role("operator")).json()["code"] == "already_ended"


def test_target_that_never_ends_holds_up_its_own_tenants_alerts_alone(receiver: Receiver) -> None:
    """It answers a byte at a time: no time-out of the sender's ends that."""
    ended = threading.Event()

    def slow_or_real(url: str, title: str, body: str) -> bool:
        return ended.wait(60) if url == "slow" else notify(url, title, body)

    async def main() -> None:
        sending = Sending(slow_or_real)
        slow = asyncio.ensure_future(sending.send("t1", "slow", "t", "b"))
        await asyncio.sleep(0)
        assert sending.is_busy("t1")
        assert await sending.send("t2", receiver.url, "quick", "b")
        assert not await sending.send("t1", receiver.url, "behind it", "b")
        ended.set()
        assert await slow
        assert await sending.send("t1", receiver.url, "later", "b")

    run(main())
    assert receiver.titles == ["quick", "later"]


def test_message_that_is_not_taken_in_time_is_given_up_and_its_thread_waited_for() -> None:
    ended = threading.Event()

    async def main() -> None:
        sending = Sending(lambda *_: ended.wait(60), send_s=0.01)
        assert not await sending.send("t1", "slow", "t", "b")
        assert sending.is_busy("t1")
        ended.set()
        while sending.is_busy("t1"):
            await asyncio.sleep(0.01)

    run(main())


def test_service_that_fails_in_its_own_way_has_not_taken_the_message(acme: Tenant) -> None:
    def broken(*_: str) -> bool:
        raise KeyError("of a service")

    assert not run(Sending(broken).send(acme.id, "x://y", "t", "b"))


def test_network_that_fails_raises_alerts_a_few_at_a_time(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.alerts.service.CHANGED_AT_ONCE", 2)
    for number in range(4):
        machine(watch.hub.database, watch.tenant.id, f"more-{number}")
    away = update(Asset).values(presence="offline", presence_since_ms=1)
    watch.write(lambda session: session.execute(away))
    found = watch.write(lambda session: conditions.find(session, now_ms()))
    changed, is_more = watch.write(lambda session: service.reconcile(session, found))
    assert (len(changed), is_more) == (2, True)
    watch.look()
    assert watch.open() == ["offline"] * 5
    back = update(Asset).values(presence="online")
    watch.write(lambda session: session.execute(back))
    watch.look()
    assert watch.open() == []
