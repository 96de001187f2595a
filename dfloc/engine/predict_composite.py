"""A composite on any photograph: its router, then the part that it chooses; or all parts, for their mean."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from dfloc.config import Checkpoint, MapRecipe, TrialSpec
from dfloc.data.shards import Pixels
from dfloc.engine.composite import mean_map
from dfloc.engine.predict import PROTOCOL, Prediction, Predictor, refuse_device
from dfloc.engine.route import ROUTE
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.metrics.image_rows import REAL
from dfloc.models.base import Backbone
from dfloc.storage import Workspace


class CompositePredictor:
    """The parts of a composite, behind backbones that they share.

    Args:
        spec: the composite's.
        parts: by role.
        protocol: whose resize brings maps to the photograph's size.

    Attributes:
        route: its router; None: it has none.
        parts: by class, or by number.
        classes: none: it localizes.
    """

    def __init__(self, spec: TrialSpec, parts: Mapping[str, Predictor], protocol: str = PROTOCOL):
        self.spec, self.classes = spec, tuple[str, ...]()
        self.route = parts.get(ROUTE) if spec.decoder.rule == "argmax" else None
        self.parts = {role: part for role, part in parts.items() if part is not self.route}
        self._resize = protocols.find(protocol).resize

    def __call__(self, image_HWC: Pixels) -> Prediction:
        """Return the prediction for an RGB image, uint8 [H, W, 3]; of an image that is called real an empty map.

        Raises:
            DataError: as of a part.
        """
        height, width = image_HWC.shape[0], image_HWC.shape[1]
        if self.route is None:
            with torch.inference_mode():
                prob_11HW = mean_map([part.map(image_HWC) for part in self.parts.values()], self._resize)
            return self.parts[next(iter(self.parts))].localized(prob_11HW, (height, width))
        routing = self.route(image_HWC)
        called = routing.called(None)
        found = Prediction(torch.zeros(height, width), 0.0) if called == REAL else self.parts[called](image_HWC)
        part = "" if called == REAL else self.parts[called].spec.fingerprint
        return replace(found, routed=called, part=part, routing=routing.probabilities)


def predictor(
    workspace: Workspace, spec: TrialSpec, which: Checkpoint, device: str, protocol: str = PROTOCOL
) -> Predictor | CompositePredictor:
    """Return the predictor of a finished trial, of a composite with those of its parts.

    Raises:
        ConfigError, WorkspaceError: as `Predictor.load`.
    """
    if not spec.parts:
        return Predictor.load(workspace, spec, which, device, protocol)
    refuse_device(device)
    ledger, index = Ledger(workspace), WeightsIndex(workspace)
    made = dict[tuple[str, str, str | None], Backbone]()

    def backbone(one: MapRecipe) -> Backbone:
        key = (one.name.backbone, one.weights, one.plugin)
        if key not in made:
            made[key] = index.make(one.name.backbone, one.weights, device, one.plugin)
        return made[key]

    def part(name: str) -> Predictor:
        own = ledger.spec(name)
        backbones = {recipe.name.backbone: backbone(recipe) for recipe in own.maps}
        return Predictor(own, ledger.weights(name, which), backbones, device, protocol)

    names = dict.fromkeys(part.parent for part in spec.parts.values())
    predictors = {name: part(name) for name in names}
    return CompositePredictor(spec, {role: predictors[of.parent] for role, of in spec.parts.items()}, protocol)
