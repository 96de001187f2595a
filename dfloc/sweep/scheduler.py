"""What a sweep runs next, what it stops early, and what can no longer run; knows no Ray."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from dfloc.record import SweepRecord
from dfloc.sweep.plan import Item
from dfloc.sweep.search import Search

Next = Item | Literal["wait", "end"]


class Scheduler(Protocol):
    """Decides about items of work, one at a time; how many run at once, and where, is the engine's.

    Attributes:
        dropped: name of an item -> why it is never started.
    """

    dropped: dict[str, str]

    def suggest(self) -> Next:
        """Return an item to start now; "wait": one that runs is to end first; "end": there is no more."""
        ...

    def on_result(self, item: Item, entry: Mapping[str, Any]) -> str:
        """Take what an item reports (`work.run`); return why it is to be stopped, empty: it goes on."""
        ...

    def on_end(self, item: Item, failure: str = "") -> None:
        """Take that an item has ended; `failure` says how, empty: it is finished."""
        ...


class ParentsFirst:
    """Items that are known from the start, parents before children, each once its parent is finished."""

    def __init__(self, items: Sequence[Item]):
        self.dropped: dict[str, str] = {}
        self._waiting = {item.trial.fingerprint: item for item in items}
        self._running: set[str] = set()

    def suggest(self) -> Next:
        """Return the first item none of whose parents is running or waiting."""
        to_end = self._waiting.keys() | self._running
        ready = next((name for name, item in self._waiting.items() if to_end.isdisjoint(item.trial.parents)), None)
        if ready is None:
            return "wait" if self._waiting else "end"
        self._running.add(ready)
        return self._waiting.pop(ready)

    def on_result(self, item: Item, entry: Mapping[str, Any]) -> str:
        """Let it go on."""
        return ""

    def on_end(self, item: Item, failure: str = "") -> None:
        """Release the children of what is finished; drop all descendants of what is not, with a message."""
        self._running.discard(item.trial.fingerprint)
        if failure:
            self._drop(item.trial.fingerprint, f"its parent {item.name} {failure}")

    def _drop(self, parent: str, why: str) -> None:
        for name in [name for name, item in self._waiting.items() if parent in item.trial.parents]:
            self.dropped[self._waiting.pop(name).name] = why
            self._drop(name, why)


class SearchScheduler(ParentsFirst):
    """Known items, and those of points that are drawn when none of them is ready.

    Args:
        items: what is known to be left, parents before children.
        search: draws the points.
        keep: puts a new point on record before anything is done for it; refuses where this driver has lost its lock.
        check: refuses likewise, before a stop is written.
        on_done_before: of the name of a trial of a new point for which nothing is left to do.
    """

    def __init__(
        self,
        items: Sequence[Item],
        search: Search,
        *,
        keep: Callable[[SweepRecord], None],
        check: Callable[[], None],
        on_done_before: Callable[[str], None],
    ):
        super().__init__(items)
        self._search = search
        self._keep, self._check, self._on_done_before = keep, check, on_done_before

    def suggest(self) -> Next:
        """Return a known item that is ready, or one of the next point."""
        while True:
            over = self._search.over()
            self._waiting = {name: item for name, item in self._waiting.items() if name not in over}
            found = super().suggest()
            if isinstance(found, Item) or not self._draw():
                return found

    def on_result(self, item: Item, entry: Mapping[str, Any]) -> str:
        """Return why a trial is stopped early, and put that into the ledger."""
        cut = self._search.cut(item, entry)
        if cut is None:
            return ""
        self._check()
        self._search.stop(item, cut)
        return str(cut)

    def _draw(self) -> bool:
        """Add what is to be done of the next point; return whether there is one."""
        before, trials = self._search.exhausted, self._search.draw()
        if trials or self._search.exhausted != before:
            self._keep(self._search.drawn(trials))
        left = {item.trial.fingerprint: item for item in self._search.work_of(trials)}
        for trial in trials:
            if trial.fingerprint not in left:
                self._on_done_before(trial.name)
        self._waiting |= {name: left[name] for name in left if name not in (self._waiting.keys() | self._running)}
        return bool(trials)
