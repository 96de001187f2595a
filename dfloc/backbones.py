"""The backbones as a plan needs them, neither their libraries nor their weights: one literal table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

Layout = Literal["grid", "tokens", "vector"]


class MapSpec(NamedTuple):
    """The shape of one map of a backbone: [channels, height, width] (`tokens`: height * width + CLS rows).

    A `vector` has channels alone; its height and width are 1.
    """

    channels: int
    height: int
    width: int
    layout: Layout = "grid"


@dataclass(frozen=True)
class BackboneRow:
    """A backbone as the plan needs it: neither its library nor its weights.

    Attributes:
        factory: "module:function", imported on use.
        maps: every map that it can give.
        input_size: side of the square input in pixels.
        resize: how the stored image is brought there.
        weights: the default source of its weights ("none": it has none).
        stored: dtype in which its maps are stored.
        vias: whether the stored image may be brought to another size first (`MapRecipe.via`).
        channels: by map, the widths of a conv decoder's stages that `channels: auto` stands for.
        semantics: raised when the adapter's numbers change.
        listed: whether `dfloc list` and messages name it; what only tests need is not.
        reached: by vector, the maps that it is computed from with a gradient, the default of an explanation first.
    """

    factory: str
    maps: Mapping[str, MapSpec]
    input_size: int
    resize: str
    weights: str
    stored: str = "float16"
    vias: bool = False
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    semantics: int = 1
    listed: bool = True
    reached: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_SAM2 = BackboneRow(
    factory="dfloc.models.sam2:make",
    maps={
        "image_embed": MapSpec(256, 64, 64),
        "high_res_feats.0": MapSpec(32, 256, 256),
        "high_res_feats.1": MapSpec(64, 128, 128),
        "pooled": MapSpec(256, 1, 1, "vector"),
    },
    input_size=1024,
    resize="torchvision-bilinear-antialias",
    weights="facebook/sam2.1-hiera-small",
    vias=True,
    channels={"image_embed": (128, 64), "high_res_feats.0": (64,), "high_res_feats.1": (64,)},
    reached={"pooled": ("image_embed",)},
)

_SAM = BackboneRow(
    factory="dfloc.models.sam:make",
    maps={"image_embed": MapSpec(256, 64, 64), "pooled": MapSpec(256, 1, 1, "vector")},
    input_size=1024,
    resize="pil-bilinear",
    weights="timm/samvit_base_patch16.sa1b",
    channels={"image_embed": (128, 64)},
    reached={"pooled": ("image_embed",)},
)

BACKBONES: Mapping[str, BackboneRow] = {
    "srm": BackboneRow(
        factory="dfloc.models.srm:make",
        maps={"stats": MapSpec(66, 32, 32), "absolute": MapSpec(33, 32, 32), "variance": MapSpec(1, 32, 32)},
        input_size=256,
        resize="pil-bilinear",
        weights="none",
    ),
    "pixels": BackboneRow(  # what a model is trained on end to end; its one map has no name of its own
        factory="dfloc.models.pixels:make",
        maps={"": MapSpec(3, 256, 256)},
        input_size=256,
        resize="pil-bilinear",
        weights="none",
        stored="uint8",
    ),
    "pixels299": BackboneRow(  # the same of the size that Xception sees, as Dolos resizes for Patches and Grad-CAM
        factory="dfloc.models.pixels:make",
        maps={"": MapSpec(3, 299, 299)},
        input_size=299,
        resize="pil-lanczos",
        weights="none",
        stored="uint8",
    ),
    "clip-vit-l14": BackboneRow(
        factory="dfloc.models.clip:make",
        maps={
            **{f"layer{k}": MapSpec(1024, 16, 16, "tokens") for k in range(24)},
            "projected": MapSpec(768, 1, 1, "vector"),
        },
        input_size=224,
        resize="pil-bilinear",
        weights="openai",
        reached={"projected": tuple(f"layer{k}" for k in reversed(range(23)))},  # the last one's patches have none
    ),
    "clip-rn50": BackboneRow(
        factory="dfloc.models.clip:make",
        maps={
            "layer1": MapSpec(256, 56, 56),
            "layer2": MapSpec(512, 28, 28),
            "layer3": MapSpec(1024, 14, 14),
            "layer4": MapSpec(2048, 7, 7),
            "projected": MapSpec(1024, 1, 1, "vector"),
        },
        input_size=224,
        resize="pil-bilinear",
        weights="openai",
        reached={"projected": ("layer4", "layer3", "layer2", "layer1")},
    ),
    **{
        f"{family}-{size}": replace(_SAM2, weights=f"facebook/{family}-hiera-{size}")
        for family in ("sam2.1", "sam2")
        for size in ("tiny", "small", "base-plus", "large")
    },
    **{
        f"sam-vit-{size[0]}": replace(_SAM, weights=f"timm/samvit_{size}_patch16.sa1b")
        for size in ("base", "large", "huge")
    },
    "sam-tiny-224": BackboneRow(
        factory="dfloc.models.sam:make",
        maps={"image_embed": MapSpec(256, 14, 14), "pooled": MapSpec(256, 1, 1, "vector")},
        input_size=224,
        resize="pil-bilinear",
        weights="random",
        listed=False,
        reached={"pooled": ("image_embed",)},
    ),
}
