"""Numbers of a set of images, from its rows: means, pooled scores, by mask area, at a threshold chosen elsewhere."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics import protocols
from dfloc.metrics.table import Array, Table, column, lists

AREAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


class AreaBin(NamedTuple):
    """The images whose share of fake pixels is over `low` and at most `high`; `mean` is None where there are none."""

    low: float
    high: float
    num_images: int
    mean: float | None


def summarise(rows: Table, protocol: str, valid: Table | None = None) -> dict[str, float]:
    """Summarise the rows of one set of images (a domain's test list under one condition, say).

    Args:
        rows: of the set.
        protocol: its name.
        valid: rows of validation images by the same checkpoint, of a protocol that has a grid of thresholds.

    Returns:
        Each key's mean over the images where it is not NaN (absent where it is NaN everywhere), `nan/<key>`: how many
        were left out, `pooled_iou`: over all pixels of the set, 1 where nothing is fake nor called so; what the
        protocol says of a set besides; with `valid`, `threshold`: the one of the grid with the best mean F1 there, and
        `f1_valid`: the mean F1 of this set at that threshold. Of a protocol of images the means alone, without those
        of fakes and reals together (`pairs.summarise_pair`).

    Raises:
        DataError: no row, a column is missing, a row is of another protocol, or the protocol has no grid.
    """
    rule = protocols.find(protocol)
    check(rows, protocol)
    summary: dict[str, float] = {}
    for key, values in rule.values(rows).items():
        known = values[~np.isnan(values)]
        if len(known) and not rule.per_image[key].of_pair:
            summary[key] = float(known.mean())
        if rule.reads == "map":
            summary[f"nan/{key}"] = float(len(values) - len(known))
    if rule.reads == "map":
        summary["pooled_iou"] = pooled_iou(rows)
    summary |= rule.of_set(rows)
    if valid is not None and rule.reads == "map":
        threshold = best_threshold(valid, protocol)
        at = rule.grid.index(threshold)
        summary |= {"threshold": threshold, "f1_valid": float(f1_on_grid(rows)[:, at].mean())}
    return summary


def pooled_iou(rows: Table) -> float:
    """Return IoU over all pixels of a set; 1 where nothing is fake nor called so.

    Raises:
        DataError: a column is missing.
    """
    tp, fp, fn = (int(column(rows, name).sum()) for name in ("tp", "fp", "fn"))
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


def best_threshold(rows: Table, protocol: str) -> float:
    """Return the threshold of the protocol's grid with the best mean F1; of equal ones the nearest to its own.

    Raises:
        DataError: no row, a column is missing, a row is of another protocol, or the protocol has no grid.
    """
    rule = protocols.find(protocol)
    check(rows, protocol)
    if not rule.grid:
        raise DataError(f"protocol {protocol} chooses no threshold on validation images; dfloc-1 does")
    mean_K = f1_on_grid(rows).mean(0)
    return min(zip(rule.grid, mean_K.tolist(), strict=True), key=lambda one: (-one[1], abs(one[0] - rule.threshold)))[0]


def f1_on_grid(rows: Table) -> Array:
    """Return the F1 of each image at each threshold of the grid that its row was counted on, [images, thresholds].

    Raises:
        DataError: a column is missing.
    """
    num_fake = (column(rows, "tp") + column(rows, "fn")).astype(np.float64)
    return f1(lists(rows, "grid_tp"), lists(rows, "grid_fp"), num_fake[:, None])


def f1(tp: Any, fp: Any, num_fake: Any) -> Array:
    """Return F1 from counts of any shape; 1 where nothing is fake nor called so."""
    whole = np.asarray(tp, np.float64) + fp + num_fake
    found: Array = np.divide(2.0 * np.asarray(tp), whole, out=np.ones_like(whole), where=whole > 0)
    return found


def by_area(rows: Table, value: str, edges: Sequence[float] = AREAS) -> list[AreaBin]:
    """Return the mean of a column by the images' share of fake pixels; an image without any is in no bin.

    Args:
        rows: of any protocol.
        value: the column; rows where it is NaN are left out.
        edges: rising, fractions; a bin holds its upper edge.

    Raises:
        DataError: a column is missing.
    """
    area, values = column(rows, "mask_area").astype(np.float64), column(rows, value).astype(np.float64)
    bins = []
    for low, high in pairwise(edges):
        inside = values[(area > low) & (area <= high) & ~np.isnan(values)]
        bins.append(AreaBin(low, high, len(inside), float(inside.mean()) if len(inside) else None))
    return bins


def check(rows: Table, protocol: str) -> None:
    """Return if there are rows, all of them of a protocol.

    Raises:
        DataError: there is none, or one is of another.
    """
    if len(rows) == 0:
        raise DataError(f"expected rows to summarise by {protocol}, came none; is the test list empty?")
    others = set(np.unique(column(rows, "protocol").astype(str))) - {protocol}
    if others:
        raise DataError(f"expected rows of protocol {protocol} alone, came also {', '.join(sorted(others))}")
