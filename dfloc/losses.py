"""What is minimised: a scalar from logits and targets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from dfloc import registry
from dfloc.config import LossSpec
from dfloc.errors import ConfigError

Loss = Callable[..., Tensor]
Reduction = Literal["batch", "image"]

OWN = frozenset({"attention", "bce", "ce"})
"""What torch alone computes."""


def check(spec: LossSpec) -> None:
    """Refuse constants that a loss cannot have.

    Raises:
        ConfigError: gamma is between 0 and 1, where focal's gradient at a pixel that is certainly right is no number.
    """
    if spec.name == "focal" and not spec.plugin and 0 < spec.gamma < 1:
        raise ConfigError(f"loss focal: gamma is 0, or 1 and more, not {spec.gamma:g}: its gradient would be no number")


def reads(spec: LossSpec, gives: frozenset[str]) -> frozenset[str]:
    """Return what a loss reads, `map`, `image` or both (`registry.LOSS_READS`); a sum all that its terms read.

    Args:
        spec: of the loss.
        gives: what the decoder gives; a plug-in's loss reads the map, where there is one.
    """
    if spec.plugin:
        return frozenset({"map" if "map" in gives else "image"})
    if spec.name == "sum":
        return frozenset().union(*(reads(term, gives) for term in spec.terms))
    said = registry.LOSS_READS[spec.name]
    return frozenset({"map", "image"} if said == "both" else {said})


def make(spec: LossSpec) -> Loss:
    """Return a loss with its fields bound, a scalar in float32 at least.

    It takes (logit_B1HW, target_BHW) or, of images, (logit_BK, label_B), or (logit_B1HW, logit_BK, label_B) where it
    reads both; see `reads`.

    A validation loss is the mean over batches, so that of a loss over the batch depends on how the list is cut.

    Raises:
        ConfigError: no such loss, its plug-in is not loaded, segmentation_models_pytorch is missing, or `check`.
    """
    loss: Callable[..., Tensor] = registry.find("loss", spec.name, spec.plugin)
    if spec.plugin:
        return loss
    if spec.name == "sum":
        return partial(weighted_sum, terms=[(term.weight, make(term)) for term in spec.terms])
    check(spec)
    if spec.name not in OWN:
        _library()
    fields = registry.LOSS_FIELDS[spec.name]
    return partial(loss, **{name: getattr(spec, name) for name in sorted(fields)})


def bce(logit_B1HW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return the binary cross-entropy of each pixel, its mean over pixels and batch (as DeCLIP), in float32 at least.

    Args:
        logit_B1HW: before the sigmoid; positive = fake.
        target_BHW: fakeness in [0, 1]; bool is accepted.
    """
    logit_BHW = logit_B1HW.squeeze(1)
    wide_BHW = logit_BHW.float() if logit_BHW.dtype.itemsize < 4 else logit_BHW
    return functional.binary_cross_entropy_with_logits(wide_BHW, target_BHW.to(wide_BHW.dtype))


def ce(logit_BK: Tensor, label_B: Tensor) -> Tensor:
    """Return the cross-entropy of each image's class, its mean over the batch, in float32 at least.

    Args:
        logit_BK: before the softmax, one a class.
        label_B: int64, the index of each image's class.
    """
    wide_BK = logit_BK.float() if logit_BK.dtype.itemsize < 4 else logit_BK
    return functional.cross_entropy(wide_BK, label_B)


def attention(logit_B1HW: Tensor, logit_BK: Tensor, label_B: Tensor, weight_map: float = 1.0) -> Tensor:
    """Return the loss of a model with an attention map that learns from labels (Tantaru et al. 2024, formula 1).

    CE(class) + weight_map * BCE(the map's largest cell, whether the image is fake), each its mean over the batch: some
    cell of a fake is fake, none of a real is. In float32 at least.

    Args:
        logit_B1HW: of the map, before the sigmoid; positive = fake.
        logit_BK: of the classes, before the softmax; the first one is real.
        label_B: int64, the index of each image's class.
        weight_map: of the second term; 0 = `ce`.
    """
    highest_B = logit_B1HW.flatten(1).amax(1)
    wide_B = highest_B.float() if highest_B.dtype.itemsize < 4 else highest_B
    of_map = functional.binary_cross_entropy_with_logits(wide_B, (label_B > 0).to(wide_B.dtype))
    return ce(logit_BK, label_B) + weight_map * of_map


def dice(logit_B1HW: Tensor, target_BHW: Tensor, reduction: Reduction = "batch", smooth: float = 0.0) -> Tensor:
    """Return one less the soft Dice coefficient, 1 - (2 TP + 2 smooth) / (2 TP + FP + FN + 2 smooth).

    TP is the sum of probability * truth, and so on. Where no pixel is fake, of the batch (`batch`) or of an image
    (`image`), the library makes the loss 0, without a gradient: false alarms on such images cost nothing alone.

    Args:
        logit_B1HW: before the sigmoid; positive = fake.
        target_BHW: 0 or 1.
        reduction: batch = all images are counted as one (the library's own way) | image = each image alone, then the
            mean, in which images without a fake pixel count with their 0.
        smooth: added to numerator and denominator of the coefficient as the library has it, TP / (TP + FP/2 + FN/2).
    """
    return _region("DiceLoss", logit_B1HW, target_BHW, reduction, smooth)


def jaccard(logit_B1HW: Tensor, target_BHW: Tensor, reduction: Reduction = "batch", smooth: float = 0.0) -> Tensor:
    """Return one less the soft Jaccard index, 1 - (TP + smooth) / (TP + FP + FN + smooth); all else as `dice`."""
    return _region("JaccardLoss", logit_B1HW, target_BHW, reduction, smooth)


def focal(logit_B1HW: Tensor, target_BHW: Tensor, alpha: float | None = None, gamma: float = 2.0) -> Tensor:
    """Return the focal loss (Lin et al., 2017), (1 - q)^gamma * -log q, its mean over pixels and batch.

    q is the probability of what is true of the pixel. Images without a fake pixel count as any others.

    Args:
        logit_B1HW: before the sigmoid; positive = fake.
        target_BHW: 0 or 1.
        alpha: weight of fake pixels, of the others 1 - alpha; none: no weights.
        gamma: how little pixels count that are right already; 0 = `bce`.
    """
    return _applied(_library().FocalLoss("binary", alpha=alpha, gamma=gamma), logit_B1HW, target_BHW)


def lovasz(logit_B1HW: Tensor, target_BHW: Tensor, reduction: Reduction = "batch") -> Tensor:
    """Return the Lovász hinge (Berman et al., 2018): the convex closure of the Jaccard loss over hinge errors.

    It is of logits, not of probabilities, so it is not bounded by 1. Where no pixel is fake, of the batch or of an
    image, it is the hinge error of the worst pixel alone, max(0, 1 + largest logit).
    It is of float32, as the library has it.

    Args:
        logit_B1HW: before the sigmoid; positive = fake.
        target_BHW: 0 or 1.
        reduction: batch = all images are counted as one (the library's own way) | image = each image alone, then the
            mean.
    """
    return _applied(_library().LovaszLoss("binary", per_image=reduction == "image"), logit_B1HW.float(), target_BHW)


def weighted_sum(logit_B1HW: Tensor, target_BHW: Tensor, terms: Sequence[tuple[float, Loss]]) -> Tensor:
    """Return the sum of losses, each times its weight."""
    parts = [weight * loss(logit_B1HW, target_BHW) for weight, loss in terms]
    return torch.stack(parts).sum()


def _region(name: str, logit_B1HW: Tensor, target_BHW: Tensor, reduction: Reduction, smooth: float) -> Tensor:
    """Apply a loss of a region; `image` hands the images over as classes of one image: the library takes each alone."""
    kind = getattr(_library(), name)
    if reduction == "batch":
        return _applied(kind("binary", smooth=smooth), logit_B1HW, target_BHW)
    return _applied(kind("multilabel", smooth=smooth), logit_B1HW.transpose(0, 1), target_BHW[None])


def _applied(loss: Any, logit_BCHW: Tensor, target: Tensor) -> Tensor:
    """Return a loss of the library's, computed in float32 at least, also where autocast would have it in bfloat16."""
    if logit_BCHW.squeeze(1).shape != target.shape and logit_BCHW.shape != target.shape:
        raise ValueError(f"logits {tuple(logit_BCHW.shape)} and targets {tuple(target.shape)} differ in size")
    wide_BCHW = logit_BCHW.float() if logit_BCHW.dtype.itemsize < 4 else logit_BCHW
    with torch.autocast(logit_BCHW.device.type, enabled=False):
        made: Tensor = loss(wide_BCHW, target.to(wide_BCHW.dtype))
    return made


def _library() -> Any:
    try:
        from segmentation_models_pytorch import losses
    except ImportError as error:
        raise ConfigError(
            "losses other than attention, bce and ce need segmentation_models_pytorch; pip install "
            "segmentation_models_pytorch"
        ) from error
    return losses
