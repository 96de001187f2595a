import numpy as np
import pytest
import torch
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.metrics import score
from dfloc.models.decoders import build
from dfloc.registry import MapSpec
from tests.contracts.decoder import DecoderContract, Examples, examples

ONE = (MapSpec(1, 32, 32),)


class TestAllFake(DecoderContract):
    spec = DecoderSpec(name="all-fake")
    maps = (MapSpec(4, 8, 8),)


class TestMeanMask(DecoderContract):
    spec = DecoderSpec(name="mean-mask")
    maps = (MapSpec(4, 8, 8),)


class TestThreshold(DecoderContract):
    spec = DecoderSpec(name="threshold")
    maps = ONE


def solved(name: str, data: Examples) -> torch.nn.Module:
    decoder = build(DecoderSpec(name=name), ONE, torch.Generator())
    decoder.solve(data)
    return decoder


def test_all_fake_scores_the_mask_area():
    data = examples(ONE)
    prob = solved("all-fake", data)(data.x).sigmoid()[:, 0]
    area = data.target_BHW.double().mean((1, 2))
    torch.testing.assert_close(score(prob, data.target_BHW.bool())["iou"], area)


def test_mean_mask_is_the_mean_of_the_targets():
    data = examples(ONE, num=130)
    data.target_BHW[:, :100] = 0
    data.target_BHW[:, 200:] = 1
    prob = solved("mean-mask", data)(data.x[:1]).sigmoid()[0, 0]
    expected = data.target_BHW.float().mean(0).clamp(torch.sigmoid(torch.tensor(-10.0)), 1)
    torch.testing.assert_close(prob, expected, atol=1e-4, rtol=0)
    assert 0 < prob[:100].max() < 1e-4
    assert prob[200:].min() > 0.9999


def blobs(sign: float, noise: float = 0.0, num: int = 70) -> Examples:
    """Targets where a one-channel map has one side of 1.5 (or of -1.5)."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(num, 1, 32, 32, generator=generator) + 0.5
    fake_BHW = functional.interpolate(x, (256, 256), mode="bilinear")[:, 0] > 1.5
    return Examples(sign * (x + noise * torch.randn(x.shape, generator=generator)), fake_BHW.to(torch.uint8))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_threshold_finds_side_and_place(sign):
    data = blobs(sign)
    decoder = solved("threshold", data)
    assert bool(decoder.above) == (sign > 0)
    assert float(decoder.threshold) == pytest.approx(1.5 * sign, abs=0.1)
    logit_B1HW = decoder(data.x)
    assert set(logit_B1HW.unique().tolist()) == {-10.0, 10.0}
    assert score(logit_B1HW.sigmoid()[:, 0], data.target_BHW.bool())["iou"].mean() > 0.9


def test_no_other_quantile_and_side_is_better():
    data = blobs(-1.0, noise=1.0, num=12)
    data.target_BHW[3] = 0
    decoder = solved("threshold", data)
    own = score(decoder(data.x).sigmoid()[:, 0], data.target_BHW.bool())["iou"].mean()
    others = []
    for level in np.quantile(data.x.numpy(), (np.arange(64) + 0.5) / 64).astype(np.float32)[::4]:
        for above in (True, False):
            decoder.threshold.fill_(float(level))
            decoder.above.fill_(above)
            others.append(score(decoder(data.x).sigmoid()[:, 0], data.target_BHW.bool())["iou"].mean())
    assert own >= max(others) - 1e-9
    assert own > min(others)
