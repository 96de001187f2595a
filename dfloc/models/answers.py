"""What a decoder answers with: a map of pixels, logits of images, or both."""

from torch import Tensor

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models.base import Outputs, outputs


def gives(spec: DecoderSpec, num_classes: int | None) -> frozenset[str]:
    """Return what a decoder gives, `map`, `image` or both: by `registry.DECODER_GIVES`, of a plug-in's as it declares.

    Where the task is to localize (no classes) a built-in one gives a map; a plug-in's gives the same whatever the task.

    Raises:
        ConfigError: a plug-in is not loaded, or declares something else.
    """
    said = "map" if num_classes is None and not spec.plugin else _declared(spec)
    return frozenset({"map", "image"} if said == "both" else {said})


def given(spec: DecoderSpec, num_classes: int | None, said: Tensor | Outputs) -> Outputs:
    """Return what a decoder answered, as outputs: of a localizer its map alone.

    Raises:
        ConfigError: it lacks a map or logits that the decoder is to give, or the logits are not one for each class.
    """
    found, expected = outputs(said), gives(spec, num_classes)
    if num_classes is None:
        found, expected = found._replace(image_BK=None), expected - {"image"}
    map_B1HW, image_BK = found.map_B1HW, found.image_BK
    if "map" in expected and (map_B1HW is None or map_B1HW.ndim != 4 or map_B1HW.shape[1] != 1):
        came = "none" if map_B1HW is None else list(map_B1HW.shape)
        raise ConfigError(f'decoder "{spec.name}" is to give a map [B, 1, H, W], but gave {came}')
    if "image" in expected and (image_BK is None or image_BK.ndim != 2 or image_BK.shape[1] != num_classes):
        came = "none" if image_BK is None else list(image_BK.shape)
        raise ConfigError(f'decoder "{spec.name}" is to give an image {num_classes} logits, [B, K], but gave {came}')
    return found


def _declared(spec: DecoderSpec) -> str:
    """Return what a decoder gives of a task of images; a plug-in's factory says it by an attribute, `make.gives`."""
    if not spec.plugin:
        return registry.DECODER_GIVES.get(spec.name, "map")
    said = getattr(registry.find("decoder", spec.name, spec.plugin), "gives", "map")
    if said not in ("map", "image", "both"):
        raise ConfigError(f'decoder "{spec.name}" of a plug-in declares gives = {said!r}; use "map", "image" or "both"')
    return str(said)
