"""The search of a sweep: what was drawn, what came of it, what is drawn next, and what is stopped."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dfloc import objective, repro
from dfloc.ledger import Ledger
from dfloc.objective import Standing
from dfloc.outcome import Stopped
from dfloc.planned import PlannedTrial, SearchAxis, SearchRecord
from dfloc.record import SweepRecord
from dfloc.sweep import asha
from dfloc.sweep.asha import Cut, Line, Rungs
from dfloc.sweep.cell import Study
from dfloc.sweep.plan import Item, Resolved, work_of
from dfloc.sweep.search_space import Point, PointResult, SamplerAsk, Space
from dfloc.trial_names import POINT

ATTEMPTS = 20  # of the sampler to give a point that was not drawn before
WEIGHED_FROM = 4  # points, from which on the importance of an axis is computed
AT_RANDOM = 200  # further ones where the space cannot be listed

Drawn = tuple[Point, Sequence[PlannedTrial]]


class Search:
    """Draws points until there are enough, from the ledger alone: each start of a search begins where it was.

    A point is one trial, or one for each fold, seed and draw of its stage (`objective.of_point`). It ends as soon as
    one of them is stopped or has failed: the others are not trained then.

    Args:
        study: with a search.
        resolved: its trials, and those that stand for the ones to draw.
        ledger: what is finished.
        old: what earlier starts recorded. Of all their points those are taken over that lie in the space, and whose
            trials are still the same, as far as seeds and draws go.

    Attributes:
        points: what was drawn, in order.
        exhausted: there is no other point.
    """

    def __init__(self, study: Study, resolved: Resolved, ledger: Ledger, old: Sequence[SweepRecord]):
        assert study.ask.search
        assert study.draw
        self._ask, self._cells, self._chosen = study.ask.search, study.draw, study.chosen
        self._resolved, self._ledger = resolved, ledger
        self._sweep = resolved.record.sweep
        self._space = Space(self._ask.space)
        self._ended: dict[str, Standing] = {}
        self.points: list[Drawn] = []
        self.exhausted = False
        for start in old:
            for search in (one for one in start.searches if one.stage == self._ask.stage):
                self._recall(start.trials, search)
        pruner, epochs = self._ask.pruner, max(cell.trial.epochs for cell in study.cover)
        self._epochs = () if pruner.name == "none" else asha.rungs(pruner.min_epochs, pruner.factor, epochs)
        self._rungs = Rungs(self._epochs, pruner.factor)
        for trial in self._trials():
            self._look(trial)

    def resolved(self, retry_failed: bool) -> Resolved:
        """Return the study's trials with those that were drawn, and how many are to be."""
        record = self.added_to(self._resolved.record)
        to_draw = self._num_to_draw()
        return replace(
            self._resolved,
            record=record,
            cover=self._resolved.cover if to_draw else (),
            to_draw=to_draw,
            ended=self.over(("stopped",)) if retry_failed else self.over(),
        )

    def added_to(self, record: SweepRecord) -> SweepRecord:
        """Return a record that has every point."""
        there = {(trial.stage, trial.fingerprint) for trial in record.trials}
        new = [trial for trial in self._trials() if (trial.stage, trial.fingerprint) not in there]
        return record.model_copy(update={"trials": (*record.trials, *new), "search": self._search(self.points)})

    def drawn(self, trials: Sequence[PlannedTrial]) -> SweepRecord:
        """Return what goes on record of the newest point, if it has trials, and of what has been learned so far."""
        search = self._search(self.points[-1:] if trials else ())
        return self._resolved.record.model_copy(update={"trials": tuple(trials), "search": search})

    def _search(self, points: Sequence[Drawn]) -> SearchRecord:
        return SearchRecord(
            stage=self._ask.stage,
            objective=self._ask.objective,
            trials=self._ask.trials,
            axes={name: axis.model_dump() for name, axis in self._space.axes.items()},
            rungs=self._epochs,
            factor=self._ask.pruner.factor,
            points=tuple(tuple(trial.fingerprint for trial in trials) for _, trials in points),
            exhausted=self.exhausted,
            **self._weighed(),
        )

    def draw(self) -> Sequence[PlannedTrial]:
        """Draw the next point and return its trials, to be put on record; none: enough are drawn, or all there are.

        A point whose trials are all those of others is none.
        """
        number = len(self.points)
        if number >= self._ask.trials or self.exhausted:
            return ()
        seen = {trial.fingerprint for trial in self._trials()}
        for point in self._candidates(number):
            trials = self._plan(point, number) if self._is_new(point) else []
            if not {trial.fingerprint for trial in trials} <= seen:
                self.points.append((point, trials))
                for trial in trials:
                    self._look(trial)
                return trials
        self.exhausted = True
        return ()

    def work_of(self, trials: Sequence[PlannedTrial]) -> list[Item]:
        """Return what is to be done of a point's trials; nothing where all was done before."""
        over = self.over()
        return [
            item for item in work_of(trials, self._ledger, self._resolved.unasked) if item.trial.fingerprint not in over
        ]

    def over(self, at: Sequence[str] = ("stopped", "failed")) -> frozenset[str]:
        """Return trials, by fingerprint, that are not trained any more: one of their point was stopped, or failed."""
        ended = [trials for _, trials in self.points if self._stands(trials).state in at]
        names = {trial.fingerprint for trials in ended for trial in trials}
        others = {trial.fingerprint for trial in self._resolved.record.trials}
        return frozenset(name for name in names - others if self._standing(name).state != "done")

    def cut(self, item: Item, entry: Mapping[str, Any]) -> Cut | None:
        """Return where a trial that reports is to be stopped; None: it goes on."""
        if item.trial.stage != self._ask.stage or not entry.keys() & {"valid_iou", "goes_on"}:
            return None
        line, name, ended = self._line(item.trial), item.trial.fingerprint, None
        if entry.get("goes_on"):
            self._look(item.trial)
        else:
            ended = entry["epoch"]
            self._rungs.put(line, name, {ended: entry["valid_iou"]})
        cut = self._rungs.cut(line, name, ended)
        if cut is None and entry["epoch"] < entry["epochs"] and name in self.over():
            cut = Cut(entry["epoch"], self._rungs.best(line, name), None)
        return cut

    def stop(self, item: Item, cut: Cut) -> None:
        """Put a stop into the ledger."""
        stopped = Stopped(**cut._asdict(), time=time.time())
        self._ledger.stop(item.trial.fingerprint, self._sweep, stopped)

    def tried(self) -> list[PointResult]:
        """Return every point and what has come of it so far."""
        return [PointResult(point, *self._stands(trials)) for point, trials in self.points]

    def _weighed(self) -> dict[str, Any]:
        valued = [one for one in self.tried() if one.value is not None]
        if len(valued) < WEIGHED_FROM:
            return {}
        from dfloc.sweep import sampler

        return {
            "importance": sampler.importance(self._space.axes, valued, self._ask.sampler.seed),
            "weighed": len(valued),
        }

    def _recall(self, old: Sequence[PlannedTrial], search: SearchRecord) -> None:
        found = {trial.fingerprint: trial for trial in old if trial.stage == search.stage}
        for fingerprints in search.points:
            if not found.keys() >= {*fingerprints}:
                continue
            axes = found[fingerprints[0]].axes
            values = {name: axes[name] for name in self._space.axes if name in axes}
            point = {name: self._chosen.get((name, value), value) for name, value in values.items()}
            if not self._space.holds(point):
                continue
            trials = self._plan(point, len(self.points)) if self._is_new(point) else []
            names, others = {trial.fingerprint for trial in trials}, {*fingerprints}
            if names and (names <= others or names > others):  # with fewer seeds or draws now, or with more
                self.points.append((point, trials))
        same = {name: SearchAxis(**axis.model_dump()) for name, axis in self._space.axes.items()} == search.axes
        self.exhausted = search.exhausted and same and len(self.points) == len(search.points)

    def _plan(self, point: Point, number: int) -> list[PlannedTrial]:
        cells = [replace(cell, axes={POINT: number, **cell.axes}) for cell in self._cells(point)]
        return self._resolved.planned(cells)

    def _num_to_draw(self) -> int:
        """Return how many trials are still to be drawn at most; a space that can be listed may have fewer."""
        left = 0 if self.exhausted else self._ask.trials - len(self.points)
        if left > 0 and self._space.num_points() is not None:
            left = min(left, len([point for point in self._space.all() if self._is_new(point)]))
        return max(0, left) * len(self._cells(self._space.cover([])[0]))

    def _is_new(self, point: Point) -> bool:
        return all(point != drawn for drawn, _ in self.points)

    def _candidates(self, number: int) -> Iterator[Point]:
        """Yield draws of the sampler; where it only repeats itself, what is left of the space."""
        from dfloc.sweep import sampler

        tried, ask = self.tried(), self._ask.sampler
        for attempt in range(ATTEMPTS):
            yield sampler.suggest(self._space, tried, ask, number, attempt)
        if self._space.num_points() is None:
            at_random = SamplerAsk(name="random", seed=ask.seed)
            for attempt in range(ATTEMPTS, ATTEMPTS + AT_RANDOM):
                yield sampler.suggest(self._space, tried, at_random, number, attempt)
        else:
            yield from sorted(
                self._space.all(), key=lambda point: repro.seed_of("dfloc", ask.seed, "search", number, point)
            )

    def _trials(self) -> list[PlannedTrial]:
        return [trial for _, trials in self.points for trial in trials]

    def _line(self, trial: PlannedTrial) -> Line:
        fixed = trial.axes.keys() - self._space.axes.keys() - {POINT}
        return tuple((name, repr(trial.axes[name])) for name in sorted(fixed))

    def _look(self, trial: PlannedTrial) -> None:
        """Take what the ledger has of a trial's epochs."""
        epochs = {record.epoch: record.worth for record in self._ledger.epochs(trial.fingerprint)}
        self._rungs.put(self._line(trial), trial.fingerprint, epochs)

    def _stands(self, trials: Sequence[PlannedTrial]) -> Standing:
        return objective.of_point([self._standing(trial.fingerprint) for trial in trials])

    def _standing(self, fingerprint: str) -> Standing:
        """Return where a trial stands; what the ledger has of one that has ended is read once."""
        if fingerprint in self._ended:
            return self._ended[fingerprint]
        found = objective.of_trial(self._ledger, fingerprint, self._sweep)
        if found.state in ("done", "stopped"):
            self._ended[fingerprint] = found
        return found
