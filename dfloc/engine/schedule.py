"""How the learning rate changes: constant, plateau (DeCLIP's), one-cycle."""

import math
from typing import Any, Protocol, cast

from dfloc import measures, registry
from dfloc.config import TrialSpec
from dfloc.errors import ConfigError

PATIENCE = 5
MIN_LR = 1e-6
WARM_UP, START_DIVISOR, END_DIVISOR = 0.3, 25.0, 1e4


class Schedule(Protocol):
    """Gives each step its learning rate, and says after each epoch whether training goes on."""

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        ...

    def end_epoch(self, value: float) -> bool:
        """Take note of the validation measure that is watched, more is better; return whether training goes on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what must be restored to go on."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


def make(spec: TrialSpec) -> Schedule:
    """Return the schedule that a spec names, before its first step.

    Raises:
        ConfigError: its plug-in is not loaded, has changed, or makes no schedule.
    """
    made = registry.find("schedule", spec.schedule.name, spec.schedule.plugin)(spec)
    lacks = [name for name in ("lr", "end_epoch", "state", "restore") if not callable(getattr(made, name, None))]
    if lacks:
        raise ConfigError(f'schedule "{spec.schedule.name}" has no method {lacks[0]}; docs/PLUGINS.md has an example')
    return cast(Schedule, made)


def make_constant(spec: TrialSpec) -> Schedule:
    """Return the schedule of one learning rate."""
    return Constant(spec.optimizer.lr)


def make_plateau(spec: TrialSpec) -> Schedule:
    """Return DeCLIP's schedule."""
    delta = spec.schedule.delta
    return Plateau(spec.optimizer.lr, measures.DELTAS[spec.schedule.watch] if delta is None else delta)


def make_one_cycle(spec: TrialSpec) -> Schedule:
    """Return the schedule of one cycle over all steps."""
    return OneCycle(spec.optimizer.lr, spec.steps)


class Constant:
    """The same learning rate at every step."""

    def __init__(self, lr: float) -> None:
        self._lr = lr

    def lr(self, step: int) -> float:
        """Return the learning rate."""
        return self._lr

    def end_epoch(self, value: float) -> bool:
        """Go on."""
        return True

    def state(self) -> dict[str, Any]:
        """Return nothing: nothing changes."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore nothing."""


class OneCycle(Constant):
    """One cosine up and one down over all steps (Smith and Topin 2018), with the constants of torch's OneCycleLR.

    Up to `lr` within the first 30 % of the steps from a 25th of it, then down to a 10,000th of that; the optimiser's
    betas stay as they are.
    """

    def __init__(self, lr: float, num_steps: int) -> None:
        super().__init__(lr)
        self._top, self._end = WARM_UP * num_steps - 1, num_steps - 1

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        start = self._lr / START_DIVISOR
        if step <= self._top:
            return _cosine(start, self._lr, step / self._top)
        return _cosine(self._lr, start / END_DIVISOR, (step - self._top) / (self._end - self._top))


class Plateau:
    """DeCLIP's schedule: a tenth of the learning rate after five epochs in a row that bring nothing.

    An epoch is bad if what is watched (IoU, unless told otherwise) is below the best + delta (twice that after the
    first drop). At the fifth bad one in a row the learning rate is divided by 10 and the best forgotten; training ends
    when the new rate is under 1e-6. Selection of the best weights is not touched.
    """

    def __init__(self, lr: float, delta: float) -> None:
        self._lr = lr
        self._delta, self._later_delta = delta, 2 * delta
        self._best: float | None = None
        self._num_bad = 0

    def lr(self, step: int) -> float:
        """Return the learning rate of the epoch under way."""
        return self._lr

    def end_epoch(self, value: float) -> bool:
        """Count the epoch as good or bad; return False when the learning rate has become too small."""
        if self._best is None or value >= self._best + self._delta:
            self._best, self._num_bad = value, 0
            return True
        self._num_bad += 1
        if self._num_bad == PATIENCE:
            self._lr /= 10
            self._best, self._num_bad, self._delta = None, 0, self._later_delta
        return self._lr >= MIN_LR

    def state(self) -> dict[str, Any]:
        """Return the rate, and what is known of the plateau."""
        return {"lr": self._lr, "delta": self._delta, "best": self._best, "num_bad": self._num_bad}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._lr, self._delta = state["lr"], state["delta"]
        self._best, self._num_bad = state["best"], state["num_bad"]


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
