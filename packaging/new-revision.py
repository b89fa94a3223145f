"""Write the revision that brings the last one to what the tables say now.

    .venv/bin/python packaging/new-revision.py NNNN_what

Rules: the file is read and mended by whoever made it; a table of a tenant gets its row-level
security here; tests/hub/db/test_migrations.py compares the outcome with the tables.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations.ops import CreateTableOp, UpgradeOps
from alembic.runtime.migration import MigrationContext

from hub.db import migrate
from hub.db.database import Database
from hub.db.tables import TenantOwned
from hub.metadata import METADATA, Table

FOLDER = Path(__file__).resolve().parent.parent / "hub" / "db" / "migrations" / "versions"
TEMPLATE = '''"""{what}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.db.tenancy import secure

revision = "{number}"
down_revision = {down!r}


def upgrade() -> None:
{body}
    secure(op.get_bind(), {tables!r})
'''


def main(name: str) -> None:
    number, _, what = name.partition("_")
    before = sorted(path.stem.partition("_")[0] for path in FOLDER.glob("[0-9]*.py"))
    ops = changes()
    body = render_python_code(ops, render_as_batch=True)
    lines = [line for line in body.splitlines() if not line.strip().startswith("#")]
    text = TEMPLATE.format(
        what=what.replace("_", " ").capitalize(),
        number=number,
        down=before[-1] if before else None,
        body="\n".join(lines),
        tables=owned(ops),
    )
    path = FOLDER / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    print(path)


def changes() -> UpgradeOps:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/hub.db")
        try:
            migrate.upgrade(database)
            with database.engines.reader.connect() as connection:
                context = MigrationContext.configure(connection)
                ops = produce_migrations(context, METADATA).upgrade_ops
        finally:
            database.close()
    assert ops is not None
    return ops


def owned(ops: UpgradeOps) -> list[str]:
    made = {one.table_name for one in ops.ops if isinstance(one, CreateTableOp)}
    return sorted(
        str(mapper.local_table.name)  # type: ignore[attr-defined]
        for mapper in Table.registry.mappers
        if issubclass(mapper.class_, TenantOwned) and mapper.local_table.name in made  # type: ignore[attr-defined]
    )


if __name__ == "__main__":
    main(sys.argv[1])
