"""What is recorded of a trial: its epochs, what they cost, and how it ended."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from dfloc.config import Checkpoint
from dfloc.frozen import Frozen
from dfloc.measures import MEASURED, WATCHED

TrialState = Literal["new", "partial", "stopped", "done", "failed"]


class EpochRecord(Frozen):
    """One line of `epochs.jsonl`.

    Attributes:
        epoch: from 1.
        steps: optimiser steps since the trial's start.
        images: training images read in this epoch.
        lr: learning rate of the epoch's last step; None where nothing is stepped.
        train_loss: mean over the epoch's images, each batch scored before its own step; None where nothing is stepped.
        valid: what the epoch's weights are worth on the validation images, by measure (`measures.MEASURES`): means over
            images, those of the maps at 256 but for the loss.
        seconds: wall time of the epoch, validation included.
        time: when the epoch ended, in seconds since 1970.
    """

    epoch: int = Field(ge=1)
    steps: int
    images: int
    lr: float | None = None
    train_loss: float | None = None
    valid: dict[str, float]
    seconds: float
    time: float

    @model_validator(mode="before")
    @classmethod
    def _of_one_mapping(cls, fields: object) -> object:
        """Read a line of before, which had a field for each measure."""
        old = {f"valid_{name}": name for name in (WATCHED, "loss")}
        if not isinstance(fields, dict) or "valid" in fields or not fields.keys() >= old.keys():
            return fields
        kept = {key: value for key, value in fields.items() if key not in old}
        return kept | {"valid": {name: fields[key] for key, name in old.items()}}

    @field_validator("valid")
    @classmethod
    def _of_some_measure(cls, valid: dict[str, float]) -> dict[str, float]:
        if not any(names[0] in valid for names in MEASURED.values()):
            raise ValueError(f"should have {' or '.join(dict.fromkeys(names[0] for names in MEASURED.values()))}")
        return valid

    @property
    def watched(self) -> str:
        """The first measure of its trial's task, which stands for the others."""
        return next(names[0] for names in MEASURED.values() if names[0] in self.valid)

    @property
    def worth(self) -> float:
        """The value of `watched`."""
        return self.valid[self.watched]


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
