"""What a protocol measures: a number with its name, its bounds, and which end of them is the better one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """One number of a protocol.

    Attributes:
        key: its name in rows, summaries, CSVs and MLflow.
        label: its name in tables and figures.
        bounds: between which it lies; so do its means and their intervals.
        higher_is_better: whether the most of several is the best.
        of_set: whether it is of a whole set of images, and no mean over them.
        of_pair: whether it is of fakes and reals together. One that is a mean over images is the mean of its mean over
            the fakes and of that over the reals. Without either it is absent.
    """

    key: str
    label: str
    bounds: Bounds = (0.0, 1.0)
    higher_is_better: bool = True
    of_set: bool = False
    of_pair: bool = False

    @property
    def word(self) -> str:
        """Its label inside a sentence: balanced accuracy, but IoU and AP."""
        return re.sub(r"^[A-Z][a-z-]+\b", lambda found: found[0].lower(), self.label)

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values, at least one."""
        return max(values) if self.higher_is_better else min(values)

    def gain(self, value: float, other: float) -> float:
        """Return by how much a value is better than another."""
        return value - other if self.higher_is_better else other - value


IOU = Metric("iou", "IoU")
F1 = Metric("f1", "F1")
F1_FIXED = Metric("f1_fixed", "F1 at 0.5")
F1_ORACLE = Metric("f1_best", "F1 oracle")
AP = Metric("ap", "AP")
AUC = Metric("auc", "AUC")
MCC = Metric("mcc", "MCC", bounds=(-1.0, 1.0))
PBCA = Metric("pbca", "PBCA")
IMAGE_RIGHT = Metric("image_right", "Images called right")  # 1 or 0 of each: over one list a recall, over two balanced
POOLED_IOU = Metric("pooled_iou", "Pooled IoU", of_set=True)
F1_CHOSEN = Metric("f1_valid", "F1 at the validation threshold", of_set=True)
FALSE_ALARM = Metric("false_alarm_area", "False-alarm area", higher_is_better=False, of_set=True)
IOU_SLOPE = Metric("iou_slope", "Slope of IoU over mask area", bounds=(float("-inf"), float("inf")), of_set=True)
IOU_WITH_REALS = Metric("iou_with_reals", "IoU with reals", of_set=True, of_pair=True)
ROUTED_RIGHT = Metric("routed_right", "Routed to its class", of_set=True)
REALS_FLAGGED = Metric("reals_flagged", "Reals flagged", higher_is_better=False)  # whatever the protocol: `alarms`
REALS_AREA = Metric("reals_area", "Area called fake on reals", higher_is_better=False)

IMAGE_ACCURACY = Metric("image_accuracy", "Balanced accuracy", of_pair=True)
IMAGE_TPR = Metric("image_tpr", "TPR")
IMAGE_TNR = Metric("image_tnr", "TNR")
IMAGE_RECALL = Metric("image_recall", "Recall")
IMAGE_BRIER = Metric("image_brier", "Brier score", higher_is_better=False, of_pair=True)
IMAGE_AP = Metric("image_ap", "Image AP", of_set=True, of_pair=True)
IMAGE_AUC = Metric("image_auc", "Image AUC", of_set=True, of_pair=True)
IMAGE_EER = Metric("image_eer", "EER", higher_is_better=False, of_set=True, of_pair=True)
IMAGE_ECE = Metric("image_ece", "ECE", higher_is_better=False, of_set=True, of_pair=True)
IMAGE_ACCURACY_CHOSEN = Metric(
    "image_accuracy_valid", "Balanced accuracy at the validation threshold", of_set=True, of_pair=True
)
IMAGE_ACCURACY_CALLED = Metric("image_accuracy", "Accuracy", of_set=True, of_pair=True)
IMAGE_BALANCED_ACCURACY = Metric("image_balanced_accuracy", "Mean recall", of_set=True, of_pair=True)
IMAGE_MACRO_AP = Metric("image_macro_ap", "Macro AP", of_set=True, of_pair=True)
