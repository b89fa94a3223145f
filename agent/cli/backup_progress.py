"""How far a backup is, for a person at a terminal: a bar on standard error.

Rules: a terminal only, and no colour with NO_COLOR; rich is imported when there is something to
show; nothing of its own threads, the worker tells once a second. Source: product "Progress".
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.cli import output
from workers.messages import Log, ToAgent
from workers.messages_backup import BackupStep

if TYPE_CHECKING:
    from rich.progress import Progress


class ProgressBar:
    """See the module."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._bar: Progress | None = None

    def on_mail(self, message: ToAgent) -> None:
        """Show how far the worker is."""
        if isinstance(message, BackupStep) and self._is_shown:
            self._show(message)
        elif isinstance(message, Log) and message.level == "error":
            output.note(f"{message.sentence} {message.fields}")

    def close(self) -> None:
        """Leave the bar as it is, and go to the next line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, step: BackupStep) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task(step.op, told="")
        task = self._bar.task_ids[0]
        is_looking = not step.total_bytes or step.op == "plan"
        self._bar.update(
            task,
            description=step.op,
            total=None if is_looking else 100.0,
            completed=0.0 if is_looking else step.percent,
            told=told(step),
        )
        self._bar.refresh()


def told(step: BackupStep) -> str:
    """Return what stands beside the bar: `42 % · 3.1 of 7.4 GiB · 38 MiB/s · 2 min left · name`."""
    if not step.total_bytes or step.op == "plan":
        return "looking …"
    done, total = output.size(step.done_bytes), output.size(step.total_bytes)
    parts = [f"{int(step.percent)} %", f"{done} of {total}"]
    if step.bytes_per_s:
        parts.append(f"{output.size(step.bytes_per_s)}/s")
    if step.eta_s is not None:
        parts.append(f"{output.duration(step.eta_s)} left")
    if step.file:
        parts.append(output.clean(step.file))
    return " · ".join(parts)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    one_line = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", markup=False, table_column=one_line),
        console=Console(stderr=True),
        auto_refresh=False,
        expand=True,
    )
