import pytest
import torch

from dfloc.config import OptimizerSpec
from tests.engine.fakes import FakeSource, make_member, make_spec


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
