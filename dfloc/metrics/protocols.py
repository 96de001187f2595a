"""Named sets of metric definitions: how a map meets its truth, and what is then measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from typing import Protocol as Structural

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dfloc import registry
from dfloc.errors import DataError
from dfloc.metrics import pixel

CHUNK_PIXELS = 2**18  # what is measured at once: memory does not grow with the batch, and a cache holds it
COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class Protocol:
    """A named set of metric definitions; numbers of two protocols are never compared.

    Attributes:
        name: stands in every row and table.
        keys: what `score` returns, in the order of tables.
        threshold: a pixel is called fake where its probability is strictly above.
        binarise: fakeness (uint8 or bool) -> bool, what counts as fake.
        resize: float32 [B, 1, h, w] and a size (H, W) -> [B, 1, H, W].
        measure: prob_BHW, called_BHW and fake_BHW (bool) of one size -> a float64 value per image and key.
    """

    name: str
    keys: tuple[str, ...]
    threshold: float
    binarise: Callable[[Tensor], Tensor]
    resize: Callable[[Tensor, tuple[int, int]], Tensor]
    measure: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]


class Table(Structural):
    """A pandas DataFrame or a pyarrow Table."""

    def __getitem__(self, column: str) -> Any:
        """Return a column."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...


def find(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        ConfigError: there is none (says what is near and what is known).
    """
    return cast(Protocol, registry.find("protocol", name)())


def declip_2025() -> Protocol:
    """DeCLIP's evaluation, bug for bug (Smeu et al. 2025, validate.py and utils.py), and `pbca` as ours.

    Map: resized to the truth's size by tensor bilinear interpolation with antialias, after the sigmoid. Truth: fake
    over 127.5. `iou`: both empty counts 1. `f1_fixed`, `f1_best` leave out a border band, so that a truth under 15x15
    has nothing to find; `f1_best` is an oracle's (the image's own best threshold) and NaN for a map that is constant
    on the pixels that count. `ap` is over all pixels, 0 where nothing is fake. All are fractions.
    """
    return Protocol(
        name="declip-2025",
        keys=("iou", "f1_fixed", "f1_best", "ap", "pbca"),
        threshold=0.5,
        binarise=lambda truth: truth if truth.dtype == torch.bool else truth > 127,
        resize=lambda prob, size: functional.interpolate(prob, size, mode="bilinear", antialias=True),
        measure=_measure_declip,
    )


def _measure_declip(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    surely_fake_BHW, surely_pristine_BHW = pixel.banded(fake_BHW)
    tp_B = (called_BHW & surely_fake_BHW).sum((1, 2))
    fp_B = (called_BHW & surely_pristine_BHW).sum((1, 2))
    fixed_B = pixel.f1(tp_B, fp_B, surely_fake_BHW.sum((1, 2)))
    ap_B, best_B = pixel.ranked(prob_BHW, fake_BHW, surely_fake_BHW, surely_pristine_BHW)
    return {
        "iou": pixel.iou(called_BHW, fake_BHW),
        "f1_fixed": fixed_B,
        "f1_best": torch.maximum(best_B, fixed_B),
        "ap": ap_B,
        "pbca": pixel.accuracy(called_BHW, fake_BHW),
    }


def score(prob_Bhw: Tensor, truth_BHW: Tensor, protocol: str = "declip-2025") -> dict[str, Tensor]:
    """Measure each map against its truth.

    Args:
        prob_Bhw: probability of fake in [0, 1], of any size.
        truth_BHW: fakeness (uint8, 255 = wholly fake) or bool, at its native size.
        protocol: its name.

    Returns:
        The protocol's keys, each [B] in float64: fractions; NaN where the protocol has it so.

    Raises:
        DataError: a shape, dtype or value is not as above.
        ConfigError: the protocol is unknown.
    """
    rule = find(protocol)
    parts = [rule.measure(*aligned) for aligned in _aligned(prob_Bhw, truth_BHW, rule)]
    return {key: torch.cat([part[key] for part in parts]) for key in rule.keys}


def counts(prob_Bhw: Tensor, truth_BHW: Tensor, protocol: str = "declip-2025") -> dict[str, Tensor]:
    """Count what each map calls rightly and wrongly at the protocol's threshold and the truth's size.

    Returns:
        tp, fp, fn, tn (int64, pixels), mask_area (share of fake pixels) and mean_prob (of the map before it is
        resized), each [B].

    Raises:
        DataError, ConfigError: as `score`.
    """
    rule = find(protocol)
    parts = []
    for _, called_BHW, fake_BHW in _aligned(prob_Bhw, truth_BHW, rule):
        pairs = (called_BHW & fake_BHW, called_BHW & ~fake_BHW, ~called_BHW & fake_BHW, ~called_BHW & ~fake_BHW)
        parts.append(torch.stack([pair_BHW.sum((1, 2)) for pair_BHW in pairs]))
    count_4B = torch.cat(parts, dim=1)
    area_B = (count_4B[0] + count_4B[2]).double() / count_4B.sum(0)
    return dict(zip(COUNTS, count_4B, strict=True)) | {
        "mask_area": area_B,
        "mean_prob": prob_Bhw.double().mean((1, 2)),
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


def summarise(rows: Table, protocol: str) -> dict[str, float]:
    """Summarise the rows of one set of images (a domain's test list under one condition, say).

    Returns:
        Each key's mean over the images where it is not NaN (absent where it is NaN everywhere), `nan/<key>`: how many
        were left out, and `pooled_iou`: over all pixels of the set, 1 where nothing is fake nor called so.

    Raises:
        DataError: no row, a column is missing, or a row is of another protocol.
    """
    rule = find(protocol)
    if len(rows) == 0:
        raise DataError(f"expected rows to summarise by {protocol}, came none; is the test list empty?")
    others = set(np.unique(column(rows, "protocol").astype(str))) - {protocol}
    if others:
        raise DataError(f"expected rows of protocol {protocol} alone, came also {', '.join(sorted(others))}")
    summary: dict[str, float] = {}
    for key in rule.keys:
        values = column(rows, key).astype(np.float64)
        known = values[~np.isnan(values)]
        if len(known):
            summary[key] = float(known.mean())
        summary[f"nan/{key}"] = float(len(values) - len(known))
    tp, fp, fn = (int(column(rows, name).sum()) for name in ("tp", "fp", "fn"))
    summary["pooled_iou"] = tp / (tp + fp + fn) if tp + fp + fn else 1.0
    return summary


def column(rows: Table, name: str) -> np.ndarray[Any, Any]:
    """Return a column of a DataFrame or Table as an array.

    Raises:
        DataError: there is none of that name.
    """
    try:
        return np.asarray(rows[name])
    except KeyError as error:
        raise DataError(f'expected rows with a column "{name}", which these lack') from error
