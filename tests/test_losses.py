import math

import pytest
import torch

from dfloc import registry
from dfloc.losses import bce


def test_hand_computed():
    logit_B1HW = torch.tensor([[[[0.0, math.log(3)]]], [[[-math.log(3), 0.0]]]])
    target_BHW = torch.tensor([[[1.0, 1.0]], [[0.25, 0.0]]])
    expected = [math.log(2), -math.log(0.75), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), math.log(2)]
    assert bce(logit_B1HW, target_BHW).item() == pytest.approx(sum(expected) / 4, rel=1e-6)


def test_zero_logits_on_any_target_cost_log_2():
    target_BHW = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8)
    assert bce(torch.zeros(3, 1, 8, 8), target_BHW).item() == pytest.approx(math.log(2))
    assert bce(torch.zeros(3, 1, 8, 8), target_BHW.bool()).item() == pytest.approx(math.log(2))


def test_gradient_is_probability_less_target_over_pixels():
    logit_B1HW = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target_BHW = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
    bce(logit_B1HW, target_BHW).backward()
    expected_BHW = (logit_B1HW.detach()[:, 0].sigmoid() - target_BHW) / 32
    torch.testing.assert_close(logit_B1HW.grad[:, 0], expected_BHW)


def test_half_precision_is_summed_in_float32():
    loss = bce(torch.full((4, 1, 256, 256), 8.0, dtype=torch.bfloat16), torch.ones(4, 256, 256))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-8)), rel=1e-4)


def test_huge_logits_stay_finite():
    assert bce(torch.full((1, 1, 2, 2), 1e4), torch.zeros(1, 2, 2)).item() == pytest.approx(1e4)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="size"):
        bce(torch.zeros(2, 1, 4, 4), torch.zeros(4, 4))


def test_is_found_by_name():
    assert registry.find("loss", "bce") is bce
