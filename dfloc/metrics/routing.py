"""What two steps cost and gain: a composite's rows beside those of the parts that would have been right."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics.image_rows import REAL
from dfloc.metrics.table import Array, Table, column, known


class Routed(NamedTuple):
    """Images of a composite, each with its class, what its router calls it, and two values of a metric.

    Attributes:
        true_N: the class of each.
        called_N: what the router calls it.
        own_N: the composite's value.
        oracle_N: that of the part of its class, of reals that of an empty map; NaN where no part is of its class.
    """

    true_N: Array  # noqa: N815
    called_N: Array  # noqa: N815
    own_N: Array  # noqa: N815
    oracle_N: Array  # noqa: N815

    @property
    def recall(self) -> float:
        """The share of images that are called their class."""
        return float((self.true_N == self.called_N).mean())

    @property
    def oracle(self) -> float:
        """The mean value with a router that is always right; NaN where an image is of no class."""
        return float(self.oracle_N.mean())

    @property
    def cost(self) -> float:
        """By how much a router that is always right would be better."""
        return float((self.oracle_N - self.own_N).mean())


class RoutingCell(NamedTuple):
    """Images of one class that are called another, or the same.

    Attributes:
        images: how many.
        share: of the images of the class.
        cost: mean of what a right router would add.
        part: of the whole cost of all images; NaN where there is none.
    """

    true: str
    called: str
    images: int
    share: float
    cost: float
    part: float


class OnReals(NamedTuple):
    """A mean over fakes and reals together, and what it is made of.

    Attributes:
        together: the plain mean over the images of both.
        fakes: the mean over the fakes.
        reals: that over the reals.
        empty: share of reals whose map calls no pixel fake.
        passed: share of reals that a router calls real; NaN where there is none.
        misrouted: share of reals that a router calls fake, with an empty map nevertheless; NaN likewise.
        nothing: what a map without a fake pixel has over the same images.
    """

    together: float
    fakes: float
    reals: float
    empty: float
    passed: float
    misrouted: float
    nothing: float


def routed(rows: Table, router: Table, parts: Mapping[str, Table], metric: str) -> Routed:
    """Return what routing costs on the images of a composite.

    Args:
        rows: the composite's.
        router: of the same images in the same order, with `class` and `called`.
        parts: by class, likewise.
        metric: of an image; more is better, 1 where neither truth nor map has a fake pixel.

    Raises:
        DataError: the tables are not of the same images, or a column is missing.
    """
    ids = column(rows, "id")
    for name, table in (("the router", router), *parts.items()):
        if len(table) != len(ids) or (column(table, "id") != ids).any():
            raise DataError(f"expected rows of the same images, those of {name} are not; score them again")
    true_N, oracle_N = column(router, "class").astype(str), np.full(len(ids), np.nan)
    for name, table in parts.items():
        of_N = true_N == name
        oracle_N[of_N] = column(table, metric).astype(np.float64)[of_N]
    oracle_N = np.where(true_N == REAL, nothing(rows), oracle_N)
    return Routed(true_N, column(router, "called").astype(str), column(rows, metric).astype(np.float64), oracle_N)


def cells(found: Sequence[Routed]) -> list[RoutingCell]:
    """Return every pair of a class and a call that has images, that which costs most first."""
    true_N, called_N, own_N, oracle_N = (np.concatenate(columns) for columns in zip(*found, strict=True))
    loss_N = oracle_N - own_N
    whole = float(loss_N.sum())
    made = []
    for true, called in sorted({*zip(true_N.tolist(), called_N.tolist(), strict=True)}):
        in_N = (true_N == true) & (called_N == called)
        lost = float(loss_N[in_N].sum())
        share = float(in_N.sum() / (true_N == true).sum())
        part = lost / whole if whole else float("nan")
        made.append(RoutingCell(true, called, int(in_N.sum()), share, lost / int(in_N.sum()), part))
    return sorted(made, key=lambda cell: -cell.cost * cell.images)


def with_reals(fakes: Table, reals: Table, metric: str) -> OnReals:
    """Return the mean of a metric over fakes and reals together, with its parts.

    A real with an empty map has 1, with any pixel called fake 0 or next to it: half of the number says how many reals
    are left alone, and a model that paints nothing has a half.

    Args:
        fakes: rows of maps.
        reals: rows of maps of real images.
        metric: as in `routed`.
    """
    own_N, real_M = (column(rows, metric).astype(np.float64) for rows in (fakes, reals))
    empty_M = (column(reals, "tp") + column(reals, "fp")) == 0
    passed_M = column(reals, "routed").astype(str) == REAL if known(reals, "routed") else np.full(len(reals), np.nan)
    there = known(reals, "routed")
    return OnReals(
        together=float(np.concatenate([own_N, real_M]).mean()),
        fakes=float(own_N.mean()),
        reals=float(real_M.mean()),
        empty=float(empty_M.mean()),
        passed=float(passed_M.mean()),
        misrouted=float((empty_M & (passed_M == 0)).mean()) if there else float("nan"),
        nothing=float(np.concatenate([nothing(fakes), nothing(reals)]).mean()),
    )


def nothing(rows: Table) -> Array:
    """Return what a map without a fake pixel has on each image: 1 where there is none in the truth, else 0."""
    empty_N: Array = (column(rows, "tp") + column(rows, "fn")) == 0
    return empty_N.astype(np.float64)


def at_threshold(router: Table, part: Table, metric: str, thresholds: Iterable[float]) -> list[float]:
    """Return the mean of a metric behind a detector for each threshold of its score, from its rows and the part's.

    Args:
        router: with `score`, the probability of fake.
        part: of the same images in the same order; its map stands where the score is strictly above the threshold.
        metric: as in `routed`.
        thresholds: of the score.
    """
    score_N, own_N, none_N = column(router, "score"), column(part, metric).astype(np.float64), nothing(part)
    return [float(np.where(score_N > threshold, own_N, none_N).mean()) for threshold in thresholds]
