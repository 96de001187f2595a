"""What is recorded of a trial: its epochs, what they cost, and how it ended."""

from typing import Literal

from pydantic import Field

from dfloc.config import Checkpoint, Frozen

State = Literal["new", "partial", "stopped", "done", "failed"]


class EpochRecord(Frozen):
    """One line of `epochs.jsonl`.

    Attributes:
        epoch: from 1.
        steps: optimiser steps since the trial's start.
        images: training images read in this epoch.
        lr: learning rate of the epoch's last step; None where nothing is stepped.
        train_loss: mean over the epoch's images, each batch scored before its own step; None where nothing is stepped.
        valid_loss: mean over the validation images.
        valid_iou: mean per-image IoU at 256, a fraction.
        seconds: wall time of the epoch, validation included.
        time: when the epoch ended, in seconds since 1970.
    """

    epoch: int = Field(ge=1)
    steps: int
    images: int
    lr: float | None = None
    train_loss: float | None = None
    valid_loss: float
    valid_iou: float
    seconds: float
    time: float


class Cost(Frozen):
    """What the training took, summed over the epochs that count."""

    seconds: float
    images_per_second: float
    steps: int


class Done(Frozen):
    """`done.json`: the attempt that counts.

    Attributes:
        digests: sha256 of each weights file, by checkpoint.
        epochs_sha256: of the attempt's `epochs.jsonl`; empty where it was not recorded yet.
        versions: `repro.environment` of the machine that trained the last epoch.
        time: when it was finished, in seconds since 1970.
    """

    attempt: str
    epochs: int
    best_epoch: int
    digests: dict[Checkpoint, str]
    cost: Cost
    versions: dict[str, str]
    time: float
    epochs_sha256: str = ""


class Failure(Frozen):
    """`failed.json`: why a trial ended for a cause of its own.

    Attributes:
        kind: nan (the loss was no finite number) | error (anything else of its own).
        step: optimiser step since the trial's start, where it is known.
    """

    kind: Literal["nan", "error"]
    message: str
    attempt: str
    epoch: int | None = None
    step: int | None = None
    time: float


class Stopped(Frozen):
    """`stopped/<sweep>.json`: why a sweep stopped a trial early; to any other sweep the trial is still to run.

    Attributes:
        epoch: after which it was stopped; its checkpoint is kept.
        value: best validation IoU until then.
        needed: what would have let it go on; none: another trial of its point was stopped, or has failed.
        time: in seconds since 1970.
    """

    epoch: int
    value: float
    needed: float | None = None
    time: float
