"""What the documents conclude, put to the test: each claim's formula on the published numbers and on ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from dfloc.errors import ConfigError
from dfloc.metrics.intervals import Mean, combined
from dfloc.report import published
from dfloc.report.formulas import FORMULAS, Formula, Outcome
from dfloc.report.formulas.numbers import ALL, Key, Matrix, MissingError
from dfloc.report.groups import Study
from dfloc.report.published import PublishedTable
from dfloc.report.resample import Array, MeanOver, averages, resample, shared_runs, there
from dfloc.report.sides import Side, areas, blur, configurations, key_of, losses, side

SHIPPED = Path(__file__).with_name("claims.yaml")
BESIDE = {"source-shift": ("unseen",), "weak": ("source-shift",)}
"""Claims of the same document whose own study trains nothing, or not all that they speak of."""
OURS = {"s002.c1": configurations, "s002.c2": losses, "s002.c3": blur, "s004.c9": areas}
STEP = 1e-6  # of a fraction, for the gradient of a formula

NO_FORMULA = "no formula yet"

State = Literal["holds", "fails", "cannot_be_computed", "no_formula"]
UNDECIDED: frozenset[State] = frozenset({"cannot_be_computed", "no_formula"})
Numbers = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Claim:
    """A sentence of a document and the formula that it is read as.

    Attributes:
        uses: ids of the published tables that the formula reads, in order.
        note: what the references say of the published numbers.
        verdict: theirs, which ours is tested against and never copied from.
        numbers: theirs, likewise.
    """

    id: str
    doc: str
    where: str
    study: str
    uses: tuple[str, ...]
    claim: str
    formula: str
    note: str
    verdict: State
    numbers: Numbers


@dataclass(frozen=True)
class Verdict:
    """What a formula says of some numbers.

    Attributes:
        why: what is missing, or why the numbers do not decide; empty where they do.
        spans: 95 % intervals of ours, by name as `numbers`.
        share: of the resamples, those in which the claim holds; None for published numbers.
        model: what our model is, and what it differs in from the documents'.
    """

    state: State
    numbers: Numbers
    why: str = ""
    spans: Mapping[str, Sequence[tuple[float, float]]] | None = None
    share: float | None = None
    model: str = ""


def load(path: Path = SHIPPED) -> dict[str, Claim]:
    """Read all claims, by id.

    Raises:
        ConfigError: a claim lacks a field.
    """
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return {each["id"]: _claim(each) for each in content["claims"]}


def _claim(each: Mapping[str, Any]) -> Claim:
    names = ("id", "doc", "where", "study", "claim", "formula")
    if missing := [name for name in (*names, "uses", "verdict_on_published") if name not in each]:
        raise ConfigError(f"claim {each.get('id', '?')} has no {missing[0]}")
    return Claim(
        **{name: each[name] for name in names},
        uses=tuple(each["uses"]),
        note=each.get("note", ""),
        verdict=each["verdict_on_published"],
        numbers={name: _several(value) for name, value in each.get("numbers", {}).items()},
    )


def of_study(name: str, path: Path = SHIPPED) -> list[Claim]:
    """Return the claims of a sweep's documents that have a formula or wait for nothing that comes later."""
    studies = (name, *BESIDE.get(name, ()))
    return [claim for claim in load(path).values() if claim.study in studies]


def matrix(table: PublishedTable) -> Matrix:
    """Return a published table as a formula reads it: in per cent where it prints them, suspect numbers apart."""
    scale = 100 if table.unit == "percent" else 1
    turned = {key_of(table, cell): cell for cell in table.cells.values()}
    return Matrix(
        id=table.id,
        cells={key: scale * cell.value for key, cell in turned.items() if cell.status != "suspect"},
        domains=ALL,
        held_out=table.held_out,
        suspect={key: scale * cell.value for key, cell in turned.items() if cell.status == "suspect"},
        mixed=frozenset(key for key, cell in turned.items() if cell.status == "mixed_config"),
    )


def on_published(claim: Claim, tables: Mapping[str, PublishedTable]) -> Verdict:
    """Return what the formula says of the published numbers."""
    formula = FORMULAS.get(claim.id)
    if formula is None:
        return Verdict("no_formula", {}, NO_FORMULA)
    if not claim.uses:
        return Verdict("cannot_be_computed", {}, claim.note or "no document prints what the formula needs")
    return _verdict(formula, [matrix(tables[name]) for name in claim.uses])


def on_ours(
    claim: Claim, tables: Mapping[str, PublishedTable], study: Study, side: Callable[[PublishedTable], Side]
) -> Verdict:
    """Return what the formula says of our numbers, with intervals over trainings and photographs.

    Args:
        claim: it is computed where the study has the domains, data, models and protocol that it speaks of.
        tables: published ones.
        study: whose numbers ours are.
        side: returns our numbers for a table.
    """
    formula = FORMULAS.get(claim.id)
    if formula is None:
        return Verdict("no_formula", {}, NO_FORMULA)
    own: Callable[[Study], Side] | None = OURS.get(claim.id)
    sides = [own(study)] if own else [side(tables[name]) for name in claim.uses]
    if not any(each.parts for each in sides):
        return Verdict("cannot_be_computed", {}, "; ".join(dict.fromkeys(each.absent for each in sides)))
    domains = sorted(ALL, key=lambda name: study.tested.index(name) if name in study.tested else len(study.tested))
    scale = [1.0] if own else [100.0 if tables[name].unit == "percent" else 1.0 for name in claim.uses]
    kept = [{key: part for key, part in one.parts.items() if there(part)} for one in sides]
    places = [(place, key) for place, parts in enumerate(kept) for key in parts]
    parts: list[MeanOver] = [kept[place][key] for place, key in places]
    if parts and not shared_runs(parts):
        return Verdict("cannot_be_computed", {}, "its trials have no seed in common")
    means = averages(parts) if parts else []
    drawn = resample(parts) if parts else np.empty((0, 0))

    def tables_of(line: Sequence[float]) -> list[Matrix]:
        cells: list[dict[Key, float]] = [{} for _ in sides]
        for (place, key), value in zip(places, line, strict=True):
            cells[place][key] = float(value) * scale[place]
        return [
            Matrix(one.id, each, domains, one.held_out, absent=one.absent)
            for one, each in zip(sides, cells, strict=True)
        ]

    whole = drawn[~np.isnan(drawn).any(axis=1)]  # a resample without an image of some set says nothing
    first = _verdict(formula, tables_of([one.value for one in means]))
    if not first.numbers:
        return first
    others = [_verdict(formula, tables_of(line)).state for line in whole.tolist()]
    spans = _spans(lambda line: _verdict(formula, tables_of(line)).numbers, first.numbers, means)
    return replace(first, spans=spans, share=_share(others), model=_model(sides))


def _share(states: Sequence[State]) -> float | None:
    """Return the share of resamples in which a claim holds; None where none of them decides it."""
    decided = [state for state in states if state not in UNDECIDED]
    return decided.count("holds") / len(states) if decided else None


def _verdict(formula: Formula, tables: Sequence[Matrix]) -> Verdict:
    try:
        outcome = formula(tables)
    except MissingError as missing:
        return Verdict("cannot_be_computed", {}, str(missing))
    return _decided(outcome)


def _decided(outcome: Outcome) -> Verdict:
    numbers = {name: _several(value) for name, value in outcome.numbers.items()}
    if outcome.refused:
        return Verdict("cannot_be_computed", numbers, outcome.refused)
    return Verdict("holds" if outcome.holds else "fails", numbers)


def _spans(
    numbers_of: Callable[[Sequence[float]], Numbers], numbers: Numbers, means: Sequence[Mean]
) -> dict[str, list[tuple[float, float]]]:
    """Return the intervals of a formula's numbers: each as the weighted sum of means that it is nearly (its gradient).

    Source: the delta method; docs/STATISTICS.md has it beside a bootstrap-t of the same numbers.
    """
    gradient = {name: np.zeros((len(values), len(means))) for name, values in numbers.items()}
    line = [one.value for one in means]
    for place in range(len(means)):
        there, back = (
            numbers_of([value + step * (place == index) for index, value in enumerate(line)]) for step in (STEP, -STEP)
        )
        for name, values in numbers.items():
            ends = [each.get(name, values) for each in (there, back)]
            if all(len(end) == len(values) for end in ends):
                gradient[name][:, place] = np.subtract(ends[0], ends[1]) / (2 * STEP)
    return {
        name: [_span(value, weights, means) for value, weights in zip(values, gradient[name], strict=True)]
        for name, values in numbers.items()
    }


def _span(value: float, weights: Array, means: Sequence[Mean]) -> tuple[float, float]:
    used = [place for place, weight in enumerate(weights) if weight]
    if not used:
        return value, value
    found = combined([float(weights[place]) for place in used], [means[place] for place in used], value).interval()
    return found.low, found.high


def _model(sides: Sequence[Side]) -> str:
    models = list(dict.fromkeys(model for side in sides for model in side.models))
    lacks = list(dict.fromkeys(lack for side in sides for lack in side.lacks))
    told = [f"Ours: {'; '.join(models)}."] if models else []
    more = f"; and {len(lacks) - 3} more" if lacks[3:] else ""
    told += [f"Not as published: {'; '.join(lacks[:3])}{more}."] if lacks else []
    return " ".join(told)


def _several(value: float | Sequence[float]) -> list[float]:
    return [float(value)] if isinstance(value, int | float) else [float(each) for each in value]


@dataclass(frozen=True)
class Judged:
    """A claim with both verdicts."""

    claim: Claim
    published: Verdict
    ours: Verdict

    @property
    def is_put(self) -> bool:
        """Whether the formula can be read on our numbers, decided or not."""
        return bool(self.ours.numbers)

    @property
    def agree(self) -> bool | None:
        """Whether both decide alike; None where one of them does not decide."""
        states = {self.published.state, self.ours.state}
        return None if states & UNDECIDED else len(states) == 1


def judge(study: Study) -> list[Judged]:
    """Return every claim of the study's documents with its verdict on the published numbers and on ours."""
    claims = of_study(study.record.name)
    tables = published.load(unpublished=True) if claims else {}
    ours = cache(lambda name: side(study, tables[name]))
    return [
        Judged(claim, on_published(claim, tables), on_ours(claim, tables, study, lambda table: ours(table.id)))
        for claim in claims
    ]
