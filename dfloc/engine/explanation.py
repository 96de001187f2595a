"""The explanation of a trial on samples, live: its head alone, or behind the part of a backbone that gradients pass."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from upath import UPath

from dfloc import registry
from dfloc.config import ExplainSpec, TrialSpec
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import Pixels, ShardReader, decode_image
from dfloc.engine.batches import fuse
from dfloc.features.weights import WeightsIndex
from dfloc.models import explain
from dfloc.models.base import Reached, entered
from dfloc.models.classifiers import Classifier
from dfloc.models.small import Small
from dfloc.registry import MapSpec

BATCH = 32

Explainer = Callable[[Sequence[SampleRef], Tensor, Tensor], Tensor]
"""Samples, what the decoder reads of them, and the logits [B, K] that it gave -> maps [B, 1, S, S] in [0, 1]."""


class _Head(nn.Module):
    """A head behind a layer that is its input."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.input, self.decoder = nn.Identity(), decoder

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(self.input(x_BCHW)))


class _Behind(nn.Module):
    """A head on vectors of a backbone, behind one of its maps: [B, C, H, W], tokens without CLS as a grid.

    Args:
        decoder: the head.
        spec: of the trial.
        backbone: that goes on from the map.
        layer: the map's name.
    """

    def __init__(self, decoder: nn.Module, spec: TrialSpec, backbone: Reached, layer: str) -> None:
        super().__init__()
        self.input, self.decoder = nn.Identity(), decoder
        self._backbone, self._layer, self._cls_B1C = backbone, layer, torch.empty(0)
        self._wanted = [recipe.name.map for recipe in spec.maps]
        self._specs = [registry.map_spec(recipe.map) for recipe in spec.maps]
        self._of: MapSpec = backbone.maps[layer]

    def taken(self, images_BCHW: Tensor) -> Tensor:
        """Return the layer's map of images, and keep their CLS tokens for `forward`."""
        found = self._backbone(images_BCHW, [self._layer])[self._layer]
        self._cls_B1C = found[:, :1] if self._of.layout == "tokens" else torch.empty(0)
        return fuse([found], [self._of])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.input(x_BCHW)
        if self._of.layout == "tokens":
            x_BCHW = torch.cat([self._cls_B1C, x_BCHW.flatten(2).transpose(1, 2)], dim=1)
        vectors = self._backbone.after(self._layer, x_BCHW, self._wanted)
        return cast(Tensor, self.decoder(fuse([vectors[name] for name in self._wanted], self._specs)))


def explainer(
    spec: TrialSpec, explained: ExplainSpec, decoder: nn.Module, folder: UPath, index: WeightsIndex, device: str
) -> Explainer:
    """Return what explains a trial's answers by a layer that `models.explain.layer_of` gave.

    The class that is explained is `models.explain.targets` of the logits that the stored features gave; maps are of the
    side of the image that the model, or its backbone, sees. A backbone's own map is computed from the images anew.

    Args:
        spec: the trial's.
        explained: by what.
        decoder: with the trial's weights, on the device.
        folder: of the shards.
        index: makes the backbone, where gradients pass a part of it.
        device: cpu | cuda.

    Raises:
        ConfigError: the plug-in of its backbone is not loaded, or the backbone cannot go on from a map.
        WorkspaceError: the backbone's weights are gone.
    """
    if isinstance(decoder, Classifier):
        layer = decoder.net.get_submodule(explained.layer)
        return lambda _, x_BCHW, logit_BK: _cam(decoder, layer, x_BCHW, logit_BK, decoder.side)
    recipe = spec.maps[0]
    if isinstance(decoder, Small):
        own = decoder.layers.get_submodule(explained.layer)
        return lambda _, x_BCHW, logit_BK: _cam(decoder, own, x_BCHW, logit_BK, recipe.input_size)
    if explained.layer == explain.MAPS:
        head = _Head(decoder)
        return lambda _, x_BCHW, logit_BK: _cam(head, head.input, x_BCHW, logit_BK, recipe.input_size)
    backbone = cast(Reached, index.make(recipe.name.backbone, recipe.weights, device, recipe.plugin))
    behind, reader = _Behind(decoder, spec, backbone, explained.layer), ShardReader(folder)
    step = getattr(backbone, "batch", BATCH)

    def of_images(samples: Sequence[SampleRef], x_BCHW: Tensor, logit_BK: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(samples), step):
            images = (_image(reader, sample) for sample in samples[start : start + step])
            taken_BCHW = torch.stack([entered(backbone, image, recipe.via) for image in images]).to(device)
            x_BCHW = behind.taken(taken_BCHW)
            logits = logit_BK[start : start + step]
            parts.append(_cam(behind, behind.input, x_BCHW, logits, recipe.input_size))
        return torch.cat(parts)

    return of_images


def _cam(model: nn.Module, layer: nn.Module, x_BCHW: Tensor, logit_BK: Tensor, size: int) -> Tensor:
    return explain.grad_cam(model, layer, x_BCHW, explain.targets(logit_BK), size)


def _image(reader: ShardReader, sample: SampleRef) -> Pixels:
    row = reader.group(sample.shard, sample.group, ["image"])[sample.row]
    return decode_image(row["image"]["bytes"])
