"""CLIP's image towers, through open_clip: the output of every block, without a final norm, and their projection."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from dfloc import arithmetic, registry
from dfloc.errors import ConfigError, unknown
from dfloc.models import hub, tensors, towers
from dfloc.models.base import Normalization, device_of, freeze, random_seed, refuse_unknown, resized

OPENAI_MARKS = frozenset({"input_resolution", "context_length", "vocab_size"})
"""What OpenAI's own files hold beside the weights; their transformers compute with QuickGELU."""

_VISUAL = re.compile(r"(?:.*?\.)?visual\.")


class Clip:
    """A frozen image tower, in float32.

    Transformers of open_clip's own give `layerK`, the tokens after residual block K, CLS first; its ResNets `layer1` to
    `layer4`; towers that timm makes give the grids of their blocks or stages, by timm's names, without prefix tokens.
    `projected` is the vector of the whole tower (`towers.PROJECTED`).

    Args:
        name: of its row in the registry.
        tower: open_clip's.
        normalization: of the input.
        digest: of the weights; None: over the tensors that the tower holds.
        device: cpu or cuda.
    """

    def __init__(self, name: str, tower: nn.Module, normalization: Normalization, digest: str | None, device: str):
        row = registry.backbone(name)
        self.name, self.maps, self.input_size = name, row.maps, row.input_size
        self.device = device_of(device)
        self.tower = freeze(tower).to(self.device)
        self.mean, self.std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in normalization)
        self.digest = digest or self._digest()

    def preprocess(self, image_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Return an RGB image as uint8 [3, S, S]: squashed by PIL's bilinear filter, no crop, as DeCLIP does."""
        return resized(image_HWC, self.input_size)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps, float32, of images with values 0 to 255, from one pass that ends at the last of them.

        Raises:
            ConfigError: a map is unknown.
        """
        blocks = [name for name in self.maps if name != towers.PROJECTED]
        refuse_unknown(self.name, wanted, self.maps)
        if not wanted:
            return {}
        projected = towers.PROJECTED in wanted
        taken = sorted({blocks.index(name) for name in wanted if name != towers.PROJECTED})
        with arithmetic.exact(torch.get_num_threads()), torch.autocast(self.device.type, enabled=False):
            x_BCHW = images_BCHW.to(self.device, torch.float32).div(255).sub(self.mean).div(self.std)
            outputs, vector_BC = towers.run(self.tower, x_BCHW, taken, projected=projected)
        made = {blocks[place]: output for place, output in zip(taken, outputs, strict=True)}
        if vector_BC is not None:
            made[towers.PROJECTED] = vector_BC
        return {name: made[name] for name in wanted}

    def after(self, layer: str, block: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return `projected` of the output of a block, as `models.base.Reached` says."""
        assert [*wanted] == [towers.PROJECTED]
        place = [name for name in self.maps if name != towers.PROJECTED].index(layer)
        with torch.autocast(self.device.type, enabled=False):
            return {towers.PROJECTED: towers.after(self.tower, place, block)}

    def _digest(self) -> str:
        """Return what tells this tower from one of other weights, normalisation or activation.

        BatchNorm's counters of batches are left out: nothing reads them, and files differ in them.
        """
        state = {name: value for name, value in self.tower.state_dict().items() if not tensors.counts(name)}
        quick_gelu = torch.tensor(any(isinstance(part, QuickGELU) for part in self.tower.modules()))
        return tensors.digest({**state, "mean": self.mean, "std": self.std, "quick_gelu": quick_gelu})


def make(name: str, weights: str, device: str) -> Clip:
    """Return a frozen image tower.

    Args:
        name: clip-vit-l14, clip-rn50 or `clip:<open_clip's model>`.
        weights: a tag of open_clip's (openai), `random`, `random:<seed>`, or path or URL of a file
            (`tensors.FORMS`) of the whole CLIP or of its image tower.
        device: cpu or cuda.

    Raises:
        ConfigError: there is no such model, tag, file or device, or the weights are another model's.
    """
    device_of(device)
    model = towers.model_of(name)
    seed = random_seed(weights)
    if seed is not None:
        tower = towers.build(model, towers.quick_gelu(model), seed=seed)
        return Clip(name, tower, towers.normalization(model, {}), f"random:{seed}", device)
    if weights.startswith("random:"):
        raise ConfigError(f'weights "{weights}": expected random or random:<seed>, a whole number, such as random:1')
    tag = open_clip.get_pretrained_cfg(model, weights)
    if tag:
        path = hub.file(name, weights, tag, same=_same(name, model, tag))
        return from_tensors(name, tensors.read(path), device, source=weights, tag=tag)
    if "/" in weights or Path(weights).suffix or Path(weights).exists():
        return from_tensors(name, tensors.read(weights), device, source=weights)
    tags = open_clip.list_pretrained_tags_by_model(model)
    raise unknown(f"weights of {name}", weights, [*tags, "random", "random:<seed>", "path or URL of a file"])


def from_tensors(
    name: str, state: Mapping[str, Tensor], device: str, *, source: str, tag: Mapping[str, Any] | None = None
) -> Clip:
    """Return a frozen image tower with these tensors, of the whole CLIP or of its image tower.

    Args:
        name: as for `make`.
        state: the tensors by name, in half or single precision.
        device: cpu or cuda.
        source: what a message calls them.
        tag: what open_clip says of them, their activation and normalisation, where it knows them.

    Raises:
        ConfigError: they are another model's (says what did not fit).
    """
    model, tag = towers.model_of(name), tag or {}
    quick_gelu = towers.quick_gelu(model) or tag.get("quick_gelu", False) or state.keys() >= OPENAI_MARKS
    tower = towers.build(model, quick_gelu)
    own, given = tower.state_dict(), image_tower(state)
    if problems := tensors.differences(own, given):
        raise ConfigError(f"weights {source} do not fit {name}: {problems}; give those of this model")
    tower.load_state_dict(own | given)
    return Clip(name, tower, towers.normalization(model, tag), None, device)


def image_tower(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image tower's tensors by the names that the adapter loads, out of a whole CLIP's or of its own.

    In a whole CLIP they stand under `visual.`, itself under any prefix; a bare tower's names are kept.

    Raises:
        ConfigError: there are two image towers in it.
    """
    found = [(name, _VISUAL.match(name)) for name in state]
    inside = {name: match[0] for name, match in found if match}
    if len(prefixes := set(inside.values())) > 1:
        raise ConfigError(f"expected the tensors of one image tower, not of {len(prefixes)}: {tensors.some(prefixes)}")
    if inside:
        return {name.removeprefix(prefix): state[name] for name, prefix in inside.items()}
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _same(name: str, model: str, tag: Mapping[str, Any]) -> str:
    """Return the backbone that computes with a tag's file as this one does with the tag, whose activation it knows."""
    quick = f"{model}-quickgelu"
    told = tag.get("quick_gelu", False) and not towers.quick_gelu(model) and quick in open_clip.list_models()
    return f"clip:{quick}" if told else name
