"""What weights are worth on the validation images, beside the trial's own loss: `measures.MEASURES`, by task."""

from typing import Protocol

import torch
from torch import Tensor

from dfloc.metrics import classes, pixel


class Measured(Protocol):
    """What is gathered over the batches of a list."""

    def add(self, prob: Tensor, target: Tensor) -> None:
        """Take the probabilities of a batch, and what is true of it."""
        ...

    def worth(self) -> dict[str, float]:
        """Return each measure of the whole list."""
        ...


def of_task(task: str) -> Measured:
    """Return what measures the probabilities of a task: of pixels, or of classes."""
    return OfPixels() if task == "localize" else OfImages()


class OfPixels:
    """The mean IoU of images; a pixel is fake where the target is not 0."""

    def __init__(self) -> None:
        self._sum, self._count = torch.zeros((), dtype=torch.float64), 0

    def add(self, prob: Tensor, target: Tensor) -> None:
        """Take probabilities [B, H, W] and targets [B, H, W]."""
        self._sum += pixel.iou(prob > 0.5, target > 0).sum().cpu()
        self._count += len(prob)

    def worth(self) -> dict[str, float]:
        """Return the mean."""
        return {"iou": float(self._sum / self._count)}


class OfImages:
    """Macro AP and balanced accuracy of classes, over the whole list: neither is a mean over batches."""

    def __init__(self) -> None:
        self._probs: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, prob: Tensor, target: Tensor) -> None:
        """Take probabilities [B, K] and labels [B]."""
        self._probs.append(prob.double().cpu())
        self._labels.append(target.cpu())

    def worth(self) -> dict[str, float]:
        """Return both; every class is in the list."""
        prob_NK, label_N = torch.cat(self._probs).numpy(), torch.cat(self._labels).numpy()
        accuracy = classes.balanced_accuracy(label_N, prob_NK.argmax(1), prob_NK.shape[1])
        return {"ap": classes.macro_ap(prob_NK, label_N), "accuracy": accuracy}
