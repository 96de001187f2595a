import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dfloc.config import DecoderSpec, OptimizerSpec, TrialSpec
from dfloc.engine.fit import fit
from dfloc.engine.member import Member, on_grid
from dfloc.losses import bce
from dfloc.metrics import pixel
from dfloc.models import encoders
from dfloc.registry import map_spec
from tests.engine.fakes import CHANNELS, FakeSource, make_member, make_spec


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_weight_decay_acts_on_the_gradient_in_adam_and_on_the_weight_in_adamw(name: str) -> None:
    """One step from w: Adam w - lr * sign(g + decay * w), AdamW w - lr * (sign(g) + decay * w)."""
    lr, decay = 1e-2, 4.0
    member = make_member(make_spec(optimizer=OptimizerSpec(name=name, lr=lr, weight_decay=decay)))
    batch = FakeSource(4).batch(range(4), 1)
    weight = member.decoder.layers.head.weight
    before = weight.detach().clone()
    member.step(batch.x, batch.target_BHW)
    gradient = weight.grad
    pulled = gradient + decay * before
    assert (gradient.sign() != pulled.sign()).any()
    assert gradient.abs().min() > 1e-6
    expected = before - lr * (pulled.sign() if name == "adam" else gradient.sign() + decay * before)
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=2e-6)


def test_without_a_decay_adam_and_adamw_are_one() -> None:
    weights = {}
    for name in ("adam", "adamw"):
        member = make_member(make_spec(optimizer=OptimizerSpec(name=name)))
        batch = FakeSource(4).batch(range(4), 1)
        for _ in range(3):
            member.step(batch.x, batch.target_BHW)
        weights[name] = member.decoder.layers.head.weight.detach()
    torch.testing.assert_close(weights["adam"], weights["adamw"])


class Coarse(nn.Module):
    """Answers on a grid of 37 cells, with dropout on the way."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(dropout), nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.dropout(functional.interpolate(x_BCHW, (37, 37), mode="bilinear")))

    def solve(self, source: FakeSource) -> None:
        """Learn nothing."""


def coarse(dropout: float = 0.0, **changes: object) -> Member:
    with torch.random.fork_rng():
        decoder = Coarse(dropout)
    generator = torch.Generator().manual_seed(1)
    nn.init.normal_(decoder.head.weight, 0, 0.2, generator)
    nn.init.constant_(decoder.head.bias, -1.5)
    return Member(make_spec(**changes), decoder, "cpu")


@pytest.mark.parametrize("size", [37, 19])  # at 10 a centre lies between two pixels, and PIL's sums decide
def test_targets_come_to_a_coarser_grid_as_pil_does_it_by_nearest(size: int) -> None:
    mask_BHW = torch.rand(2, 256, 256, generator=torch.Generator().manual_seed(2)).gt(0.5).to(torch.uint8)
    found = on_grid(mask_BHW, torch.zeros(2, 1, size, size))
    assert found.dtype == torch.uint8
    for mask_HW, small_HW in zip(mask_BHW, found, strict=True):
        expected = Image.fromarray(mask_HW.numpy() * 255).resize((size, size), Image.Resampling.NEAREST)
        assert np.array_equal(small_HW.numpy() * 255, np.asarray(expected))


def test_a_centre_between_two_pixels_takes_the_later_one() -> None:
    ramp_BHW = torch.arange(256, dtype=torch.uint8).expand(1, 256, 256)
    found = on_grid(ramp_BHW, torch.zeros(1, 1, 10, 10))
    assert found[0, 3].tolist() == [12, 38, 64, 89, 115, 140, 166, 192, 217, 243]


def test_targets_on_the_logits_own_grid_are_taken_as_they_are() -> None:
    target_BHW = torch.zeros(2, 256, 256, dtype=torch.uint8)
    assert on_grid(target_BHW, torch.zeros(2, 1, 256, 256)) is target_BHW


def test_a_coarse_map_is_trained_on_its_own_grid_and_validated_at_256() -> None:
    member, batch = coarse(), FakeSource(6).batch(range(6), 1)
    member.decoder.eval()
    with torch.no_grad():
        loss, prob_BHW = member.loss_and_prob(batch.x, batch.target_BHW)
        logit_B1HW = member.decoder(batch.x)
    small_BHW = functional.interpolate(batch.target_BHW[:, None].float(), (37, 37), mode="nearest-exact")[:, 0]
    torch.testing.assert_close(loss, bce(logit_B1HW, small_BHW))
    large_BHW = functional.interpolate(logit_B1HW.sigmoid(), (256, 256), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(prob_BHW, large_BHW)
    gradient = torch.autograd.grad(bce(member.decoder(batch.x), small_BHW), member.decoder.head.bias)[0]
    member.step(batch.x, batch.target_BHW)
    torch.testing.assert_close(member.decoder.head.bias.grad, gradient)
    [[result]] = fit([coarse(epochs=1)], FakeSource(6), FakeSource(4, seed=1))
    assert result.record is not None
    assert 0 < result.record.valid["iou"] < 1
    member, valid = coarse(epochs=1), FakeSource(4, seed=1)
    list(fit([member], FakeSource(6), valid))
    with torch.no_grad():
        _, prob_BHW = member.loss_and_prob(valid.x, valid.target)
    assert result.record.valid["iou"] == pytest.approx(pixel.iou(prob_BHW > 0.5, valid.target > 0).mean().item())


def test_the_best_epoch_may_be_that_of_the_lowest_loss_of_a_fixed_number_of_steps() -> None:
    member = coarse(epochs=4, epoch_steps=3, select="loss", optimizer=OptimizerSpec(name="adam", lr=0.6))
    records = [result.record for [result] in fit([member], FakeSource(10), FakeSource(4, seed=1))]
    assert [record.steps for record in records if record] == [3, 6, 9, 12]
    losses = [record.valid["loss"] for record in records if record]
    assert losses != sorted(losses, reverse=True)
    assert member.best_epoch == 1 + int(np.argmin(losses))


def test_dropout_draws_from_the_seed_and_the_step_alone() -> None:
    batch = FakeSource(4).batch(range(4), 1)

    def trained(seed: int = 0, disturb: bool = False, resume: bool = False) -> Tensor:
        member = coarse(0.5, seed=seed)
        for _ in range(3):
            if disturb:
                torch.rand(3)
            if resume:
                saved, member = member.state(), coarse(0.5, seed=seed)
                member.restore(saved)
            member.decoder.train()
            member.step(batch.x, batch.target_BHW)
        return member.decoder.head.weight.detach().clone()

    before = torch.random.get_rng_state()
    plain = trained()
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(plain, trained(disturb=True))
    assert torch.equal(plain, trained(resume=True))
    assert not torch.equal(plain, trained(seed=1))


def test_each_step_drops_something_else() -> None:
    seen: list[Tensor] = []
    member, batch = coarse(0.5), FakeSource(2).batch(range(2), 1)
    member.decoder.head.register_forward_pre_hook(lambda _, args: seen.append(args[0] == 0))
    member.decoder.train()
    for _ in range(2):
        member.step(batch.x, batch.target_BHW)
    assert not torch.equal(*seen)


def segmenter() -> TrialSpec:
    decoder = DecoderSpec(name="smp", architecture="fpn", encoder="mobilenet_v2", weights="d" * 64)
    return make_spec().model_copy(update={"decoder": decoder})


def test_a_segmenters_encoder_begins_from_the_weights_that_are_given() -> None:
    given = encoders.weights("mobilenet_v2", "random:5")
    member = Member.create(segmenter(), [map_spec("pixels")], encoder_weights=given)
    drawn = Member.create(segmenter(), [map_spec("pixels")])
    name = "features.0.0.weight"
    assert torch.equal(member.decoder.net.encoder.state_dict()[name], given[name])
    assert not torch.equal(drawn.decoder.net.encoder.state_dict()[name], given[name])
    assert torch.equal(member.decoder.net.decoder.p5.weight, drawn.decoder.net.decoder.p5.weight)
