"""What the documents conclude, put to the test: each claim's formula on the published numbers and on ours."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from dfloc.errors import ConfigError
from dfloc.metrics.intervals import Mean, combined
from dfloc.report import match, published
from dfloc.report.captions import provenance
from dfloc.report.formulas import FORMULAS, Formula, Outcome
from dfloc.report.formulas.numbers import ALL, REPAINT, Key, Matrix, MissingError
from dfloc.report.groups import Study
from dfloc.report.match import Side
from dfloc.report.page import Section
from dfloc.report.published import Cell as PublishedCell
from dfloc.report.published import Table as PublishedTable
from dfloc.report.resample import Array, Part, averages, resample, shared_runs, there
from dfloc.report.table import DASH, Cell, Column, Table, row

SHIPPED = Path(__file__).with_name("claims.yaml")
BESIDE = {"source-shift": ("unseen",)}  # claims of the same document whose own study trains nothing
OURS = {"s002.c1": match.configurations, "s002.c2": match.losses, "s002.c3": match.blur}
TRANSPOSED = "training_data"
STEP = 1e-6  # of a fraction, for the gradient of a formula

State = Literal["holds", "fails", "cannot_be_computed"]
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
    turned = {_key(table, cell): cell for cell in table.cells.values()}
    return Matrix(
        id=table.id,
        cells={key: scale * cell.value for key, cell in turned.items() if cell.status != "suspect"},
        domains=ALL,
        held_out=table.held_out,
        suspect={key: scale * cell.value for key, cell in turned.items() if cell.status == "suspect"},
        mixed=frozenset(key for key, cell in turned.items() if cell.status == "mixed_config"),
    )


def _key(table: PublishedTable, cell: PublishedCell) -> Key:
    """Return (test, train); the poster on segmenters does not say which of two sets its Repaint is, ours is the 9k."""
    if table.rows_axis == TRANSPOSED:
        return cell.col, cell.row
    generic = table.cols_axis == "quantity" and cell.row == REPAINT.removesuffix("-9k")
    return (REPAINT if generic else cell.row), cell.col


def on_published(claim: Claim, tables: Mapping[str, PublishedTable]) -> Verdict:
    """Return what the formula says of the published numbers."""
    formula = FORMULAS.get(claim.id)
    if formula is None or not claim.uses:
        return Verdict("cannot_be_computed", {}, claim.note or "no document prints what the formula needs")
    return _verdict(formula, [matrix(tables[name]) for name in claim.uses])


def on_ours(claim: Claim, tables: Mapping[str, PublishedTable], study: Study) -> Verdict:
    """Return what the formula says of our numbers, with intervals over trainings and photographs."""
    formula = FORMULAS.get(claim.id)
    if formula is None:
        return Verdict("cannot_be_computed", {}, "no study here measures what the formula needs")
    own: Callable[[Study], Side] | None = OURS.get(claim.id)
    sides = [own(study)] if own else match.sides(study, [tables[name] for name in claim.uses])
    scale = [100.0 if not own and tables[name].unit == "percent" else 1.0 for name in claim.uses or ("",)]
    scale += scale[-1:] * (len(sides) - len(scale))
    kept = [{key: part for key, part in side.parts.items() if there(part)} for side in sides]
    places = [(place, key) for place, parts in enumerate(kept) for key in parts]
    parts: list[Part] = [kept[place][key] for place, key in places]
    if parts and not shared_runs(parts):
        return Verdict("cannot_be_computed", {}, "its trials have no seed and draw in common")
    means = averages(parts) if parts else []
    drawn = resample(parts) if parts else np.empty((0, 0))

    def tables_of(line: Sequence[float]) -> list[Matrix]:
        cells: list[dict[Key, float]] = [{} for _ in sides]
        for (place, key), value in zip(places, line, strict=True):
            cells[place][key] = float(value) * scale[place]
        return [
            Matrix(side.id, each, study.record.domains, side.held_out, absent=side.absent)
            for side, each in zip(sides, cells, strict=True)
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
    decided = [state for state in states if state != "cannot_be_computed"]
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
    models = list(dict.fromkeys(side.model for side in sides if side.model))
    differ = list(dict.fromkeys(gap for side in sides for gap in side.gaps))
    told = [f"Ours: {'; '.join(models)}."] if models else []
    more = f"; and {len(differ) - 3} more" if differ[3:] else ""
    told += [f"Not as published: {'; '.join(differ[:3])}{more}."] if differ else []
    return " ".join(told)


def _several(value: float | Sequence[float]) -> list[float]:
    return [float(value)] if isinstance(value, int | float) else [float(each) for each in value]


WORDS: Mapping[State, str] = {"holds": "holds", "fails": "FAILS", "cannot_be_computed": "cannot be computed"}
SEVERAL: Mapping[State, str] = {**WORDS, "holds": "hold", "fails": "fail"}


@dataclass(frozen=True)
class Judged:
    """A claim with both verdicts."""

    claim: Claim
    published: Verdict
    ours: Verdict

    @property
    def agree(self) -> bool | None:
        """Whether both decide alike; None where one of them does not decide."""
        states = {self.published.state, self.ours.state}
        return None if "cannot_be_computed" in states else len(states) == 1


def judge(study: Study) -> list[Judged]:
    """Return every claim of the study's documents with its verdict on the published numbers and on ours."""
    claims = of_study(study.record.name)
    tables = published.load(unpublished=True) if claims else {}
    return [Judged(claim, on_published(claim, tables), on_ours(claim, tables, study)) for claim in claims]


def summary(found: Sequence[Judged]) -> str:
    """Return in a few sentences how many claims hold, and where ours and the published numbers part."""

    def count(states: Sequence[State]) -> str:
        words = {state: (WORDS if states.count(state) == 1 else SEVERAL)[state].lower() for state in WORDS}
        parts = [f"{states.count(state)} {words[state]}" for state in WORDS if state in states]
        return ", ".join(parts)

    apart = [each.claim.id for each in found if each.agree is False]
    return (
        f"{len(found)} claims. On the published numbers: {count([each.published.state for each in found])}. "
        f"On ours: {count([each.ours.state for each in found])}. "
        + (f"They decide differently: {', '.join(apart)}." if apart else "Where both decide, they decide alike.")
    )


def section(study: Study) -> Section:
    """Return the part of the page with the claims; without blocks where the study has none."""
    found = judge(study)
    return Section(
        "claims-study",
        "What the documents conclude",
        summary(found) if found else "",
        [table(study, found)] if found else [],
    )


def table(study: Study, found: Sequence[Judged]) -> Table:
    """Return the claims with formula, numbers and verdicts."""
    columns: list[Column[Judged]] = [
        Column("Claim", lambda each: Cell(each.claim.claim, _where(each.claim)), words=True),
        Column("Formula", lambda each: Cell(each.claim.formula, _uses(each.claim)), words=True),
        Column("Published", lambda each: _cell(each.published, each.claim.note), words=True),
        Column("Ours", lambda each: _cell(each.ours), words=True),
        Column("Alike", lambda each: ALIKE[each.agree], words=True),
    ]
    return Table(
        id="claims",
        title="What the documents conclude, on their numbers and on ours.",
        caption="Each sentence is read as a formula, and its thresholds are ours. Published verdicts are computed from "
        "the published tables; numbers that are called suspect are left out. Numbers are IoU in per cent where the "
        "document prints them. The share of resamples in which a claim holds is of one bootstrap over draws, seeds and "
        "photographs for all its numbers; a resample that leaves it undecided counts as one in which it does not. "
        f"{provenance(study, study.groups)}",
        columns=columns,
        rows=[row(columns, each) for each in found],
    )


ALIKE = {True: Cell("yes"), False: Cell("NO", mark="bad"), None: Cell(DASH, mark="hole")}


def _where(claim: Claim) -> str:
    return f"{claim.id}, {claim.doc}: {claim.where}"


def _uses(claim: Claim) -> str:
    return f"Tables: {', '.join(claim.uses)}." if claim.uses else ""


def _cell(verdict: Verdict, note: str = "") -> Cell:
    share = f", in {100 * verdict.share:.0f} % of resamples" if verdict.share is not None else ""
    if verdict.share is not None and verdict.state == "fails":
        share = f", holds in {100 * verdict.share:.0f} % of resamples"
    marks: Mapping[State, str] = {"holds": "", "fails": "bad", "cannot_be_computed": "hole"}
    told = [_numbers(verdict), f"{verdict.why}." if verdict.why else "", verdict.model, note and f"Note: {note}."]
    words = WORDS[verdict.state] + (share if verdict.state != "cannot_be_computed" else "")
    return Cell(words, " ".join(filter(None, told)), mark=marks[verdict.state])


def _numbers(verdict: Verdict) -> str:
    told = []
    for name, values in verdict.numbers.items():
        spans = (verdict.spans or {}).get(name)
        each = [_rounded(value) + (_between(*spans[place]) if spans else "") for place, value in enumerate(values)]
        told.append(f"{name} {', '.join(each)}")
    return f"{'; '.join(told)}." if told else ""


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({_rounded(low)} … {_rounded(high)})"


def _rounded(value: float) -> str:
    """Return two decimals, halves away from zero as the documents round them."""
    return f"{value + math.copysign(1e-9, value):.2f}"
