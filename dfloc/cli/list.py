"""`dfloc list`: everything that has a name in a sweep."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from dfloc import registry
from dfloc.cli.options import debug_option, plugin_option

if TYPE_CHECKING:
    from dfloc.config import LossSpec

KINDS = (
    *("sweeps", "backbones", "decoders", "losses", "optimizers", "schedules"),
    *("augmentations", "protocols", "domains", "tasks"),
)
IMAGES_ALONE = ("prior", "small", "timm")  # which localize nothing; they say so themselves when they are asked to
SAYS = {
    "localize": "which pixels are fake: a map of probabilities",
    "detect": "whether an image is fake: real or fake, a score",
    "attribute": "which generator made an image: real or a family, a probability of each",
}

REGISTERED: Mapping[str, registry.ComponentKind] = {
    "decoders": "decoder",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "protocols": "protocol",
}


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@plugin_option
@debug_option
def list_names(kind: str | None, debug: bool) -> None:
    """List what has a name: sweeps, backbones with their maps, decoders, losses, optimisers and so on.

    \b
    dfloc list backbones
    dfloc list decoders --plugin my.py
    dfloc list tasks                     what each gives, and the decoders, losses and protocols that fit it
    """
    for name in [kind] if kind else KINDS:
        click.echo(f"{name}:")
        for line in _lines(name):
            click.echo(f"  {line}")


def _lines(kind: str) -> list[str]:
    if kind == "sweeps":
        return _sweeps()
    if kind == "backbones":
        own = [_backbone(name, registry.backbone(name)) for name in registry.names("backbone")]
        return [
            *own,
            f"{'clip:<model>':20} any other model of open_clip (clip:ViT-B-16), with maps of its blocks",
        ]
    if kind == "domains":
        return _domains()
    if kind == "augmentations":
        return _augmentations()
    if kind == "tasks":
        return [line for task, says in SAYS.items() for line in _task(task, says)]
    return registry.names(REGISTERED[kind])


def _task(task: str, says: str) -> list[str]:
    from dfloc import losses, measures
    from dfloc.config import DecoderSpec
    from dfloc.metrics import protocols
    from dfloc.models import answers

    num_classes = None if task == "localize" else 2
    needs, can_give = "map" if num_classes is None else "image", {"map"} if num_classes is None else {"map", "image"}
    fitting: dict[str, list[str]] = {
        "decoders": [
            name
            for name in registry.names("decoder")
            if not (num_classes is None and name in IMAGES_ALONE)
            and needs in answers.gives(DecoderSpec(name=name, plugin=registry.plugin_of("decoder", name)), num_classes)
        ],
        "losses": [
            name
            for name in registry.names("loss")
            if name == "sum" or {needs} <= losses.reads(_loss(name), frozenset({needs})) <= can_give
        ],
        "protocols": [
            name for name in registry.names("protocol") if needs == "map" or protocols.find(name).reads == "image"
        ],
        "selected by": [*measures.MEASURED[task], "last"],
    }
    return [f"{task:20} {says}", *(f"  {what + ':':18} {', '.join(names)}" for what, names in fitting.items())]


def _loss(name: str) -> "LossSpec":
    from dfloc.config import LossSpec

    return LossSpec(name=name, plugin=registry.plugin_of("loss", name))


def _sweeps() -> list[str]:
    from dfloc.sweep.sweep_file import SweepFile, shipped

    return [f"{name:20} {SweepFile(path).title}" for name, path in shipped().items()]


def _backbone(name: str, row: registry.BackboneRow) -> str:
    shapes = ", ".join(f"{key} {_shape(spec)}".strip() for key, spec in row.maps.items())
    return f"{name:20} input {row.input_size}, weights {row.weights}: {shapes}"


def _shape(spec: registry.MapSpec) -> str:
    return str(spec.channels) if spec.layout == "vector" else f"{spec.channels}x{spec.height}x{spec.width}"


def _augmentations() -> list[str]:
    from dfloc import summary
    from dfloc.augmentation import AugmentSpec
    from dfloc.data.augment import NAMED

    return [f"{name:20} {summary.augment(AugmentSpec(ops=ops))}" for name, ops in NAMED.items()]


def _domains() -> list[str]:
    from dfloc.data.generators import GENERATORS
    from dfloc.sweep.sweep_file import SweepFile, shipped

    built_in = [f"mini/{name}  (built in)" for name in GENERATORS]
    studied = {name for path in shipped().values() for name in SweepFile(path).domains}
    return [*built_in, *sorted(studied)]
