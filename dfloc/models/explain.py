"""Grad-CAM: which parts of a layer's map speak for fake, of a model that answers once an image; the door to captum."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc import arithmetic, registry
from dfloc.config import MapRecipe, TrialSpec
from dfloc.errors import ConfigError, unknown
from dfloc.models import answers, classifiers
from dfloc.models.base import outputs
from dfloc.registry import SOLVED

MAPS = "maps"
"""The layer that a head on grids is explained by: what it reads, all its maps on the first one's grid."""

OWN: Mapping[str, tuple[str, ...]] = {"small": ("features",)}
"""The layers, among its `layers`, by which a decoder of ours is explained, the default first."""

EPSILON = 1e-7
OFF = "leave out explain there (evaluate: {explain: none} of its stage or case)"

Shape = tuple[int, ...]


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, target_B: Tensor, size: int) -> Tensor:
    """Return where a layer's map speaks for a class, float32 [B, 1, size, size] in [0, 1], relative to its maximum.

    Selvaraju et al. 2017: the channels of the layer's map [B, C, h, w], weighed by the mean gradient of the class'
    logit, summed, negative values 0; resized bilinearly; then (x - min) / (1e-7 + max - min), as Dolos. A map of zeros
    stays so, and one that is nearly so stays small: a pixel near 1 is in no image for sure. Weights may be frozen or
    not; whatever the model's mode and state were, they are so afterwards, and no `grad` is touched. Call it outside of
    `torch.inference_mode`.

    Args:
        model: gives image logits [B, K], or `models.base.Outputs` with them.
        layer: a part of it, whose output is its map.
        x: float, the model's input.
        target_B: int64, of each image the class that is explained.
        size: of the maps that are returned.
    """
    assert not torch.is_inference_mode_enabled()
    with arithmetic.exact(torch.get_num_threads()), _as_it_was(model):
        weighed_B1hw = _weighed(model, layer, x, target_B)
        cam_B1hw = weighed_B1hw.detach().relu()
        cam_B1HW = functional.interpolate(cam_B1hw, (size, size), mode="bilinear")
        low_B, high_B = cam_B1HW.flatten(1).aminmax(dim=1)
        low_B111, high_B111 = low_B[:, None, None, None], high_B[:, None, None, None]
        return (cam_B1HW - low_B111) / (EPSILON + high_B111 - low_B111)


def targets(logit_BK: Tensor) -> Tensor:
    """Return the class that an explanation is of, int64 [B]: the likeliest of those that are not real.

    Of a detector that is fake, whatever it calls the image; of what tells generators apart the one that it names, or
    would name if the image were none of a camera.
    """
    return logit_BK[:, 1:].argmax(1) + 1


def layer_of(spec: TrialSpec, asked: str | None) -> str:
    """Return the layer that a trial is explained by; None asks for the default.

    Of `timm` it is a layer of the model, by timm's name; of `small` its `features`; of a head on grids `maps`; of a
    head on a vector one of the backbone's maps that the vector is computed from (`registry.BackboneRow.reached`).

    Raises:
        ConfigError: the trial gives a map itself or is not learned, nothing can be read off what it is, or not there.
    """
    decoder = spec.decoder
    if spec.task == "localize":
        raise ConfigError(f"explain is of tasks that answer once an image; task localize gives a map itself: {OFF}")
    if decoder.name in SOLVED:
        raise ConfigError(f"decoder {decoder.name} looks at no image, so there is nothing to explain: {OFF}")
    if "map" in answers.gives(decoder, spec.num_classes):
        raise ConfigError(f"decoder {decoder.name} gives a map itself, which is scored: {OFF}")
    if decoder.plugin or decoder.name not in ("timm", "linear", *OWN):
        raise ConfigError(f"decoder {decoder.name} has no layer that is known to explain it: {OFF}")
    if decoder.name in OWN:
        return _of_own(decoder.name, asked)
    if decoder.name == "timm":
        shapes = classifiers.layers(decoder)
        return _of_model(str(decoder.model), shapes, classifiers.default_layer(decoder) if asked is None else asked)
    layouts = {registry.map_spec(recipe.map).layout for recipe in spec.maps}
    if layouts == {"vector"}:
        return _of_backbone(spec.maps, asked)
    if decoder.reads_tokens:
        raise ConfigError(
            f"the head reads the CLS token of {spec.maps[0].map} alone, so that no patch has a gradient; use pool: "
            f"mean, or the map projected, or {OFF}"
        )
    if asked not in (None, MAPS):
        raise unknown(f"layer of a head on {', '.join(recipe.map for recipe in spec.maps)}", str(asked), [MAPS])
    return MAPS


def _of_own(name: str, asked: str | None) -> str:
    if asked not in (None, *OWN[name]):
        raise unknown(f"layer of {name}", str(asked), OWN[name])
    return OWN[name][0]


def _of_model(model: str, shapes: Mapping[str, Shape], asked: str) -> str:
    grids = [name for name, shape in shapes.items() if name and _is_grid(shape)]
    if asked in grids:
        return asked
    shown = [name for name in grids if _is_stage(name)]
    if not asked or asked not in shapes:
        raise unknown(f"layer of {model}", asked, [*shown, *(name for name in grids if name.endswith(asked))])
    size = "x".join(map(str, shapes[asked][1:]))
    fit = f"use one of {', '.join(shown)}" if shown else f"{model} has none: {OFF}"
    raise ConfigError(f'layer "{asked}" of {model} gives {size}, expected a map, channels x side x side; {fit}')


def _is_grid(shape: Shape) -> bool:
    """Return whether [1, C, H, W] has cells; with channels last two sides would differ from the third otherwise."""
    return len(shape) == 4 and shape[2] == shape[3] > 1


def _is_stage(name: str) -> bool:
    head, dot, tail = name.partition(".")
    return not dot or (tail.isdigit() and not head[-1:].isdigit())


def _of_backbone(maps: Sequence[MapRecipe], asked: str | None) -> str:
    name = maps[0].name.backbone
    vectors = [recipe.map for recipe in maps]
    if {recipe.name.backbone for recipe in maps} != {name}:
        raise ConfigError(f"the head reads {', '.join(vectors)}, but a layer is of one backbone: {OFF}")
    row = registry.backbone(name)
    reached = [row.reached.get(recipe.name.map, ()) for recipe in maps]
    known = [layer for layer in reached[0] if all(layer in each for each in reached)]
    if not known:
        raise ConfigError(f"backbone {name} says no map from which it can compute {', '.join(vectors)} anew: {OFF}")
    layer = (known[0] if asked is None else asked).removeprefix(f"{name}/")
    if layer in known:
        return layer
    if layer in row.maps:
        why = "its patches have none, the CLS token alone is read" if row.maps[layer].layout == "tokens" else "none"
        raise ConfigError(f'no gradient of {vectors[0]} reaches "{layer}" ({why}); use one of {", ".join(known)}')
    raise unknown(f"layer of {name}", layer, known)


def _weighed(model: nn.Module, layer: nn.Module, x: Tensor, target_B: Tensor) -> Tensor:
    """Return the weighed sum of a layer's channels, [B, 1, h, w]."""
    from captum.attr import LayerGradCam

    def logits(x: Tensor) -> Tensor:
        found = outputs(model(x)).image_BK
        assert found is not None
        return found

    found: Tensor = LayerGradCam(logits, layer).attribute(x, target=target_B)
    return found


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and its weights out of the graph, which keeps no maps of earlier layers then."""
    modes = {module: module.training for module in model.modules()}
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval()
        for parameter in asked:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in asked.items():
            parameter.requires_grad_(flag)
