"""`dolos-2024`: the evaluation of the Dolos paper."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfloc.metrics import pixel
from dfloc.metrics.metric import IOU, PBCA, POOLED_IOU
from dfloc.metrics.protocols import Protocol


def dolos_2024() -> Protocol:
    """The evaluation of Dolos (Tantaru et al. 2024, patch_forensics/evaluate.py).

    Map: resized to the truth's size by Pillow's bicubic filter on float pixels (antialiased where it shrinks; it may
    overshoot [0, 1]), then called fake where it is over 0.5. Truth: all that is not wholly real is fake, grey pixels
    of a mask included (fakeness over 0). `iou`: per image, both empty counts 1; `pbca`: share of the pixels called
    rightly, which the paper calls accuracy. Neither is ever NaN; both are fractions.
    """
    return Protocol(
        name="dolos-2024",
        metrics=(IOU, PBCA, POOLED_IOU),
        threshold=0.5,
        binarise=lambda truth: truth if truth.dtype == torch.bool else truth > 0,
        resize=_bicubic,
        measure=_measure,
        tracked=("iou", "pbca"),
        truth="a pixel is fake where the mask is not wholly real; maps are resized to the mask, bicubic",
        all_fake=lambda fake_B, pixels_B: {"iou": fake_B / pixels_B, "pbca": fake_B / pixels_B},
    )


def _bicubic(prob_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps one by one, on the CPU: torch's bicubic filter gives other values than Pillow's."""
    shape = (size[1], size[0])
    maps = [
        Image.fromarray(each_hw).resize(shape, Image.Resampling.BICUBIC) for each_hw in prob_B1hw[:, 0].cpu().numpy()
    ]
    return torch.from_numpy(np.stack([np.asarray(each) for each in maps]))[:, None].to(prob_B1hw.device)


def _measure(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    return {"iou": pixel.overlap(called_BHW, fake_BHW), "pbca": pixel.accuracy(called_BHW, fake_BHW)}
