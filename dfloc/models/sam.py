"""SAM (Kirillov et al. 2023): what its image encoder says of an image, through timm."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dfloc import arithmetic, registry
from dfloc.errors import ConfigError, unknown
from dfloc.models import hub, tensors, timm_library
from dfloc.models.base import device_of, freeze, random_seed, refuse_unknown, resized
from dfloc.repro import seed_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EMBED, POOLED = "image_embed", "pooled"
ENCODER = "image_encoder."
"""What stands before the encoder's tensors in Meta's own files, beside which are those of prompts and masks."""

# By name, what timm builds: its model, or the options of one that only tests need.
MODELS: Mapping[str, Mapping[str, Any]] = {
    "sam-vit-b": {"model": "samvit_base_patch16"},
    "sam-vit-l": {"model": "samvit_large_patch16"},
    "sam-vit-h": {"model": "samvit_huge_patch16"},
    "sam-tiny-224": {
        **{"img_size": 224, "embed_dim": 32, "depth": 2, "num_heads": 2, "window_size": 7},
        **{"global_attn_indexes": (1,), "use_rel_pos": True},
    },
}


class Sam:
    """The frozen image encoder of a SAM, in float32.

    `image_embed` is what its neck gives, which Meta's predictor holds of an image; `pooled` is its mean over all cells.
    Images go through one at a time: one of 1024 pixels fills a device, and its numbers depend on no other.

    Args:
        name: of its row in the registry.
        model: timm's.
        digest: of the weights; None: over the tensors that the model holds.
        device: cpu or cuda.
    """

    batch = 4

    def __init__(self, name: str, model: nn.Module, digest: str | None, device: str):
        row = registry.backbone(name)
        self.name, self.maps, self.input_size = name, row.maps, row.input_size
        self.device = device_of(device)
        self.model = freeze(model).to(self.device)
        self.mean, self.std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in (MEAN, STD))
        self.digest = digest or tensors.digest(model.state_dict())

    def preprocess(self, image_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Return an RGB image as uint8 [3, S, S], resized by PIL (bilinear), as Meta does with square images."""
        return resized(image_HWC, self.input_size)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps, float32, of images with values 0 to 255.

        Raises:
            ConfigError: a map is unknown.
        """
        refuse_unknown(self.name, wanted, self.maps)
        if not wanted:
            return {}
        model: Any = self.model
        with arithmetic.exact(torch.get_num_threads()), torch.autocast(self.device.type, enabled=False):
            parts = []
            for image_CHW in images_BCHW:
                scaled_CHW = image_CHW.to(self.device, torch.float32).div(255).sub(self.mean).div(self.std)
                parts.append(model.forward_features(scaled_CHW[None]))
        embed_BCHW = torch.cat(parts)
        made = {EMBED: embed_BCHW, POOLED: embed_BCHW.mean((2, 3))}
        return {name: made[name] for name in wanted}

    def after(self, layer: str, embed_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return `pooled` of `image_embed`, as `models.base.Reached` says."""
        assert (layer, *wanted) == (EMBED, POOLED)
        return {POOLED: embed_BCHW.mean((2, 3))}


def make(name: str, weights: str, device: str) -> Sam:
    """Return a frozen SAM.

    Args:
        name: sam-vit-b, sam-vit-l or sam-vit-h.
        weights: timm's repository of the model on the hub, `random`, `random:<seed>`, or path or URL of a file
            (`tensors.FORMS`): Meta's of the whole SAM, or timm's of the encoder.
        device: cpu or cuda.

    Raises:
        ConfigError: there is no such file or device, or the weights are another model's.
    """
    device_of(device)
    seed = random_seed(weights)
    if seed is not None:
        return Sam(name, build(name, seed), f"random:{seed}", device)
    path = _file(name, weights)
    model, given = build(name), encoder_of(tensors.read(path))
    if problems := tensors.differences(model.state_dict(), given):
        raise ConfigError(f"weights {weights} do not fit {name}: {problems}; give those of this model")
    model.load_state_dict(given)
    return Sam(name, model, None, device)


def build(name: str, seed: int = 0) -> nn.Module:
    """Return the image encoder by timm, drawn from a seed, on the CPU; torch's global generator is as it was before."""
    options = dict(MODELS[name])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("dfloc", "weights", seed))
        model = options.pop("model", None)
        return timm_library.build(model, num_classes=0) if model else timm_library.build_sam(**options)


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image encoder's tensors by timm's names, out of a whole SAM by Meta's, or of an encoder by timm's."""
    inside = {name.removeprefix(ENCODER): value for name, value in state.items() if name.startswith(ENCODER)}
    return {re.sub(r"\bmlp\.lin(\d)", r"mlp.fc\1", name): value for name, value in (inside or state).items()}


def _file(name: str, weights: str) -> str:
    """Return the file that a word for weights names, in the cache or fetched into it."""
    own = registry.backbone(name).weights
    published = {registry.backbone(each).weights for each in MODELS}
    if weights == own:
        cure = f"name it by --set 'trial.weights={{\"{name}\": PATH}}'"
        names = ("model.safetensors", "pytorch_model.bin")
        return hub.fetched(own, names, None, what=f'weights "{own}" of {name}', cure=cure)
    if weights.startswith("random:"):
        raise ConfigError(f'weights "{weights}": expected random or random:<seed>, a whole number, such as random:1')
    if weights in published:
        raise ConfigError(f"weights {weights} are another model's; those of {name} are {own}")
    if "/" in weights or Path(weights).suffix or Path(weights).exists():
        return weights
    raise unknown(f"weights of {name}", weights, [own, "random", "random:<seed>", "path or URL of a file"])
