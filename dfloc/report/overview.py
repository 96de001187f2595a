"""What stands behind the numbers: every trial and its state, the data, versions, values that are no number."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

import dfloc
from dfloc import repro
from dfloc.engine.predict import PROTOCOL
from dfloc.metrics.pairs import reals_of
from dfloc.projection import ENDS
from dfloc.report import false_alarms, table
from dfloc.report.captions import provenance, random_weights
from dfloc.report.groups import COLLAPSED, Study
from dfloc.report.results import Result
from dfloc.report.score import Score
from dfloc.report.table import Cell, Column, Table
from dfloc.report.variants import replaced

STATES = {
    "done": "finished",
    "failed": "FAILED",
    "stopped": "stopped early",
    "partial": "unfinished",
    "new": "not run",
}
BUILT_IN = "Built-in data: these numbers say nothing about Dolos or any published model."
PATH_ONLY = "Random weights: path only, numbers mean nothing."
OVER = {
    "map": "over 90 % of the predictions of one kind",
    "image": "over 90 % of the images of every class called one class",
}
VERSIONED = ("dfloc", "torch", "cuda", "device")


def state_line(study: Study) -> str:
    """Return how many of the planned trials are in which state."""
    counts = study.results.counts()
    total = sum(counts.values())
    parts = [f"{counts[state]} {words}" for state, words in STATES.items() if counts[state]]
    return f"{total} distinct trials: {', '.join(parts)}." if total else "No trial is planned."


def warnings(study: Study) -> list[str]:
    """Return what a reader must know before the numbers: the record's notes, failures, holes, mixed versions."""
    record, results = study.record, study.results
    found = [PATH_ONLY] if study.path_only else []
    found += [BUILT_IN] if study.built_in else []
    found += record.notes
    found += replaced(record)
    if record.limit is not None:
        found.append(f"Limited by --limit {record.limit}: every count is scaled down, nothing here is the full study.")
    collapsed = [result for result in results.by_fingerprint.values() if result.collapsed]
    if collapsed:
        kinds = Counter(result.collapsed for result in collapsed)
        words = "; ".join(f"{count} {kind}" for kind, count in kinds.items())
        found.append(f"COLLAPSED ({OVER[study.protocol.reads]}): {words}; they are marked.")
    failed = [result for result in results.by_fingerprint.values() if result.state == "failed"]
    found += [f"Failed: {result.trial.name}: {result.failure}" for result in failed[:5]]
    if len(failed) > 5:
        found.append(f"{len(failed) - 5} more trials failed; the table of all trials has the causes.")
    if alone := _without_reals(study):
        found.append(
            f"No reals of {', '.join(alone)} are tested: {study.first.word} is not told there, and means leave it out."
        )
    found += [f"Mixed versions: {words}." for words in _mixed(results.by_fingerprint.values())]
    return found


def _without_reals(study: Study) -> list[str]:
    """Return the tested domains whose source has no test list of reals, where the first metric needs one."""
    asked = {each.domain for trial in study.record.trials for each in trial.evaluations}
    return [domain for domain in study.tested if study.first.of_pair and reals_of(domain) not in asked]


def footer(study: Study) -> list[str]:
    """Return the lines at the end: versions, values that are no number, how many rows."""
    scores = study.results.scores()
    images = sum(score.num_images for score in scores)
    undefined = Counter({key: sum(each.num_nan(key) for each in scores) for key in study.protocol.per_image})
    nan = ", ".join(f"{metric} {count:,}" for metric, count in undefined.items() if count) or "none"
    lines = [
        f"Protocol {study.record.protocol}; {len(scores):,} evaluations, {images:,} rows (one per image).",
        f"Values that the protocol leaves undefined (NaN), left out of means: {nan}.",
    ]
    reals = false_alarms.scored(study)
    lines += [f"{false_alarms.lists(study)} Compared only within one list of them."] if reals else []
    lines += [*_out_of_range(study, scores), *(_reals(scores) if study.protocol.reads == "image" else [])]
    versions = sorted({_versions(result) for result in study.results.by_fingerprint.values() if result.done})
    return [*lines, *(f"Trained with {words}." for words in versions), *_cost(study)]


def built(study: Study) -> list[str]:
    """Return by what the page was made, and from when its numbers are: built again by the same code it is the same."""
    commit = repro.commit()
    by = f"dfloc {dfloc.__version__}{f', commit {commit}' if commit else ''}"
    times = [result.done.time for result in study.results.by_fingerprint.values() if result.done]
    last = [f"Last trial finished on {datetime.fromtimestamp(max(times), UTC):%Y-%m-%d, %H:%M} UTC."] if times else []
    return [f"This page: dfloc report {study.record.sweep}, by {by}.", *last]


def trials(study: Study) -> Table:
    """Return every planned trial: what it is, what became of it, and its scores."""
    columns: list[Column[Result]] = [
        Column("Stage", lambda each: Cell(each.trial.stage), words=True),
        Column("Case", lambda each: Cell(each.trial.case), words=True),
        Column("Axes", lambda each: Cell(", ".join(f"{k} = {v}" for k, v in each.trial.axes.items())), words=True),
        Column("State", _state, words=True),
        Column("Train", lambda each: Cell(f"{each.trial.spec.train.size:,}"), small=True),
        Column("Steps", lambda each: Cell(f"{each.trial.spec.steps:,}"), small=True),
        Column("Epoch", lambda each: Cell(str(each.done.best_epoch) if each.done else table.DASH), small=True),
        Column(f"Valid. {study.measure}", lambda each: table.number(each.valid)),
        *map(_tested, dict.fromkeys([*study.tested, *study.record.domains])),
        Column("Name", lambda each: Cell(each.trial.name), words=True, small=True),
        Column("Trial", lambda each: Cell(each.trial.fingerprint[:12], link=_runs(study, each)), small=True),
        Column("Predict", lambda each: _predicts(study, each), words=True, small=True, code=True),
    ]
    blocks = [list(each) for _, each in groupby(study.results.all, lambda result: result.trial.stage)]
    return Table(
        id="trials",
        title="Every planned trial.",
        caption=f"One row per stage, cell, training seed and sampling seed; test {study.first.word}, best epoch. "
        "Predict is a command for photographs of yours; of another workspace than ./workspace it needs --workspace, of "
        "a plug-in --plugin.",
        source=provenance(study, study.groups),
        columns=columns,
        rows=table.rows(columns, blocks),
        folded=True,
    )


def data(study: Study) -> Table:
    """Return the test lists: images, photographs, digests."""
    lists: dict[tuple[str, str], Score] = {}
    for score in study.results.scores():
        lists.setdefault((score.spec.domain, score.spec.test.digest), score)
    shown = dict.fromkeys([*study.tested, *study.record.domains, *study.reals])
    found = [score for domain in shown for (name, _), score in lists.items() if name == domain]

    def images(split: str) -> Callable[[Score], Cell]:
        facts = {domain: splits[split] for domain, splits in study.record.facts.items() if split in splits}
        return lambda one: Cell(f"{facts[one.spec.domain].images:,}" if one.spec.domain in facts else table.DASH)

    columns: list[Column[Score]] = [
        Column("Domain", lambda one: Cell(one.spec.domain), words=True),
        Column("Train images", images("train")),
        Column("Valid. images", images("valid")),
        Column("Test images", lambda one: Cell(f"{one.num_images:,}")),
        Column("Test photographs", lambda one: Cell(f"{one.num_photographs:,}")),
        Column("Test list", lambda one: Cell(one.spec.test.digest[:16]), words=True, small=True),
    ]
    return Table(
        id="data",
        title="Data.",
        caption=f"Images of each domain and split of {study.record.data}, and the test lists that were scored. An "
        f"interval rests on the source images, not on the images.{random_weights(study.results.all)}",
        columns=columns,
        rows=[table.row(columns, one) for one in found],
    )


def _state(result: Result) -> Cell:
    state = STATES[result.state]
    if result.collapsed:
        return Cell(state, f"{COLLAPSED} ({result.collapsed})", mark="bad")
    return Cell(state, result.failure, mark="bad" if result.state == "failed" else "")


def _runs(study: Study, result: Result) -> str:
    """Return where MLflow shows a trial that has ended."""
    return study.results.runs(result.trial.fingerprint) if result.state in ENDS else ""


def _predicts(study: Study, result: Result) -> Cell:
    """Return the command that puts photographs to a finished trial, as the study's protocol reads its maps."""
    if not result.done:
        return Cell(table.DASH, mark="hole")
    protocol = study.record.protocol
    by = f" --protocol {protocol}" if protocol != PROTOCOL else ""
    return Cell(f"dfloc predict {result.trial.fingerprint[:12]} photo.jpg{by}")


def _tested(domain: str) -> Column[Result]:
    def cell(result: Result) -> Cell:
        score = result.scores.get(("best", domain))
        return table.number(score.mean() if score else None)

    return Column(domain, cell)


def _out_of_range(study: Study, scores: Sequence[Score]) -> list[str]:
    """Return where the source of the protocol would have scored another map, and on how many images."""
    rule = study.protocol.out_of_range
    known = [score for score in scores if score.out_of_range is not None]
    if not rule or not scores:
        return []
    images = sum(score.num_images for score in known)
    found = f"{sum(score.out_of_range or 0 for score in known):,} of {images:,} images here" if known else ""
    older = len(scores) - len(known)
    uncounted = f"not counted in {older:,} older evaluation{'s' * (older > 1)}" if older else ""
    return [f"Not as in the source: {rule}: {', '.join(filter(None, [found, uncounted]))}."]


def _reals(scores: Sequence[Score]) -> list[str]:
    """Return which reals the fakes stand against: of other ones nothing is comparable."""
    lists = {score.reals.spec.domain: score.reals for score in scores if score.reals}
    each = [f"{name} ({one.num_images:,} images, list {one.spec.test.digest[:10]})" for name, one in lists.items()]
    words = f"Fakes stand against the reals of their source, {', '.join(each)}; of other reals nothing is comparable."
    return [words] if each else []


def _cost(study: Study) -> list[str]:
    """Return what the trainings took, by device: wall time of their epochs, each trial once."""
    taken: dict[str, list[float]] = {}
    for result in study.results.by_fingerprint.values():
        seconds = sum(epoch.seconds for epoch in result.epochs)
        if result.done or seconds:
            where = f"on {result.done.versions.get('device', '?')}" if result.done else "in what is not finished"
            taken.setdefault(where, []).append(result.done.cost.seconds if result.done else seconds)
    if not taken:
        return []
    words = (
        f"{_hours(sum(each))} {where} ({len(each):,} trial{'s' * (len(each) > 1)})" for where, each in taken.items()
    )
    return [
        f"Hours of training, validation among them: {', '.join(words)}; those of features and tests are not recorded."
    ]


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _versions(result: Result) -> str:
    versions = result.done.versions if result.done else {}
    return ", ".join(f"{name} {versions[name]}" for name in VERSIONED if name in versions)


def _mixed(results: Iterable[Result]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for result in results:
        for name in VERSIONED:
            if result.done and name in result.done.versions:
                seen.setdefault(name, set()).add(result.done.versions[name])
    return [f"{name} {', '.join(sorted(found))}" for name, found in seen.items() if len(found) > 1]
