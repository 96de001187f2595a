"""What a sweep can show: the smallest difference of two recipes that luck would not explain, by recorded spreads."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from dfloc.config import EvaluationSpec
from dfloc.ledger import Ledger
from dfloc.metrics import intervals, protocols
from dfloc.metrics.intervals import FEWEST, Images, Mean, Training
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord

MOST = 24  # recipes whose rows are read
LEVEL = 0.95


class _Recipe(NamedTuple):
    """The trainings of a recipe that are scored on a domain, by draw and seed."""

    domain: str
    trainings: Mapping[tuple[int, int], Training]


class Spread(NamedTuple):
    """What is known of how far numbers scatter.

    Attributes:
        photographs: of the smallest test domain.
        of_photographs: variance of the difference of two recipes by its test photographs, the median over pairs.
        of_trainings: variance of a recipe's number over its trainings, the mean over recipes; None where none has two.
        recipes: what it rests on.
    """

    photographs: int
    of_photographs: float
    of_trainings: float | None
    recipes: int

    def smallest(self, trainings: int) -> float:
        """Return half the width of the interval of a difference of two recipes with so many trainings each."""
        freedom: float = self.photographs - 1
        variance = self.of_photographs
        if trainings > 1 and self.of_trainings:
            more: float = 2 * self.of_trainings / trainings
            spread = variance**2 / freedom + more**2 / (trainings - 1)
            variance += more
            freedom = variance**2 / spread
        half: float = stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5
        return half


def line(record: SweepRecord, ledger: Ledger) -> Iterator[str]:
    """Yield a sentence of what a sweep can show, once two of its recipes are scored on as many photographs as it takes.

    Args:
        record: of the sweep, with all its trials.
        ledger: whose rows tell the spread.
    """
    spread = recorded(record, ledger)
    if spread is None:
        return
    repeated: dict[str, set[tuple[int, int]]] = {}
    for trial in record.trials:
        repeated.setdefault(trial.recipe, set()).add(trial.repetition)
    trainings = max(map(len, repeated.values()))
    counted = "1 training" if trainings == 1 else f"{trainings} trainings"
    least = f"{spread.photographs} source images, {counted} a side: differences from {spread.smallest(trainings):.2g}"
    if trainings == 1:
        least += " between two trainings, whatever another seed would give"
    elif spread.of_trainings is None:
        least += " by the source images alone; how far seeds differ is not on record yet"
    yield f"can show, on one domain: {least} (by the rows of {spread.recipes} recipes)"


def recorded(record: SweepRecord, ledger: Ledger) -> Spread | None:
    """Return the spread of what is scored of a sweep; None where fewer than two recipes are, or too few photographs."""
    recipes = _recipes(record, ledger)
    pairs = [
        found
        for one, other in combinations(recipes, 2)
        if one.domain == other.domain and (found := _difference(one, other)) is not None
    ]
    usable = [found for found in pairs if found.fewest >= FEWEST]
    if not usable:
        return None
    repeated = [
        np.var([_number(one) for one in recipe.trainings.values()], ddof=1)
        for recipe in recipes
        if len(recipe.trainings) > 1
    ]
    return Spread(
        photographs=min(found.fewest for found in usable),
        of_photographs=float(np.median([(found.photo_RP.mean(0) ** 2).sum() for found in usable])),
        of_trainings=float(np.mean(repeated)) if repeated else None,
        recipes=len(recipes),
    )


def _recipes(record: SweepRecord, ledger: Ledger) -> list[_Recipe]:
    """Return scored recipes by test domain, evenly from the plan."""
    by_recipe: dict[tuple[str, str], dict[tuple[int, int], EvaluationSpec]] = {}
    for trial in record.trials:
        for one in _tests(record, trial):
            if ledger.has_scored(one):
                by_recipe.setdefault((one.domain, trial.recipe), {}).setdefault(trial.repetition, one)
    kept = list(by_recipe.items())
    kept = [kept[place] for place in sorted({round(at) for at in np.linspace(0, len(kept) - 1, min(MOST, len(kept)))})]
    stems: dict[str, int] = {}
    return [
        _Recipe(domain, {at: _training(ledger, one, at, stems) for at, one in scored.items()})
        for (domain, _), scored in kept
    ]


def _tests(record: SweepRecord, trial: PlannedTrial) -> list[EvaluationSpec]:
    protocol = record.protocol_of(trial)
    wanted = ("test", "clean", "best", protocol)
    return [one for one in trial.evaluations if (one.split, one.condition, one.checkpoint, one.protocol) == wanted]


def _training(ledger: Ledger, spec: EvaluationSpec, at: tuple[int, int], stems: dict[str, int]) -> Training:
    rows = ledger.scored(spec)
    codes = [stems.setdefault(stem, len(stems)) for stem in rows["stem"].to_pylist()]
    values = rows[protocols.find(spec.protocol).first.key].to_numpy().astype(np.float64)
    return Training(*at, [Images(values, np.array(codes, np.int64))])


def _difference(one: _Recipe, other: _Recipe) -> Mean | None:
    shared = [at for at in one.trainings if at in other.trainings]
    return intervals.difference([(one.trainings[at], other.trainings[at]) for at in shared])


def _number(training: Training) -> float:
    return float(np.nanmean(training.domains[0].values))
