"""Cells that speak of a group of trials: its name, its scores, and the marks of holes and empty maps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dfloc.config import Checkpoint
from dfloc.report import table
from dfloc.report.groups import COLLAPSED, Group, mean_valid, places, scored_places
from dfloc.report.table import Cell


def name(text: str, groups: Iterable[Group]) -> Cell:
    """Return the head of a row; it is marked where one of the row's trials has collapsed."""
    return Cell(text, COLLAPSED, mark="bad") if any(group.collapsed for group in groups) else Cell(text)


def score(group: Group, domains: Sequence[str], metric: str = "iou", checkpoint: Checkpoint = "best") -> Cell:
    """Return the mean over domains with its interval, or the hole; nearly empty maps are told below it.

    Where there is no domain, or the protocol has no such number, nothing lacks.
    """
    found = group.score(domains, metric, checkpoint)
    lacks = not group.scored or (domains and metric in group.metrics)
    cell = table.estimate(found, group.hole if lacks else table.DASH)
    note = group.note(domains, checkpoint) if found else ""
    below = "; ".join(filter(None, [cell.small, note]))
    return replace(cell, small=below, mark="bad" if note == COLLAPSED else cell.mark)


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
