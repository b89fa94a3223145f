"""What the heartbeat has to remember: samples, commands with their results, the inventory.

Rules: SQLite, WAL, synchronous=FULL, 0600; every function runs on the disk thread and may raise
sqlite3.Error, and changes nothing then. A damaged file is moved aside and a new one begun. What a
beat carries is read, sent, and only then noted as told: a beat that is lost is simply sent again.
A command is known for seven days by the hub's own clock, so that a wrong one of ours forgets
nothing; of the samples the newest thousand are kept.

Source: contract part 2; fault cases C.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wire import limits

_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE samples (seq INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
CREATE TABLE commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    command_id TEXT NOT NULL UNIQUE,
    command_type TEXT NOT NULL,
    params BLOB NOT NULL,
    expires_at TEXT NOT NULL,
    state TEXT NOT NULL,
    seen_ms REAL NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    summary BLOB,
    artifact BLOB,
    artifact_id TEXT,
    error TEXT,
    running_told INTEGER NOT NULL DEFAULT 0,
    final_told INTEGER NOT NULL DEFAULT 0
);
"""
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-128",
    "PRAGMA wal_autocheckpoint=128",
    "PRAGMA journal_size_limit=1048576",
    "PRAGMA temp_store=MEMORY",
)
_RESULT_BYTES = limits.MIB  # of summaries in one beat
_KEPT_DAMAGED = 3
FINAL = ("completed", "failed")


class Offer(NamedTuple):
    """A command that is to be carried out."""

    command_id: str
    command_type: str
    params: dict[str, Any]
    expires_at: str


class Artifact(NamedTuple):
    """A large result that is to be uploaded."""

    command_id: str
    data: bytes


class Draft(NamedTuple):
    """The text of one beat, and what it tells: to be noted once it was answered."""

    text: bytes
    seq: int
    last_sample: int
    running: tuple[str, ...]
    final: tuple[str, ...]
    inventory_digest: str | None


class Counts(NamedTuple):
    """For `status`."""

    samples: int = 0
    commands: int = 0


class HeartbeatStore:
    """See the module; opened by its first use.

    Args:
        path: of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._link: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    # -- samples and inventory -------------------------------------------------------------------

    def add_sample(self, data: bytes) -> None:
        """Keep a sample, and of all samples the newest."""
        with self._writing() as link:
            link.execute("INSERT INTO samples (data) VALUES (?)", (data,))
            link.execute(
                "DELETE FROM samples WHERE seq <= (SELECT max(seq) FROM samples) - ?",
                (limits.METRICS_KEPT,),
            )

    def set_inventory(self, text: bytes, digest: str) -> None:
        """Keep the newest inventory."""
        with self._writing() as link:
            _put(link, "inventory", text)
            _put(link, "inventory_digest", digest.encode())

    def has_inventory(self) -> bool:
        """Was one ever taken?"""
        return self._meta("inventory_digest") is not None

    # -- a beat ----------------------------------------------------------------------------------

    def draft(
        self, head: Mapping[str, Any], newest: bytes | None, *, wants_inventory: bool
    ) -> Draft:
        """Write the next beat.

        Args:
            head: `agent_id`, `sent_at` and `boot_id`.
            newest: a sample that need not be kept.
            wants_inventory: the hub asked for it.
        """
        rows = self._all("SELECT seq, data FROM samples ORDER BY seq LIMIT ?", limits.BEAT_METRICS)
        metrics = [row[1] for row in rows]
        if newest is not None and len(metrics) < limits.BEAT_METRICS:
            metrics.append(newest)
        results, running, final = self._results()
        body: dict[str, Any] = {**head, "seq": self._next_seq()}
        if metrics:
            body["metrics"] = [msgspec.Raw(each) for each in metrics]
        if results:
            body["command_results"] = results
        digest = self._add_inventory(body, wants_inventory=wants_inventory)
        last_sample = rows[-1][0] if rows else 0
        text = msgspec.json.encode(body)
        return Draft(text, body["seq"], last_sample, tuple(running), tuple(final), digest)

    def told(self, draft: Draft) -> None:
        """A beat was answered: everything in it is stored at the hub."""
        with self._writing() as link:
            link.execute("DELETE FROM samples WHERE seq <= ?", (draft.last_sample,))
            for command_id in draft.running:
                _set(link, command_id, running_told=1)
            for command_id in draft.final:
                _set(link, command_id, final_told=1, summary=None)
            if draft.inventory_digest is not None:
                _put(link, "inventory_told", draft.inventory_digest.encode())

    # -- commands --------------------------------------------------------------------------------

    def take(self, offers: list[Offer], hub_ms: float) -> list[Offer]:
        """Note what was offered; return what was never seen before, in order.

        Args:
            hub_ms: the hub's clock, by which ids are forgotten.
        """
        fresh = []
        with self._writing() as link:
            for offer in offers:
                done = link.execute(
                    "INSERT OR IGNORE INTO commands"
                    " (command_id, command_type, params, expires_at, state, seen_ms)"
                    " VALUES (?, ?, ?, ?, 'accepted', ?)",
                    (
                        offer.command_id,
                        offer.command_type,
                        msgspec.json.encode(offer.params),
                        offer.expires_at,
                        hub_ms,
                    ),
                )
                if done.rowcount:
                    fresh.append(offer)
                else:
                    # The hub has not heard how far it is, or has forgotten.
                    _set(link, offer.command_id, running_told=0, final_told=0)
            link.execute(
                "DELETE FROM commands WHERE final_told = 1 AND seen_ms < ?",
                (hub_ms - limits.COMMAND_ID_KEPT_S * 1000.0,),
            )
        return fresh

    def begin(self, command_id: str, at: str) -> None:
        """A command is being carried out from now on: it never will be again."""
        with self._writing() as link:
            _set(link, command_id, state="running", started_at=at)

    def finish(
        self,
        command_id: str,
        at: str,
        error: str | None,
        summary: dict[str, Any] | None = None,
        artifact: bytes | None = None,
    ) -> None:
        """A command has ended; with an artifact it is told once that is uploaded."""
        with self._writing() as link:
            _set(
                link,
                command_id,
                state="failed" if error is not None else "completed",
                finished_at=at,
                error=error,
                summary=None if summary is None else msgspec.json.encode(summary),
                artifact=artifact,
            )

    def uploaded(self, command_id: str, artifact_id: str | None, error: str | None = None) -> None:
        """An artifact has arrived, or the hub does not want it."""
        with self._writing() as link:
            _set(link, command_id, artifact=None, artifact_id=artifact_id)
            if error is not None:
                _set(link, command_id, state="failed", error=error)

    def recover(self, at: str) -> list[Offer]:
        """After a start: what was running is lost; return what had not begun."""
        with self._writing() as link:
            link.execute(
                "UPDATE commands SET state = 'failed', finished_at = ?, error = 'agent_restarted'"
                " WHERE state = 'running'",
                (at,),
            )
        rows = self._all(
            "SELECT command_id, command_type, params, expires_at FROM commands"
            " WHERE state = 'accepted' ORDER BY seq"
        )
        return [Offer(row[0], row[1], msgspec.json.decode(row[2]), row[3]) for row in rows]

    def artifact(self) -> Artifact | None:
        """Return the oldest artifact that is to be uploaded."""
        rows = self._all(
            "SELECT command_id, artifact FROM commands WHERE artifact IS NOT NULL"
            " ORDER BY seq LIMIT 1"
        )
        return Artifact(*rows[0]) if rows else None

    def counts(self) -> Counts:
        """Return how much waits to be told."""
        samples = self._all("SELECT count(*) FROM samples")[0][0]
        commands = self._all("SELECT count(*) FROM commands WHERE final_told = 0")[0][0]
        return Counts(samples, commands)

    # -- inside ----------------------------------------------------------------------------------

    def _results(self) -> tuple[list[dict[str, Any]], list[str], list[str]]:
        """What is to be told of commands: that they run, and how they ended, in this order."""
        rows = self._all(
            "SELECT command_id, state, started_at, finished_at, summary, artifact_id, error,"
            " running_told, artifact IS NOT NULL FROM commands WHERE state != 'accepted'"
            " AND final_told = 0 AND NOT (state = 'running' AND running_told)"
            " ORDER BY seq LIMIT ?",
            limits.BEAT_RESULTS // 2,
        )
        told: list[dict[str, Any]] = []
        running, final = [], []
        room = _RESULT_BYTES
        for command_id, state, started, finished, summary, artifact_id, error, heard, waits in rows:
            if started is not None and not heard:
                told.append({"command_id": command_id, "state": "running", "started_at": started})
                running.append(command_id)
            room -= len(summary or b"")
            if state not in FINAL or waits or room < 0:
                continue
            ended: dict[str, Any] = {"command_id": command_id, "state": state}
            if summary is not None:
                ended["result_summary"] = msgspec.Raw(summary)
            optional = {
                "started_at": started,
                "finished_at": finished,
                "artifact_id": artifact_id,
                "error": error,
            }
            ended.update({name: value for name, value in optional.items() if value is not None})
            told.append(ended)
            final.append(command_id)
        return told, running, final

    def _add_inventory(self, body: dict[str, Any], *, wants_inventory: bool) -> str | None:
        digest = self._meta("inventory_digest")
        if digest is None:
            return None
        body["inventory_digest"] = digest.decode()
        if not wants_inventory and digest == self._meta("inventory_told"):
            return None
        body["inventory"] = msgspec.Raw(self._meta("inventory") or b"{}")
        return digest.decode()

    def _next_seq(self) -> int:
        seq = int(self._meta("seq") or b"0") + 1
        with self._writing() as link:
            _put(link, "seq", str(seq).encode())
        return seq

    def _meta(self, key: str) -> bytes | None:
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _all(self, sql: str, *values: object) -> list[Any]:
        return self._opened().execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        link = self._opened()
        link.execute("BEGIN IMMEDIATE")
        try:
            yield link
        except BaseException:
            link.rollback()
            raise
        link.commit()

    def _opened(self) -> sqlite3.Connection:
        if self._link is not None:
            return self._link
        try:
            self._link = _open(self._path)
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise
            _move_aside(self._path)
            self._link = _open(self._path)
        return self._link


def _open(path: Path) -> sqlite3.Connection:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    os.close(fd)
    link = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            link.execute(pragma)
        (version,) = link.execute("PRAGMA user_version").fetchone()
        if version == 0:
            link.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif link.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        link.close()
        raise
    return link


def _move_aside(path: Path) -> None:
    """Keep a damaged file for whoever wants to look at it, but not every one."""
    for number in range(_KEPT_DAMAGED, 0, -1):
        kept = path.with_name(f"{path.name}.damaged-{number}")
        if not kept.exists() or number == 1:
            os.replace(path, kept)
            break
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _put(link: sqlite3.Connection, key: str, value: bytes) -> None:
    link.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _set(link: sqlite3.Connection, command_id: str, **values: object) -> None:
    columns = ", ".join(f"{name} = ?" for name in values)
    link.execute(
        f"UPDATE commands SET {columns} WHERE command_id = ?",  # our own names
        (*values.values(), command_id),
    )
