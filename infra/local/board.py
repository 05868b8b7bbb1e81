"""What the person at the terminal sees while everything starts: one line per step, with its time, and why if not.

In a terminal the lines move; elsewhere each finished step is one plain line. All of it goes to standard error.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn


class Board:
    """The steps of a start as they begin, move and end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._titles: dict[str, str] = {}

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(style="cyan"),
                TextColumn("{task.description}"),
                TextColumn("[dim]{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def begin(self, name: str, title: str) -> None:
        """A step has begun."""
        self._began[name], self._titles[name] = time.monotonic(), title
        if self._progress is not None:
            self._tasks[name] = self._progress.add_task(title, note="", total=None)

    def note(self, name: str, text: str) -> None:
        """How far a step is."""
        if self._progress is not None and name in self._tasks:
            self._progress.update(self._tasks[name], note=text)

    def done(self, name: str, text: str = "") -> None:
        """A step has ended well."""
        self._end(name, "[green]✓[/]", text)

    def failed(self, name: str) -> None:
        """A step has failed; the reason is told once, at the end."""
        self._end(name, "[red]✗[/]", "")

    def absent(self, title: str, reason: str) -> None:
        """A part that this machine lacks."""
        self.console.print(f"[yellow]–[/] {title}: [yellow]{reason}[/]", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Anything else, above the moving lines."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def _end(self, name: str, mark: str, text: str) -> None:
        seconds = time.monotonic() - self._began.get(name, time.monotonic())
        if self._progress is not None and name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))
        note = f" [dim]{text}[/]" if text else ""
        self.console.print(
            f"{mark} {self._titles.get(name, name)} [dim]{seconds:.1f} s[/]{note}", highlight=False, soft_wrap=True
        )
