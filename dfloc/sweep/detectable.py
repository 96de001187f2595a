"""What a sweep can show: the smallest difference of two recipes that luck would not explain, by recorded spreads."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from dfloc import registry
from dfloc.config import EvaluationSpec
from dfloc.data import dolos
from dfloc.errors import DataError, WorkspaceError
from dfloc.ledger import Ledger
from dfloc.metrics import intervals, protocols
from dfloc.metrics.intervals import FEWEST, Floats, Images, Mean, Training
from dfloc.metrics.table import column
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord

MOST = 24  # recipes whose rows are read


class _Recipe(NamedTuple):
    """The trainings of a recipe that are scored on a domain, by draw and seed."""

    domain: str
    trainings: Mapping[tuple[int, int], Training]


class Spread(NamedTuple):
    """What is known of how far numbers scatter.

    Attributes:
        photographs: of the smallest test domain.
        of_photographs: variance of the difference of two recipes by its test photographs, the median over pairs.
        of_trainings: variance of a recipe's number over its repetitions (trainings, or draws where there are several),
            the mean over recipes; None where none has two.
        recipes: what it rests on.
    """

    photographs: int
    of_photographs: float
    of_trainings: float | None
    recipes: int

    def smallest(self, repetitions: int) -> float:
        """Return half the width of the interval of a difference of two recipes with so many repetitions each."""
        parts: list[tuple[float, float]] = [(self.of_photographs, self.photographs - 1)]
        if repetitions > 1 and self.of_trainings:
            parts.append((2 * self.of_trainings / repetitions, repetitions - 1))
        variance = sum(part for part, _ in parts)
        return intervals.half_width(variance, intervals.freedom_of(variance, parts))


def line(record: SweepRecord, ledger: Ledger) -> Iterator[str]:
    """Yield a sentence of what a sweep can show, once two of its recipes are scored on enough photographs."""
    spread = recorded(record, ledger)
    if spread is None:
        return
    repeated: dict[str, set[tuple[int, int]]] = {}
    for trial in record.trials:
        repeated.setdefault(trial.recipe, set()).add(trial.repetition)
    most = max(repeated.values(), key=len)
    trainings, draws = len(most), len({draw for draw, _ in most})
    counted = "1 training" if trainings == 1 else f"{trainings} trainings"
    counted += f" in {draws} sampling seeds" if draws > 1 else ""
    smallest = spread.smallest(draws if draws > 1 else trainings)
    least = f"{spread.photographs} source images, {counted} a side: differences from {smallest:.2g}"
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
    repeated = [np.var(numbers, ddof=1) for numbers in map(_numbers, recipes) if len(numbers) > 1]
    return Spread(
        photographs=min(found.fewest for found in usable),
        of_photographs=float(np.median([(found.photo_RP.mean(0) ** 2).sum() for found in usable])),
        of_trainings=float(np.mean(repeated)) if repeated else None,
        recipes=len(recipes),
    )


def _recipes(record: SweepRecord, ledger: Ledger) -> list[_Recipe]:
    """Return scored recipes by test domain, evenly from the plan; what looks at no image or learns nothing is none.

    Only the rows of those that are chosen are read: every plan asks.
    """
    by_recipe: dict[tuple[str, str], dict[tuple[int, int], EvaluationSpec]] = {}
    for trial in (trial for trial in record.trials if trial.spec.decoder.name not in registry.SOLVED):
        for one in _tests(record, trial):
            if ledger.has_rows(one.trial, one.key):
                by_recipe.setdefault((one.domain, trial.recipe), {}).setdefault(trial.repetition, one)
    kept = list(by_recipe.items())
    kept = [kept[place] for place in sorted({round(at) for at in np.linspace(0, len(kept) - 1, min(MOST, len(kept)))})]
    stems: dict[str, int] = {}
    return [
        _Recipe(domain, {at: read for at, spec in scored.items() if (read := _training(ledger, spec, at, stems))})
        for (domain, _), scored in kept
    ]


def _tests(record: SweepRecord, trial: PlannedTrial) -> list[EvaluationSpec]:
    protocol = record.protocol_of(trial)
    wanted = ("test", "clean", "best", protocol)
    return [
        one
        for one in trial.evaluations
        if (one.split, one.condition, one.checkpoint, one.protocol) == wanted and not dolos.is_real(one.domain)
    ]


def _training(ledger: Ledger, spec: EvaluationSpec, at: tuple[int, int], stems: dict[str, int]) -> Training | None:
    """Return a training by its rows; None of such as cannot be read: what becomes of those, plan and report say."""
    try:
        if not ledger.has_scored(spec):
            return None
        rows = ledger.scored(spec)
        values = column(rows, protocols.find(spec.protocol).first.key).astype(np.float64)
    except (WorkspaceError, DataError):
        return None
    codes = [stems.setdefault(stem, len(stems)) for stem in rows["stem"].to_pylist()]
    return Training(*at, [Images(values, np.array(codes, np.int64))])


def _difference(one: _Recipe, other: _Recipe) -> Mean | None:
    shared = [at for at in one.trainings if at in other.trainings]
    return intervals.difference([(one.trainings[at], other.trainings[at]) for at in shared])


def _numbers(recipe: _Recipe) -> Floats:
    """Return a recipe's number in each of its repetitions, as `Mean` counts them."""
    each = np.array([np.nanmean(training.domains[0].values) for training in recipe.trainings.values()])
    unit = intervals.units([draw for draw, _ in recipe.trainings])
    found: Floats = np.bincount(unit, each) / np.bincount(unit)
    return found
