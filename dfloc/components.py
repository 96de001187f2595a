"""What a trial is made of: its decoder, loss, optimiser and schedule, each a name and what that name reads."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dfloc.frozen import Fraction, Frozen, Real, Whole
from dfloc.measures import MEASURES, WATCHED
from dfloc.registry import TOKENS

Measure = Literal[*MEASURES]  # type: ignore[valid-type]


def _is_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("should be odd, so that a convolution has a middle")
    return value


Width = Annotated[Whole, Field(ge=1, le=65_536)]
Odd = Annotated[Whole, Field(ge=1, le=63), AfterValidator(_is_odd)]


class DecoderSpec(Frozen):
    """What is trained on the maps; each decoder reads some of the fields (`registry.DECODER_FIELDS`).

    Attributes:
        name: conv, linear, attention, small, small-attention; smp, xception, xception-fcn, xception-attention or timm,
            trained end to end on `pixels`; or a baseline, solved.
        depth: N of conv-N, a multiple of 4: depth / 4 convolutions in each stage, and the last one, not counted.
        channels: width of each stage.
        out_size: side of the grid of the last convolution in pixels; logits are resized to 256 from there.
        init: default (PyTorch's) | declip (N(0, 0.02) on every weight and BatchNorm's scale; of `attention` the head) |
            patches (Glorot's normal times 0.02, biases 0, BatchNorm's scale N(1, 0.02); not of `attention`).
        prior: share of fake pixels at which the output's bias starts; none: as `init` has it.
        standardize: inputs less mean, over deviation, per channel of the training images.
        batch_norm: train | frozen (statistics and affine of the parent never move).
        plugin: digest of the plug-in's file that the name comes from.
        grid: side of the grid to which maps are resized, bilinearly, before the first layer; none: the first map's own.
        mask: which tokens one of `attention` sees: none = all of them | causal = those before it and itself.
        trained: which weights of `attention` move: all | declip (the first layers of its MLPs and the head).
        architecture: of segmentation_models_pytorch: fpn, unet, unetplusplus, ...
        encoder: its encoder, such as resnet50.
        weights: digest of the tensors that the encoder, trunk or model starts from; none: drawn by the trial's seed.
        block: after which block Xception's trunk ends, or of xception-attention the map is.
        pool: of `linear`, a vector of each map: cls (its CLS token) | mean | max | mean+max; none: it is one, or stays.
        model: of timm, such as xception41.
        kernel: side of conv's convolutions in cells, odd.
        widths: of `small` and `small-attention`, channels of each 3x3 convolution.
        rule: of a composite: argmax (the map of the part that its router chooses) | mean (of its parts' maps).
    """

    name: str
    depth: Annotated[Whole, Field(ge=4, multiple_of=4)] = 12
    channels: tuple[Annotated[Whole, Field(ge=1)], ...] = (512, 256, 128, 64)
    out_size: Annotated[Whole, Field(ge=1)] = 256
    init: Literal["default", "declip", "patches"] = "default"
    prior: Annotated[Real, Field(gt=0, lt=1)] | None = None
    standardize: bool = False
    batch_norm: Literal["train", "frozen"] = "train"
    plugin: str | None = None
    grid: Annotated[Whole, Field(ge=1)] | None = None
    mask: Literal["none", "causal"] = "none"
    trained: Literal["all", "declip"] = "all"
    architecture: str | None = None
    encoder: str | None = None
    weights: str | None = None
    block: Annotated[Whole, Field(ge=1, le=12)] | None = None
    pool: Literal["cls", "mean", "max", "mean+max"] | None = None
    model: str | None = None
    kernel: Odd = 5
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)] = (16, 16)
    rule: Literal["argmax", "mean"] | None = None

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads all tokens of its maps, CLS first, as a grid of one row [B, C, 1, T]."""
        return self.name in TOKENS or self.pool == "cls"


class LossSpec(Frozen):
    """What is minimised; each loss reads some of the fields (`registry.LOSS_FIELDS`).

    Attributes:
        name: bce, dice, focal, jaccard, lovasz; ce, of image-level tasks; attention, of a map and image logits; or sum.
        plugin: digest of the plug-in's file that the name comes from.
        reduction: what a region is counted over: batch (all images as one) | image (each alone, then their mean).
        smooth: added to numerator and denominator of dice and jaccard.
        alpha: focal's weight of fake pixels, of the others 1 - alpha; none: no weights.
        gamma: focal's exponent: how little pixels count that are right already.
        terms: of a sum.
        weight: of a term of a sum.
        weight_map: of `attention`, what the map's term weighs beside the cross-entropy of the classes.
    """

    name: str
    plugin: str | None = None
    reduction: Literal["batch", "image"] = "batch"
    smooth: Annotated[Real, Field(ge=0)] = 0.0
    alpha: Fraction | None = None
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    terms: tuple["LossSpec", ...] = ()
    weight: Annotated[Real, Field(gt=0)] = 1.0
    weight_map: Annotated[Real, Field(ge=0)] = 1.0


class OptimizerSpec(Frozen):
    """How weights are changed: adam or adamw, which differ in where a weight decay acts, or a plug-in's.

    Attributes:
        name: adam, adamw, or a plug-in's.
        lr: learning rate.
        weight_decay: share of a weight that a step takes away, times the learning rate.
        plugin: digest of the plug-in that the name comes from.
    """

    name: str
    lr: Annotated[Real, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    plugin: str | None = None


class ScheduleSpec(Frozen):
    """How the learning rate changes: constant, plateau (DeCLIP's), one-cycle (over all steps).

    Attributes:
        name: constant, plateau, one-cycle, or a plug-in's.
        plugin: digest of the plug-in that the name comes from.
        watch: the validation measure that plateau, or a plug-in's, follows.
        delta: what an epoch must gain, after plateau's first drop twice; none: of iou or loss 1e-5, of the others 1e-3.
    """

    name: str
    plugin: str | None = None
    watch: Measure = WATCHED
    delta: Annotated[Real, Field(ge=0)] | None = None

    @property
    def called(self) -> str:
        """Its name, and what it follows and calls a gain where that is not what others do."""
        delta = f", delta {self.delta:g}" if self.delta is not None else ""
        return (self.name if self.watch == WATCHED else f"{self.name} on {self.watch}") + delta
