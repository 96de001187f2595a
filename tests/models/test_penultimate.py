"""The features of a model, times the weights of its last layer, are its logits."""

import pytest
import torch
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.errors import DataError
from dfloc.models import decoders
from dfloc.models.base import Outputs
from dfloc.models.penultimate import penultimate
from dfloc.registry import MapSpec

GRID, PIXELS = MapSpec(5, 6, 4), MapSpec(3, 256, 256)


def made(map_: MapSpec, **fields: object) -> nn.Module:
    return decoders.build(DecoderSpec(**fields), [map_], torch.Generator().manual_seed(0), 3).eval()  # type: ignore[arg-type]


def test_a_linear_head_reads_what_is_pooled_and_standardized() -> None:
    model = made(GRID, name="linear", pool="mean+max", standardize=True)
    model.layers.standardize.mean.fill_(2.0)  # type: ignore[union-attr, operator]
    model.layers.standardize.deviation.fill_(4.0)  # type: ignore[union-attr, operator]
    x = torch.randn(7, 5, 6, 4)
    expected = (torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1) - 2) / 4
    torch.testing.assert_close(penultimate(model, x), expected)


def test_a_classifier_of_timm_reads_its_pre_logits() -> None:
    model = made(PIXELS, name="timm", model="resnet18")
    x = 255 * torch.rand(2, 3, 256, 256)
    with torch.inference_mode():
        found, logits = penultimate(model, x), model(x)
        assert found.shape == (2, 512)
        torch.testing.assert_close(model.net.fc(found), logits)  # type: ignore[union-attr, operator]
    assert not any(layer._forward_hooks for layer in model.modules())


class Both(nn.Module):
    """A map and an answer; the map's layer runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.map = nn.Linear(5, 3), nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(image_BK=self.head(x.mean((2, 3))), map_B1HW=self.map(x))


def test_the_layer_of_a_map_is_not_the_last() -> None:
    x = torch.randn(2, 5, 6, 4)
    torch.testing.assert_close(penultimate(Both(), x), x.mean((2, 3)))


@pytest.mark.parametrize("name", ["prior"])
def test_what_has_no_last_layer_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="has no feature space"):
        penultimate(made(GRID, name=name), torch.randn(2, 5, 6, 4))
