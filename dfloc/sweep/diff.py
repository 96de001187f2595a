"""Two trials side by side: paired differences of their scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfloc.config import Checkpoint
from dfloc.errors import ConfigError, DataError, unknown
from dfloc.ledger import Ledger
from dfloc.metrics import intervals, protocols
from dfloc.metrics.intervals import Images, Interval, Training, holm
from dfloc.metrics.metric import Bounds
from dfloc.storage import Workspace
from dfloc.sweep import lookup


class TrialPair(NamedTuple):
    """A trial of either side, of one mixture draw and trial seed, by their rows."""

    draw: int
    seed: int
    a: pa.Table
    b: pa.Table


class Difference(NamedTuple):
    """What two recipes score on the images of a domain's split that both have rows of.

    Attributes:
        images: those that both sides of a pair have a value of.
        a: mean of the first, over its trainings.
        b: mean of the second.
        difference: the first less the second, with its interval over photographs and trainings.
        apart: whether luck does not explain it, by Holm's procedure over all places; no, with one training a side.
    """

    domain: str
    split: str
    condition: str
    images: int
    a: float
    b: float
    difference: Interval
    apart: bool = False


def paired(workspace: Workspace, a: str, b: str, *, alone: bool) -> list[tuple[tuple[int, int], str, str]]:
    """Return the trials to compare, by draw and seed: of the recipes of two, those that both have and are scored.

    Two trials of one recipe, or of which no draw and seed is common to both recipes, stand alone; so do all, if asked.
    """
    ledger = Ledger(workspace)
    sides = [{} if alone else lookup.repeated(workspace, name) for name in (a, b)]
    scored = [{at: name for at, name in side.items() if next(ledger.all_rows(name), None)} for side in sides]
    common = [(at, scored[0][at], scored[1][at]) for at in sorted(scored[0]) if at in scored[1]]
    found = {(one, other): (at, one, other) for at, one, other in reversed(common)}
    same = set(sides[0].values()) & {b} or a == b
    return sorted(found.values()) if found and not same else [((0, 0), a, b)]


def choose(a: pa.Table, b: pa.Table, protocol: str | None) -> str:
    """Return the protocol to compare by: the one that is asked for, or the one that both have rows of.

    Raises:
        ConfigError: one of them has none of it, they share none, or several and none is asked for.
    """
    have: list[list[str]] = [sorted(set(rows["protocol"].to_pylist())) for rows in (a, b)]
    shared = [name for name in have[0] if name in have[1]]
    if protocol is None and len(shared) == 1:
        return shared[0]
    if protocol is not None:
        protocols.find(protocol)
        if protocol in shared:
            return protocol
    said = f"A has rows of {', '.join(have[0])}, B of {', '.join(have[1])}"
    if len(shared) > 1 and protocol is None:
        raise ConfigError(f"{said}; choose one by --protocol")
    raise ConfigError(
        f"{said}; nothing is compared across protocols: score both by one, dfloc evaluate RUN --data DIR "
        f"--protocol {protocol or have[0][0]}"
    )


def differences(
    pairs: Sequence[TrialPair],
    protocol: str,
    metric: str | None = None,
    checkpoint: Checkpoint = "best",
) -> list[Difference]:
    """Return the paired differences, by domain, split and condition, of the images that both sides have rows of.

    Of one of the protocol's metrics, its first by default.

    Raises:
        ConfigError: the protocol has no such key.
        DataError: they share no image, or images of one name have other masks.
    """
    rule = protocols.find(protocol)
    metric = metric or rule.first.key
    if metric not in rule.per_image:
        raise unknown(f"metric of {protocol}", metric, rule.per_image)
    bounds = rule.per_image[metric].bounds
    found: dict[ScoredSplit, list[tuple[Training, Training]]] = {}
    stems: dict[str, int] = {}
    for pair in pairs:
        first, second = (_of(rows, protocol, checkpoint) for rows in (pair.a, pair.b))
        for place in [place for place in first if place in second]:
            if images := _shared(place, first[place], second[place], metric, stems):
                a, b = (Training(pair.draw, pair.seed, [each]) for each in images)
                found.setdefault(place, []).append((a, b))
    if not found:
        raise DataError(_nothing_shared(pairs[0], protocol, metric, checkpoint))
    kept = [_difference(place, sides, bounds) for place, sides in sorted(found.items())]
    apart = holm([one.difference.p for one in kept])
    return [one._replace(apart=far) for one, far in zip(kept, apart, strict=True)]


def _nothing_shared(pair: TrialPair, protocol: str, metric: str, checkpoint: Checkpoint) -> str:
    sides = [_of(rows, protocol, checkpoint) for rows in (pair.a, pair.b)]
    domains = [", ".join(dict.fromkeys(domain for domain, _, _ in side)) or "nothing" for side in sides]
    return (
        f"the two have no image in common for {metric} by {protocol}: A was scored on {domains[0]}, "
        f"B on {domains[1]}; score both on the same data: dfloc evaluate RUN --data DIR"
    )


ScoredSplit = tuple[str, str, str]


def _of(rows: pa.Table, protocol: str, which: Checkpoint) -> dict[ScoredSplit, pa.Table]:
    """Return the rows of one protocol and checkpoint, each image once, by domain, split and condition."""
    mine = rows.filter((pc.field("protocol") == protocol) & (pc.field("checkpoint") == which))
    columns = [mine[name].to_pylist() for name in ("domain", "split", "condition", "id")]
    places: dict[ScoredSplit, dict[str, int]] = {}
    for index, (domain, split, condition, image) in enumerate(zip(*columns, strict=True)):
        places.setdefault((domain, split, condition), {}).setdefault(image, index)
    return {place: mine.take([by_id[image] for image in sorted(by_id)]) for place, by_id in sorted(places.items())}


def _shared(
    place: ScoredSplit, a: pa.Table, b: pa.Table, metric: str, stems: dict[str, int]
) -> tuple[Images, Images] | None:
    """Return the values of the images that both have one of; photographs are numbered in `stems`."""
    shared = pa.array(sorted(set(a["id"].to_pylist()) & set(b["id"].to_pylist())), pa.string())
    a, b = (rows.filter(pc.is_in(rows["id"], shared)) for rows in (a, b))
    if not np.array_equal(a["mask_area"].to_numpy(), b["mask_area"].to_numpy()):
        raise DataError(f"images of {place[0]} have one name and other masks; were both scored on the same data?")
    value_a, value_b = (rows[metric].to_numpy().astype(np.float64) for rows in (a, b))
    known = ~np.isnan(value_a) & ~np.isnan(value_b)
    if not known.any():
        return None
    codes = np.array([stems.setdefault(stem, len(stems)) for stem in a["stem"].to_pylist()], np.int64)[known]
    return Images(value_a[known], codes), Images(value_b[known], codes)


def _difference(place: ScoredSplit, sides: Sequence[tuple[Training, Training]], bounds: Bounds) -> Difference:
    a, b = (intervals.mean([pair[side] for pair in sides]) for side in (0, 1))
    less = intervals.difference(sides, bounds)
    assert a is not None
    assert b is not None
    assert less is not None
    return Difference(
        domain=place[0],
        split=place[1],
        condition=place[2],
        images=max(one.domains[0].values.size for one, _ in sides),
        a=a.value,
        b=b.value,
        difference=less.interval(),
    )
