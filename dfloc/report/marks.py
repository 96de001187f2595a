"""What stands beside a number whose maps say nothing: collapsed, of one class or constant, not above all fake."""

from collections.abc import Sequence

from dfloc import registry
from dfloc.config import Checkpoint
from dfloc.metrics.degenerate import EQUAL
from dfloc.report.groups import Group, Model, places

CROSS = "A cross: over 90 % of the predictions of a trial, or of those on the domain, are empty, all fake or constant."
NOT_ABOVE = "not above all fake"


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


def is_not_above(models: Sequence[Model], checkpoint: Checkpoint = "best") -> bool:
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
