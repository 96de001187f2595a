"""Files of the form of DeCLIP's published checkpoints, and its decoders written down plainly from their description."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

TEXT = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
MODELS = {
    "declip-vit": {"image_size": 64, "layers": 3, "width": 32, "head_width": 8, "patch_size": 4},
    "declip-wide": {"image_size": 64, "layers": 3, "width": 64, "head_width": 64, "patch_size": 4},
    "declip-resnet": {"image_size": 224, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
}
VIT, WIDE, RESNET = "clip:declip-vit", "clip:declip-wide", "clip:declip-resnet"
FUSED = f"{VIT},{RESNET}"
CHANNELS = {VIT: 32, "layer1": 32, "layer2": 64, "layer3": 128, "layer4": 256, FUSED: 32 + 128}


def register(folder: Path) -> None:
    """Make small towers with DeCLIP's grids known to open_clip: 16x16 tokens, and 56 to 7 squared."""
    for name, vision in MODELS.items():
        config = {"embed_dim": 16, "text_cfg": TEXT, "vision_cfg": vision, "quick_gelu": True}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def decoder(kind: str, channels: int, size: int, resnet: bool) -> nn.Module:
    """Return the decoder of a single CLIP as its description has it, with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return _decoder(kind, channels, size, resnet)


def _decoder(kind: str, channels: int, size: int, resnet: bool) -> nn.Module:
    if kind == "linear":
        return nn.Linear(channels, 1)
    layers: list[nn.Module] = []
    skipped = {56: 2, 28: 1}.get(size, 0)
    for stage, width in enumerate((512, 256, 128, 64), start=1):
        for _ in range(int(kind.removeprefix("conv-")) // 4):
            layers += [nn.Conv2d(channels, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        if stage > skipped:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    if resnet:
        layers.append(nn.Upsample((256, 256), mode="bilinear"))
    made = nn.Sequential(*layers, nn.Conv2d(64, 1, 5, padding=2))
    generator = torch.Generator().manual_seed(3)
    for layer in made:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            layer.num_batches_tracked.fill_(7)
            nn.init.normal_(layer.weight, 0.5, 0.3, generator=generator)
    with torch.no_grad():
        made[-1].weight.mul_(100)  # so that its map is not flat
    return made


def logits(made: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Return [B, 256, 256] of a decoder on a grid."""
    with torch.no_grad():
        if isinstance(made, nn.Linear):
            small_BHW = made(x_BCHW.permute(0, 2, 3, 1))[..., 0]
            return functional.interpolate(small_BHW[:, None], (256, 256), mode="bicubic")[:, 0]
        return made.eval()(x_BCHW)[:, 0]


def attention(width: int) -> nn.ModuleList:
    """Return two blocks as open_clip has them, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        blocks = [ResidualAttentionBlock(width, width // 64, act_layer=QuickGELU) for _ in range(2)]
        return nn.ModuleList([*blocks, nn.Linear(width, 1)]).eval()


def attention_logits(made: nn.ModuleList, x_BTC: Tensor) -> Tensor:
    """Return [B, 256, 256] of tokens, CLS first, each of which sees those before it."""
    unseen_TT = torch.full((x_BTC.shape[1],) * 2, -torch.inf).triu(1)
    with torch.no_grad():
        for block in made[:2]:
            x_BTC = block(x_BTC, attn_mask=unseen_TT)
        small_BHW = made[2](x_BTC[:, 1:])[..., 0].unflatten(1, (16, 16))
        return functional.interpolate(small_BHW[:, None], (256, 256), mode="bicubic")[:, 0]


def checkpoint(made: nn.Module, layer: str, kind: str, *clips: nn.Module, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a published file holds; of two fused CLIPs it holds neither. `names`: of the parts of `made`."""
    model: OrderedDict[str, Tensor] = OrderedDict()
    for clip in clips:
        model.update({f"model.{name}": value for name, value in clip.state_dict().items()})
    parts = [(name, part) for name, part in zip(names, made.children(), strict=True)] if names else [("fc.", made)]
    model.update({f"{start}{name}": value for start, part in parts for name, value in part.state_dict().items()})
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    return {
        "model": model,
        "feature_layer": layer,
        "decoder_type": kind,
        "optimizer": optimizer,
        "total_steps": 9,
    }
