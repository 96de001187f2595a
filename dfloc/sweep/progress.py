"""What a long command shows: one live display on a terminal, plain dated lines elsewhere."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """Done, running, left and time left of one step of a command; a context manager.

    Args:
        console: where it is shown.
        what: the step, as a noun: "features", "trials".
        total: how many there are.
        every: without a terminal, seconds between two lines at least.
    """

    def __init__(self, console: Console, what: str, total: int, every: float = 10.0):
        self._console = console
        self._what = what
        self._total = total
        self._every = every
        self._done = 0
        self._start = time.monotonic()
        self._said = float("-inf")
        self._running: dict[str, str] = {}
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[rest]}"), console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total, rest="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def running(self, name: str, state: str) -> None:
        """Show how far something that runs is."""
        self._running[name] = state
        self._show()

    def finished(self, name: str, outcome: str = "") -> None:
        """Count one more; `outcome` is always shown."""
        self._running.pop(name, None)
        self._done += 1
        if outcome:
            self.say(f"{name}: {outcome}")
        self._show()

    def reported(self, name: str, entry: dict[str, Any]) -> bool:
        """Show what a trial reports; return whether it was its last report."""
        if entry.get("failed"):
            self.finished(name, f"failed: {entry['failed']}")
        elif entry.get("stopped"):
            self.finished(name, entry["stopped"])
        elif entry.get("finished"):
            self.finished(name)
        else:
            if entry.get("goes_on"):
                self.say(f"{name} goes on from epoch {entry['epoch']} of {entry['epochs']}")
            self.running(name, f"{entry['epoch']}/{entry['epochs']}")
            return False
        return True

    def advance(self, done: int, total: int) -> None:
        """Set how many are done, of how many."""
        self._done, self._total = done, total
        self._show()

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        rest = f"{self._time_left()}{'; ' if self._running else ''}" + ", ".join(
            f"{name} {state}" for name, state in self._running.items()
        )
        if self._bar:
            self._bar.update(self._task, completed=self._done, total=self._total, rest=rest)
            return
        now = time.monotonic()
        if now - self._said >= self._every or self._done == self._total:
            self._said = now
            running = f", {len(self._running)} running" if self._running else ""
            self.say(f"{self._what}: {self._done} of {self._total} done{running}{self._time_left(', ')}")

    def _time_left(self, prefix: str = "") -> str:
        if not self._done or self._done == self._total:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f"{prefix}{int(seconds // 60)}:{int(seconds % 60):02d} left"
