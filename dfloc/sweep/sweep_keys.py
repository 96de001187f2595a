"""The vocabulary of a sweep file: what a study, a stage and a cell may ask for."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from dfloc.augmentation import AugmentOp
from dfloc.checks import Check
from dfloc.config import (
    Checkpoint,
    DecoderSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    Selection,
    Targets,
    Task,
)
from dfloc.frozen import Frozen, Whole
from dfloc.measures import WATCHED
from dfloc.sweep.search_space import Count, SearchAsk
from dfloc.sweep.train_keys import Names, Number, TrainAsk

Seeds = Annotated[Whole, Field(ge=1, le=10_000)]  # as many trials as are planned at once (`case.MAX_CELLS`)
Side = Annotated[Whole, Field(ge=1, le=4096)]  # of a grid, in pixels
Widths = Annotated[tuple[Annotated[Whole, Field(ge=1, le=65_536)], ...], Field(max_length=32)]
Word = Annotated[str, Field(min_length=1)]

# Names become folders, tags, and words of `--only STAGE/CASE`.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
NAMED = "letters, digits and _ . + -, a letter or digit first, at most 100"

# Keys whose value may be a bare name: `loss: bce` stands for `loss: {name: bce}`.
BARE = {
    "decoder": "name",
    "loss": "name",
    "optimizer": "name",
    "schedule": "name",
    "augment": "name",
    "from": "stage",
    "sampler": "name",
    "pruner": "name",
    "explain": "name",
}


def _is_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"should be named by {NAMED}")
    return value


Name = Annotated[str, AfterValidator(_is_name)]


class DecoderAsk(DecoderSpec):
    """A decoder as a user writes it.

    What is larger than a decoder can be is refused here, so that a stored spec stays readable whatever it has.

    Attributes:
        channels: width of each stage; auto = the plan of the first map (`registry.BackboneRow.channels`).
        weights: of the encoder: imagenet or another tag, a file, random.
    """

    depth: Annotated[Whole, Field(ge=4, le=1000, multiple_of=4)] = 12
    channels: Widths | Literal["auto"] = "auto"  # type: ignore[assignment]
    out_size: Side = 256
    grid: Side | None = None


class AugmentAsk(Frozen):
    """How training images are changed, as a user writes it: by a name, or op by op.

    Attributes:
        name: of a set of ops that dfloc knows; none = images stay as they are.
        ops: in the order in which they act, instead of a name.
        views: epochs | k, see AugmentSpec.
        seed: of the draws.
    """

    name: str | None = None
    ops: tuple[AugmentOp, ...] = ()
    views: Count | Literal["epochs"] = "epochs"
    seed: Annotated[Whole, Field(ge=0)] = 0


class TrialAsk(Frozen):
    """How a cell trains; the fields of a TrialSpec as a user writes them.

    Attributes:
        maps: `<backbone>/<map>`, concatenated in this order.
        weights: where the backbones' weights come from: one word for all, or by backbone; none = each one's default.
        input: sizes that an image passes on its way into the backbones, in pixels: [224, 1024], or [1024] at once.
        augment: how training images are changed; none where it is left out.
        decoder: what is trained on the maps.
        loss: what is minimised.
        optimizer: how weights are changed.
        schedule: how the learning rate changes.
        epochs: passes over the training images; with `epoch_steps`, so many steps each.
        epoch_steps: optimiser steps of an epoch; as many as the images need where it is left out.
        batch: images of a step.
        task: localize (which pixels are fake) | detect (whether an image is) | attribute (by which generator).
        select: what names the best epoch: validation iou, loss, ap or accuracy, or last; where it is left out iou, of
            tasks of images ap.
        targets: shuffled = each training image gets another one's mask, a control | label = all of a fake is fake.
        precision: auto = bf16 on a GPU, fp32 on a CPU.
        seed: pinned here where a trial has nothing random; else the sweep's seeds are its axis.
    """

    maps: Annotated[tuple[str, ...], Field(min_length=1)]
    weights: Word | dict[str, Word] | None = None
    input: Annotated[tuple[Count, ...], Field(min_length=1, max_length=2)] | None = None
    decoder: DecoderAsk
    loss: LossSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    epochs: Annotated[Whole, Field(ge=1, le=100_000)]
    epoch_steps: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    batch: Annotated[Whole, Field(ge=1, le=1_000_000)]
    task: Task = "localize"
    select: Selection = WATCHED
    targets: Targets = "own"
    augment: AugmentAsk | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[Whole, Field(ge=0)] | None = None

    @field_validator("decoder", "loss", "schedule", "optimizer", "augment", mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class FromAsk(Frozen):
    """Whose weights the cells start from, and which of them.

    Attributes:
        stage: the stage whose trials are the parents.
        trial: instead of a stage, a finished trial, of another sweep or imported: the first digits of its fingerprint,
            the id of its MLflow run, or its name.
        checkpoint: which of its weights.
    """

    stage: str | None = None
    trial: str | None = None
    checkpoint: Checkpoint = "best"

    @field_validator("trial", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError("digits alone are read as a number: put them in quotes, {trial: '123456'}")
        return value

    @model_validator(mode="after")
    def _one(self) -> "FromAsk":
        if self.stage is None and self.trial is None:
            raise ValueError("`from` names a stage or a trial")
        if self.stage is not None and self.trial is not None:
            raise ValueError("`from` names a stage or a trial, not both; take one of them away, as by stage: null")
        return self


class ExplainAsk(Frozen):
    """What maps are read off a trial that answers once an image.

    Attributes:
        name: grad-cam | none = of this stage or case not.
        layer: whose map; where it is left out, of `timm` its last stage (xception41 blocks.10, legacy_xception
            block11), of `small` its features, of a head on grids maps (what it reads), of a head on a vector the
            nearest map of the backbone with a gradient, such as layer22.
    """

    name: Literal["grad-cam", "none"]
    layer: Word | None = None


class CellEvaluateAsk(Frozen):
    """What of `evaluate` may differ between trials.

    Attributes:
        explain: what maps are read off a trial that answers once an image, and scored; none where it is left out.
        protocol: the definitions of its metrics; the study's where it is left out.
    """

    explain: ExplainAsk | None = None
    protocol: Word | None = None

    @field_validator("explain", mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class CellAsk(Frozen):
    """One cell of a stage after every axis has its value."""

    train: TrainAsk
    trial: TrialAsk
    evaluate: CellEvaluateAsk = CellEvaluateAsk()
    parent: FromAsk | None = Field(default=None, alias="from")


class CaseAsk(Frozen):
    """A case of a stage as written: its axes, and what its cells have in common (checked cell by cell).

    Attributes:
        parent: the stage, or finished trial, whose weights it starts from; none where it is left out.
        grid: its axes, each a list of values: one trial of each combination.
        train: which samples it trains and validates on.
        trial: how it trains, over what stands above.
        evaluate: its `explain` and `protocol`, over what stands above.
    """

    parent: Any = Field(default=None, alias="from")
    grid: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    trial: dict[str, Any] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)

    @field_validator("parent", mode="before")
    @classmethod
    def _stage_or_trial(cls, value: object) -> object:
        stage = value.get("stage", "another key" if value else "") if isinstance(value, dict) else value
        if value is not None and not (isinstance(stage, str) and stage):
            raise ValueError("should be the name of a stage, or {trial: NAME}")
        return value


class ComposeAsk(Frozen):
    """What a composite is made of; the name of a class of its router is a key too, and says whose maps it has.

    Attributes:
        rule: argmax (of the class that a router calls an image) | mean (of its parts' maps).
        route: of argmax, the stage, or `stage/case`, that calls images: a detector or a classifier.
        rest: of argmax, whose maps classes have that are not named; an image that is called real has an empty one.
        parts: of mean, stages, or `stage/case`, whose maps are averaged.
        over: of mean, an axis, such as seed or domain: all trials of a part that differ in it alone are averaged too.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Word]

    rule: Literal["argmax", "mean"] = "argmax"
    route: Word | None = None
    rest: Word | None = None
    parts: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    over: Word | None = None

    @property
    def classes(self) -> dict[str, str]:
        """By class, whose maps it has."""
        return self.__pydantic_extra__


class StageAsk(CaseAsk):
    """A stage as written: as a case, and the cases that it is made of; or composites of other stages' trials.

    Attributes:
        cases: by name, each merged over the stage; one without a name where they are left out.
        compose: composites by name, of which nothing is trained; it stands alone in its stage.
    """

    cases: dict[Name, CaseAsk] = Field(default_factory=dict)
    compose: dict[Name, ComposeAsk] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _alone(self) -> "StageAsk":
        beside = sorted(self.model_fields_set - {"compose"})
        if self.compose and beside:
            names = ", ".join("from" if name == "parent" else name for name in beside)
            raise ValueError(f"a stage that composes trains nothing: move {names} to a stage of its own")
        return self


class EvaluateAsk(CellEvaluateAsk):
    """What every trial of the study is scored on.

    Attributes:
        domains: whose test images; any that the data have.
        reals: domains of real images beside them, over which no mean runs; real = those of their sources, as where it
            is left out and the data have any; [] = none.
        protocol: the definitions of its metrics (`dfloc list protocols`).
        count: test images of each domain; all where it is left out.
    """

    domains: Names
    reals: tuple[str, ...] | None = None
    protocol: Word
    count: Number | None = None


class StudyAsk(Frozen):
    """A sweep file with its preset and `--set` merged in.

    Attributes:
        name: enters the sweep's name, with preset and data; a folder.
        title: the study in one line.
        tables: published tables that its report stands beside.
        domains: the study's local domains, in the order of its tables; `data` = all that the data have.
        device: where its trials run.
        trial: how every trial trains.
        stages: by name.
        evaluate: what every trial is scored on.
        grid: axes of every stage.
        seeds: number of trial seeds, an axis of every stage.
        draws: number of sampling seeds, an axis of every stage.
        search: of which stage the trials are drawn, and from what.
        checks: published numbers that its own should meet; the command ends by 1 where one does not.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    title: str
    tables: tuple[str, ...] = ()
    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    device: Literal["cpu", "cuda"] = "cuda"
    grid: dict[str, Any] = Field(default_factory=dict)
    seeds: Seeds = 1
    draws: Seeds = 1
    trial: dict[str, Any] = Field(default_factory=dict)
    stages: Annotated[dict[Name, StageAsk], Field(min_length=1)]
    evaluate: EvaluateAsk
    search: SearchAsk | None = None
    checks: tuple[Check, ...] = ()


def field_names(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a model knows at the end of a path, as a sweep file writes them."""
    current: Any = model
    for part in path:
        fields = getattr(current, "model_fields", {})
        by_key = {field.alias or name: field for name, field in fields.items()}
        if part not in by_key:
            continue
        current = next((t for t in _types(by_key[str(part)].annotation) if isinstance(t, type)), None)
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


def _types(annotation: Any) -> list[Any]:
    inner = [t for arg in getattr(annotation, "__args__", ()) for t in _types(arg)]
    return [t for t in (annotation, *inner) if isinstance(t, type) and issubclass(t, BaseModel)]
