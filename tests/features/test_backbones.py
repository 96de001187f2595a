from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dfloc import registry
from dfloc.errors import unknown
from dfloc.models.base import freeze
from dfloc.models.srm import Srm
from dfloc.registry import MapSpec
from tests.contracts.backbone import BackboneContract


class TestSrm(BackboneContract):
    name = "srm"


class TestPixels(BackboneContract):
    name = "pixels"


class TestPixels299(BackboneContract):
    name = "pixels299"


class Lax(Srm):
    """A backbone with a BatchNorm that nobody froze."""

    frozen = False

    def __init__(self) -> None:
        super().__init__("cpu")
        self.maps = {"stats": MapSpec(66, 32, 32)}
        self.norm = nn.BatchNorm2d(66)
        if self.frozen:
            freeze(self.norm)

    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        for name in wanted:
            if name not in self.maps:
                raise unknown("map", name, self.maps)
        return {"stats": self.norm(super().__call__(images_BCHW, ["stats"])["stats"])}


class Frozen(Lax):
    frozen = True


def _row(monkeypatch: pytest.MonkeyPatch, kind: type[Lax]) -> BackboneContract:
    maps = {"stats": MapSpec(66, 32, 32)}
    monkeypatch.setitem(registry.BACKBONES, "lax", replace(registry.BACKBONES["srm"], maps=maps))
    contract = BackboneContract()
    contract.name, contract.make = "lax", kind
    return contract


def test_contract_notices_batch_norm_that_moves(monkeypatch) -> None:
    contract = _row(monkeypatch, Lax)
    inputs = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    with pytest.raises(AssertionError):
        contract.test_frozen_is_frozen(Lax(), inputs)
    with pytest.raises(AssertionError):
        contract.test_an_image_says_the_same_in_any_batch(Lax(), inputs)
    contract.rtol = 1e-5
    contract.test_frozen_is_frozen(Frozen(), inputs)
    contract.test_an_image_says_the_same_in_any_batch(Frozen(), inputs)


def test_contract_notices_a_map_that_the_registry_does_not_have(monkeypatch) -> None:
    contract = _row(monkeypatch, Lax)
    contract.test_maps_are_those_of_the_registry(Lax())
    with pytest.raises(AssertionError):
        contract.test_maps_are_those_of_the_registry(Srm("cpu"))
