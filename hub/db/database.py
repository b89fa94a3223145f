"""Units of work: plain functions over a `Session`, run in threads, each scoped to a tenant.

Rules: `await database.write(tenant, work, *args)` returns after the commit, or raises and nothing
of it is saved. SQLite has one writer thread: it takes all units that have gathered, gives each a
savepoint, and commits once; so a unit must be short and must not wait for anything. Units that may
run twice (`write_repeatable`) share a savepoint, which is most of what a small one costs; when one
of them raises, each is run again with its own. A full disk makes SQLite give up the whole
transaction, not the savepoint alone: the units before fail with it.
PostgreSQL runs every unit in its own transaction. `tenant` None is the system's own scope: all
tenants. Objects leave a session detached (`expire_on_commit=False`), so they may be read
afterwards.
Source: ADR 0012.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import sqlalchemy.exc
from sqlalchemy.orm import Session

from hub.db.engines import Engines, open_engines
from hub.db.tenancy import scope
from hub.errors import StorageFullError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH = 256
READERS = 4


class _Unit(NamedTuple):
    tenant: str | None
    work: Callable[[Session], Any]
    done: Future[Any]
    is_repeatable: bool = False


class Database:
    """One database, opened. Close it to end its threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engines: Engines = open_engines(url, READERS)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        if self._engines.has_one_writer:
            self._writer = threading.Thread(target=self._write_forever, name="db-write")
            self._writer.start()

    @property
    def engines(self) -> Engines:
        """Return the engines, for migrations and checks."""
        return self._engines

    async def read(
        self,
        tenant: str | None,
        work: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a unit that changes nothing.

        Args:
            tenant: whose rows it sees; None: everybody's.
            work: called with a session, then `args`.

        Raises:
            UnavailableError: the database does not answer.
            HubError: whatever `work` raises.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, self.read_now, tenant, lambda session: work(session, *args, **kwargs)
        )

    async def write(
        self,
        tenant: str | None,
        work: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a unit and commit it.

        Raises:
            UnavailableError: the database does not answer; StorageFullError: its disk is full.
            HubError: whatever `work` raises; nothing of it is saved then.
        """
        future = self._submit(tenant, lambda session: work(session, *args, **kwargs))
        result: T = await asyncio.wrap_future(future)
        return result

    async def write_repeatable(
        self,
        tenant: str | None,
        work: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do as `write` does, for a unit that may be run again because of one beside it.

        Raises:
            as `write`.
        """
        future = self._submit(
            tenant, lambda session: work(session, *args, **kwargs), is_repeatable=True
        )
        result: T = await asyncio.wrap_future(future)
        return result

    def write_now(self, tenant: str | None, work: Callable[[Session], T]) -> T:
        """Run a unit and commit it, from a thread that may wait: the command line's way."""
        result: T = self._submit(tenant, work).result()
        return result

    def read_now(self, tenant: str | None, work: Callable[[Session], T]) -> T:
        """Run a unit that changes nothing, in this thread."""
        try:
            with Session(self._engines.reader, expire_on_commit=False) as session:
                scope(session, tenant)
                return work(session)
        except sqlalchemy.exc.DBAPIError as error:
            raise foreign(error) from error

    def close(self) -> None:
        """Finish what was submitted, then end the threads."""
        if self._writer is not None:
            self._units.put(None)
            self._writer.join()
        self._pool.shutdown()
        self._engines.dispose()

    def _submit(
        self, tenant: str | None, work: Callable[[Session], T], *, is_repeatable: bool = False
    ) -> Future[T]:
        if self._writer is None:
            return self._pool.submit(self._write_alone, tenant, work)
        unit = _Unit(tenant, work, Future(), is_repeatable)
        self._units.put(unit)
        return unit.done

    def _write_alone(self, tenant: str | None, work: Callable[[Session], T]) -> T:
        try:
            with Session(self._engines.writer, expire_on_commit=False) as session:
                scope(session, tenant)
                result = work(session)
                session.commit()
                return result
        except sqlalchemy.exc.DBAPIError as error:
            raise foreign(error) from error

    def _write_forever(self) -> None:
        while (unit := self._units.get()) is not None:
            batch = [unit, *self._gathered()]
            ended = batch[-1] is None
            # Whoever asked may be gone; from here on its future cannot be cancelled.
            left = [one for one in batch if one and one.done.set_running_or_notify_cancel()]
            while left:
                left = self._write_batch(left)
            if ended:
                return

    def _gathered(self) -> list[_Unit | None]:
        found: list[_Unit | None] = []
        while len(found) < MAX_BATCH - 1:
            try:
                found.append(self._units.get_nowait())
            except queue.Empty:
                break
            if found[-1] is None:
                break
        return found

    def _write_batch(self, batch: list[_Unit]) -> list[_Unit]:
        """Run units, commit once, then tell each: nobody hears of a success before the commit.

        Returns:
            those that have still to be run: the transaction was given up before their turn.
        """
        ran: list[tuple[_Unit, Any]] = []
        left = list(batch)
        try:
            with Session(self._engines.writer, expire_on_commit=False) as session:
                link: Any = session.connection().connection.driver_connection
                while left:
                    group = _group(left)
                    del left[: len(group)]
                    try:
                        ran += self._run(session, group)
                    except BaseException as error:  # noqa: BLE001  (it belongs to who submitted it)
                        if not link.in_transaction:
                            _fail([*(one for one, _ in ran), *group], error)
                            return left
                        if len(group) == 1:
                            _fail(group, error)
                        else:
                            left[:0] = [one._replace(is_repeatable=False) for one in group]
                session.commit()
        except Exception as error:  # noqa: BLE001  (no beginning, or no commit: so has every unit)
            _fail([*(one for one, _ in ran), *left], error)
            return []
        for unit, result in ran:
            unit.done.set_result(result)
        return []

    def _run(self, session: Session, group: list[_Unit]) -> list[tuple[_Unit, Any]]:
        with session.begin_nested():
            scope(session, group[0].tenant)
            found = [(unit, unit.work(session)) for unit in group]
        session.expunge_all()
        return found


def _group(units: list[_Unit]) -> list[_Unit]:
    """Return what shares a savepoint: the first, and repeatable ones of its tenant behind it."""
    first = units[0]
    if not first.is_repeatable:
        return [first]
    found = itertools.takewhile(
        lambda unit: unit.is_repeatable and unit.tenant == first.tenant, units
    )
    return list(found)


def _fail(units: list[_Unit], error: BaseException) -> None:
    for unit in units:
        if not unit.done.done():
            unit.done.set_exception(_foreign_or_same(error))


def _foreign_or_same(error: BaseException) -> BaseException:
    return foreign(error) if isinstance(error, sqlalchemy.exc.DBAPIError) else error


def foreign(error: sqlalchemy.exc.DBAPIError) -> Exception:
    """Turn a database's error into ours, without its SQL; what is a fault of ours stays itself."""
    text = _said(error)
    if "full" in text or "no space" in text:
        return StorageFullError("the hub's database cannot grow: free space on its disk")
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return UnavailableError("the hub's database does not answer; try again")
    return error


def _said(error: BaseException | None) -> str:
    """Return what the database said, first of all: a savepoint that is gone hides why it is."""
    found = ""
    while error is not None:
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            found = str(error.orig).lower()
        error = error.__context__
    return found
