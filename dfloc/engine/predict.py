"""A finished trial on any photograph: what evaluation sees of it, a map at the photograph's own size or its class."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from upath import UPath

from dfloc import arithmetic, repro, summary
from dfloc.config import Checkpoint, TrialSpec
from dfloc.data.shards import Pixels
from dfloc.engine import checkpoint, labels
from dfloc.engine.batches import look
from dfloc.errors import ConfigError, DataError
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.metrics import image_protocols, protocols
from dfloc.metrics.image_rows import FAKE, REAL
from dfloc.models import decoders
from dfloc.models.base import Backbone, Outputs, outputs
from dfloc.registry import map_spec
from dfloc.storage import Workspace

PROTOCOL, IMAGE_PROTOCOL = "declip-2025", "image-1"


@dataclass(frozen=True)
class Prediction:
    """What a trial says of one photograph.

    Attributes:
        prob_HW: probability that a pixel was generated, float32 in [0, 1] on the CPU, at the photograph's size; None
            where the model gives no map.
        mean: of the map before it is resized, as `mean_prob` of a row; None likewise.
        probabilities: of each class, real first; empty where the model localizes.
        routed: what a composite's router calls the photograph; empty: there is no router.
        part: fingerprint of the part whose map it is; empty where a router calls it real: the map is empty too.
        routing: the probabilities of the router.
    """

    prob_HW: Tensor | None = None  # noqa: N815
    mean: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    routed: str = ""
    part: str = ""
    routing: Mapping[str, float] = field(default_factory=dict)

    def area(self, threshold: float) -> float:
        """Return the share of pixels whose probability is strictly above a threshold."""
        assert self.prob_HW is not None
        return float((self.prob_HW > threshold).double().mean())

    @property
    def score(self) -> float:
        """The probability that the photograph is fake, as `score` of a row."""
        return 1 - self.probabilities[REAL]

    def called(self, threshold: float | None) -> str:
        """Return what the photograph is called: fake where its score is strictly above; None: the likeliest class."""
        if threshold is None:
            return max(self.probabilities, key=self.probabilities.__getitem__)
        return FAKE if self.score > threshold else REAL


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
        self.classes = labels.classes(spec)
        self._decoder = trained(spec, weights).to(device)

    @classmethod
    def load(
        cls, workspace: Workspace, spec: TrialSpec, which: Checkpoint, device: str, protocol: str = PROTOCOL
    ) -> "Predictor":
        """Return the predictor of a finished trial, its backbones with the weights that it was trained on.

        Raises:
            ConfigError: there is no such device.
            WorkspaceError: weights are gone, or others now.
        """
        refuse_device(device)
        weights, index = Ledger(workspace).weights(spec.fingerprint, which), WeightsIndex(workspace)
        backbones = {recipe.name.backbone: recipe for recipe in spec.maps}
        made = {name: index.make(name, one.weights, device, one.plugin) for name, one in backbones.items()}
        return cls(spec, weights, made, device, protocol)

    def __call__(self, image_HWC: Pixels) -> Prediction:
        """Return the prediction for an RGB image, uint8 [H, W, 3].

        Raises:
            DataError: the map has a value, or a class a logit, that is no number.
        """
        size = (image_HWC.shape[0], image_HWC.shape[1])
        with arithmetic.exact(torch.get_num_threads()), torch.inference_mode():
            said = self._said(image_HWC)
            found = Prediction() if said.map_B1HW is None else self.localized(said.map_B1HW.sigmoid(), size)
        if said.image_BK is None or not self.classes:
            return found
        prob_K = labels.probabilities(said.image_BK)[0].tolist()
        return replace(found, probabilities=dict(zip(self.classes, prob_K, strict=True)))

    def map(self, image_HWC: Pixels) -> Tensor:
        """Return the map [1, 1, h, w] of an image before it is resized, probabilities, on the device.

        Raises:
            DataError: it gives no map.
        """
        with arithmetic.exact(torch.get_num_threads()), torch.inference_mode():
            said = self._said(image_HWC)
        if said.map_B1HW is None:
            raise DataError(f"trial {self.spec.fingerprint[:12]} gives no map; use one that localizes")
        return said.map_B1HW.sigmoid()

    def _said(self, image_HWC: Pixels) -> Outputs:
        tokens = self.spec.decoder.reads_tokens
        x_BCHW = look([image_HWC], self._backbones, self._recipes, self._device, tokens=tokens)
        return outputs(self._decoder(x_BCHW.to(self._device)))

    def localized(self, prob_11HW: Tensor, size: tuple[int, int]) -> Prediction:
        """Return the prediction of a map [1, 1, h, w] for a photograph of a size.

        Raises:
            DataError: a value is no number.
        """
        if not prob_11HW.isfinite().all():
            raise DataError("the map has a value that is no number; are these the weights that it was trained on?")
        mean = float(prob_11HW.double().mean())
        if prob_11HW.shape[2:] != size:
            prob_11HW = self._resize(prob_11HW, size).clamp(0, 1)
        return Prediction(prob_11HW[0, 0].cpu(), mean)


def refuse_device(device: str) -> None:
    """Return if there is such a device; raises ConfigError."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine has no CUDA device; run on one, or leave --device out")


def trained(spec: TrialSpec, weights: UPath) -> torch.nn.Module:
    """Return the decoder of a trial with the weights of a file, on the CPU, in eval mode.

    Raises:
        WorkspaceError: they are damaged, or another decoder's.
    """
    shapes = [map_spec(recipe.map) for recipe in spec.maps]
    decoder = decoders.build(spec.decoder, shapes, repro.generator(0, "init"), spec.num_classes)
    checkpoint.load(weights, decoder)
    return decoder.eval()


def protocol_of(spec: TrialSpec, asked: str | None) -> str:
    """Return the protocol that a trial's photographs are judged by: the one that is asked for, else its task's.

    Raises:
        ConfigError: there is none such, or it measures maps and the trial gives none.
    """
    if spec.task == "localize":
        return asked or PROTOCOL
    if asked and protocols.find(asked).reads == "map":
        raise ConfigError(f"task {spec.task} gives no map, which protocol {asked} measures; use protocol image-1")
    return asked or IMAGE_PROTOCOL


def facts(
    spec: TrialSpec,
    which: Checkpoint,
    threshold: float | None,
    protocol: str | None = None,
    ledger: Ledger | None = None,
) -> dict[str, Any]:
    """Return what a photograph's JSON says of the trial and of the threshold.

    Args:
        spec: the trial's.
        which: whose weights.
        threshold: the one that is given; None: of a detector the one that its validation images chose, where the
            protocol chooses one and the ledger has them scored, else the protocol's.
        protocol: its name; None: the task's.
        ledger: where validation images may be scored.

    Raises:
        ConfigError: as `protocol_of`, or a threshold for a trial that tells several classes apart.
        WorkspaceError: rows are damaged.
    """
    value, source = _threshold(spec, which, threshold, protocol_of(spec, protocol), ledger)
    return {
        "trial": spec.fingerprint,
        "task": spec.task,
        "checkpoint": which,
        "maps": [{"map": recipe.map, "weights": recipe.weights} for recipe in spec.maps],
        **({"parts": {role: part.parent for role, part in spec.parts.items()}} if spec.parts else {}),
        "threshold": value,
        "threshold_source": source,
    }


def _threshold(
    spec: TrialSpec, which: Checkpoint, given: float | None, protocol: str, ledger: Ledger | None
) -> tuple[float | None, str]:
    """Return a threshold and where it came from; of an attribution none: the likeliest class is called."""
    if spec.task == "attribute":
        if given is not None:
            raise ConfigError("task attribute calls the likeliest class, whatever a threshold; leave --threshold out")
        return None, "argmax"
    if given is not None:
        return given, "given"
    rule = protocols.find(protocol)
    if spec.task == "localize":
        return rule.threshold, f"protocol {rule.name}: {rule.threshold}"
    rows = summary.validated(ledger, spec.fingerprint, spec.valid, which, protocol) if ledger else None
    chosen = None if rows is None else image_protocols.chosen(rows)
    if rows is None or chosen is None:
        return rule.threshold, "default"
    return chosen, f"validation: best balanced accuracy on {len(rows)} images, protocol {rule.name}"
