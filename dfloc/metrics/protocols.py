"""Named sets of metric definitions: how a map meets its truth, and what is then measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dfloc import registry
from dfloc.config import EvaluationSpec
from dfloc.data.masks import is_doubtful
from dfloc.errors import ConfigError, DataError
from dfloc.metrics import pixel
from dfloc.metrics.metric import Metric
from dfloc.metrics.table import Array, Table, column

CHUNK_PIXELS = 2**18  # what is measured at once: memory does not grow with the batch, and a cache holds it
COUNTS = ("tp", "fp", "fn", "tn")
GRID_COUNTS = ("grid_tp", "grid_fp")
OVER_HALF = "a pixel is fake where the mask is fake by over half; maps are resized to the mask, bilinear"


@dataclass(frozen=True)
class Protocol:
    """A named set of metric definitions; numbers of two protocols are never compared.

    Most measure a map against its truth. One that measures images as a whole has `of_images`, which reads the columns
    of such rows (`metrics.image_rows`), and measures nothing of a map: `measure` returns nothing.

    Attributes:
        name: stands in every row and table.
        metrics: what it measures, in the order of tables; the first is of images, and stands for it where one does.
        threshold: a pixel is called fake where its probability is strictly above.
        binarise: fakeness (uint8 or bool) -> bool, what counts as fake.
        resize: float32 [B, 1, h, w] and a size (H, W) -> [B, 1, H, W].
        measure: prob_BHW, called_BHW and fake_BHW (bool) of one size -> a float64 value per image, by key.
        tracked: keys of those that stand in MLflow.
        grid: thresholds at which rows count as well, so that one can be chosen on validation images afterwards.
        truth: which pixels are fake and how a map meets them, in words.
        all_fake: fake pixels and all pixels of each truth (int64) -> what a map scores that calls all of them fake and
            ranks none before another; without the keys that these two numbers do not settle.
        of_set: rows of a set -> numbers of the set, beside the means over images and `pooled_iou`.
        out_of_range: what its source does otherwise with a map that rounding takes out of [0, 1] when it is resized,
            in words; rows then say which are (`out_of_range`). Empty: nothing.
        of_images: of one that measures images as a whole: rows -> by key of each metric of images a float64 value for
            each row, NaN where it has none.
        of_pair: rows of fakes, of one or several domains, rows of reals, and rows of both of the trial's validation
            list, where they are there -> numbers of the pair (`metrics.pairs.summarise_pair`).
        ranks: rows -> what images are ranked by where `of_pair` tells fakes from reals by a map; none: it does not.
        reads_valid: whether `of_pair` chooses something on validation images.
        by_task: by task those of `metrics` that its pages show, in their order, the first one of images; of a task that
            is not there all of them.
    """

    name: str
    metrics: tuple[Metric, ...]
    threshold: float
    binarise: Callable[[Tensor], Tensor]
    resize: Callable[[Tensor, tuple[int, int]], Tensor]
    measure: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]
    tracked: tuple[str, ...]
    truth: str
    all_fake: Callable[[Array, Array], dict[str, Array]] = lambda fake_B, pixels_B: {}
    grid: tuple[float, ...] = ()
    of_set: Callable[[Table], dict[str, float]] = lambda rows: {}
    out_of_range: str = ""
    of_images: Callable[[Table], dict[str, Array]] | None = None
    of_pair: Callable[[Table, Table, Table | None], dict[str, float]] = lambda fakes, reals, valid: {}
    ranks: Callable[[Table], Array] | None = None
    reads_valid: bool = False
    by_task: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [metric.key for metric in self.metrics]
        if not keys or self.first.of_set or len({*keys}) < len(keys):
            raise ConfigError(
                f'protocol "{self.name}" measures {", ".join(keys) or "nothing"}; expected metrics of different keys, '
                "the first one of images"
            )

    @property
    def first(self) -> Metric:
        """The metric that stands for the protocol: ranks, curves and differences are of it unless another is named."""
        return self.metrics[0]

    def shown(self, task: str) -> tuple[Metric, ...]:
        """Return what pages of a task show; the first stands for the protocol there."""
        return self.by_task.get(task, self.metrics)

    @property
    def reads(self) -> Literal["map", "image"]:
        """Whether it measures maps, or images as a whole."""
        return "image" if self.of_images else "map"

    @property
    def chooses(self) -> bool:
        """Whether a threshold is chosen on the images that a trial was validated on, so that they are scored."""
        return bool(self.grid) or self.reads_valid

    @property
    def per_image(self) -> dict[str, Metric]:
        """What has a value for each image, by key, in the order of tables."""
        return {metric.key: metric for metric in self.metrics if not metric.of_set}

    def values(self, rows: Table) -> dict[str, Array]:
        """Return the metrics of images by key, a float64 value for each row; NaN where it has none.

        Raises:
            DataError: a column is missing, or has values that no metric can be of.
        """
        if self.of_images:
            return self.of_images(rows)
        return {key: column(rows, key).astype(np.float64) for key in self.per_image}


def bilinear(prob_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps by tensor bilinear interpolation with antialias."""
    return functional.interpolate(prob_B1hw, size, mode="bilinear", antialias=True)


def over_half(truth_BHW: Tensor) -> Tensor:
    """Return what is fake by over a half: fakeness over 127.5; a truth that is bool stays as it is."""
    return truth_BHW if truth_BHW.dtype == torch.bool else truth_BHW > 127


def find(name: str) -> Protocol:
    """Return a protocol by its name, be it built in or of a plug-in that is loaded.

    Raises:
        ConfigError: there is none (says what is near and what is known), or its plug-in makes another.
    """
    made: object = registry.find("protocol", name, registry.plugin_of("protocol", name))()
    if not isinstance(made, Protocol) or made.name != name:
        came = made.name if isinstance(made, Protocol) else type(made).__name__
        raise ConfigError(f'protocol "{name}" made {came}, expected a dfloc.metrics.protocols.Protocol of that name')
    return made


def refuse_other(evaluations: Iterable[EvaluationSpec]) -> None:
    """Return if the protocols of evaluations are those that are here.

    Raises:
        ConfigError: one is of a plug-in that is not loaded, or has changed since.
    """
    for name, plugin in dict.fromkeys((each.protocol, each.plugin) for each in evaluations):
        registry.find("protocol", name, plugin)


def score(prob_Bhw: Tensor, truth_BHW: Tensor, protocol: str = "declip-2025") -> dict[str, Tensor]:
    """Measure each map against its truth.

    Args:
        prob_Bhw: probability of fake in [0, 1], of any size.
        truth_BHW: fakeness (uint8, 255 = wholly fake) or bool, at its native size; 0/1 as uint8 is refused.
        protocol: its name.

    Returns:
        The protocol's metrics of images by key, each [B] in float64: fractions; NaN where the protocol has it so. Of
        one that measures images as a whole nothing: it reads rows.

    Raises:
        DataError: a shape, dtype or value is not as above.
        ConfigError: the protocol is unknown.
    """
    rule = find(protocol)
    parts = [rule.measure(*aligned) for aligned in _aligned(prob_Bhw, truth_BHW, rule)]
    return {key: torch.cat([part[key] for part in parts]) for key in (rule.per_image if rule.reads == "map" else ())}


def counts(prob_Bhw: Tensor, truth_BHW: Tensor, protocol: str = "declip-2025") -> dict[str, Tensor]:
    """Count what each map calls rightly and wrongly at the protocol's threshold and the truth's size.

    Returns:
        tp, fp, fn, tn (int64, pixels), mask_area (share of fake pixels), mean_prob and spread (mean, and largest less
        smallest probability, of the map before it is resized), each [B]; of a protocol with a grid also `grid_tp` and
        `grid_fp`, [B, thresholds]; of one whose source treats them otherwise `out_of_range` (bool), [B].

    Raises:
        DataError, ConfigError: as `score`.
    """
    rule = find(protocol)
    parts, grids, outside = [], [], []
    for prob_BHW, called_BHW, fake_BHW in _aligned(prob_Bhw, truth_BHW, rule):
        if rule.grid:
            grids.append(torch.stack(pixel.above(prob_BHW, fake_BHW, rule.grid)))
        if rule.out_of_range:
            outside.append(~((prob_BHW >= 0) & (prob_BHW <= 1)).flatten(1).all(1))
        pairs = (called_BHW & fake_BHW, called_BHW & ~fake_BHW, ~called_BHW & fake_BHW, ~called_BHW & ~fake_BHW)
        parts.append(torch.stack([pair_BHW.sum((1, 2)) for pair_BHW in pairs]))
    count_4B = torch.cat(parts, dim=1)
    area_B = (count_4B[0] + count_4B[2]).double() / count_4B.sum(0)
    on_grid = dict(zip(GRID_COUNTS, torch.cat(grids, dim=1), strict=True)) if grids else {}
    low_B, high_B = prob_Bhw.flatten(1).aminmax(dim=1)
    return dict(zip(COUNTS, count_4B, strict=True)) | {
        "mask_area": area_B,
        "mean_prob": prob_Bhw.double().mean((1, 2)),
        "spread": (high_B - low_B).double(),
        **on_grid,
        **({"out_of_range": torch.cat(outside)} if outside else {}),
    }


def _aligned(prob_Bhw: Tensor, truth_BHW: Tensor, rule: Protocol) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Check the input, then yield (prob_BHW, called_BHW, fake_BHW) of a few images at a time."""
    _check(prob_Bhw, truth_BHW)
    size = (truth_BHW.shape[1], truth_BHW.shape[2])
    step = max(1, CHUNK_PIXELS // (size[0] * size[1]))
    for start in range(0, len(truth_BHW), step):
        prob_BHW = prob_Bhw[start : start + step].float()
        if prob_BHW.shape[1:] != size:
            prob_BHW = rule.resize(prob_BHW[:, None], size)[:, 0]
        yield prob_BHW, prob_BHW > rule.threshold, rule.binarise(truth_BHW[start : start + step])


def _check(prob_Bhw: Tensor, truth_BHW: Tensor) -> None:
    if prob_Bhw.ndim != 3 or not prob_Bhw.is_floating_point() or 0 in prob_Bhw.shape:
        raise DataError(f"expected probabilities as float [B, h, w], came {prob_Bhw.dtype} {list(prob_Bhw.shape)}")
    if truth_BHW.ndim != 3 or truth_BHW.dtype not in (torch.uint8, torch.bool) or 0 in truth_BHW.shape:
        raise DataError(f"expected a truth as uint8 or bool [B, H, W], came {truth_BHW.dtype} {list(truth_BHW.shape)}")
    if len(prob_Bhw) != len(truth_BHW):
        raise DataError(f"expected one truth per map, came {len(prob_Bhw)} maps and {len(truth_BHW)} truths")
    bad_B = ~((prob_Bhw >= 0) & (prob_Bhw <= 1)).flatten(1).all(1)
    if bad_B.any():
        index = int(bad_B.nonzero()[0])
        raise DataError(f"map {index} has probabilities outside [0, 1] or not finite; apply the sigmoid first")
    if truth_BHW.dtype == torch.uint8:
        ends_2B = torch.stack(truth_BHW.flatten(1).aminmax(dim=1)).tolist()
        for index, (low, high) in enumerate(zip(*ends_2B, strict=True)):
            if is_doubtful(low, high):
                raise DataError(
                    f"truth {index} has values from {low} to {high}, which are no fakeness (0 real, 255 fake); give "
                    "it as bool: truth == VALUE"
                )
