"""`image-1` and `thesis-2025`: is an image fake, and who made it."""

import numpy as np
from torch import Tensor

from dfloc.metrics import classes, image, image_rows
from dfloc.metrics.image_rows import ImageRows
from dfloc.metrics.metric import (
    IMAGE_ACCURACY,
    IMAGE_ACCURACY_CALLED,
    IMAGE_ACCURACY_CHOSEN,
    IMAGE_AP,
    IMAGE_AUC,
    IMAGE_BALANCED_ACCURACY,
    IMAGE_BRIER,
    IMAGE_ECE,
    IMAGE_EER,
    IMAGE_MACRO_AP,
    IMAGE_RECALL,
    IMAGE_RIGHT,
    IMAGE_TNR,
    IMAGE_TPR,
)
from dfloc.metrics.protocols import Protocol, bilinear, over_half
from dfloc.metrics.table import Array, Table

THRESHOLD = image.THRESHOLD
WHETHER = (
    *(IMAGE_ACCURACY, IMAGE_AP, IMAGE_AUC, IMAGE_TPR, IMAGE_TNR, IMAGE_ACCURACY_CHOSEN),
    *(IMAGE_EER, IMAGE_ECE, IMAGE_BRIER),
)


def image_1() -> Protocol:
    """Ours, every edge case of it defined; fractions all of them.

    Is it fake: fakes of one domain (or several) against reals, by `score`, the probability of fake. An image is called
    fake where it is strictly over 0.5. Whatever the numbers of images, fakes weigh a half and reals a half.

    - `image_tpr`, `image_tnr`: the share of fakes that are called fake, of reals that are not.
    - `image_accuracy`: the mean of the two. `image_brier`: the mean squared distance from the truth, likewise.
    - `image_ap`, `image_auc`: equal scores together; a constant score has 0.5 and 0.5. `image_eer`: on the ROC curve's
      polygon. `image_ece`: over 15 bins of equal weight.
    - `image_threshold`: that of the best balanced accuracy on the trial's own validation images, of equally good ones
      the nearest to 0.5; `image_accuracy_valid`: the balanced accuracy there.

    Without reals, all but `image_tpr` are absent; the last two also where the validation images lack either.

    Who made it: of a model that tells several classes apart, by `called` and `prob_<class>`.

    - `image_recall`: the share of images that are called their class; absent where this is none that the model knows.
      Of a model of real and fake alone it is absent, and the same share of either is `image_right`.
    - `image_balanced_accuracy`: the mean recall of all classes; `image_macro_ap`: the mean over classes of average
      precision, one against the rest, each class weighing the same. Both absent unless every class has images.
    """
    return Protocol(
        name="image-1",
        metrics=(*WHETHER, IMAGE_RECALL, IMAGE_RIGHT, IMAGE_BALANCED_ACCURACY, IMAGE_MACRO_AP),
        by_task={
            "detect": WHETHER,
            "attribute": (IMAGE_RECALL, IMAGE_BALANCED_ACCURACY, IMAGE_MACRO_AP, IMAGE_AP, IMAGE_AUC),
        },
        threshold=THRESHOLD,
        binarise=over_half,
        resize=bilinear,
        measure=_nothing,
        tracked=(
            *("image_accuracy", "image_ap", "image_auc", "image_tpr", "image_tnr", "image_accuracy_valid"),
            *("image_recall", "image_balanced_accuracy", "image_macro_ap"),
        ),
        truth="an image is called fake where its score is over 0.5; fakes and reals weigh a half each",
        of_images=_of_images,
        of_pair=_of_pair,
        reads_valid=True,
    )


def thesis_2025() -> Protocol:
    """The evaluation of the thesis' detector and classifier (vladc15/DeepfakeLocalization, 2025, its notebooks).

    - `image_recall`: the share of images that are called their class, by argmax.
    - `image_accuracy`: the same over fakes and reals together, each image weighing the same;
      the thesis has 900 of each.
    - `image_macro_ap`: the mean of average precision over the columns of the softmax, one against the rest, of the
      classes that have images: of a domain beside the reals those are real and its own.

    The last two are absent without reals, or where a domain is of no class that the model tells apart.
    """
    return Protocol(
        name="thesis-2025",
        metrics=(IMAGE_RECALL, IMAGE_MACRO_AP, IMAGE_ACCURACY_CALLED),
        threshold=THRESHOLD,
        binarise=over_half,
        resize=bilinear,
        measure=_nothing,
        tracked=("image_recall", "image_macro_ap", "image_accuracy"),
        truth="an image is called the class of the largest probability",
        of_images=lambda rows: {"image_recall": _right(image_rows.read(rows))},
        of_pair=_thesis_of_pair,
    )


def _nothing(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    return {}


def _of_images(rows: Table) -> dict[str, Array]:
    found = image_rows.read(rows)
    right_N = ((found.score_N > THRESHOLD) == found.is_fake_N).astype(np.float64)
    return {
        "image_accuracy": right_N,
        "image_tpr": np.where(found.is_fake_N, right_N, np.nan),
        "image_tnr": np.where(found.is_fake_N, np.nan, right_N),
        "image_brier": (found.score_N - found.is_fake_N) ** 2,
        "image_recall": _right(found) if _attributes(found) else np.full(len(right_N), np.nan),
        "image_right": _right(found) if _attributes(found) else right_N,
    }


def _of_pair(fakes: Table, reals: Table, valid: Table | None) -> dict[str, float]:
    fake, real = image_rows.read(fakes), image_rows.read(reals)
    found = {
        "image_ap": image.image_ap(fake.score_N, real.score_N),
        "image_auc": image.image_auc(fake.score_N, real.score_N),
        "image_eer": image.image_eer(fake.score_N, real.score_N),
        "image_ece": image.image_ece(fake.score_N, real.score_N),
        "image_tpr": image.image_tpr(fake.score_N),
        "image_tnr": image.image_tnr(real.score_N),
    }
    if valid is not None and len(valid):
        found |= _at_chosen(fake.score_N, real.score_N, valid)
    return found | (_attribution(fake, real) if _attributes(fake) else {})


def chosen(valid: Table) -> float | None:
    """Return the threshold of `image-1` that rows of validation images choose; None where fakes or reals lack.

    Raises:
        DataError: as `image_rows.read`.
    """
    rows = image_rows.read(valid)
    sides = rows.score_N[rows.is_fake_N], rows.score_N[~rows.is_fake_N]
    return image.image_threshold(*sides) if all(map(len, sides)) else None


def _at_chosen(fake_N: Array, real_M: Array, valid: Table) -> dict[str, float]:
    threshold = chosen(valid)
    if threshold is None:
        return {}
    accuracy = image.image_accuracy(fake_N, real_M, threshold)
    return {"image_threshold": threshold, "image_accuracy_valid": accuracy}


def _attribution(fake: ImageRows, real: ImageRows) -> dict[str, float]:
    """Return the numbers of all classes; none where one lacks images."""
    label_N, called_N, prob_NK = _joined(fake, real)
    if len({*label_N.tolist()} - {-1}) < len(fake.classes):
        return {}
    kept_N = label_N >= 0
    return {
        "image_balanced_accuracy": classes.balanced_accuracy(label_N, called_N, len(fake.classes)),
        "image_macro_ap": classes.macro_ap(prob_NK[kept_N], label_N[kept_N], balanced=True),
    }


def _thesis_of_pair(fakes: Table, reals: Table, valid: Table | None) -> dict[str, float]:
    fake, real = image_rows.read(fakes), image_rows.read(reals)
    label_N, called_N, prob_NK = _joined(fake, real)
    if (label_N < 0).any():
        return {}
    there = sorted({*label_N.tolist()})
    return {
        "image_macro_ap": classes.macro_ap(prob_NK, label_N, classes=there),
        "image_accuracy": float((label_N == called_N).mean()),
    }


def _joined(fake: ImageRows, real: ImageRows) -> tuple[Array, Array, Array]:
    """Return the labels, what is called and the probabilities of fakes and reals together."""
    return (
        np.concatenate([fake.label_N, real.label_N]),
        np.concatenate([fake.called_label_N, real.called_label_N]),
        np.concatenate([fake.prob_NK, real.prob_NK]),
    )


def _attributes(rows: ImageRows) -> bool:
    """Return whether a model tells more apart than real and fake."""
    return rows.classes != (image_rows.REAL, image_rows.FAKE)


def _right(rows: ImageRows) -> Array:
    """Return 1 of each image that is called its class, 0 of others; NaN where the model does not tell its class."""
    label_N = rows.label_N
    return np.where(label_N < 0, np.nan, label_N == rows.called_label_N)
