"""What determines a trial and an evaluation, and the key that follows from it."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dfloc.registry import SEMANTICS

Checkpoint = Literal["best", "last"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """A value: it cannot change, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SampleList(Frozen):
    """The samples that a trial trains, validates or is tested on.

    Attributes:
        digest: sha256 over the sorted (id, image sha256, mask sha256, mask kind); all that enters keys.
        counts: images of each domain, as asked and found (recorded).
        asked: the mixture as it was asked for (recorded).
    """

    digest: str
    counts: dict[str, int]
    asked: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(self.counts.values())


class MapRecipe(Frozen):
    """How the numbers of one map come about.

    Attributes:
        map: `<backbone>/<map>`.
        weights: digest over the loaded tensors, `random:<seed>`, or `none`.
        input_size: side of the square image that the backbone sees, in pixels.
        resize: how the stored image is brought there, and by which library.
        compute: dtype of the backbone's arithmetic.
        stored: dtype of the stored map.
        semantics: numbers of the decoding and of the adapter.
        plugin: digest of a plug-in's file.
    """

    map: str
    weights: str
    input_size: int
    resize: str
    compute: str = "float32"
    stored: str = "float16"
    semantics: dict[str, int]
    plugin: str | None = None

    @property
    def fingerprint(self) -> str:
        """The folder of this recipe in the feature store."""
        return fingerprint(self.model_dump(exclude_defaults=True))


class DecoderSpec(Frozen):
    """What is trained on the maps.

    Attributes:
        name: conv, linear, or one of the baselines that are solved instead of trained.
        depth: N of conv-N, a multiple of 4: depth / 4 convolutions in each stage, and the last one, not counted.
        channels: width of each stage.
        out_size: side of the grid of the last convolution in pixels; logits are resized to 256 from there.
        init: default (PyTorch's) | declip (N(0, 0.02) on every weight, BatchNorm's scale included).
        prior: share of fake pixels at which the output's bias starts; none: as `init` has it.
        standardize: inputs less mean, over deviation, per channel of the training images.
        batch_norm: train | frozen (statistics and affine of the parent never move).
        plugin: digest of the plug-in's file that the name comes from.
    """

    name: str
    depth: Annotated[int, Field(ge=4, multiple_of=4)] = 12
    channels: tuple[Annotated[int, Field(ge=1)], ...] = (512, 256, 128, 64)
    out_size: Annotated[int, Field(ge=1)] = 256
    init: Literal["default", "declip"] = "default"
    prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    standardize: bool = False
    batch_norm: Literal["train", "frozen"] = "train"
    plugin: str | None = None


class LossSpec(Frozen):
    """What is minimised; `plugin`: digest of the plug-in's file that the name comes from."""

    name: str
    plugin: str | None = None


class OptimizerSpec(Frozen):
    """How weights are changed: AdamW with these constants."""

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class ScheduleSpec(Frozen):
    """How the learning rate changes: constant, plateau (DeCLIP's, by validation IoU), one-cycle (over all steps)."""

    name: Literal["constant", "plateau", "one-cycle"]


class InitFrom(Frozen):
    """Whose weights a trial starts from."""

    parent: str
    checkpoint: Checkpoint = "best"


class Imported(Frozen):
    """A trial that was trained elsewhere; `imported`: sha256 of the file of its decoder's weights."""

    imported: str


class Lineage(Frozen):
    """What the ancestors trained on (recorded; their fingerprints are in the key).

    Attributes:
        seen: domains of all ancestors.
        base: domains of the root ancestor; of the trial itself where it has none.
        root: fingerprint of the root ancestor; empty where the trial has none.
        exposure: images of domains that the root did not train on, over the whole lineage; 0 without a parent.
    """

    seen: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    root: str = ""
    exposure: int = 0


class TrialSpec(Frozen):
    """Everything that determines a trial's weights, resolved, and what is recorded with it.

    Attributes:
        maps: recipes, concatenated in this order on the first one's grid.
        epochs: passes over the training list; with `epoch_steps`, so many steps each of an endless permuted stream.
        select: what names the best epoch: validation iou | validation loss | last (the last epoch is the best one).
        targets: own | shuffled (a control: each training image gets another one's mask).
        precision: dtype of the training arithmetic.
        init: where weights start: nothing, by role ("decoder") another trial's checkpoint, or trained elsewhere.
    """

    train: SampleList
    valid: SampleList
    maps: tuple[MapRecipe, ...]
    decoder: DecoderSpec
    loss: LossSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    epochs: Annotated[int, Field(ge=1)]
    epoch_steps: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    select: Literal["iou", "loss", "last"] = "iou"
    targets: Literal["own", "shuffled"] = "own"
    precision: Literal["fp32", "bf16"] = "fp32"
    init: dict[Literal["decoder"], InitFrom] | Imported = {}
    lineage: Lineage = Lineage()

    @property
    def key(self) -> dict[str, Any]:
        """What is hashed: fields that differ from their default, digests of lists, semantics of the components."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"lineage", "train", "valid"})
        semantics = {name: SEMANTICS[name] for name in self._components()}
        return fields | {"train": self.train.digest, "valid": self.valid.digest, "semantics": semantics}

    @property
    def fingerprint(self) -> str:
        """The trial's name in the ledger: 64 hexadecimal digits."""
        return fingerprint(self.key)

    @property
    def start(self) -> InitFrom | None:
        """The checkpoint of another trial that the decoder starts from."""
        return self.init.get("decoder") if isinstance(self.init, dict) else None

    def _components(self) -> tuple[str, ...]:
        """Return what has a semantics number: all but what comes from a plug-in, which has a digest."""
        decoder = () if self.decoder.plugin else (f"decoder/{self.decoder.name}",)
        loss = () if self.loss.plugin else (f"loss/{self.loss.name}",)
        return ("engine", "target", *decoder, *loss)

    @property
    def steps(self) -> int:
        """Optimiser steps from the first to the last epoch."""
        per_epoch = self.epoch_steps or -(-self.train.size // self.batch)
        return per_epoch * self.epochs


class EvaluationSpec(Frozen):
    """One checkpoint of a trial on one domain's split under one condition and one protocol.

    Attributes:
        trial: fingerprint.
        test: the samples: one domain, one split.
    """

    trial: str
    checkpoint: Checkpoint
    domain: str
    split: Literal["train", "valid", "test"] = "test"
    test: SampleList
    condition: str = "clean"
    protocol: str

    @property
    def key(self) -> str:
        """The name of its rows: 64 hexadecimal digits."""
        return fingerprint(
            {
                "trial": self.trial,
                "checkpoint": self.checkpoint,
                "test": self.test.digest,
                "condition": self.condition,
                "protocol": self.protocol,
                "semantics": SEMANTICS[f"protocol/{self.protocol}"],
            }
        )


def canonical(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, shortest floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
