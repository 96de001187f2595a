"""Means over trainings and photographs, their differences, and intervals that allow for both.

A mean is taken within each training and domain first, then over domains, then over trainings. What each training and
each photograph moves it by is kept beside it; sums and differences of means are sums and differences of these. The
interval is that of a crossed two-way layout with random trainings and random photographs (Searle, Casella and
McCulloch, Variance Components, 1992, section 4; in the form for clusters of any size: Cameron, Gelbach and Miller, J.
Business and Economic Statistics 29, 2011), with the degrees of freedom of Satterthwaite (Biometrics 2, 1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dfloc.errors import DataError
from dfloc.metrics.metric import Bounds

FEWEST = 3  # photographs; below, nothing can be said of their spread
UNBOUNDED: Bounds = (-np.inf, np.inf)
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class Images(NamedTuple):
    """The values of one domain's images, NaN where one has none, and of which photograph each is."""

    values: Floats
    photographs: Codes


class Training(NamedTuple):
    """One training, told by its mixture draw and trial seed, as it was scored on some domains."""

    draw: int
    seed: int
    domains: Sequence[Images]


class Interval(NamedTuple):
    """An estimate with its interval.

    Attributes:
        estimate: a mean, or a combination of means.
        low: lower end; NaN where a domain has fewer than three photographs.
        high: upper end, likewise.
        num_photographs: how many photographs it rests on.
        num_trainings: how many trainings; with one, the interval is of test sampling only.
        p: of the hypothesis that it is 0, two-sided; NaN with one training, whose luck nobody knows.
    """

    estimate: float
    low: float
    high: float
    num_photographs: int
    num_trainings: int = 1
    p: float = float("nan")

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; None where there is none."""
        return None if self.low != self.low else (self.low, self.high)


@dataclass(frozen=True, eq=False)
class Mean:
    """A number with what moves it.

    Attributes:
        value: the number.
        trainings: (draw, seed) of each training.
        training_R: each training's own number less the value.
        photographs: sorted.
        photo_RP: what each photograph adds to each training's own number.
        fewest: photographs of the domain that has fewest.
        bounds: between which it must lie.
    """

    value: float
    trainings: tuple[tuple[int, int], ...]
    training_R: Floats  # noqa: N815
    photographs: Codes
    photo_RP: Floats  # noqa: N815
    fewest: int
    bounds: Bounds = UNBOUNDED

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval that covers the true value in a share of `level` of all repetitions.

        Draws, where there are several, are what is repeated: the seeds of one draw share its training images.
        """
        num = len(self.photographs), len(self.trainings)
        if self.fewest < FEWEST:
            return Interval(self.value, float("nan"), float("nan"), *num)
        variance, freedom = self._variance()
        half = half_width(variance, freedom, level)
        low, high = (min(max(end, self.bounds[0]), self.bounds[1]) for end in (self.value - half, self.value + half))
        return Interval(self.value, low, high, *num, self._p(variance, freedom))

    def _p(self, variance: float, freedom: float) -> float:
        if len(self.trainings) == 1:
            return float("nan")
        if variance == 0:
            return float(self.value == 0)
        return float(2 * special.stdtr(freedom, -abs(self.value) / variance**0.5))

    def _variance(self) -> tuple[float, float]:
        """Return the variance of the value, and its degrees of freedom."""
        unit_R = units([draw for draw, _ in self.trainings])
        num = int(unit_R.max()) + 1
        sum_UR = (np.arange(num)[:, None] == unit_R) / len(unit_R)
        unit_UP = sum_UR @ self.photo_RP
        photo_P = unit_UP.sum(0)
        of_photos, photo_freedom = float((photo_P**2).sum()), self.fewest - 1
        if num == 1:
            return of_photos, photo_freedom
        of_units = float(((sum_UR @ self.training_R) ** 2).sum()) * num / (num - 1)
        rest_UP = unit_UP - sum_UR.sum(1)[:, None] * photo_P
        of_both = float((rest_UP**2).sum()) * num / (num - 1)
        variance = max(of_photos + of_units - of_both, of_photos, of_units)
        parts = (of_photos, photo_freedom), (of_units, num - 1), (of_both, (num - 1) * photo_freedom)
        return variance, max(freedom_of(variance, parts), min(photo_freedom, num - 1))  # what is taken off may undercut


def mean(trainings: Sequence[Training], bounds: Bounds = UNBOUNDED) -> Mean | None:
    """Return the mean over trainings of the mean over their domains of the mean over images.

    A domain without a value in a training is left out of it, a training without any altogether; None where all are.
    The interval ends at `bounds`, between which the values lie.
    """
    kept = [(one, [part for part in map(_with_values, one.domains) if part.values.size]) for one in trainings]
    kept = [(one, parts) for one, parts in kept if parts]
    if not kept:
        return None
    photographs = np.unique(np.concatenate([part.photographs for _, parts in kept for part in parts]))
    each = [_within(parts, photographs) for _, parts in kept]
    value_R = np.array([value for value, _, _ in each])
    return Mean(
        value=float(value_R.mean()),
        trainings=tuple((one.draw, one.seed) for one, _ in kept),
        training_R=value_R - value_R.mean(),
        photographs=photographs,
        photo_RP=np.stack([photo_P for _, photo_P, _ in each]),
        fewest=min(fewest for _, _, fewest in each),
        bounds=bounds,
    )


def difference(pairs: Sequence[tuple[Training, Training]], bounds: Bounds = UNBOUNDED) -> Mean | None:
    """Return the mean of the first trainings less that of the second, paired by training and photograph.

    A pair of which one has no value at all is left out; None where all are. Both sides lie between `bounds`.

    Raises:
        DataError: the two of a pair were scored on different photographs.
    """
    for first, second in pairs:
        _same_photographs(first, second)
    kept = [pair for pair in pairs if all(map(_has_values, pair))]
    sides = [mean([pair[side] for pair in kept], bounds) for side in (0, 1)]
    if sides[0] is None or sides[1] is None:
        return None
    return combined([1.0, -1.0], [sides[0], sides[1]])


def combined(weights: Sequence[float], means: Sequence[Mean], value: float | None = None) -> Mean:
    """Return a weighted sum of means of the same trainings.

    Args:
        weights: one for each mean.
        means: at least one.
        value: of the result where it is no sum but near one (a function of means, whose gradient the weights are).

    Raises:
        DataError: they are not of the same trainings.
    """
    first = means[0]
    if any(one.trainings != first.trainings for one in means):
        raise DataError(
            "means of different trainings cannot be added or compared; score all seeds and sampling seeds of both"
        )
    photographs = np.unique(np.concatenate([one.photographs for one in means]))
    photo_RP = np.zeros((len(first.trainings), len(photographs)))
    for weight, one in zip(weights, means, strict=True):
        photo_RP[:, np.searchsorted(photographs, one.photographs)] += weight * one.photo_RP
    ends = [sorted(weight * end for end in one.bounds) for weight, one in zip(weights, means, strict=True)]
    bounds = (sum(low for low, _ in ends), sum(high for _, high in ends))
    total = sum(weight * one.value for weight, one in zip(weights, means, strict=True))
    return Mean(
        value=total if value is None else value,
        trainings=first.trainings,
        training_R=np.asarray(weights) @ np.stack([one.training_R for one in means]),
        photographs=photographs,
        photo_RP=photo_RP,
        fewest=min(one.fewest for one in means),
        bounds=bounds if value is None else UNBOUNDED,
    )


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Return which of many hypotheses are rejected, none wrongly in a share of 1 - `level` of all repetitions.

    What has no p-value (NaN) is not tested, and does not count.

    Source: Holm, Scandinavian J. of Statistics 6, 1979.
    """
    tested = int((~np.isnan(p_values)).sum())
    order = np.argsort(p_values, kind="stable")[:tested]  # NaN comes last
    rejected = [False] * len(p_values)
    for rank, place in enumerate(order):
        if not p_values[place] <= level / (tested - rank):
            break
        rejected[place] = True
    return rejected


def half_width(variance: float, freedom: float, level: float = 0.95) -> float:
    """Return half the width of the interval of a number of some variance and degrees of freedom."""
    half: float = special.stdtrit(freedom, (1 + level) / 2) * variance**0.5  # Student's t; scipy.stats loads slowly
    return half


def freedom_of(variance: float, parts: Sequence[tuple[float, float]]) -> float:
    """Return Satterthwaite's degrees of freedom of a variance that is a sum of some, each with its own."""
    spread = sum(part**2 / freedom for part, freedom in parts)
    return variance**2 / spread if spread else float(parts[0][1])


def _has_values(training: Training) -> bool:
    return any(not np.isnan(part.values).all() for part in training.domains)


def _with_values(images: Images) -> Images:
    known = ~np.isnan(images.values)
    return Images(images.values[known], images.photographs[known])


def _within(parts: Sequence[Images], photographs: Codes) -> tuple[float, Floats, int]:
    """Return a training's own number, what each photograph adds to it, and the photographs of its smallest domain.

    A photograph adds the sum of its images' distances from their domain's mean, over the domain's images; of n
    photographs, n / (n - 1) makes their sum of squares the variance.
    """
    photo_P, means, fewest = np.zeros(len(photographs)), [], len(photographs)
    for values, of_image in parts:
        place = np.searchsorted(photographs, of_image)
        num = len(np.unique(place))
        apart = np.bincount(place, values - values.mean(), len(photographs)) / (values.size * len(parts))
        photo_P += apart * (num / (num - 1)) ** 0.5 if num > 1 else apart
        means.append(values.mean())
        fewest = min(fewest, num)
    return float(np.mean(means)), photo_P, fewest


def units(draws: Sequence[int]) -> Codes:
    """Return the number of what each training is a repetition of: its draw, or itself where all are of one draw."""
    if len(set(draws)) == 1:
        return np.arange(len(draws))
    found: Codes = np.unique(np.array(draws), return_inverse=True)[1]
    return found


def _same_photographs(first: Training, second: Training) -> None:
    sides: list[Any] = [
        np.unique(np.concatenate([each.photographs for each in one.domains])) for one in (first, second)
    ]
    if len(sides[0]) != len(sides[1]) or (sides[0] != sides[1]).any():
        raise DataError("a paired difference needs the same source images on both sides")
