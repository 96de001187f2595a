"""Which trials of a search are stopped early: asynchronous successive halving.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2, in the form that
stops instead of pausing (as optuna.pruners.SuccessiveHalvingPruner has it): a trial that reaches a rung goes on if it
is among the best n // factor, at least the best, of the n trials that have reached it so far.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Line = tuple[object, ...]


class Cut(NamedTuple):
    """A trial that is to be stopped: after which epoch, at what value, and what would have let it go on."""

    epoch: int
    value: float
    needed: float | None

    def __str__(self) -> str:
        reason = "another trial of its point ended" if self.needed is None else f"{self.needed:.3f} goes on"
        return f"stopped after epoch {self.epoch} at validation IoU {self.value:.3f}; {reason}"


def rungs(min_epochs: int, factor: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs after which trials of so many epochs are compared, all before the last one."""
    found = []
    rung = min_epochs
    while rung < epochs:
        found.append(rung)
        rung *= factor
    return tuple(found)


class Rungs:
    """What the trials of a search had reached at each rung; of those that reached one, one in `factor` goes on."""

    def __init__(self, epochs: Sequence[int], factor: int):
        self._rungs, self._factor = tuple(epochs), factor
        self._curves: dict[Line, dict[str, dict[int, float]]] = defaultdict(dict)

    def put(self, line: Line, trial: str, values: Mapping[int, float]) -> None:
        """Take validation IoUs by epoch of a trial; a line is what may be compared: the same fold, seed and draw."""
        self._curves[line].setdefault(trial, {}).update(values)

    def best(self, line: Line, trial: str) -> float:
        """Return the best IoU of a trial until now."""
        return max(self._curves[line][trial].values())

    def cut(self, line: Line, trial: str, epoch: int | None = None) -> Cut | None:
        """Return where a trial is to be stopped, by its best IoU until a rung; None: nowhere.

        Args:
            line: the trial's.
            trial: which.
            epoch: that it has just ended: a rung is decided when it is reached, and not again when rivals come later;
                None: decide every rung that it has reached.
        """
        for rung in self._rungs if epoch is None else {epoch} & {*self._rungs}:
            reached = {name: _best(curve, rung) for name, curve in self._curves[line].items() if rung in curve}
            if trial not in reached:
                return None
            needed = sorted(reached.values(), reverse=True)[max(1, len(reached) // self._factor) - 1]
            if reached[trial] < needed:
                return Cut(rung, reached[trial], needed)
        return None


def _best(curve: Mapping[int, float], rung: int) -> float:
    return max(value for epoch, value in curve.items() if epoch <= rung)
