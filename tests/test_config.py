import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dfloc.config import (
    DecoderSpec,
    EvaluationSpec,
    InitFrom,
    Lineage,
    LossSpec,
    MapRecipe,
    OptimizerSpec,
    SampleList,
    ScheduleSpec,
    TrialSpec,
)
from dfloc.frozen import canonical, fingerprint

GOLDEN = json.loads((Path(__file__).parent / "golden/fingerprints.json").read_text())


def recipe(**change: Any) -> MapRecipe:
    base = {"map": "srm/stats", "weights": "none", "input_size": 256, "resize": "pil-bilinear"}
    return MapRecipe.model_validate({**base, "semantics": {"decode": 1, "adapter": 1}, **change})


def trial(**change: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "train": SampleList(digest="a" * 64, counts={"s/a": 8}),
        "valid": SampleList(digest="b" * 64, counts={"s/a": 2}),
        "maps": (recipe(),),
        "decoder": DecoderSpec(name="conv"),
        "loss": LossSpec(name="bce"),
        "optimizer": OptimizerSpec(name="adamw"),
        "schedule": ScheduleSpec(name="plateau"),
        "epochs": 3,
        "batch": 4,
    }
    return TrialSpec(**(base | change))


TRIALS = {
    "plain": trial(),
    "child": trial(init={"decoder": InitFrom(parent="c" * 64, checkpoint="last")}, seed=2),
    "narrow": trial(decoder=DecoderSpec(name="conv", depth=4, channels=(24, 16, 8), out_size=64, prior=0.18)),
    "bf16": trial(precision="bf16", epoch_steps=10, select="loss", targets="shuffled"),
}


@pytest.mark.parametrize("name", sorted(TRIALS))
def test_golden_fingerprints_never_change(name: str) -> None:
    assert TRIALS[name].fingerprint == GOLDEN["trials"][name]


def test_golden_recipe_and_evaluation_keys_never_change() -> None:
    assert recipe().fingerprint == GOLDEN["recipe"]
    test = SampleList(digest="d" * 64, counts={"s/a": 5})
    scored = EvaluationSpec(trial="e" * 64, checkpoint="best", domain="s/a", test=test, protocol="declip-2025")
    assert scored.key == GOLDEN["evaluation"]
    assert scored.model_copy(update={"checkpoint": "last"}).key != scored.key


def test_fingerprint_is_the_sha256_of_what_was_written_down_by_hand() -> None:
    written = (
        '{"batch":4,"decoder":{"name":"conv"},"epochs":3,"loss":{"name":"bce"},"maps":[{"input_size":256,'
        '"map":"srm/stats","resize":"pil-bilinear","semantics":{"adapter":1,"decode":1},"weights":"none"}],'
        '"optimizer":{"name":"adamw"},"schedule":{"name":"plateau"},'
        '"semantics":{"decoder/conv":1,"engine":1,"loss/bce":1,"target":1},"train":"'
        + "a" * 64
        + '","valid":"'
        + "b" * 64
        + '"}'
    )
    assert canonical(trial().key) == written
    assert trial().fingerprint == hashlib.sha256(written.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"epochs": 4},
        {"batch": 8},
        {"select": "last"},
        {"precision": "bf16"},
        {"maps": (recipe(weights="random:0"),)},
        {"maps": (recipe(stored="float32"),)},
        {"decoder": DecoderSpec(name="conv", batch_norm="frozen")},
        {"optimizer": OptimizerSpec(name="adamw", lr=1e-4)},
        {"train": SampleList(digest="f" * 64, counts={"s/a": 8})},
    ],
)
def test_what_changes_the_weights_changes_the_key(change: dict[str, Any]) -> None:
    assert trial(**change).fingerprint != trial().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"train": SampleList(digest="a" * 64, counts={"s/b": 9}, asked={"limit": 3})},
        {"lineage": Lineage(seen=("s/z",), exposure=5)},
        {"seed": 0},
        {"decoder": DecoderSpec(name="conv", depth=12)},
    ],
)
def test_what_is_only_recorded_or_default_does_not(change: dict[str, Any]) -> None:
    assert trial(**change).fingerprint == trial().fingerprint


def test_spec_survives_json() -> None:
    for spec in TRIALS.values():
        again = TrialSpec.model_validate_json(json.dumps(spec.model_dump(mode="json")))
        assert again == spec
        assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize(("change", "steps"), [({}, 6), ({"batch": 3}, 9), ({"epoch_steps": 10}, 30)])
def test_steps(change: dict[str, Any], steps: int) -> None:
    assert trial(**change).steps == steps


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": -1}, {"surprise": 1}, {"seed": -1}])
def test_impossible_specs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        trial(**change)


@pytest.mark.parametrize("depth", [0, 3, 5, 7, 13])
def test_a_depth_that_names_no_network_of_its_own_is_refused(depth: int) -> None:
    with pytest.raises(ValidationError, match=r"multiple of 4|greater than or equal to 4"):
        DecoderSpec(name="conv", depth=depth)


def test_canonical_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"lr": float("nan")})
