"""The one Tune Searcher: it releases an item of work when its parents are finished."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from dfloc.sweep.plan import Item

logger = logging.getLogger(__name__)


class ParentsFirst(Searcher):  # type: ignore[misc]
    """Hands out items of work, parents before children; each Tune trial is a pack (a list of items).

    Args:
        items: what is to run, parents before children.
        config_of: what the Tune trial of a pack is told.

    Attributes:
        dropped: name of an item -> why it was never started.
        stopping: set to hand out nothing more.
    """

    def __init__(self, items: Sequence[Item], config_of: Callable[[Sequence[Item]], dict[str, Any]]):
        super().__init__(metric=None, mode=None)
        self.dropped: dict[str, str] = {}
        self.stopping = False
        self._config_of = config_of
        self._waiting = {item.trial.fingerprint: item for item in items}
        self._running: dict[str, list[Item]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next pack whose parents are finished; None = wait; FINISHED = there is no more."""
        if self.stopping or not self._waiting:
            return str(Searcher.FINISHED)
        open_ones = {*self._waiting, *(item.trial.fingerprint for pack in self._running.values() for item in pack)}
        ready = next((item for item in self._waiting.values() if item.trial.parent not in open_ones), None)
        if ready is None:
            return None
        del self._waiting[ready.trial.fingerprint]
        self._running[trial_id] = [ready]
        return self._config_of([ready])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Release the children of what finished; drop those of what failed, with a message."""
        for item in self._running.pop(trial_id, []):
            entry = ((result or {}).get("pack") or {}).get(item.trial.fingerprint) or {}
            if error or entry.get("failed"):
                self._drop(item.trial.fingerprint, item.name)
            elif not entry.get("finished"):
                self._drop(item.trial.fingerprint, item.name, "was stopped")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing is learned in between."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored: each start is planned anew from the ledger."""

    def _drop(self, parent: str, name: str, why: str = "failed") -> None:
        children = [fp for fp, item in self._waiting.items() if item.trial.parent == parent]
        for fp in children:
            child = self._waiting.pop(fp)
            self.dropped[child.name] = f"its parent {name} {why}"
            if why == "failed":
                logger.warning("%s is not started: its parent %s failed", child.name, name)
            self._drop(fp, name, why)
