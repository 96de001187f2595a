"""A search: its points ranked by validation, what its axes matter, and how it went."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dfloc.axis import Value
from dfloc.metrics.degenerate import EQUAL
from dfloc.planned import SearchRecord
from dfloc.report import captions, cells, false_alarms, overview, table
from dfloc.report.cells import NOT_ABOVE
from dfloc.report.chart import COLOURS, GREY, UNIT, Axis, Bars, Figure, LegendKey, Lines, Mark, Panel, Series
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Study
from dfloc.report.page import Section
from dfloc.report.results import Result
from dfloc.report.score import Score
from dfloc.report.table import Cell, Column, Table
from dfloc.report.words import joined, spelled

TEXT = (
    "Points are suggested, judged and stopped by validation images alone. Test scores stand beside for the reader; the "
    "search never sees them."
)
OBJECTIVES = {
    "valid": "mean validation {} over the domains of the mixture",
    "leave-one-training-domain-out": "validation {} on a domain that was left out of training, mean over the domains",
}
LEFT_OUT = (
    "of the model that was trained without it, whose epoch and point its validation images "
    "chose: this is not clean out-of-domain"
)
TRIED = "point, in the order of suggestion"


@dataclass(frozen=True)
class Point:
    """One point of a search.

    Attributes:
        number: from 0, in the order of suggestion.
        values: of the axes.
        results: its trials: one, or one for each domain that is left out, seed and draw.
        value: the objective; of a stopped point what it had then; None where one of its trials has none.
    """

    number: int
    values: dict[str, Value | None]
    results: Sequence[Result]
    state: Literal["done", "stopped", "failed", "open"]
    value: float | None

    @property
    def epochs(self) -> int:
        """Epochs that its trials were trained."""
        return sum(len(result.epochs) for result in self.results)

    @property
    def words(self) -> str:
        """Its values in words."""
        return joined((name, value) for name, value in self.values.items() if value is not None)


def sections(study: Study) -> Iterator[Section]:
    """Yield what a report says of each search of which something was suggested, the newest first."""
    for place, search in enumerate(reversed(study.record.searches)):
        if found := points(study, search):
            blocks: list[Figure | Table] = [_importance(search, found)] if search.importance else []
            blocks += [_history(study, search, found), _table(study, search, found)]
            one = Section("search-study", "The search", TEXT, blocks)
            yield one.marked(str(place + 1), search.stage) if place else one


def points(study: Study, search: SearchRecord) -> list[Point]:
    """Return the points of a search, in the order of suggestion."""
    by_name = {result.trial.fingerprint: result for result in study.results.all if result.trial.stage == search.stage}
    found = []
    for number, fingerprints in enumerate(search.points):
        results = [by_name[name] for name in fingerprints]
        values = {name: results[0].trial.axes.get(name) for name in search.axes}
        state, value, _ = study.results.standing(fingerprints)
        found.append(Point(number, values, results, state, value))
    return found


def ranked(study: Study, search: SearchRecord, found: Sequence[Point]) -> list[Point]:
    """Return the finished points, the best by validation first; those that are not above all fake after the others."""
    done = [point for point in found if point.state == "done" and point.value is not None]
    return sorted(done, key=lambda one: (_is_not_above(study, one, search), -(one.value or 0.0), one.number))


def findings(study: Study) -> Iterator[Finding]:
    """Yield the point that validation chooses in each search, the newest first, and what mattered."""
    for place, search in enumerate(reversed(study.record.searches)):
        found = points(study, search)
        done = ranked(study, search, found)
        best = next(iter(done), None)
        if best is not None:
            of = f" of {search.stage}" if place else ""
            yield _chosen(study, search, best, f"{len(done)} finished of {len(found)} points{of}")._replace(
                key=f"best-{search.stage}" if place else "best"
            )


def _chosen(study: Study, search: SearchRecord, best: Point, states: str) -> Finding:
    mark = f", {NOT_ABOVE}" if _is_not_above(study, best, search) else ""
    scores = [score for domain in study.tested if (score := _tested(best, domain, search)) is not None]
    numbers: dict[str, Estimate | float] = {"valid": best.value or 0.0}
    tested = ""
    if scores and len(scores) == len(study.tested):
        numbers["test"] = sum(scores) / len(scores)
        tested = f", test mean {numbers['test']:.2f}"
    most = max(search.importance, key=lambda name: search.importance[name], default="")
    matters = f"; what mattered most is {most} ({100 * search.importance[most]:.0f} %)" if most else ""
    valid = f"validation {study.measure} {best.value:.2f}"
    text = f"Of {states} validation chooses {best.words}: {valid}{tested}{mark}{matters}"
    return Finding("best", text, numbers)


def _table(study: Study, search: SearchRecord, found: Sequence[Point]) -> Table:
    order = {"done": 0, "open": 1, "stopped": 2, "failed": 3}
    listed = sorted(found, key=lambda point: (order[point.state], -(point.value or 0.0), point.number))
    best = next((one for one in ranked(study, search, found) if not _is_not_above(study, one, search)), None)
    columns: list[Column[Point]] = [
        Column("Point", lambda point: Cell(str(point.number))),
        *map(_axis, search.axes),
        Column("State", _state, words=True),
        Column("Epochs", lambda point: Cell(str(point.epochs)), small=True),
        Column("Objective", lambda point: _objective(point, best)),
        *(_on(search, domain) for domain in study.tested),
        Column("Test mean", lambda point: _mean(study, search, point)),
        *_flagged(study),
    ]
    missing = search.trials - len(found)
    notes = [f"{missing} of {search.trials} points were not suggested."] if missing > 0 and not search.exhausted else []
    if missing > 0 and search.exhausted:
        notes = [f"There are no more than these {len(found)} different points, of {search.trials} that were asked for."]
    where = ": best epoch" if search.objective == "valid" else f" on a domain: {LEFT_OUT}"
    tested = f"Test {study.first.word}{where}"
    used = [group for group in study.stage(search.stage) if group.scored]
    return Table(
        id="search",
        title="Points of the search, ranked by validation.",
        caption=f"Objective: {OBJECTIVES[search.objective].format(study.measure)}. {_stops(study, search)} {tested}.",
        source=[*captions.provenance(study, used), *false_alarms.source(study)],
        columns=columns,
        rows=[table.row(columns, point, muted=point.state != "done") for point in listed],
        notes=[*notes, *captions.baseline_note(study)],
        trials=frozenset(result.trial.fingerprint for point in found for result in point.results),
    )


def _stops(study: Study, search: SearchRecord) -> str:
    if not search.rungs:
        return "No trial is stopped early."
    after = ", ".join(map(str, search.rungs))
    return (
        f"After epochs {after} a trial goes on if its best validation {study.measure} is among the best 1 in "
        f"{search.factor} of those that came so far; finished points stand first, a stopped one has the value that it "
        "had then (none where one of its trials had none yet), and no test score."
    )


def _axis(name: str) -> Column[Point]:
    def cell(point: Point) -> Cell:
        value = point.values[name]
        return Cell(table.DASH, mark="hole") if value is None else Cell(spelled(value))

    return Column(name, cell, words=True)


def _state(point: Point) -> Cell:
    failure = next((result.failure for result in point.results if result.failure), "")
    states = {"done": "finished", "stopped": overview.STATES["stopped"], "failed": "FAILED", "open": "unfinished"}
    return Cell(states[point.state], failure, mark="bad" if point.state == "failed" else "")


def _objective(point: Point, best: Point | None) -> Cell:
    cell = table.number(point.value)
    return replace(cell, mark="strong") if point is best else cell


def _on(search: SearchRecord, domain: str) -> Column[Point]:
    return Column(domain, lambda point: _told(_tested(point, domain, search), _gain(point, [domain], search)))


def _mean(study: Study, search: SearchRecord, point: Point) -> Cell:
    scores = [_tested(point, domain, search) for domain in study.tested]
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known and len(known) == len(scores) else None
    return _told(mean, _gain(point, study.tested, search))


def _flagged(study: Study) -> list[Column[Point]]:
    """Return the column of what the trainings of a point flag, mean over all of them."""

    def cell(point: Point) -> Cell:
        if point.state != "done":
            return Cell(table.DASH, mark="hole")
        return false_alarms.of_results(study, point.results)

    return [Column(false_alarms.HEAD, cell)] if false_alarms.scored(study) else []


def _tested(point: Point, domain: str, search: SearchRecord) -> float | None:
    """Return the mean test IoU on a domain; with left-out domains that of the model that was trained without it."""
    means = [score.mean() if score else None for score in _scores(point, domain, search)]
    there = [mean for mean in means if mean is not None]
    return sum(there) / len(there) if there and len(there) == len(means) else None


def _gain(point: Point, domains: Sequence[str], search: SearchRecord) -> float | None:
    """Return the mean of what `_tested` gives for each of the domains less what calling every pixel fake does."""
    each = [[score.gain if score else None for score in _scores(point, domain, search)] for domain in domains]
    there = [[gain for gain in gains if gain is not None] for gains in each]
    means = [sum(gains) / len(gains) for gains, of in zip(there, each, strict=True) if gains and len(gains) == len(of)]
    return sum(means) / len(means) if means and len(means) == len(each) else None


def _scores(point: Point, domain: str, search: SearchRecord) -> list[Score | None]:
    return [result.scores.get(("best", domain)) for result in judged(point, domain, search)]


def judged(point: Point, domain: str, search: SearchRecord) -> list[Result]:
    """Return the trials that a point's test number on a domain is of: with left-out domains, those without it."""
    of = search.objective == "valid"
    return [result for result in point.results if of or result.trial.axes.get("left_out") == domain]


def _is_not_above(study: Study, point: Point, search: SearchRecord) -> bool:
    gain = _gain(point, study.tested, search)
    return gain is not None and gain <= EQUAL


def _told(value: float | None, gain: float | None) -> Cell:
    return cells.told(table.number(value), [NOT_ABOVE] if gain is not None and gain <= EQUAL else [])


def _importance(search: SearchRecord, found: Sequence[Point]) -> Figure:
    shares = dict(sorted(search.importance.items(), key=lambda item: item[1])[::-1])
    words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    several = {axis.of for axis in search.axes.values() if axis.of}
    shared = f" What depends on {', '.join(sorted(several))} says that too: their shares overlap." if several else ""
    return Figure(
        id="fig-importance",
        title="What matters.",
        caption=f"fANOVA (Hutter, Hoos, Leyton-Brown, 2014; Optuna's) over {search.weighed} points that have a value, "
        f"stopped ones with what they had then: main effects, as shares of their sum.{shared}"
        f"{captions.random_weights([result for point in found for result in point.results])}",
        panels=[Panel("Importance of each axis", Bars(shares, "share of the variance of the objective"), words)],
        legend=[],
        numbers="search",
    )


def _history(study: Study, search: SearchRecord, found: Sequence[Point]) -> Figure:
    kinds = {"done": ("finished", COLOURS[0], "circle"), "stopped": ("stopped early", GREY, "circle-open")}
    series = []
    for state, (words, colour, marker) in kinds.items():
        those = [point for point in found if point.state == state]
        marks = [Mark(one.number, one.value, notes=[one.words]) for one in those if one.value is not None]
        series.append(Series(words, marks, colour, "", marker, size=8))
    best, steps = 0.0, list[tuple[int, float]]()
    for point in found:
        if point.state == "done" and point.value is not None:
            best = max(best, point.value)
            steps.append((point.number, best))
    series.append(Series("best so far", [Mark(*step) for step in steps], COLOURS[1], "solid", "", steps=True))
    chart = Lines(series, Axis(TRIED, counts=True), Axis(f"objective (validation {study.measure})", UNIT, (0, 1)))
    none = [str(point.number) for point in found if point.state in ("failed", "stopped") and point.value is None]
    words = f"best {steps[-1][1]:.3f} after {len(found)} points" if steps else "no point is finished"
    return Figure(
        id="fig-search",
        title="How the search went.",
        caption=f"Objective: {OBJECTIVES[search.objective].format(study.measure)}."
        + (f" Without one, as failed or stopped before each trial had a value: {', '.join(none)}." if none else "")
        + captions.random_weights([result for point in found for result in point.results]),
        panels=[Panel("Objective by point", chart, words)],
        legend=[
            *(LegendKey(words, colour, "", marker) for words, colour, marker in kinds.values()),
            LegendKey("best so far", COLOURS[1], "solid", ""),
        ],
        numbers="search",
    )
