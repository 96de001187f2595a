"""What the last linear layer of a model reads: the features that its answer an image is a linear function of."""

from typing import Any

from torch import Tensor, nn

from dfloc.errors import DataError
from dfloc.models.base import outputs


def penultimate(model: nn.Module, x: Tensor) -> Tensor:
    """Return what the layer reads that gives the logits of images, [B, D].

    Of a linear head that is what is pooled and standardized. The layer is the last `nn.Linear` or `nn.Conv2d`
    that gives one vector an image.

    Args:
        model: gives image logits [B, K], or `models.base.Outputs` with them.
        x: its input.

    Raises:
        DataError: no such layer gives as many numbers as there are classes.
    """
    last: list[tuple[Tensor, Tensor]] = []

    def note(_: nn.Module, given: tuple[Any, ...], said: Tensor) -> None:
        if said.numel() == said.shape[0] * said.shape[1]:
            last[:] = [(given[0], said)]

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        logit_BK = outputs(model(x)).image_BK
    finally:
        for hook in hooks:
            hook.remove()
    if logit_BK is None or not last or last[0][1].flatten(1).shape != logit_BK.shape:
        raise DataError("no linear layer of the model gives the logits of its classes, so it has no feature space")
    return last[0][0].flatten(1)
