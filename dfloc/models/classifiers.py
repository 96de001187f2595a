"""Classifiers of timm, trained end to end on pixels: logits of each class, from scratch or from published weights."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from dfloc import repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, unknown
from dfloc.models import tensors, timm_library
from dfloc.models.base import Normalization, freeze, random_seed
from dfloc.models.decoders import OUTPUT_SIZE, PIXELS, Examples, check_pixels
from dfloc.models.xception import enlarged
from dfloc.registry import MapSpec

BROKEN = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What timm raises where a model cannot be built, or not for images of that size."""

LAYERS: Mapping[str, str] = {"xception41": "blocks.10", "legacy_xception": "block11"}

Weights = Mapping[str, Tensor]


class Classifier(nn.Module):
    """Images [B, 3, 256, 256], values 0 to 255, to image logits [B, K]; normalised as timm says of the model.

    Args:
        net: timm's, with a head of K classes.
        side: of the images that it sees, as by Pillow's bilinear resize where they are smaller.
        normalization: of the model; that of the weights that it starts from comes with them.
        head: how the names of its head's tensors begin.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, side: int, normalization: Normalization, head: Sequence[str]) -> None:
        super().__init__()
        self.net, self.side, self._head = net, side, tuple(head)
        for name, values in normalization._asdict().items():
            self.register_buffer(name, torch.tensor(values, device="cpu"))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return image logits."""
        if self.side != x_BCHW.shape[-1]:
            x_BCHW = enlarged(x_BCHW, self.side)
        return cast(Tensor, self.net((x_BCHW / 255 - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)))

    def begin_from(self, weights: Weights) -> None:
        """Take over weights and their normalisation (`weights`); the head stays as it was drawn.

        Raises:
            ConfigError: they do not fit the model.
        """
        own = _trunk(self.net.state_dict(), self._head)
        given = {name: value for name, value in weights.items() if name not in ("mean", "std")}
        if problems := tensors.differences(own, given):
            raise ConfigError(f"weights do not fit the model: {problems}")
        nn.Module.load_state_dict(self.net, self.net.state_dict() | given)
        self.mean.copy_(weights["mean"])
        self.std.copy_(weights["std"])

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


def make_timm(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> Classifier:
    """Make a classifier with random weights, as timm draws them, from the generator alone.

    Raises:
        ConfigError: the task is to localize, there is no such model, or it would not read pixels.
    """
    if num_classes is None:
        raise ConfigError(
            'decoder "timm" answers once an image, but the task is to localize; use smp, or set task: detect'
        )
    model = _name(spec)
    check_side(spec, maps)
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
    try:
        with repro.seeded(seed):
            net = timm_library.build(model, num_classes=num_classes)
    except BROKEN as error:
        raise _odd(model, error) from error
    config = timm_library.config(model)
    made = Classifier(net, _side(model), Normalization(tuple(config.mean), tuple(config.std)), _head(model))
    if spec.batch_norm == "frozen":
        for layer in list(net.modules()):
            if isinstance(layer, nn.BatchNorm2d):
                freeze(layer)
    return made


def check(spec: DecoderSpec) -> None:
    """Return if timm can build what a spec names, and it reads images of 256 pixels or more; nothing is drawn.

    Raises:
        ConfigError: no such model, or it cannot.
    """
    _check(_name(spec))


def check_side(spec: DecoderSpec, maps: Sequence[MapSpec]) -> None:
    """Return if the image that a model is handed is the one that it sees, or smaller, so that it can be enlarged.

    Raises:
        ConfigError: it is, or there is no such model, or the maps are no image.
    """
    model = _name(spec)
    check_pixels(spec.name, maps, (*PIXELS,))
    if maps[0].height not in (OUTPUT_SIZE, _side(model)):
        raise ConfigError(f"{model} sees {_side(model)} pixels, not {maps[0].height}; use maps: [pixels]")


def weights(model: str, word: str) -> dict[str, Tensor]:
    """Return the tensors that a classifier starts from, without its head, and its normalisation, `mean` and `std`.

    Args:
        model: timm's name.
        word: imagenet (what timm publishes of the model), `random:<seed>`, or path or URL of a file
            (`tensors.FORMS`) of the model, with any head or none.

    Raises:
        ConfigError: no such model or file, or it is another model's.
    """
    config, seed = timm_library.config(model), random_seed(word)
    with repro.seeded(seed or 0):
        own = _trunk(timm_library.build(model).state_dict(), _head(model))
    if word == "imagenet":
        own = _fitting(model, own, tensors.read(timm_library.file(model, f'weights "imagenet" of {model}')), word)
    elif "/" in word or re.search(r"\.\w+$", word):
        own = _fitting(model, own, tensors.read(word), word)
    elif seed is None:
        known = ["imagenet", "random", "random:<seed>", "path or URL of a file"]
        raise unknown(f"weights of {model}", word, known)
    return own | {"mean": torch.tensor(config.mean), "std": torch.tensor(config.std)}


def layers(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of what each layer of a model gives of one image, by timm's names, in the order of the model.

    Layers that give no tensor, or do not run, are left out.

    Raises:
        ConfigError: no such model, or it cannot be built.
    """
    return _check(_name(spec))


def default_layer(spec: DecoderSpec) -> str:
    """Return the layer that an explanation reads unless it is told: timm's last stage; of two Xceptions at stride 16.

    legacy_xception: `block11`, as Dolos reads it; xception41: `blocks.10`, its like. Both are 19 x 19 of 299 pixels.
    """
    model = _name(spec).partition(".")[0]
    if model in LAYERS:
        return LAYERS[model]
    with torch.device("meta"):
        stages = getattr(timm_library.build(model, num_classes=2), "feature_info", None) or [{"module": ""}]
    return str(stages[-1]["module"])


@cache
def _check(model: str) -> dict[str, tuple[int, ...]]:
    timm_library.config(model)
    for device in ("meta", "cpu"):  # some models read values while they are built, which meta has none of
        try:
            return _run(model, device)
        except BROKEN as error:
            if device == "cpu":
                raise _odd(model, error) from error
    raise AssertionError


def _run(model: str, device: str) -> dict[str, tuple[int, ...]]:
    """Return `layers` of one image, of a model of two classes."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, said: object) -> None:
        if isinstance(said, Tensor):
            shapes[name] = tuple(said.shape)

    with repro.seeded(0), torch.device(device), torch.no_grad():
        side = _side(model)
        net = timm_library.build(model, num_classes=2)
        names = dict(net.named_modules())
        for name, module in names.items():
            module.register_forward_hook(lambda _module, _given, said, name=name: note(name, said))
        logit_BK = net(torch.zeros(1, 3, side, side))
    if logit_BK.shape != (1, 2):
        raise ValueError(f"logits are {'x'.join(map(str, logit_BK.shape))}, expected 1x2")
    return {name: shapes[name] for name in names if name in shapes}


def _fitting(model: str, own: Weights, given: Weights, source: str) -> dict[str, Tensor]:
    plain = {name.removeprefix("module."): value for name, value in given.items()}
    left = _trunk(plain, _head(model))
    if problems := tensors.differences(own, left):
        raise ConfigError(f"weights {source} do not fit {model}: {problems}; give those of this model of timm")
    return {name: left[name].to(value.dtype).contiguous().clone() for name, value in own.items()}


def _trunk(state: Weights, head: Sequence[str]) -> dict[str, Tensor]:
    """Return what is neither of the head nor a counter of batches."""
    starts = tuple(f"{each}." for each in head)
    return {name: value for name, value in state.items() if not name.startswith(starts) and not tensors.counts(name)}


def _head(model: str) -> tuple[str, ...]:
    found = timm_library.config(model).classifier or ()
    return (found,) if isinstance(found, str) else tuple(found)


def _side(model: str) -> int:
    """Return the side of what the model sees: timm's, where that is not below the stored images'."""
    return max(OUTPUT_SIZE, int(timm_library.config(model).input_size[-1]))


def _name(spec: DecoderSpec) -> str:
    if not spec.model:
        raise ConfigError('decoder "timm" needs a model: {name: timm, model: xception41}')
    timm_library.config(spec.model)
    return spec.model


def _odd(model: str, error: BaseException) -> ConfigError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return ConfigError(
        f"{model} cannot be built for images of {OUTPUT_SIZE} pixels ({type(error).__name__}: {reason}); choose "
        "another model of timm"
    )
