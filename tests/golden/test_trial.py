"""Two tiny trials, epoch by epoch: what they give may change only together with a `semantics` number.

After a change that is meant: raise the component's number in `registry.SEMANTICS`, then write the file anew by
`python -m tests.golden.test_trial`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dfloc.config import ScheduleSpec, TrialSpec
from dfloc.engine.fit import fit
from tests.engine.fakes import FakeSource, make_member, make_spec

FILE = Path(__file__).parent / "trial.json"
SPECS: dict[str, TrialSpec] = {
    "conv": make_spec(epochs=4, epoch_steps=4, seed=1, schedule=ScheduleSpec(name="one-cycle")),
    "linear": make_spec(epochs=4, seed=1, schedule=ScheduleSpec(name="plateau"), decoder={"name": "linear"}),
}
# A convolution's bias before BatchNorm has no gradient but rounding, which AdamW makes steps of: another processor
# gives other running means, and with them another validation.
TOLERANCE = {"conv": 5e-2, "linear": 1e-4}


def run(name: str) -> dict[str, Any]:
    """Train for four epochs; return the numbers of each, and the mean size of the head's weights in the end."""
    spec = SPECS[name]
    member = make_member(spec)
    records = [results[0].record for results in fit([member], FakeSource(), FakeSource(4, seed=1))]
    weights = member.decoder.state_dict()
    return {
        "semantics": spec.key["semantics"],
        "train": [{"lr": record.lr, "loss": record.train_loss} for record in records],
        "valid": [{"iou": record.valid["iou"], "loss": record.valid["loss"]} for record in records],
        "weights": {key: value.abs().double().mean().item() for key, value in weights.items() if "head" in key},
    }


@pytest.mark.parametrize("name", SPECS)
def test_the_numbers_are_those_of_their_semantics(name: str) -> None:
    golden, found = json.loads(FILE.read_text())[name], run(name)
    assert found["semantics"] == golden["semantics"], "semantics were raised: write trial.json anew"
    advice = "the numbers changed: raise the component's semantics"
    for epoch, expected in zip(found["train"], golden["train"], strict=True):
        assert epoch == pytest.approx(expected, rel=1e-5), advice
    for epoch, expected in zip(found["valid"], golden["valid"], strict=True):
        assert epoch == pytest.approx(expected, rel=TOLERANCE[name]), advice
    assert found["weights"] == pytest.approx(golden["weights"], rel=1e-5), advice


@pytest.mark.parametrize("change", [{"betas": (0.9, 0.998)}, {"eps": 1e-4}, {"weight_decay": 1e-3}])
@pytest.mark.parametrize("name", SPECS)
def test_another_constant_of_the_optimiser_would_be_seen(
    name: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, real = json.loads(FILE.read_text())[name], torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args, **given: real(*args, **(given | change)))
    assert run(name)["train"][-1] != pytest.approx(golden["train"][-1], rel=1e-5)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: run(name) for name in SPECS}, indent=1) + "\n")
