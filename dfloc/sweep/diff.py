"""Two trials side by side: fields of their specs that differ, and paired differences of their scores."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfloc.config import Checkpoint, TrialSpec
from dfloc.errors import ConfigError, DataError, unknown
from dfloc.metrics import bootstrap, protocols
from dfloc.metrics.intervals import Interval

RECORDED = ("lineage", "train.asked", "valid.asked")  # what determines nothing
NONE = "-"


class Field(NamedTuple):
    """A field of a spec, by its path, and its value in either."""

    path: str
    a: str
    b: str


class Difference(NamedTuple):
    """What two trials score on the images of a domain's split that both have rows of.

    Attributes:
        images: those that both have a value of.
        a: mean of the first trial.
        b: mean of the second.
        difference: the first less the second, with its interval over photographs.
    """

    domain: str
    split: str
    condition: str
    images: int
    a: float
    b: float
    difference: Interval


def fields(a: TrialSpec, b: TrialSpec) -> list[Field]:
    """Return the fields that differ, in the order of the spec; what is only recorded is left out."""
    flat_a, flat_b = (dict(_flat(spec.model_dump(mode="json"))) for spec in (a, b))
    paths = dict.fromkeys([*flat_a, *flat_b])
    found = (Field(path, flat_a.get(path, NONE), flat_b.get(path, NONE)) for path in paths)
    return [field for field in found if field.a != field.b]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, value) of every leaf; lists of plain values are leaves."""
    if path in RECORDED:
        return
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for index, part in enumerate(value):
            yield from _flat(part, f"{path}.{index}")
    elif value is None or value in ({}, []):
        yield path, NONE
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


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
    a: pa.Table,
    b: pa.Table,
    protocol: str,
    metric: str | None = None,
    checkpoint: Checkpoint = "best",
) -> list[Difference]:
    """Return the paired differences, by domain, split and condition, of the images that both have rows of.

    Args:
        a: all rows of the first trial.
        b: all rows of the second.
        protocol: whose rows.
        metric: one of the protocol's keys; None: its first.
        checkpoint: whose rows.

    Raises:
        ConfigError: the protocol has no such key.
        DataError: they share no image, or images of one name have other masks.
    """
    keys = protocols.find(protocol).keys
    metric = metric or keys[0]
    if metric not in keys:
        raise unknown(f"metric of {protocol}", metric, keys)
    sides = [_of(rows, protocol, checkpoint) for rows in (a, b)]
    places = [place for place in sides[0] if place in sides[1]]
    found = [_difference(place, sides[0][place], sides[1][place], metric) for place in places]
    kept = [difference for difference in found if difference]
    if not kept:
        domains = [", ".join(dict.fromkeys(domain for domain, _, _ in side)) or "nothing" for side in sides]
        raise DataError(
            f"the two have no image in common for {metric} by {protocol}: A was scored on {domains[0]}, "
            f"B on {domains[1]}; score both on the same data: dfloc evaluate RUN --data DIR"
        )
    return kept


Place = tuple[str, str, str]


def _of(rows: pa.Table, protocol: str, which: Checkpoint) -> dict[Place, pa.Table]:
    """Return the rows of one protocol and checkpoint, each image once, by domain, split and condition."""
    mine = rows.filter((pc.field("protocol") == protocol) & (pc.field("checkpoint") == which))
    columns = [mine[name].to_pylist() for name in ("domain", "split", "condition", "id")]
    places: dict[Place, dict[str, int]] = {}
    for index, (domain, split, condition, image) in enumerate(zip(*columns, strict=True)):
        places.setdefault((domain, split, condition), {}).setdefault(image, index)
    return {place: mine.take([by_id[image] for image in sorted(by_id)]) for place, by_id in sorted(places.items())}


def _difference(place: Place, a: pa.Table, b: pa.Table, metric: str) -> Difference | None:
    shared = pa.array(sorted(set(a["id"].to_pylist()) & set(b["id"].to_pylist())), pa.string())
    a, b = (rows.filter(pc.is_in(rows["id"], shared)) for rows in (a, b))
    if not np.array_equal(a["mask_area"].to_numpy(), b["mask_area"].to_numpy()):
        raise DataError(f"images of {place[0]} have one name and other masks; were both scored on the same data?")
    value_a, value_b = (rows[metric].to_numpy().astype(np.float64) for rows in (a, b))
    known = ~np.isnan(value_a) & ~np.isnan(value_b)
    if not known.any():
        return None
    stems = a["stem"].to_numpy()[known]
    alone = dict.fromkeys(("draw", "seed"), np.zeros(len(stems), np.int64))
    frames = [pa.table({"stem": stems, metric: value[known], **alone}) for value in (value_a, value_b)]
    return Difference(
        domain=place[0],
        split=place[1],
        condition=place[2],
        images=len(stems),
        a=float(value_a[known].mean()),
        b=float(value_b[known].mean()),
        difference=bootstrap.paired_difference(frames[0], frames[1], metric),
    )
