"""What a cell asks of decoder, loss and augmentation -> parts of its trial's spec, without what is not read."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfloc import losses, measures, registry
from dfloc.augmentation import AugmentSpec
from dfloc.config import DecoderSpec, LossSpec, MapRecipe, OptimizerSpec, ScheduleSpec, TrialSpec
from dfloc.data import augment as augmentations
from dfloc.errors import ConfigError, unknown
from dfloc.models import answers, classifiers, decoders
from dfloc.planned import PlannedTrial
from dfloc.registry import SOLVED
from dfloc.sweep.cell import Cell
from dfloc.sweep.sweep_keys import AugmentAsk, DecoderAsk, TrialAsk

ALWAYS = frozenset({"name", "plugin", "weight"})


def decoder(ask: TrialAsk, maps: Sequence[MapRecipe], num_classes: int | None = None) -> DecoderSpec:
    """Return the decoder of a cell: `channels: auto` settled.

    Args:
        ask: the cell's.
        maps: that it reads.
        num_classes: of a task of images; None: the task is to localize.

    Raises:
        ConfigError: no such decoder or plug-in, or it does not suit the maps or the task.
    """
    asked = ask.decoder
    given = _given("decoder", asked)
    head, tail = maps[0].name
    if asked.channels == "auto":
        given["channels"] = registry.backbone(head).channels.get(tail, DecoderSpec.model_fields["channels"].default)
    spec = DecoderSpec(**_read(given, registry.DECODER_FIELDS.get(asked.name)))
    decoders.check(spec, _shapes(maps), num_classes)
    if spec.name == "timm" and num_classes is not None:
        classifiers.check_side(spec, _shapes(maps))
    return spec


def goes_on(begun: DecoderSpec, asked: DecoderAsk) -> DecoderSpec:
    """Return the decoder of a finished trial as a cell trains it further: its BatchNorm, if any, as the cell asks."""
    fields = registry.DECODER_FIELDS.get(begun.name)
    if fields is not None and not begun.plugin and "batch_norm" not in fields:
        return begun
    return begun.model_copy(update={"batch_norm": asked.batch_norm})


def loss(asked: LossSpec, *, term: bool = False) -> LossSpec:
    """Return a loss, or a term of a sum, without the fields that it does not read.

    Raises:
        ConfigError: no such loss or plug-in, a sum without terms, a term that is a sum itself, a weight of no term, or
            a constant that the loss cannot have.
    """
    if asked.weight != 1 and not term:
        raise ConfigError(f"loss {asked.name}: only a term of a sum has a weight; this one's would change nothing")
    given = _given("loss", asked)
    if asked.name == "sum":
        if not asked.terms or any(part.name == "sum" for part in asked.terms):
            raise ConfigError(
                "loss sum needs terms that are no sums: {name: sum, terms: [{name: bce}, {name: dice, weight: 0.5}]}"
            )
        given["terms"] = tuple(loss(part, term=True) for part in asked.terms)
    spec = LossSpec(**_read(given, registry.LOSS_FIELDS.get(asked.name)))
    losses.check(spec)
    return spec


def refuse_misfit(decoder: DecoderSpec, loss: LossSpec, num_classes: int | None = None) -> None:
    """Return if a loss reads what a decoder gives in a trial of that many classes (None: the task is to localize).

    Raises:
        ConfigError: it reads a map, or image logits, and the decoder gives none (says what would fit).
    """
    given = answers.gives(decoder, num_classes)
    for part in loss.terms or (loss,):
        lacking = losses.reads(part, given) - given
        if lacking == {"image"}:
            where = "the task is to localize" if num_classes is None else f"decoder {decoder.name} gives a map"
            fit = "use loss: bce, or set task: detect" if num_classes is None else "use loss: bce, or decoder: linear"
            raise ConfigError(f"loss {part.name} reads one answer an image, but {where}; {fit}")
        if lacking:
            fit = "set task: detect, and loss: ce" if num_classes is None else "use loss: ce, or set task: localize"
            if part.name == "attention":
                fit = f"use loss: ce, or a decoder that gives both: {' or '.join(_giving('both'))}"
            raise ConfigError(
                f"loss {part.name} reads a map, but decoder {decoder.name} gives one answer an image; {fit}"
            )
    read = [losses.reads(part, given) for part in loss.terms or (loss,)]
    if len({*read}) > 1 or (loss.terms and len(read[0]) > 1):
        raise ConfigError("loss sum adds losses of maps, or of classes, not both; loss: attention reads both")
    if num_classes is not None and "image" not in read[0] and not any(part.plugin for part in loss.terms or (loss,)):
        raise ConfigError(
            f"loss {loss.name} reads masks, but this task learns from labels of images; use loss: ce or attention, or "
            "set task: localize"
        )


def _giving(what: str) -> list[str]:
    return sorted(name for name, gives in registry.DECODER_GIVES.items() if gives == what)


def optimizer(asked: OptimizerSpec) -> OptimizerSpec:
    """Return an optimiser with the plug-in that it comes from; raises ConfigError where there is none such."""
    return asked.model_copy(update=_own("optimizer", asked.name))


def schedule(asked: ScheduleSpec, task: str = "localize") -> ScheduleSpec:
    """Return a schedule likewise, without what it does not read; what it follows is the task's first measure.

    A delta that the measure has anyhow is left out.
    """
    given = {"watch": measures.MEASURED[task][0]} | _given("schedule", asked)
    spec = ScheduleSpec(**_read(given, registry.SCHEDULE_FIELDS.get(asked.name)))
    own = not spec.plugin and spec.delta == measures.DELTAS[spec.watch]
    return spec.model_copy(update={"delta": None}) if own else spec


def augment(asked: AugmentAsk | None, maps: Sequence[MapRecipe]) -> AugmentSpec | None:
    """Return the augmentation of a cell; None: images stay as they are.

    Raises:
        ConfigError: both a name and ops, neither, no such name, or ops that cannot be carried out (on these maps).
    """
    if asked is None or (asked.name == "none" and not asked.ops):
        return None
    if asked.name == "none":
        raise ConfigError("augment none has no ops; leave out its name, or empty its ops: {name: none, ops: []}")
    if (asked.name is None) == (not asked.ops):
        raise ConfigError("augment names a set of operations or lists its ops: {name: blur} or {ops: [{name: blur}]}")
    if asked.name is not None and asked.name not in augmentations.NAMED:
        raise unknown("augmentation", asked.name, ["none", *augmentations.NAMED])
    augmentations.check(asked.ops)
    ops = augmentations.NAMED[asked.name] if asked.name else asked.ops
    scaled = [recipe.map for recipe in maps if recipe.resize.startswith("torchvision")]  # their input is no uint8
    if scaled and any(op.at == "input" for op in ops):
        raise ConfigError(
            f"augmentation at: input changes images of uint8, but what {scaled[0]} takes is normalised: use at: stored"
        )
    return AugmentSpec(ops=ops, views=asked.views, seed=asked.seed)


def learned(cell: Cell, maps: Sequence[MapRecipe]) -> dict[str, Any]:
    """Return the parts of a cell's spec that have names of their own."""
    ask, found = cell.trial, dict[str, Any]()
    with cell.blames("trial.loss"):
        found["loss"] = loss(ask.loss)
    with cell.blames("trial.optimizer"):
        found["optimizer"] = optimizer(ask.optimizer)
    with cell.blames("trial.schedule"):
        found["schedule"] = schedule(ask.schedule, ask.task)
    with cell.blames("trial.augment"):
        found["augment"] = augment(ask.augment, maps)
    return found


def refuse_lone(spec: TrialSpec, name: str) -> None:
    """Return if the decoder of a trial's spec can be trained in its batches.

    Raises:
        ConfigError: a batch has one image, which the decoder cannot be trained on; names a batch that would do.
    """
    size, batch, decoder = spec.train.size, spec.batch, spec.decoder
    if batch > 1 and (spec.epoch_steps is not None or size % batch != 1):
        return
    if decoder.name in SOLVED or not decoders.needs_two(decoder, _shapes(spec.maps), spec.num_classes):
        return
    word = f"{decoder.architecture} on {decoder.encoder}" if decoder.name == "smp" else decoder.name
    has = f"{size} training images in batches of {batch} leave one" if batch > 1 else "its batch is 1"
    near = sorted(range(2, size + 2), key=lambda other: (abs(other - batch), other))
    fits = next((other for other in near if spec.epoch_steps is not None or size % other != 1), None)
    cure = f"another batch, such as {fits}, or another count" if fits else "more images"
    raise ConfigError(f"{name}: decoder {word} cannot be trained on one image, but {has}; ask for {cure}")


def refuse_lone_drawn(cover: Sequence[PlannedTrial]) -> None:
    """Refuse a search that could draw a decoder with a batch of one image that it cannot be trained on."""
    decoders = {trial.spec.decoder: trial.spec.maps for trial in cover if trial.spec.decoder.name not in SOLVED}
    batches = {(trial.spec.train.size, trial.spec.batch, trial.spec.epoch_steps): trial.spec for trial in cover}
    for spec in batches.values():
        for decoder, maps in decoders.items():
            refuse_lone(spec.model_copy(update={"decoder": decoder, "maps": maps}), f"stage {cover[0].stage}")


def _shapes(maps: Sequence[MapRecipe]) -> tuple[registry.MapSpec, ...]:
    return tuple(registry.map_spec(recipe.map) for recipe in maps)


def solved(spec: TrialSpec) -> TrialSpec:
    """Return the spec of a decoder that is not trained, without what training alone reads."""
    return spec.model_copy(
        update={
            "decoder": DecoderSpec(name=spec.decoder.name),
            "loss": LossSpec(name="ce" if spec.decoder.name in registry.DECODER_GIVES else "bce"),
            "optimizer": OptimizerSpec(name="adamw"),
            "schedule": ScheduleSpec(name="constant"),
            "epochs": 1,
            "epoch_steps": None,
            "batch": 64,
            "seed": 0,
            "select": measures.MEASURED[spec.task][0],
            "precision": "fp32",
            "augment": None,
        }
    )


def _own(kind: registry.ComponentKind, name: str) -> dict[str, object]:
    plugin = registry.plugin_of(kind, name)
    registry.find(kind, name, plugin)
    return {"plugin": plugin}


def _given(kind: registry.ComponentKind, asked: DecoderAsk | LossSpec | ScheduleSpec) -> dict[str, Any]:
    """Return the fields of a spec that were written, and the plug-in that it comes from."""
    return {name: getattr(asked, name) for name in asked.model_fields_set} | _own(kind, asked.name)


def _read(given: Mapping[str, Any], fields: frozenset[str] | None) -> dict[str, Any]:
    """Return what of a spec is read; all of it where a plug-in reads it."""
    if fields is None or given.get("plugin"):
        return dict(given)
    return {name: value for name, value in given.items() if name in fields | ALWAYS}
