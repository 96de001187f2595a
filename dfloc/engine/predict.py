"""A finished trial on any photograph: the map that evaluation sees, at the photograph's own size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from upath import UPath

from dfloc import arithmetic, repro
from dfloc.config import Checkpoint, TrialSpec
from dfloc.data.shards import Pixels
from dfloc.engine import checkpoint
from dfloc.engine.batches import look
from dfloc.errors import ConfigError, DataError
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.models import decoders
from dfloc.models.base import Backbone
from dfloc.registry import map_spec
from dfloc.storage import Workspace

PROTOCOL = "declip-2025"


@dataclass(frozen=True)
class Prediction:
    """What a trial says of one photograph.

    Attributes:
        prob_HW: probability that a pixel was generated, float32 in [0, 1] on the CPU, at the photograph's size.
        mean: of the map before it is resized, as `mean_prob` of a row.
    """

    prob_HW: Tensor  # noqa: N815
    mean: float

    def area(self, threshold: float) -> float:
        """Return the share of pixels whose probability is strictly above a threshold."""
        return float((self.prob_HW > threshold).double().mean())


class Predictor:
    """A decoder behind its frozen backbones; each photograph is looked at alone.

    Args:
        spec: the trial's.
        weights: the file of its decoder's.
        backbones: by name, on the device.
        device: cpu | cuda.
        protocol: whose resize brings maps to the photograph's size.
    """

    def __init__(
        self,
        spec: TrialSpec,
        weights: UPath,
        backbones: Mapping[str, Backbone],
        device: str = "cpu",
        protocol: str = PROTOCOL,
    ):
        self.spec = spec
        self._recipes, self._backbones, self._device = spec.maps, backbones, device
        self._resize = protocols.find(protocol).resize
        shapes = [map_spec(recipe.map) for recipe in spec.maps]
        self._decoder = decoders.build(spec.decoder, shapes, repro.generator(0, "init"), spec.num_classes)
        checkpoint.load(weights, self._decoder)
        self._decoder.to(device).eval()

    @classmethod
    def load(
        cls, workspace: Workspace, spec: TrialSpec, which: Checkpoint, device: str, protocol: str = PROTOCOL
    ) -> "Predictor":
        """Return the predictor of a finished trial, its backbones with the weights that it was trained on.

        Raises:
            ConfigError: there is no such device.
            WorkspaceError: weights are gone, or others now.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("--device cuda: this machine has no CUDA device; run on one, or leave --device out")
        weights, index = Ledger(workspace).weights(spec.fingerprint, which), WeightsIndex(workspace)
        backbones = {recipe.name.backbone: recipe for recipe in spec.maps}
        made = {name: index.make(name, one.weights, device, one.plugin) for name, one in backbones.items()}
        return cls(spec, weights, made, device, protocol)

    def __call__(self, image_HWC: Pixels) -> Prediction:
        """Return the prediction for an RGB image, uint8 [H, W, 3].

        Raises:
            DataError: the map has a value that is no number.
        """
        size = (image_HWC.shape[0], image_HWC.shape[1])
        with arithmetic.exact(torch.get_num_threads()), torch.inference_mode():
            tokens = self.spec.decoder.reads_tokens
            x_BCHW = look([image_HWC], self._backbones, self._recipes, self._device, tokens=tokens)
            prob_11HW = self._decoder(x_BCHW.to(self._device)).sigmoid()
            if not prob_11HW.isfinite().all():
                raise DataError("the map has a value that is no number; are these the weights that it was trained on?")
            mean = float(prob_11HW.double().mean())
            if prob_11HW.shape[2:] != size:
                prob_11HW = self._resize(prob_11HW, size).clamp(0, 1)
        return Prediction(prob_11HW[0, 0].cpu(), mean)


def facts(spec: TrialSpec, which: Checkpoint, threshold: float | None, protocol: str = PROTOCOL) -> dict[str, Any]:
    """Return what a photograph's JSON says of the trial and of the threshold; None = the protocol's."""
    rule = protocols.find(protocol)
    return {
        "trial": spec.fingerprint,
        "checkpoint": which,
        "maps": [{"map": recipe.map, "weights": recipe.weights} for recipe in spec.maps],
        "threshold": rule.threshold if threshold is None else threshold,
        "threshold_source": f"protocol {rule.name}: {rule.threshold}" if threshold is None else "given",
    }
