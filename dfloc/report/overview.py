"""What stands behind the numbers: every trial and its state, the data, versions, values that are no number."""

from collections import Counter
from collections.abc import Iterable, Sequence

from dfloc.report import table
from dfloc.report.captions import provenance, random_weights
from dfloc.report.groups import COLLAPSED, Study
from dfloc.report.results import Result, Score
from dfloc.report.table import Cell, Row, Table
from dfloc.report.variants import replaced

STATES = {
    "done": "finished",
    "failed": "FAILED",
    "stopped": "stopped early",
    "partial": "unfinished",
    "new": "not run",
}
SYNTHETIC = "Built-in data or random weights: these numbers say nothing about Dolos or any published model."
PATH_ONLY = "Random weights: path only, numbers mean nothing."
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
    found += [SYNTHETIC] if record.synthetic else []
    found += record.notes
    found += replaced(record)
    if record.limit is not None:
        found.append(f"Limited by --limit {record.limit}: every count is scaled down, nothing here is the full study.")
    collapsed = [result for result in results.by_fingerprint.values() if result.collapsed]
    if collapsed:
        kinds = Counter(result.collapsed for result in collapsed)
        words = "; ".join(f"{count} {kind}" for kind, count in kinds.items())
        found.append(f"COLLAPSED (over 90 % of the maps of one kind): {words}; they are marked.")
    failed = [result for result in results.by_fingerprint.values() if result.state == "failed"]
    found += [f"Failed: {result.trial.name}: {result.failure}" for result in failed[:5]]
    if len(failed) > 5:
        found.append(f"{len(failed) - 5} more trials failed; the table of all trials has the causes.")
    found += [f"Mixed versions: {words}." for words in _mixed(results.by_fingerprint.values())]
    return found


def footer(study: Study) -> list[str]:
    """Return the lines at the end: versions, values that are no number, how many rows."""
    scores = study.results.scores()
    images = sum(score.num_images for score in scores)
    undefined = Counter({metric: sum(each.num_nan(metric) for each in scores) for metric in study.metrics})
    nan = ", ".join(f"{metric} {count:,}" for metric, count in undefined.items() if count) or "none"
    lines = [
        f"Protocol {study.record.protocol}; {len(scores):,} evaluations, {images:,} rows (one per image).",
        f"Values that the protocol leaves undefined (NaN), left out of means: {nan}.",
    ]
    lines += _out_of_range(study, scores)
    versions = sorted({_versions(result) for result in study.results.by_fingerprint.values() if result.done})
    return [*lines, *(f"Trained with {words}." for words in versions)]


def trials(study: Study) -> Table:
    """Return every planned trial: what it is, what became of it, and its scores."""
    domains = study.record.domains
    rows = []
    stage = ""
    for result in study.results.all:
        rows.append(Row(_trial(result, domains), starts=result.trial.stage != stage))
        stage = result.trial.stage
    return Table(
        id="trials",
        title="Every planned trial.",
        caption=f"One row per stage, cell, seed and draw; test {study.first.label}, best epoch. "
        f"{provenance(study, study.groups)}",
        columns=["Stage", "Case", "Axes", "State", "Train", "Steps", "Epoch", "Valid. IoU", *domains, "Name", "Trial"],
        rows=rows,
        words=(0, 1, 2, 3, 8 + len(domains)),
        folded=True,
    )


def data(study: Study) -> Table:
    """Return the test lists: images, photographs, digests."""
    lists: dict[tuple[str, str], Score] = {}
    for score in study.results.scores():
        lists.setdefault((score.spec.domain, score.spec.test.digest), score)
    rows = []
    for domain in study.record.domains:
        facts = study.record.facts.get(domain, {})
        counts = [Cell(f"{facts[split].images:,}" if split in facts else table.DASH) for split in ("train", "valid")]
        for (name, digest), score in lists.items():
            if name == domain:
                tested = [Cell(f"{score.num_images:,}"), Cell(f"{score.num_photographs:,}"), Cell(digest[:16])]
                rows.append(Row([Cell(domain), *counts, *tested]))
    return Table(
        id="data",
        title="Data.",
        caption=f"Images of each domain and split of {study.record.data}, and the test lists that were scored. An "
        f"interval rests on the photographs, not on the images.{random_weights(study.results.all)}",
        columns=["Domain", "Train images", "Valid. images", "Test images", "Test photographs", "Test list"],
        rows=rows,
        words=(0, 5),
    )


def _trial(result: Result, domains: tuple[str, ...]) -> list[Cell]:
    trial = result.trial
    scores = [result.scores.get(("best", domain)) for domain in domains]
    state = Cell(STATES[result.state], result.failure, mark="bad" if result.state == "failed" else "")
    if result.collapsed:
        state = Cell(state.text, f"{COLLAPSED} ({result.collapsed})", mark="bad")
    return [
        Cell(trial.stage),
        Cell(trial.case),
        Cell(", ".join(f"{axis} = {value}" for axis, value in trial.axes.items())),
        state,
        Cell(f"{trial.spec.train.size:,}"),
        Cell(f"{trial.spec.steps:,}"),
        Cell(str(result.done.best_epoch) if result.done else table.DASH),
        table.number(result.valid),
        *(table.number(score.mean() if score else None) for score in scores),
        Cell(trial.name),
        Cell(trial.fingerprint[:12]),
    ]


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
