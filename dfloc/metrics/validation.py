"""What weights are worth on a batch of validation images, beside the trial's own loss: `registry.MEASURES`."""

from torch import Tensor

from dfloc.metrics import pixel


def measure(prob_BHW: Tensor, target_BHW: Tensor) -> dict[str, Tensor]:
    """Return each measure of each image, [B] in float64; a pixel is fake where the target is not 0."""
    return {"iou": pixel.iou(prob_BHW > 0.5, target_BHW > 0)}
