"""What a sweep runs next, what it stops early, and what can no longer run; knows no Ray."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from dfloc.sweep.plan import Item

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
    """Items that are known from the start, each once its parent is finished.

    Args:
        items: parents before children.
    """

    def __init__(self, items: Sequence[Item]):
        self.dropped: dict[str, str] = {}
        self._waiting = {item.trial.fingerprint: item for item in items}
        self._running: set[str] = set()

    def suggest(self) -> Next:
        """Return the first item whose parent is neither running nor waiting."""
        to_end = self._waiting.keys() | self._running
        ready = next((name for name, item in self._waiting.items() if item.trial.parent not in to_end), None)
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
        for name in [name for name, item in self._waiting.items() if item.trial.parent == parent]:
            self.dropped[self._waiting.pop(name).name] = why
            self._drop(name, why)
