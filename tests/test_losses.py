import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dfloc import losses, registry
from dfloc.config import LossSpec
from dfloc.errors import ConfigError
from dfloc.losses import bce
from tests.engine.fakes import FakeSource, make_member, make_spec

ALL = (
    LossSpec(name="bce"),
    *(LossSpec(name=name, reduction=how) for name in ("dice", "jaccard", "lovasz") for how in ("batch", "image")),
    LossSpec(name="focal"),
    LossSpec(name="sum", terms=(LossSpec(name="bce"), LossSpec(name="dice", weight=0.5))),
)
REGION = {"dice": lambda tp, fp, fn: 2 * tp / (2 * tp + fp + fn), "jaccard": lambda tp, fp, fn: tp / (tp + fp + fn)}


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


def _case() -> tuple[Tensor, Tensor]:
    """Probabilities .8 .4 .2 .6 with two fake pixels, and .9 .5 .1 .3 with one."""
    prob_B1HW = torch.tensor([[[[0.8, 0.4], [0.2, 0.6]]], [[[0.9, 0.5], [0.1, 0.3]]]], dtype=torch.float64)
    return prob_B1HW.logit(), torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.uint8)


def _value(logit_B1HW: Tensor, target_BHW: Tensor, **fields: Any) -> float:
    return losses.make(LossSpec(**fields))(logit_B1HW, target_BHW).item()


@pytest.mark.parametrize("name", REGION)
def test_regions_over_the_batch_and_of_each_image(name: str) -> None:
    index = REGION[name]
    whole = 1 - index(0.8 + 0.4 + 0.9, 0.2 + 0.6 + 0.5 + 0.1 + 0.3, 0.2 + 0.6 + 0.1)
    alone = [1 - index(1.2, 0.8, 0.8), 1 - index(0.9, 0.9, 0.1)]
    assert _value(*_case(), name=name) == pytest.approx(whole)
    assert _value(*_case(), name=name, reduction="image") == pytest.approx(sum(alone) / 2)
    assert whole != pytest.approx(sum(alone) / 2, abs=1e-3)


def test_smooth_moves_the_index_towards_one() -> None:
    jaccard, dice = (_value(*_case(), name=name, smooth=2.0) for name in ("jaccard", "dice"))
    assert jaccard == pytest.approx(1 - (2.1 + 2) / (2.1 + 1.7 + 0.9 + 2))
    assert dice == pytest.approx(1 - (2.1 + 2) / (2.1 + (1.7 + 0.9) / 2 + 2))


def test_focal_by_its_formula() -> None:
    logit_B1HW, target_BHW = _case()
    prob_B1HW = logit_B1HW.sigmoid()
    fake_B1HW = target_BHW[:, None].bool()
    right_B1HW = torch.where(fake_B1HW, prob_B1HW, 1 - prob_B1HW)
    for gamma, alpha in ((2.0, None), (0.0, None), (1.0, 0.25), (3.5, 0.9)):
        expected_B1HW = (1 - right_B1HW) ** gamma * -right_B1HW.log()
        if alpha is not None:
            expected_B1HW = torch.where(fake_B1HW, alpha * expected_B1HW, (1 - alpha) * expected_B1HW)
        value = _value(logit_B1HW, target_BHW, name="focal", gamma=gamma, alpha=alpha)
        assert value == pytest.approx(expected_B1HW.mean().item()), (gamma, alpha)
    assert _value(logit_B1HW, target_BHW, name="focal", gamma=0.0) == pytest.approx(bce(*_case()).item())


@pytest.mark.parametrize("gamma", [0.5, 0.999])
def test_focal_refuses_an_exponent_whose_gradient_is_no_number(gamma: float) -> None:
    with pytest.raises(ConfigError, match=f"gamma is 0, or 1 and more, not {gamma}"):
        losses.make(LossSpec(name="focal", gamma=gamma))


def _lovasz(logit_P: np.ndarray, fake_P: np.ndarray) -> float:
    """The Lovász extension by its definition: the hinge errors, largest first, times the growth of the Jaccard loss."""
    error_P = np.maximum(0, 1 - logit_P * np.where(fake_P, 1, -1))
    order = np.argsort(-error_P)
    wrong = [set(order[:count]) for count in range(len(order) + 1)]
    fake = set(np.flatnonzero(fake_P))
    jaccard = [1 - len(fake - each) / max(1, len(fake | each)) for each in wrong]
    return float(sum(error_P[pixel] * (jaccard[k + 1] - jaccard[k]) for k, pixel in enumerate(order)))


def test_lovasz_by_its_definition() -> None:
    logit_B1HW, target_BHW = _case()
    logit_BP, fake_BP = logit_B1HW.flatten(1).numpy(), target_BHW.flatten(1).bool().numpy()
    whole = _lovasz(logit_BP.ravel(), fake_BP.ravel())
    alone = [_lovasz(*each) for each in zip(logit_BP, fake_BP, strict=True)]
    assert _value(logit_B1HW, target_BHW, name="lovasz") == pytest.approx(whole, rel=1e-6)
    assert _value(logit_B1HW, target_BHW, name="lovasz", reduction="image") == pytest.approx(np.mean(alone))
    assert whole != pytest.approx(np.mean(alone), abs=1e-3)


def test_a_sum_adds_its_terms_by_their_weights() -> None:
    terms = (LossSpec(name="bce", weight=2.0), LossSpec(name="dice", reduction="image", weight=0.25))
    parts = (_value(*_case(), name="bce"), _value(*_case(), name="dice", reduction="image"))
    assert _value(*_case(), name="sum", terms=terms) == pytest.approx(2 * parts[0] + parts[1] / 4)


@pytest.mark.parametrize("name", REGION)
def test_without_a_fake_pixel_a_region_costs_nothing(name: str) -> None:
    logit_B1HW, target_BHW = _case()
    nothing_BHW, half_BHW = torch.zeros_like(target_BHW), target_BHW * torch.tensor([1, 0])[:, None, None]
    first = _value(logit_B1HW[:1], target_BHW[:1], name=name)
    for how in ("batch", "image"):
        assert _value(logit_B1HW, nothing_BHW, name=name, reduction=how) == 0
    assert _value(logit_B1HW, half_BHW, name=name, reduction="image") == pytest.approx(first / 2)
    assert _value(logit_B1HW, half_BHW, name=name) > first  # over the batch its false alarms count


def test_without_a_fake_pixel_lovasz_is_the_hinge_of_the_worst_pixel() -> None:
    logit_B1HW, target_BHW = _case()
    nothing_BHW = torch.zeros_like(target_BHW)
    worst_B = 1 + logit_B1HW.flatten(1).amax(1)
    assert _value(logit_B1HW, nothing_BHW, name="lovasz") == pytest.approx(worst_B.max().item())
    image = _value(logit_B1HW, nothing_BHW, name="lovasz", reduction="image")
    assert image == pytest.approx(worst_B.mean().item())
    assert _value(torch.full((1, 1, 2, 2), -2.0), nothing_BHW[:1], name="lovasz") == 0


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: f"{spec.name}-{spec.reduction}")
@pytest.mark.parametrize("scale", [0.0, 3.0, 200.0])
def test_gradients_are_finite_and_one_step_against_them_helps(spec: LossSpec, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logit_B1HW = (torch.randn(3, 1, 8, 8, generator=generator) * scale).requires_grad_()
    target_BHW = (torch.rand(3, 8, 8, generator=generator) > 0.6).to(torch.uint8)
    target_BHW[2] = 0
    loss = losses.make(spec)
    before = loss(logit_B1HW, target_BHW)
    before.backward()
    assert math.isfinite(before.item())
    assert logit_B1HW.grad.isfinite().all()
    if scale < 200:
        after = loss(logit_B1HW.detach() - 0.01 * logit_B1HW.grad, target_BHW)
        assert after < before


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: f"{spec.name}-{spec.reduction}")
def test_under_bfloat16_every_loss_is_summed_in_float32(spec: LossSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    logit_B1HW = torch.randn(2, 1, 256, 256, generator=generator).bfloat16()
    target_BHW = (torch.rand(2, 256, 256, generator=generator) > 0.7).to(torch.uint8)
    loss = losses.make(spec)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logit_B1HW, target_BHW)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logit_B1HW.double(), target_BHW).item(), rel=1e-4)


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: f"{spec.name}-{spec.reduction}")
def test_sizes_that_differ_are_refused(spec: LossSpec) -> None:
    with pytest.raises(ValueError, match="size"):
        losses.make(spec)(torch.zeros(2, 1, 4, 4), torch.zeros(2, 8, 8))


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigError, match="pip install segmentation_models_pytorch"):
        losses.make(LossSpec(name="dice"))
    assert losses.make(LossSpec(name="bce"))(*_case()) > 0


def test_a_loss_that_a_member_is_given_is_the_one_that_it_trains_with() -> None:
    records = {}
    for spec in ALL:
        member = make_member(make_spec(loss=spec))
        source = FakeSource(4)
        for _ in range(3):
            batch = source.batch(range(4), 1)
            member.step(batch.x, batch.target_BHW)
        records[spec.model_dump_json()] = tuple(loss.item() for loss in member._losses)
    assert len(set(records.values())) == len(ALL)
    assert all(values[-1] < values[0] for values in records.values()), records


def test_cross_entropy_of_classes_by_hand() -> None:
    logit_BK = torch.tensor([[0.0, math.log(3), 0.0], [math.log(2), 0.0, 0.0]])
    wanted = (-math.log(3 / 5) - math.log(1 / 4)) / 2
    assert losses.ce(logit_BK, torch.tensor([1, 2])).item() == pytest.approx(wanted, rel=1e-6)
    assert losses.make(LossSpec(name="ce"))(logit_BK, torch.tensor([1, 2])).item() == pytest.approx(wanted, rel=1e-6)


def test_cross_entropy_of_two_classes_is_bce_of_their_difference() -> None:
    logit_BK = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    label_B = torch.tensor([0, 1, 1, 0, 1, 0])
    difference_B111 = (logit_BK[:, 1] - logit_BK[:, 0]).view(6, 1, 1, 1)
    torch.testing.assert_close(losses.ce(logit_BK, label_B), bce(difference_B111, label_B.view(6, 1, 1)))


def test_cross_entropy_of_half_precision_is_in_float32() -> None:
    loss = losses.ce(torch.full((3, 2), 9.0, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int64))
    assert loss.dtype == torch.float32


def test_the_loss_of_an_attention_map_is_formula_1() -> None:
    """CE of two images' classes, and BCE of their maps' largest cells against their labels, by hand."""
    logit_B1HW = torch.tensor([[[[-9.0, math.log(3)]]], [[[-9.0, -math.log(4)]]]])
    logit_BK, label_B = torch.tensor([[0.0, math.log(4)], [math.log(2), 0.0]]), torch.tensor([1, 0])
    ce, of_map = (-math.log(4 / 5) - math.log(2 / 3)) / 2, (-math.log(3 / 4) - math.log(4 / 5)) / 2
    for weight in (1.0, 0.25):
        found = losses.make(LossSpec(name="attention", weight_map=weight))(logit_B1HW, logit_BK, label_B)
        assert found.item() == pytest.approx(ce + weight * of_map, rel=1e-6)
    assert losses.attention(logit_B1HW, logit_BK, label_B).item() == pytest.approx(ce + of_map, rel=1e-6)
    alone = losses.attention(logit_B1HW, logit_BK, label_B, weight_map=0)
    assert torch.equal(alone, losses.ce(logit_BK, label_B))
    half = losses.attention(logit_B1HW.bfloat16(), logit_BK.bfloat16(), label_B)
    assert half.dtype == torch.float32


def test_the_loss_of_an_attention_map_moves_its_largest_cell_alone() -> None:
    logit_B1HW = torch.tensor([[[[1.0, 2.0]]], [[[3.0, -1.0]]]], requires_grad=True)
    losses.attention(logit_B1HW, torch.zeros(2, 3), torch.tensor([2, 0])).backward()  # type: ignore[no-untyped-call]
    assert logit_B1HW.grad is not None
    wanted = [0.0, (torch.tensor(2.0).sigmoid() - 1) / 2, torch.tensor(3.0).sigmoid() / 2, 0.0]
    assert logit_B1HW.grad.flatten().tolist() == pytest.approx([float(value) for value in wanted])


def test_what_losses_read() -> None:
    both = frozenset({"map", "image"})
    total = LossSpec(name="sum", terms=(LossSpec(name="ce"), LossSpec(name="dice")))
    assert losses.reads(LossSpec(name="ce"), both) == {"image"}
    assert losses.reads(LossSpec(name="lovasz"), both) == {"map"}
    assert losses.reads(total, both) == losses.reads(LossSpec(name="attention"), both) == both
    mine = LossSpec(name="mine", plugin="digest")
    assert [losses.reads(mine, gives) for gives in (both, frozenset({"image"}))] == [{"map"}, {"image"}]
    built_in = set(registry.FACTORIES["loss"]) - {"sum"}
    assert built_in == set(registry.LOSS_READS)
