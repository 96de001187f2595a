"""The rows of one evaluation, as a report reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dfloc.config import EvaluationSpec, Task
from dfloc.metrics import alarms, protocols, shares
from dfloc.metrics.degenerate import DegenerateMaps
from dfloc.metrics.image_rows import Called
from dfloc.metrics.intervals import Images
from dfloc.metrics.metric import IMAGE_AP, IOU, IOU_SLOPE, IOU_WITH_REALS, ROUTED_RIGHT, Metric
from dfloc.metrics.pointing import Looks
from dfloc.metrics.protocols import Protocol

Values = NDArray[np.float64]
OF_SETS = {metric.key: metric for metric in (IMAGE_AP, IOU_SLOPE, IOU_WITH_REALS, ROUTED_RIGHT)}
"""Numbers of sets that have intervals: as means of what each image adds (`Score.shares`)."""


@dataclass(frozen=True, eq=False)
class Score:
    """The rows of one evaluation.

    Attributes:
        values: one number per image, by metric, fractions; NaN where the protocol has none. Of real images beside the
            study's domains, of which maps are made, what is called fake there and nothing else (`metrics.alarms`).
        photographs: the photograph of each image, as a number that is the same in all scores.
        kinds: how many of the predicted maps are all fake, empty or constant.
        areas: share of fake pixels of each image's truth.
        of_set: every number of the set (`metrics.summarise`); F1 at the threshold that validation chose, say. Of real
            images beside the study's domains the area of false alarms alone, where the protocol says it.
        out_of_range: images whose resized map left [0, 1] (`Protocol.out_of_range`); None: the rows do not say it.
        all_fake: what calling every pixel fake scores on each image, of the metrics that need no map for it.
        telling: `kinds` of the images that are fake in part: what a collapse is told by.
        task: of the trial; it decides which metric stands for the protocol.
        prob_fake: of each image scored as a whole its score; empty: they are not.
        called: what the images of each class are called, where they are scored as a whole; None: they are not.
        reals: of a domain of fakes: the same of the reals of its source, where they are scored.
        ranked: of a protocol of maps, what each image is ranked by beside reals (`Protocol.ranks`); empty: by nothing.
        of_maps: of maps of reals beside the study's domains, what the protocol's metrics say of each, by metric: an IoU
            of 1 where nothing is called fake. `IOU_WITH_REALS` is made of it, nothing else is told of it.
        routed: of a composite with a router, 1 where it calls an image its class, else 0; empty: there is none.
        looks: of explained rows: where the explanations of its fakes lie.
    """

    spec: EvaluationSpec
    values: Mapping[str, Values]
    photographs: NDArray[np.int64]
    kinds: DegenerateMaps
    areas: Values
    of_set: Mapping[str, float] = field(default_factory=dict)
    out_of_range: int | None = None
    all_fake: Mapping[str, Values] = field(default_factory=dict)
    telling: DegenerateMaps = field(default_factory=DegenerateMaps)
    task: Task = "localize"
    prob_fake: Values = field(default_factory=lambda: np.empty(0))
    called: Called | None = None
    reals: "Score | None" = None
    ranked: Values = field(default_factory=lambda: np.empty(0))
    looks: Looks | None = None
    of_maps: Mapping[str, Values] = field(default_factory=dict)
    routed: Values = field(default_factory=lambda: np.empty(0))

    @cached_property
    def protocol(self) -> Protocol:
        """What measured it."""
        return protocols.find(self.spec.protocol)

    def metric(self, key: str | None = None) -> Metric:
        """Return a metric of images by its key; None: the one that stands for the protocol, here as all over."""
        if key:
            return {**OF_SETS, **self.protocol.per_image, **alarms.ALARMS}[key]
        return self.protocol.shown(self.task)[0]

    @property
    def known(self) -> tuple[str, ...]:
        """The metrics that `mean` tells, as far as its rows have them."""
        return (*self.values, *self.shares)

    @property
    def of_reals(self) -> bool:
        """Whether it is of maps of real images, where nothing is told but what they call fake."""
        return self.values.keys() <= alarms.ALARMS.keys()

    def of(self, metric: str | None = None) -> Values:
        """Return a metric's number of each image."""
        return self.values[self.metric(metric).key]

    @cached_property
    def shares(self) -> Mapping[str, list[Images]]:
        """What each image adds to a number of the set, by metric: of fakes, and of the reals beside them."""
        found: dict[str, list[Images]] = {}
        if IOU.key in self.values and self.protocol.reads == "map":
            found[IOU_SLOPE.key] = [Images(shares.of_slope(self.areas, self.values[IOU.key]), self.photographs)]
        if len(self.routed):
            found[ROUTED_RIGHT.key] = [Images(self.routed, self.photographs)]
        if self.reals is not None and IOU.key in self.values and IOU.key in self.reals.of_maps:
            values = np.concatenate([self.values[IOU.key], self.reals.of_maps[IOU.key]])  # their plain mean
            found[IOU_WITH_REALS.key] = [
                Images(values, np.concatenate([self.photographs, self.reals.photographs])),
            ]
        if self.reals is not None and len(self.ranked) and IMAGE_AP.key in self.of_set:
            sides = shares.of_image_ap(self.ranked, self.reals.ranked, self.of_set[IMAGE_AP.key])
            both = (self.photographs, self.reals.photographs)
            found[IMAGE_AP.key] = [Images(*side) for side in zip(sides, both, strict=True)]
        return found

    def images(self, metric: str | None = None) -> list[Images]:
        """Return a metric's number of each image of what its mean runs over: the domain, or it and the reals.

        Of one that is `of_pair` both; without reals no image has a number.
        """
        if metric in OF_SETS:
            return self.shares[metric]
        own = Images(self.of(metric), self.photographs)
        if not self.metric(metric).of_pair:
            return [own]
        if self.reals is None:
            return [Images(np.full(len(own.values), np.nan), own.photographs)]
        return [own, Images(self.reals.of(metric), self.reals.photographs)]

    def mean(self, metric: str | None = None) -> float | None:
        """Return the mean over images that have a number; None where none has, or the protocol has no such metric.

        Of a metric that is `of_pair` the mean of that over its fakes and that over its reals.
        """
        key = metric or self.metric().key
        if key not in (self.shares if key in OF_SETS else self.values):
            return None
        kept = [part.values[~np.isnan(part.values)] for part in self.images(key)]
        return float(np.mean([values.mean() for values in kept])) if all(map(len, kept)) else None

    def number(self, metric: Metric) -> float | None:
        """Return a metric's number of the set, or its mean over images; None where there is none."""
        own = None if metric.of_set else self.mean(metric.key)
        return self.of_set.get(metric.key) if own is None else own

    def num_nan(self, metric: str) -> int:
        """Return how many images have no number that could have one: fakes have no TNR."""
        there = self.protocol.reads == "map" and metric in self.values
        return int(np.isnan(self.values[metric]).sum()) if there else 0

    @cached_property
    def gain(self) -> float | None:
        """By how much its mean is better than that of calling every pixel fake; None where either has none."""
        own, other = self.mean(), self.all_fake_mean
        return None if own is None or other is None else self.metric().gain(own, other)

    @cached_property
    def all_fake_mean(self) -> float | None:
        """The mean of calling every pixel fake on the same images; None where the protocol does not tell it."""
        values = self.all_fake.get(self.metric().key)
        return None if values is None else float(values.mean())

    @property
    def num_images(self) -> int:
        """Images scored."""
        return len(self.photographs)

    @cached_property
    def num_photographs(self) -> int:
        """Photographs that the images are crops or fakes of."""
        return len(np.unique(self.photographs))
