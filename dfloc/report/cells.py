"""Cells that speak of a group of trials: its name, its scores, holes, and the marks of what says nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dfloc.config import Checkpoint
from dfloc.report import table
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Model, mean_valid, places, scored_places
from dfloc.report.marks import NOT_ABOVE, is_not_above, notes
from dfloc.report.table import Cell


def name(text: str, groups: Iterable[Group]) -> Cell:
    """Return the head of a row; it is marked where one of the row's trials has collapsed."""
    found = dict.fromkeys(group.collapsed for group in groups if group.collapsed)
    return Cell(text, "; ".join(found), mark="bad") if found else Cell(text)


def score(group: Group, domains: Sequence[str], metric: str | None = None, checkpoint: Checkpoint = "best") -> Cell:
    """Return the mean over domains with its interval, or the hole; below it stands what `marks.notes` tells.

    Where there is no domain, or the protocol has no such number, nothing lacks.
    """
    found = group.score(domains, metric, checkpoint)
    lacks = not group.scored or (domains and group.measures(metric))
    cell = table.estimate(found, group.hole if lacks else table.DASH)
    bad = bool(found and group.collapsed) and checkpoint == "best"
    found_notes = notes(group, domains, checkpoint) if found else []
    return told(cell, found_notes, _judged([group], metric), "bad" if bad else "")


def mean(found: Estimate | None, hole: str, models: Sequence[Model], metric: str | None = None) -> Cell:
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


def baselines(groups: Sequence[Group], domain: str) -> Cell:
    """Return a baseline's IoU on a domain: of one group; several, which no axis of the row tells apart, are a hole."""
    if len(groups) > 1:
        return Cell("several", mark="hole")
    found = groups[0].score([domain]) if groups else None
    return table.number(found.value if found else None)
