"""What a page writes of a group of trials: its name, its scores, holes, and the marks of what says nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dfloc import registry
from dfloc.config import Checkpoint
from dfloc.metrics.degenerate import EQUAL
from dfloc.metrics.metric import Metric
from dfloc.report import table
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, GroupOn, Study, mean_valid, places, scored_places
from dfloc.report.table import Cell

CROSS = "A cross: over 90 % of the predictions of a trial, or of those on the domain, are empty, all fake or constant."
ONE_CLASS = "over 90 % of the images of every class are called one class"
NOT_ABOVE = "not above all fake"


def cross(study: Study) -> str:
    """Return what a cross in a figure says."""
    return CROSS if study.protocol.reads == "map" else f"A cross: {ONE_CLASS}."


def name(text: str, groups: Iterable[Group]) -> Cell:
    """Return the head of a row; it is marked where one of the row's trials has collapsed."""
    found = dict.fromkeys(group.collapsed for group in groups if group.collapsed)
    return Cell(text, "; ".join(found), mark="bad") if found else Cell(text)


def score(group: Group, domains: Sequence[str], metric: str | None = None, checkpoint: Checkpoint = "best") -> Cell:
    """Return the mean over domains with its interval, or the hole; below it stands what `notes` tells.

    Where there is no domain, or the protocol has no such number, nothing lacks.
    """
    found = group.score(domains, metric, checkpoint)
    lacks = not group.scored or (domains and group.measures(metric))
    cell = table.estimate(found, group.hole if lacks else table.DASH)
    bad = bool(found and group.collapsed) and checkpoint == "best"
    found_notes = notes(group, domains, checkpoint) if found else []
    return told(cell, found_notes, _judged([group], metric), "bad" if bad else "")


def mean(found: Estimate | None, hole: str, models: Sequence[GroupOn], metric: str | None = None) -> Cell:
    """Return a mean over models, each on its domains, or the hole; it is marked where it is not above all fake."""
    judged = _judged([group for group, _ in models], metric)
    return told(table.estimate(found, hole), [NOT_ABOVE] if found and is_not_above(models) else [], judged)


def told(cell: Cell, found: Sequence[str], judged: str = "", mark: str = "") -> Cell:
    """Return a cell with notes below it; what is not above all fake is never the best of a table.

    Args:
        cell: a number.
        found: the notes.
        judged: what is not above all fake, where it is another metric than the cell's.
        mark: of the cell, where it is not by the notes.
    """
    words = [f"{judged} {note}" if note == NOT_ABOVE and judged else note for note in found]
    mark = mark or ("weak" if NOT_ABOVE in found else cell.mark)
    return replace(cell.noted(*words), mark=mark)


def _judged(groups: Sequence[Group], metric: str | None) -> str:
    """Return the label of the metric that all fake is compared by, where it is another one."""
    scores = (score for group in groups for result in group.scored for score in result.scores.values())
    first = next((score.metric() for score in scores), None)
    return first.label if first and metric not in (None, first.key) else ""


def valid(groups: Sequence[Group]) -> Cell:
    """Return the mean validation IoU of some trainings, of the runs that all of them have."""
    cell = table.number(mean_valid(groups))
    short = table.runs(len(scored_places(groups)), len(places(groups)))
    return replace(cell, small=short if cell.exact else "")


def number(group: Group, domain: str, metric: Metric) -> float | None:
    """Return the mean over trainings of a metric's number on a domain, of a set or of images; None: there is none."""
    scores = [score for result in group.scored if (score := result.scores.get(("best", domain)))]
    values = [value for score in scores if (value := score.number(metric)) is not None]
    return sum(values) / len(values) if values else None


def baselines(groups: Sequence[Group], domain: str) -> Cell:
    """Return a baseline's IoU on a domain: of one group; several, which no axis of the row tells apart, are a hole."""
    if len(groups) > 1:
        return Cell("several", mark="hole")
    found = groups[0].score([domain]) if groups else None
    return table.number(found.value if found else None)


def notes(group: Group, domains: Sequence[str], checkpoint: Checkpoint = "best") -> list[str]:
    """Return what to write beside a group's number over domains, each note once; none where its maps say something."""
    found = [NOT_ABOVE] if is_not_above([(group, domains)], checkpoint) else []
    if _is_collapsed(group, checkpoint):
        return [group.collapsed, *found]
    kinds = _kinds(group, domains, checkpoint)
    if not kinds:
        return found
    words = f"{'; '.join(dict.fromkeys(kinds.values()))} predictions"
    return [words if len(kinds) == len(domains) else f"{words} on {len(kinds)} of {len(domains)}", *found]


def is_degenerate(group: Group, domains: Sequence[str], checkpoint: Checkpoint = "best") -> bool:
    """Return whether over 90 % of the maps of a trial, or of those on each of the domains, are of one kind."""
    return _is_collapsed(group, checkpoint) or 0 < len(domains) == len(_kinds(group, domains, checkpoint))


def is_not_above(models: Sequence[GroupOn], checkpoint: Checkpoint = "best") -> bool:
    """Return whether the mean IoU of models, each on its domains, is no more than that of calling every pixel fake.

    Both are of the same images, and of the runs that all of the models have. A baseline is not told so.
    """
    if all(group.first.trial.spec.decoder.name in registry.SOLVED for group, _ in models):
        return False
    wanted = [(group, (checkpoint, domain)) for group, domains in models for domain in domains]
    gains: list[float | None] = []
    for place in places([group for group, _ in models]):
        scores = [group.runs[place].scores.get(key) for group, key in wanted]
        if all(scores):
            gains += [score.gain for score in scores if score]
    known = [gain for gain in gains if gain is not None]
    return 0 < len(known) == len(gains) and sum(known) / len(known) <= EQUAL


def _is_collapsed(group: Group, checkpoint: Checkpoint) -> bool:
    return bool(group.collapsed) and checkpoint == "best"


def _kinds(group: Group, domains: Sequence[str], checkpoint: Checkpoint) -> dict[str, str]:
    """Return what the maps of any of a group's trials are on those of the domains where they say nothing."""
    words = {name: [result.degenerate(checkpoint, name) for result in group.scored] for name in domains}
    return {name: next(filter(None, found)) for name, found in words.items() if any(found)}
