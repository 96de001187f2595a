"""`dolos-2024`: the evaluation of the Dolos paper."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfloc import repro
from dfloc.metrics import pixel
from dfloc.metrics.image import image_ap, refuse
from dfloc.metrics.metric import IOU, PBCA, POOLED_IOU
from dfloc.metrics.protocols import Protocol
from dfloc.metrics.table import Array, Table, column, known

SEED, DRAWS = 1337, 5


def dolos_2024() -> Protocol:
    """The evaluation of Dolos (Tantaru et al. 2024, patch_forensics/evaluate.py).

    Map: resized to the truth's size by Pillow's bicubic filter on float pixels (antialiased where it shrinks; it may
    overshoot [0, 1]), then called fake where it is over 0.5. Truth: all that is not wholly real is fake, grey pixels
    of a mask included (fakeness over 0). `iou`: per image, both empty counts 1; `pbca`: share of the pixels called
    rightly, which the paper calls accuracy. Neither is ever NaN; both are fractions.

    With reals: `image_ap`, the mean average precision of telling fakes from reals over five draws of as many of each,
    without replacement, and `image_ap_2sd`, twice their standard deviation (of these five). An image's score is the
    map's mean before any resize; of a model that scores images the raw logit of fake, which the paper ranks by, or,
    of one that tells generators apart, the probability that it is not real.
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
        of_pair=_of_pair,
        ranks=_ranks,
    )


def _of_pair(fakes: Table, reals: Table, valid: Table | None) -> dict[str, float]:
    sides = [_ranked_by(rows) for rows in (fakes, reals)]
    aps = []
    for draw in range(DRAWS):
        generator = repro.generator(SEED, "ap", draw)
        orders = [torch.randperm(len(scores), generator=generator).numpy() for scores in sides]
        count = min(map(len, sides))
        aps.append(image_ap(*(scores[order[:count]] for scores, order in zip(sides, orders, strict=True))))
    return {"image_ap": float(np.mean(aps)), "image_ap_2sd": float(2 * np.std(aps))}


def _ranked_by(rows: Table) -> Array:
    """Return the scores in the order of the list, that of ids, whatever the order of the rows is."""
    return _ranks(rows)[np.argsort(column(rows, "id").astype(str))]


def _ranks(rows: Table) -> Array:
    """Return the score of each row."""
    name = next((name for name in ("fake_logit", "score") if known(rows, name)), "mean_prob")
    scores = column(rows, name).astype(np.float64)
    refuse(scores, ~np.isfinite(scores), f'in "{name}"', "a finite number")
    return scores


def _bicubic(prob_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps one by one, on the CPU: torch's bicubic filter gives other values than Pillow's."""
    shape = (size[1], size[0])
    maps = [
        Image.fromarray(each_hw).resize(shape, Image.Resampling.BICUBIC) for each_hw in prob_B1hw[:, 0].cpu().numpy()
    ]
    return torch.from_numpy(np.stack([np.asarray(each) for each in maps]))[:, None].to(prob_B1hw.device)


def _measure(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    return {"iou": pixel.overlap(called_BHW, fake_BHW), "pbca": pixel.accuracy(called_BHW, fake_BHW)}
