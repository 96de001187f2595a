"""How training images are changed: one operation, and several with how often they are drawn anew."""

from typing import Annotated, Literal

from pydantic import Field

from dfloc.frozen import Fraction, Frozen, Real, Whole

Range = tuple[Annotated[Real, Field(ge=0)], Annotated[Real, Field(ge=0)]]


class AugmentOp(Frozen):
    """One random change of an image; masks are untouched, unless it is a flip.

    Attributes:
        name: blur | jpeg | color-jitter | flip (left and right change places, in the mask too).
        probability: of each image to be changed.
        sigma: blur's, in pixels, drawn uniformly between the two.
        kernel: blur's side in pixels, odd; none: cut at 4 sigma.
        quality: jpeg's, drawn uniformly among the whole numbers from the first to the second.
        strength: color-jitter's of brightness, contrast, saturation and hue.
        at: stored (on the image as it is stored, before any resize) | input (on what the backbone sees).
    """

    name: Literal["blur", "jpeg", "color-jitter", "flip"]
    probability: Fraction = 1.0
    sigma: Range | None = None
    kernel: Annotated[Whole, Field(ge=1)] | None = None
    quality: tuple[Annotated[Whole, Field(ge=1, le=100)], Annotated[Whole, Field(ge=1, le=100)]] | None = None
    strength: Annotated[Real, Field(ge=0)] | None = None
    at: Literal["stored", "input"] = "stored"


class AugmentSpec(Frozen):
    """How training images are changed, and how often that is drawn anew.

    Attributes:
        ops: in the order in which they act.
        views: epochs = drawn anew in each epoch | k = k draws that the epochs take in turn.
        seed: of the draws; trials of other seeds share them.
    """

    ops: Annotated[tuple[AugmentOp, ...], Field(min_length=1)]
    views: Annotated[Whole, Field(ge=1)] | Literal["epochs"] = "epochs"
    seed: Annotated[Whole, Field(ge=0)] = 0
