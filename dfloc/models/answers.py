"""What a decoder answers with: a map of pixels, logits of images, or both."""

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError


def gives(spec: DecoderSpec, num_classes: int | None) -> frozenset[str]:
    """Return what a decoder gives, `map`, `image` or both: by `registry.DECODER_GIVES`, of a plug-in's as it declares.

    Where the task is to localize (no classes) a built-in one gives a map; a plug-in's gives the same whatever the task.

    Raises:
        ConfigError: a plug-in is not loaded, or declares something else.
    """
    said = "map" if num_classes is None and not spec.plugin else _declared(spec)
    return frozenset({"map", "image"} if said == "both" else {said})


def _declared(spec: DecoderSpec) -> str:
    """Return what a decoder gives of a task of images; a plug-in's factory says it by an attribute, `make.gives`."""
    if not spec.plugin:
        return registry.DECODER_GIVES.get(spec.name, "map")
    said = getattr(registry.find("decoder", spec.name, spec.plugin), "gives", "map")
    if said not in ("map", "image", "both"):
        raise ConfigError(f'decoder "{spec.name}" of a plug-in declares gives = {said!r}; use "map", "image" or "both"')
    return str(said)
