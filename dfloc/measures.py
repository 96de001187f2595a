"""What weights are worth on the validation images after an epoch, by measure."""

from collections.abc import Mapping

# What weights are worth on the validation images after an epoch, and whether more of it is better. The loss is the
# trial's own; `metrics.validation` measures the others.
MEASURES: Mapping[str, bool] = {"iou": True, "loss": False, "ap": True, "accuracy": True}

# What an epoch must gain of them, as fractions, so that a plateau does not call it bad, unless told otherwise (of IoU:
# DeCLIP's trainer, which counts in points; of AP: the thesis' detector).
DELTAS: Mapping[str, float] = {"iou": 1e-5, "loss": 1e-5, "ap": 1e-3, "accuracy": 1e-3}

# Which of them each task has, maps or images. Unless told otherwise, selection, schedules and searches watch the first.
MEASURED: Mapping[str, tuple[str, ...]] = {
    "localize": ("iou", "loss"),
    **dict.fromkeys(("detect", "attribute"), ("ap", "loss", "accuracy")),
}
LABELS: Mapping[str, str] = {"iou": "IoU", "loss": "loss", "ap": "AP", "accuracy": "accuracy"}
WATCHED = MEASURED["localize"][0]
