"""What a model is, in the words of a table: its decoder, how it is trained, how many weights move."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from dfloc import registry, summary
from dfloc.augmentation import AugmentSpec
from dfloc.config import DecoderSpec, MapRecipe, TrialSpec
from dfloc.data.augment import name_of
from dfloc.errors import DflocError
from dfloc.measures import WATCHED
from dfloc.models import decoders

SELECTIONS = {WATCHED: "valid. IoU", "loss": "valid. loss", "ap": "valid. AP", "accuracy": "valid. accuracy"} | {
    "last": "last epoch"
}

loss = summary.loss


class Size(NamedTuple):
    """What is trained: weights that move, and convolutions (a transposed one counts, a separable one is two)."""

    parameters: int
    convolutions: int


def size(spec: TrialSpec) -> Size | None:
    """Count by building the decoder without memory; None where its library or plug-in is not there."""
    decoder = spec.decoder.model_copy(update={"weights": None})
    return _size(decoder, tuple(recipe.map for recipe in spec.maps), spec.num_classes)


@cache
def _size(decoder: DecoderSpec, maps: tuple[str, ...], num_classes: int | None) -> Size | None:
    try:
        with torch.device("meta"):
            made = decoders.build(decoder, [registry.map_spec(name) for name in maps], torch.Generator(), num_classes)
    except DflocError:
        return None
    moving = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return Size(moving, sum(isinstance(layer, kinds) for layer in made.modules()))


def maps(spec: TrialSpec) -> str:
    """Return its maps, joined; empty where it reads pixels of 256, which models that are trained end to end do."""
    return " + ".join(recipe.map for recipe in spec.maps if recipe.map.rstrip("/") != "pixels")


def inputs(recipe: MapRecipe) -> str:
    """Return the sizes that an image passes on its way into the backbone."""
    return " then ".join(str(side) for side in (recipe.via, recipe.input_size) if side is not None)


def decoder(spec: TrialSpec) -> str:
    """Return the decoder's name: conv-12, linear, unetplusplus / resnet50, xception to block 2, xception41."""
    found = spec.decoder
    if found.name == "timm":
        return str(found.model)
    if found.name == "conv":
        return f"conv-{found.depth}"
    if found.name == "smp":
        return f"{found.architecture} / {found.encoder}"
    if found.name == "xception-attention":
        return f"xception, map after block {found.block}"
    if found.name in ("xception", "xception-fcn"):
        return f"xception to block {found.block}" + (", fcn" if found.name == "xception-fcn" else "")
    return found.name


def plan(spec: TrialSpec) -> str:
    """Return what else there is to say of the decoder: widths and grid of conv, mask of attention, prior, inputs."""
    found = spec.decoder
    parts = []
    if found.name == "conv":
        parts = [
            "-".join(str(width) for width in found.channels),
            f"from {found.grid}x{found.grid}" if found.grid else "",
        ]
        parts.append(f"head at {found.out_size}" if found.out_size != decoders.OUTPUT_SIZE else "")
        parts.append(f"kernel {found.kernel}" if found.kernel != DecoderSpec.model_fields["kernel"].default else "")
    elif found.name in ("small", "small-attention"):
        parts = ["-".join(str(width) for width in found.widths)]
    elif found.name == "attention":
        parts = [f"mask {found.mask}", f"trained {found.trained}"]
    elif found.pool:
        parts = [f"pool {found.pool}"]
    parts += ["BatchNorm frozen" if found.batch_norm == "frozen" else ""]
    parts += [f"prior {found.prior:g}" if found.prior is not None else "", "standardized" if found.standardize else ""]
    return ", ".join(filter(None, parts))


def start(spec: TrialSpec, words: Mapping[str, str]) -> str:
    """Return where weights start: a rule of initialisation, a trained model, or the encoder's weights by their word."""
    found = spec.decoder
    if spec.start:
        return "a trained model"
    if "weights" in registry.DECODER_FIELDS.get(found.name, ()):
        what = "encoder" if found.name == "smp" else "weights"
        return f"{what} {words.get(found.weights, found.weights[:12])}" if found.weights else f"random {what}"
    return found.init


def augment(spec: AugmentSpec | None) -> str:
    """Return how training images are changed: a named set by its name, other operations with all their numbers."""
    if spec is None:
        return "none"
    parts = [name_of(spec) or summary.augment(spec)]
    parts += [f"{spec.views} views"] if spec.views != "epochs" else []
    return ", ".join([*parts, *([f"seed {spec.seed}"] if spec.seed else [])])


def optimizer(spec: TrialSpec) -> str:
    """Return the optimiser, its rate and its weight decay."""
    found = spec.optimizer
    return f"{found.name} {found.lr:g}" + (f", weight decay {found.weight_decay:g}" if found.weight_decay else "")


def epochs(spec: TrialSpec) -> str:
    """Return the epochs, and their length where it is not the data's."""
    return f"{spec.epochs} x {spec.epoch_steps} steps" if spec.epoch_steps else str(spec.epochs)
