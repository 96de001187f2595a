"""A search while it runs: a point is put on record before anything is done for it."""

from collections.abc import Callable, Sequence
from typing import Any

from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.sweep.drawing import Drawing
from dfloc.sweep.plan import Item

Keep = Callable[[SweepRecord], None]


class Hunt:
    """What the searcher asks for more items (`schedule.More`).

    Args:
        drawing: what is drawn.
        keep: puts a new point on record; refuses where this driver has lost its lock.
        check: refuses likewise, before a stop is written.
        told: of the name of a trial of a new point for which nothing is left to do.
    """

    def __init__(
        self,
        drawing: Drawing,
        *,
        keep: Keep,
        check: Callable[[], None],
        told: Callable[[str], None],
    ):
        self._drawing = drawing
        self._keep, self._check, self._told = keep, check, told

    def draw(self) -> list[Item] | None:
        """Return the items of the next point; None: there is no more."""
        drawn: list[PlannedTrial] = []

        def on_drawn(trials: Sequence[PlannedTrial]) -> None:
            drawn.extend(trials)
            self._keep(self._drawing.drawn(trials))

        items = self._drawing.draw(on_drawn)
        for trial in drawn:
            if trial.fingerprint not in {item.trial.fingerprint for item in items or ()}:
                self._told(trial.name)
        return items

    def wants(self, item: Item) -> bool:
        """Return whether an item is still to be done."""
        return self._drawing.wants(item)

    def cut(self, item: Item, entry: dict[str, Any]) -> object | None:
        """Return why a trial that reports is to be stopped; None: it goes on."""
        if "valid_iou" in entry or "goes_on" in entry:
            self._check()
        return self._drawing.cut(item, entry)
