"""What every backbone keeps to; a test class of a backbone inherits from this and says how it is made."""

import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from dfloc import registry
from dfloc.errors import ConfigError
from dfloc.models.base import Backbone


def photographs(num: int, size: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Return smooth scenes with grain, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]] / max(size)
    scenes = []
    for _ in range(num):
        waves = [np.sin(2 * np.pi * (rows * a + columns * b)) for a, b in rng.uniform(0.5, 4, (3, 2))]
        grain = rng.normal(0, rng.uniform(1, 6), (*size, 3))
        scenes.append(np.clip(128 + 70 * np.stack(waves, axis=2) + grain, 0, 255).astype(np.uint8))
    return scenes


class BackboneContract:
    """Attributes: `name` of its row in the registry, `weights`, and how far rounding may part two equal results."""

    name: ClassVar[str]
    weights: ClassVar[str] = "none"
    rtol: ClassVar[float] = 0.0

    def make(self) -> Backbone:
        return registry.find("backbone", self.name)(self.name, self.weights, "cpu")

    @pytest.fixture(scope="class")
    def backbone(self, request: pytest.FixtureRequest) -> Backbone:
        return request.cls().make()

    @pytest.fixture(scope="class")
    def inputs(self, backbone: Backbone) -> torch.Tensor:
        size = registry.backbone(self.name).input_size
        return torch.stack([backbone.preprocess(image) for image in photographs(3, (size, size))])

    def same(self, left: torch.Tensor, right: torch.Tensor) -> None:
        torch.testing.assert_close(left, right, rtol=self.rtol, atol=self.rtol)

    def test_maps_are_those_of_the_registry(self, backbone: Backbone) -> None:
        assert dict(backbone.maps) == dict(registry.backbone(self.name).maps)

    @pytest.mark.parametrize("size", [(256, 256), (64, 64), (37, 301), (600, 450)])
    def test_preprocess_brings_any_image_to_the_input_size(self, backbone: Backbone, size: tuple[int, int]) -> None:
        [image_HWC] = photographs(1, size)
        kept = image_HWC.copy()
        side = registry.backbone(self.name).input_size
        assert backbone.preprocess(image_HWC).shape == (3, side, side)
        assert np.array_equal(image_HWC, kept)

    def test_maps_have_the_shapes_that_they_promise(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        maps = backbone(inputs, list(backbone.maps))
        assert set(maps) == set(backbone.maps)
        for name, spec in backbone.maps.items():
            shape = {
                "grid": (spec.channels, spec.height, spec.width),
                "tokens": (spec.height * spec.width + 1, spec.channels),
                "vector": (spec.channels,),
            }[spec.layout]
            assert maps[name].shape == (len(inputs), *shape)

    def test_values_are_finite_also_as_float16_and_tell_images_apart(
        self, backbone: Backbone, inputs: torch.Tensor
    ) -> None:
        for values in backbone(inputs, list(backbone.maps)).values():
            assert values.to(torch.float16).isfinite().all()
            assert not torch.equal(values[0], values[1])

    @pytest.mark.parametrize("level", [0, 127, 255])
    def test_a_constant_image_gives_finite_values(self, backbone: Backbone, level: int) -> None:
        flat = backbone.preprocess(np.full((64, 64, 3), level, np.uint8))
        for values in backbone(flat[None], list(backbone.maps)).values():
            assert values.to(torch.float16).isfinite().all()

    def test_only_what_is_wanted_is_returned_and_with_the_same_values(
        self, backbone: Backbone, inputs: torch.Tensor
    ) -> None:
        together = backbone(inputs, list(backbone.maps))
        for name in list(backbone.maps)[:4]:
            alone = backbone(inputs, [name])
            assert list(alone) == [name]
            self.same(alone[name], together[name])

    def test_an_image_says_the_same_in_any_batch(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        names = list(backbone.maps)[:4]
        together = backbone(inputs, names)
        for index in range(len(inputs)):
            for name, values in backbone(inputs[index : index + 1], names).items():
                self.same(values[0], together[name][index])

    def test_two_of_its_kind_say_the_same(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        names = list(backbone.maps)[:4]
        first, second = backbone(inputs, names), self.make()(inputs, names)
        for name in names:
            self.same(first[name], second[name])

    def test_its_digest_says_which_weights_it_has(self, backbone: Backbone) -> None:
        assert re.fullmatch(r"none|random:\d+|[0-9a-f]{64}", backbone.digest)
        assert self.make().digest == backbone.digest

    def test_the_input_is_left_alone(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        kept = inputs.clone()
        backbone(inputs, list(backbone.maps)[:1])
        assert torch.equal(inputs, kept)

    def test_frozen_is_frozen(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        names = list(backbone.maps)[:1]
        before = backbone(inputs, names)
        state = [{key: value.clone() for key, value in module.state_dict().items()} for module in _modules(backbone)]
        for module in _modules(backbone):
            module.train()
            assert not any(parameter.requires_grad for parameter in module.parameters())
        after = backbone(inputs, names)
        assert torch.equal(before[names[0]], after[names[0]])
        assert not after[names[0]].requires_grad
        for module, old in zip(_modules(backbone), state, strict=True):
            assert all(torch.equal(value, old[key]) for key, value in module.state_dict().items())

    def test_an_unknown_map_is_named(self, backbone: Backbone, inputs: torch.Tensor) -> None:
        with pytest.raises(ConfigError, match="no-such-map"):
            backbone(inputs, ["no-such-map"])

    def test_unknown_weights_are_named(self) -> None:
        with pytest.raises(ConfigError, match="no-such-weights"):
            registry.find("backbone", self.name)(self.name, "no-such-weights", "cpu")

    def test_a_device_that_is_not_there_is_named(self) -> None:
        with pytest.raises(ConfigError, match='device "cuda:99" was asked for, but torch sees'):
            registry.find("backbone", self.name)(self.name, self.weights, "cuda:99")


def _modules(backbone: Backbone) -> Iterator[nn.Module]:
    values = [backbone] if isinstance(backbone, nn.Module) else vars(backbone).values()
    yield from (value for value in values if isinstance(value, nn.Module))
