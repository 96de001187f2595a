"""Random changes of training images, drawn by augmentation, view and sample; masks are untouched."""

from collections.abc import Mapping

from dfloc.config import AugmentOp

NAMED: Mapping[str, tuple[AugmentOp, ...]] = {
    "blur": (AugmentOp(name="blur", sigma=(0.0, 3.0), probability=0.5),),
}
"""Sets of operations by the name that a sweep file gives them: `blur` is that of the segmentation poster."""
