"""The image towers that open_clip builds: which there are, their blocks, what each block and the whole give."""

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import open_clip
import torch
from open_clip.model import _build_vision_tower
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transform import PreprocessCfg
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from dfloc.errors import ConfigError
from dfloc.models.base import Normalization
from dfloc.registry import BackboneRow, MapSpec
from dfloc.repro import seed_of

NAMED: Mapping[str, str] = {"clip-vit-l14": "ViT-L-14-quickgelu", "clip-rn50": "RN50-quickgelu"}
"""The names of the table, and open_clip's for them; any other model is `clip:<model>`."""

RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")

PROJECTED = "projected"
"""The vector that a whole tower gives, as open_clip's encode_image before it normalises: of a transformer its last CLS
token, normalised by its last norm and projected; of a ResNet what its attention pools."""


@lru_cache
def row(name: str) -> BackboneRow:
    """Return the row of `clip:<model>`: its maps as one pass of the tower shapes them, on the meta device.

    Raises:
        ConfigError: open_clip has no such model, or it does not read square images.
    """
    model = model_of(name)
    tower: Any = build(model, False, device="meta")
    size = (tower.image_size,) * 2 if isinstance(tower.image_size, int) else tuple(tower.image_size)
    if size[0] != size[1]:
        raise ConfigError(f'backbone "{name}" reads images of {size[0]}x{size[1]}; expected a square input')
    blocks = _blocks(tower)
    with torch.no_grad():
        outputs, vector_BC = run(tower, torch.empty(1, 3, *size, device="meta"), range(len(blocks)), projected=True)
    maps = {block: _spec(tower, output) for block, output in zip(blocks, outputs, strict=True)}
    if vector_BC is not None and vector_BC.ndim == 2:  # some towers of timm pool nothing
        maps[PROJECTED] = MapSpec(vector_BC.shape[1], 1, 1, "vector")
    tags = open_clip.list_pretrained_tags_by_model(model)
    return BackboneRow(
        factory="dfloc.models.clip:make",
        maps=maps,
        input_size=size[0],
        resize="pil-bilinear",
        weights="openai" if "openai" in tags or not tags else tags[0],
        reached={PROJECTED: _reached(tower, blocks)} if PROJECTED in maps else {},
    )


def model_of(name: str) -> str:
    """Return open_clip's name of a backbone.

    Raises:
        ConfigError: open_clip does not have it (says what is near, and what lists all).
    """
    model, known = NAMED.get(name) or name.removeprefix("clip:"), open_clip.list_models()
    if model not in known:
        lower = {each.lower(): each for each in known}
        near = difflib.get_close_matches(model.lower(), lower, n=1)
        hint = f'did you mean "{lower[near[0]]}"? ' if near else ""
        listing = "python -c 'import open_clip; print(*open_clip.list_models())'"
        raise ConfigError(f'unknown open_clip model "{model}"; {hint}{len(known)} are listed by {listing}')
    return model


def quick_gelu(model: str) -> bool:
    """Return whether open_clip builds a model with QuickGELU, as its `-quickgelu` models and no others should be."""
    return bool(open_clip.get_model_config(model).get("quick_gelu"))


def normalization(model: str, tag: Mapping[str, Any]) -> Normalization:
    """Return what a tag says; without one, what all tags of the model agree on, else open_clip's default."""
    names = open_clip.list_pretrained_tags_by_model(model)
    tags = [tag] if tag else [open_clip.get_pretrained_cfg(model, name) for name in names]
    default = PreprocessCfg()
    found = {Normalization(tuple(each["mean"]), tuple(each["std"])) for each in tags}
    return found.pop() if len(found) == 1 else Normalization(default.mean, default.std)


def build(model: str, quick_gelu: bool, device: str = "cpu", seed: int = 0) -> nn.Module:
    """Return the image tower alone, drawn from a seed; torch's global generator is as it was before.

    Args:
        model: open_clip's name.
        quick_gelu: the activation of its transformer, where it has one.
        device: cpu, or meta for its shapes alone.
        seed: of its weights.
    """
    config = open_clip.get_model_config(model)
    vision = config["vision_cfg"] | {"timm_model_pretrained": False}
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.default_generator.manual_seed(seed_of("dfloc", "weights", seed))
        return cast(nn.Module, _build_vision_tower(config["embed_dim"], vision, quick_gelu)).eval()


def run(
    tower: Any, x_BCHW: Tensor, wanted: Sequence[int], *, projected: bool = False
) -> tuple[list[Tensor], Tensor | None]:
    """Return the outputs of blocks, given by their places, ascending, and what the whole tower gives, if that is asked.

    Without it no block after the last of them runs.
    """
    if isinstance(tower, ModifiedResNet):
        # Its own forward_intermediates stops early only where it is told not to.
        outputs = [tower.stem(x_BCHW)]
        for stage in RESNET_STAGES if projected else RESNET_STAGES[: max(wanted) + 1]:
            outputs.append(getattr(tower, stage)(outputs[-1]))
        return [outputs[1 + place] for place in wanted], tower.attnpool(outputs[-1]) if projected else None
    tokens = isinstance(tower, VisionTransformer)
    whole = projected and not tokens  # of timm's each has its own way from the last block to its head
    vector_BC = tower(x_BCHW) if whole else None
    if whole and not wanted:
        return [], vector_BC
    found = tower.forward_intermediates(
        x_BCHW,
        indices=list(wanted) or [0],
        stop_early=not projected or whole,
        intermediates_only=not projected or whole,
        output_fmt="NLC" if tokens else "NCHW",
        output_extra_tokens=tokens,
    )
    if not tokens:
        return list(found["image_intermediates"]), vector_BC
    pairs = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    return [torch.cat(pair, dim=1) for pair in pairs][: len(wanted)], found.get("image_features")


def after(tower: Any, place: int, block: Tensor) -> Tensor:
    """Return what the whole tower gives of the output of a block, by its place: the rest of `run`, with gradients."""
    if isinstance(tower, ModifiedResNet):
        for stage in RESNET_STAGES[place + 1 :]:
            block = getattr(tower, stage)(block)
        return cast(Tensor, tower.attnpool(block))
    turned = not tower.transformer.batch_first
    block = block.transpose(0, 1) if turned else block
    for each in tower.transformer.resblocks[place + 1 :]:
        block = each(block)
    pooled_BC = tower._pool(block.transpose(0, 1) if turned else block)[0]
    return cast(Tensor, pooled_BC if tower.proj is None else pooled_BC @ tower.proj)


def _reached(tower: Any, blocks: Sequence[str]) -> tuple[str, ...]:
    """Return the blocks from which `after` can go on, the last one that has a gradient first; none of a tower of timm.

    Where the CLS token alone is pooled, the patches of the last block have none.
    """
    if not isinstance(tower, ModifiedResNet | VisionTransformer):
        return ()
    of_cls = isinstance(tower, VisionTransformer) and tower.attn_pool is None and tower.pool_type == "tok"
    return tuple(reversed(blocks[:-1] if of_cls else blocks))


def _blocks(tower: Any) -> list[str]:
    if isinstance(tower, VisionTransformer):
        return [f"layer{index}" for index in range(len(tower.transformer.resblocks))]
    if isinstance(tower, ModifiedResNet):
        return list(RESNET_STAGES)
    return [each["module"] for each in tower.trunk.feature_info]


def _spec(tower: Any, output: Tensor) -> MapSpec:
    if isinstance(tower, VisionTransformer):
        height, width = tower.grid_size
        return MapSpec(output.shape[2], height, width, "tokens")
    return MapSpec(output.shape[1], output.shape[2], output.shape[3])
