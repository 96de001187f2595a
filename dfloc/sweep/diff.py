"""Two trials side by side: paired differences of their scores."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfloc.config import Checkpoint, TrialSpec
from dfloc.errors import ConfigError, DataError, unknown
from dfloc.ledger import Ledger
from dfloc.metrics import image_rows, intervals, protocols
from dfloc.metrics.image_rows import FAKE, REAL, ImageRows
from dfloc.metrics.intervals import Images, Interval, Training, holm
from dfloc.metrics.metric import Bounds
from dfloc.metrics.protocols import Protocol
from dfloc.metrics.table import Array, column
from dfloc.storage import Workspace
from dfloc.sweep import lookup

ScoredSplit = tuple[str, str, str]  # domain, split, condition


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


class CalledDifference(NamedTuple):
    """How two recipes call the images of a domain's split, of every pair of trainings.

    Attributes:
        images: that both have rows of.
        alike: called the same by both.
        only_a: right by the first alone; of other classes on either side, that it is real or fake.
        only_b: right by the second alone.
        score_a: mean score of the first.
        score_b: mean score of the second.
    """

    domain: str
    split: str
    condition: str
    images: int
    alike: int
    only_a: int
    only_b: int
    score_a: float
    score_b: float


def refuse_tasks(a: TrialSpec, b: TrialSpec) -> None:
    """Return if the scores of two trials are of one kind.

    Raises:
        ConfigError: one localizes, the other calls images: the mean of a map is no probability of a class.
    """
    if (a.task == "localize") != (b.task == "localize"):
        raise ConfigError(
            f"A is of task {a.task}, B of task {b.task}: the mean of a map and the probability of a class are scores "
            "of two kinds, which nothing compares; name two trials that localize, or two that call images"
        )


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
        for place, *rows in _places([pair], protocol, checkpoint):
            if images := _shared(place, rows[0], rows[1], rule, metric, stems):
                a, b = (Training(pair.draw, pair.seed, [each]) for each in images)
                found.setdefault(place, []).append((a, b))
    if not found:
        raise DataError(_nothing_shared(pairs[0], protocol, metric, checkpoint))
    kept = [_difference(place, sides, bounds) for place, sides in sorted(found.items())]
    apart = holm([one.difference.p for one in kept])
    return [one._replace(apart=far) for one, far in zip(kept, apart, strict=True)]


def called(pairs: Sequence[TrialPair], protocol: str, checkpoint: Checkpoint = "best") -> list[CalledDifference]:
    """Return how the two call images, by domain, split and condition; nothing by a protocol of maps.

    Raises:
        DataError: rows lack what is read of images.
    """
    if protocols.find(protocol).reads == "map":
        return []
    found: dict[ScoredSplit, list[tuple[ImageRows, ImageRows]]] = {}
    for place, a, b in _places(pairs, protocol, checkpoint):
        found.setdefault(place, []).append((image_rows.read(a), image_rows.read(b)))
    return [_called(place, sides) for place, sides in sorted(found.items())]


def _called(place: ScoredSplit, sides: Sequence[tuple[ImageRows, ImageRows]]) -> CalledDifference:
    rights = [
        tuple(_names(one, both, one.called_N) == _names(one, both, one.class_N) for one in both) for both in sides
    ]
    alike = [_names(a, (a, b), a.called_N) == _names(b, (a, b), b.called_N) for a, b in sides]
    return CalledDifference(
        *place,
        images=sum(len(each) for each in alike),
        alike=sum(int(each.sum()) for each in alike),
        only_a=sum(int((a & ~b).sum()) for a, b in rights),
        only_b=sum(int((b & ~a).sum()) for a, b in rights),
        score_a=float(np.concatenate([a.score_N for a, _ in sides]).mean()),
        score_b=float(np.concatenate([b.score_N for _, b in sides]).mean()),
    )


def by_image(pairs: Sequence[TrialPair], protocol: str, metric: str, checkpoint: Checkpoint = "best") -> pa.Table:
    """Return a row for each image that both sides of a pair have: `a` and `b`, the metric of either, names, draw, seed.

    Of a protocol of images also `class_a`, `called_a`, `score_a` and those of b, and whether it is called `alike`.
    """
    rule, tables = protocols.find(protocol), []
    for pair, (place, a, b) in ((one, each) for one in pairs for each in _places([one], protocol, checkpoint)):
        names: dict[str, object] = dict(zip(("domain", "split", "condition"), place, strict=True))
        names |= {"draw": pair.draw, "seed": pair.seed}
        columns: dict[str, object] = {"id": a["id"], **{name: [value] * len(a) for name, value in names.items()}}
        columns |= {side: _values(rule, rows, metric) for side, rows in (("a", a), ("b", b))}
        if rule.reads == "image":
            sides = image_rows.read(a), image_rows.read(b)
            for name, rows in zip("ab", sides, strict=True):
                told = {"class": rows.class_N, "called": rows.called_N, "score": rows.score_N}
                columns |= {f"{key}_{name}": values for key, values in told.items()}
            columns["alike"] = _names(sides[0], sides, sides[0].called_N) == _names(sides[1], sides, sides[1].called_N)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _names(rows: ImageRows, sides: tuple[ImageRows, ImageRows], names_N: Array) -> Array:
    """Return what images are or are called in words that both sides know: of other classes real and fake alone."""
    return names_N if sides[0].classes == sides[1].classes else np.where(names_N == REAL, REAL, FAKE)


def _places(
    pairs: Sequence[TrialPair], protocol: str, checkpoint: Checkpoint
) -> Iterator[tuple[ScoredSplit, pa.Table, pa.Table]]:
    """Yield the rows of the images that both sides of each pair have, in one order."""
    for pair in pairs:
        first, second = (_of(rows, protocol, checkpoint) for rows in (pair.a, pair.b))
        for place in (place for place in first if place in second):
            a, b = _common(first[place], second[place])
            if len(a):
                yield place, a, b


def _nothing_shared(pair: TrialPair, protocol: str, metric: str, checkpoint: Checkpoint) -> str:
    sides = [_of(rows, protocol, checkpoint) for rows in (pair.a, pair.b)]
    domains = [", ".join(dict.fromkeys(domain for domain, _, _ in side)) or "nothing" for side in sides]
    return (
        f"the two have no image in common for {metric} by {protocol}: A was scored on {domains[0]}, "
        f"B on {domains[1]}; score both on the same data: dfloc evaluate RUN --data DIR"
    )


def _of(rows: pa.Table, protocol: str, which: Checkpoint) -> dict[ScoredSplit, pa.Table]:
    """Return the rows of one protocol and checkpoint, each image once, by domain, split and condition.

    No explanations under a protocol of maps: they are no answers, and may be of several layers.
    """
    mine = rows.filter((pc.field("protocol") == protocol) & (pc.field("checkpoint") == which))
    if "explain" in mine.column_names and protocols.find(protocol).reads == "map":
        mine = mine.filter(pc.field("explain").is_null())  # maps that are relative to their own maximum
    columns = [mine[name].to_pylist() for name in ("domain", "split", "condition", "id")]
    places: dict[ScoredSplit, dict[str, int]] = {}
    for index, (domain, split, condition, image) in enumerate(zip(*columns, strict=True)):
        places.setdefault((domain, split, condition), {}).setdefault(image, index)
    return {place: mine.take([by_id[image] for image in sorted(by_id)]) for place, by_id in sorted(places.items())}


def _common(a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of the images that both have; each side has an image once, in the order of names."""
    shared = pa.array(sorted(set(a["id"].to_pylist()) & set(b["id"].to_pylist())), pa.string())
    return a.filter(pc.is_in(a["id"], shared)), b.filter(pc.is_in(b["id"], shared))


def _shared(
    place: ScoredSplit, a: pa.Table, b: pa.Table, rule: Protocol, metric: str, stems: dict[str, int]
) -> tuple[Images, Images] | None:
    """Return the values of the images that both have one of; photographs are numbered in `stems`."""
    areas = [rows["mask_area"].cast(pa.float64()).to_numpy() for rows in (a, b)]  # NaN where a model gives no map
    if ((areas[0] != areas[1]) & ~np.isnan(areas[0]) & ~np.isnan(areas[1])).any():
        raise DataError(f"images of {place[0]} have one name and other masks; were both scored on the same data?")
    value_a, value_b = (_values(rule, rows, metric) for rows in (a, b))
    known = ~np.isnan(value_a) & ~np.isnan(value_b)
    if not known.any():
        return None
    codes = np.array([stems.setdefault(stem, len(stems)) for stem in a["stem"].to_pylist()], np.int64)[known]
    return Images(value_a[known], codes), Images(value_b[known], codes)


def _values(rule: Protocol, rows: pa.Table, metric: str) -> Array:
    return column(rows, metric).astype(np.float64) if rule.reads == "map" else rule.values(rows)[metric]


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
