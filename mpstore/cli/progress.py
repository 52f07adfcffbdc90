"""Progress bars on a terminal, warnings everywhere.

Relies on rich, imported when the first bar is drawn. Promises: bars go to standard error and only when
it is a terminal; a warning is one line on standard error, or is collected for the JSON document.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mpstore.events import Progress, Task, silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def sink(warnings: list[str], *, as_json: bool, quiet: bool) -> Progress:
    """The sink of one command; warnings are also appended to `warnings`."""
    if as_json or quiet or sys.stderr is None or not sys.stderr.isatty():
        return _Plain(warnings, shown=not (as_json or quiet))
    return _Bars(warnings)


class _Plain:
    """No bars; warnings as lines unless they only go into the document."""

    def __init__(self, warnings: list[str], shown: bool) -> None:
        self._warnings = warnings
        self._shown = shown

    def task(self, label: str, total: int | None, unit: str) -> Task:
        return silent.task(label, total, unit)

    def warn(self, message: str) -> None:
        self._warnings.append(message)
        if self._shown:
            click.echo(f"mp: warning: {message}", err=True)


class _Bars:
    """One live display while any task runs."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings
        self._display: RichProgress | None = None
        self._running = 0

    def task(self, label: str, total: int | None, unit: str) -> Task:
        if self._display is None:
            self._display = _display()
            self._display.start()
        self._running += 1
        return _Bar(self, self._display, self._display.add_task(label, total=total, unit=unit))

    def warn(self, message: str) -> None:
        self._warnings.append(message)
        if self._display is not None:
            self._display.console.print(f"mp: warning: {message}", markup=False, highlight=False)
        else:
            click.echo(f"mp: warning: {message}", err=True)

    def ended(self) -> None:
        """A bar ended; with the last one the display goes, so that answers print on a clean screen."""
        self._running -= 1
        if self._running == 0 and self._display is not None:
            self._display.stop()
            self._display = None


class _Bar:
    def __init__(self, owner: _Bars, display: RichProgress, task: TaskID) -> None:
        self._owner = owner
        self._display = display
        self._task = task
        self._open = True

    def advance(self, amount: int) -> None:
        self._display.advance(self._task, amount)

    def finish(self) -> None:
        if self._open:
            self._open = False
            self._display.remove_task(self._task)
            self._owner.ended()


def _display() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import Task as RichTask
    from rich.text import Text

    from mpstore.cli import quantities

    class Amount(ProgressColumn):
        """ "1.2 GiB of 3.4 GiB" or "17 of 23 tensors"."""

        def render(self, task: RichTask) -> Text:
            unit = str(task.fields.get("unit", ""))
            show = quantities.size if unit == "bytes" else lambda count: f"{int(count):,}"
            done, suffix = show(int(task.completed)), "" if unit == "bytes" else f" {unit}"
            return Text(
                f"{done}{suffix}" if task.total is None else f"{done} of {show(int(task.total))}{suffix}"
            )

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Amount(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
