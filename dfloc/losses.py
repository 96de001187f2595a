"""What is minimised: a scalar from logits and targets."""

from torch import Tensor
from torch.nn import functional


def bce(logit_B1HW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return the binary cross-entropy of each pixel, its mean over pixels and batch (as DeCLIP), in float32 at least.

    Args:
        logit_B1HW: before the sigmoid; positive = fake.
        target_BHW: fakeness in [0, 1]; bool is accepted.
    """
    logit_BHW = logit_B1HW.squeeze(1)
    wide_BHW = logit_BHW.float() if logit_BHW.dtype.itemsize < 4 else logit_BHW
    return functional.binary_cross_entropy_with_logits(wide_BHW, target_BHW.to(wide_BHW.dtype))
