"""Small models on frozen maps: what each option does, and what a map multiplies."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models import decoders
from dfloc.models.base import Outputs, outputs
from dfloc.models.decoders import build
from dfloc.registry import MapSpec
from tests.contracts.decoder import DecoderContract
from tests.models.test_heads import HeadContract, examples, generator

GRID = MapSpec(5, 16, 16)
SMALL = DecoderSpec(name="small", widths=(6, 4))
ATTENTION = DecoderSpec(name="small-attention", widths=(6, 4))


class TestSmall(HeadContract):
    spec, maps, num = SMALL, (GRID, MapSpec(3, 8, 8)), 20


class TestStandardizedSmall(HeadContract):
    spec = SMALL.model_copy(update={"standardize": True, "init": "declip", "batch_norm": "frozen"})
    maps, num = (MapSpec(8, 3, 4, "tokens"),), 20


class TestAttentionThatLocalizes(DecoderContract):
    spec, maps, size = ATTENTION, (GRID, MapSpec(3, 8, 8)), 16


class TestStandardizedAttentionThatLocalizes(DecoderContract):
    spec = ATTENTION.model_copy(update={"standardize": True, "init": "declip", "batch_norm": "frozen"})
    maps, size = (GRID,), 16


def made(spec: DecoderSpec, num_classes: int | None = 3, seed: int = 0, **fields: Any) -> Any:
    return build(spec.model_copy(update=fields), (GRID,), generator(seed), num_classes).eval()


def images(num: int = 6) -> Tensor:
    return examples(SMALL, (GRID,), num).x


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_as_many_parameters_as_its_widths_say() -> None:
    """Of a convolution 9 x in x out + out, of BatchNorm 2 x out, of the head in x K + K, of the map 9 x in + 1."""
    convolutions = (9 * 5 * 6 + 6 + 12) + (9 * 6 * 4 + 4 + 8)
    assert count(made(SMALL)) == convolutions + 4 * 3 + 3
    assert count(made(ATTENTION)) == convolutions + 4 * 3 + 3 + 9 * 6 + 1
    assert count(made(ATTENTION, None)) == (9 * 5 * 6 + 6 + 12) + 9 * 6 + 1
    assert count(made(SMALL, widths=(6,))) == (9 * 5 * 6 + 6 + 12) + 6 * 3 + 3


def test_a_small_model_is_convolutions_a_mean_and_a_linear_layer() -> None:
    model, x_BCHW = made(SMALL), images()
    features = model.layers.features
    hidden = x_BCHW
    for number in (1, 2):
        conv, norm = features.get_submodule(f"conv{number}"), features.get_submodule(f"norm{number}")
        hidden = functional.conv2d(hidden, conv.weight, conv.bias, padding=1)
        hidden = ((hidden / (1 + norm.eps) ** 0.5) * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    head = model.layers.head
    expected_BK = hidden.mean((2, 3)) @ head.weight.flatten(1).T + head.bias
    torch.testing.assert_close(model(x_BCHW), expected_BK, rtol=1e-4, atol=1e-5)


def test_what_stands_behind_the_map_sees_the_features_times_its_sigmoid() -> None:
    model, x_BCHW = made(ATTENTION), images()
    said = model(x_BCHW)
    assert isinstance(said, Outputs)
    first_BCHW = model.first(x_BCHW)
    map_B1HW = functional.conv2d(first_BCHW, model.map.weight, model.map.bias, padding=1)
    torch.testing.assert_close(said.map_B1HW, map_B1HW, rtol=1e-4, atol=1e-5)
    seen_BC = model.rest(first_BCHW / (1 + (-map_B1HW).exp())).mean((2, 3))
    expected_BK = seen_BC @ model.head.weight.flatten(1).T + model.head.bias
    torch.testing.assert_close(said.image_BK, expected_BK, rtol=1e-4, atol=1e-5)
    nn.init.constant_(model.map.bias, -1e4)
    model.map.weight.data.zero_()
    blind_BK = model(x_BCHW).image_BK
    torch.testing.assert_close(blind_BK, blind_BK[:1].expand_as(blind_BK))  # a closed map leaves no image to see


def test_a_localizer_has_the_map_alone() -> None:
    said = outputs(made(ATTENTION, None)(images()))
    assert said.image_BK is None
    assert said.map_B1HW is not None
    assert said.map_B1HW.shape == (6, 1, 16, 16)
    both, alone = made(ATTENTION), made(ATTENTION, None)
    assert torch.equal(both.first.conv1.weight, alone.first.conv1.weight), "drawn in the order in which they run"


@pytest.mark.parametrize("spec", [SMALL, ATTENTION], ids=lambda spec: spec.name)
def test_each_option_does_something(spec: DecoderSpec) -> None:
    x_BCHW = images()
    plain = outputs(made(spec)(x_BCHW)).image_BK
    for fields in ({"widths": (6, 5)}, {"init": "declip"}):
        assert not torch.allclose(outputs(made(spec, **fields)(x_BCHW)).image_BK, plain)  # type: ignore[arg-type]
    standardized = made(spec, standardize=True)
    data = examples(spec, (GRID,), 12)
    standardized.solve(data)
    moved = standardized(100 + 10 * data.x)
    standardized.solve(data._replace(x=100 + 10 * data.x))
    again = outputs(standardized(100 + 10 * data.x)).image_BK
    assert not torch.allclose(outputs(moved).image_BK, again)  # type: ignore[arg-type]
    standardized.solve(data)
    torch.testing.assert_close(outputs(standardized(data.x)).image_BK, again, rtol=1e-3, atol=1e-4)
    for mode, moves in (("train", True), ("frozen", False)):
        model = made(spec, batch_norm=mode).train()
        model(x_BCHW)
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert [bool(norm.running_mean.any()) for norm in norms] == [moves] * 2  # type: ignore[union-attr]


def test_what_does_not_suit_is_refused() -> None:
    with pytest.raises(ConfigError, match='"small" answers once an image, but the task is to localize; use conv or'):
        made(SMALL, None)
    for spec in (SMALL, ATTENTION):
        with pytest.raises(ConfigError, match="needs maps with a grid; a vector of 9 has none: use linear"):
            build(spec, (MapSpec(9, 1, 1, "vector"),), generator(), 2)
    with pytest.raises(ValueError, match="at least 1 item"):
        DecoderSpec(name="small", widths=())
    with pytest.raises(ValueError, match="should be odd"):
        DecoderSpec(name="conv", kernel=4)


def test_a_kernel_is_what_a_conv_decoder_sees_around_a_cell() -> None:
    spec = DecoderSpec(name="conv", depth=4, channels=(4,), out_size=16)
    x_BCHW = torch.zeros(1, 5, 16, 16)
    x_BCHW[:, :, 8, 8] = 100.0
    for kernel, radius in ((1, 0), (3, 2), (5, 4)):  # of two convolutions, one of the stage and the last
        model: Any = build(spec.model_copy(update={"kernel": kernel}), (GRID,), generator())
        layers = model.eval().layers
        inside = nn.Sequential(*[layer for name, layer in layers.named_children() if name != "enlarge"])
        difference_HW = (inside(x_BCHW) - inside(torch.zeros_like(x_BCHW)))[0, 0].abs()
        seen = (difference_HW > 0).nonzero()
        assert (seen.min(0).values.tolist(), seen.max(0).values.tolist()) == ([8 - radius] * 2, [8 + radius] * 2)
    assert spec.kernel == 5, "DeCLIP's"
    assert "kernel" not in spec.model_dump(exclude_defaults=True), "old specs are what they were"


def test_both_suit_a_task_of_images() -> None:
    for spec in (SMALL, ATTENTION):
        decoders.check(spec, (GRID,), 2)
        assert decoders.weight_bytes(spec, (GRID,), 2) > 0
