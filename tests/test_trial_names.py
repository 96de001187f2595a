import pytest

from dfloc import trial_names
from dfloc.axis import frozen
from tests.ended import planned_of, spec_of

LAMA = "celebahq/lama"


@pytest.mark.parametrize(
    ("axes", "stage", "text"),
    [
        ({"held_out": LAMA, "n": 16, "draw": 0, "seed": 0}, "finetune", "n=16 lama finetune seed=0"),
        (
            {"mode": "restart", "trial.optimizer.lr": 1e-4, "draw": 1, "seed": 2},
            "finetune",
            "lr=0.0001 finetune mode=restart draw=1 seed=2",
        ),
        ({"loss.name": "bce", "decoder.name": "conv"}, "x", "x loss.name=bce decoder.name=conv"),
        ({"held_out": "celebahq/ldm", "left_out": LAMA}, "x", "held_out=ldm left_out=lama x"),
        ({"held_out": "ffhq/lama", "other": LAMA}, "x", "ffhq/lama x other=celebahq/lama"),
        ({"domain": [LAMA, "ffhq/lama", "celebahq/ldm"]}, "x", "lama+ffhq/lama+ldm x"),
        ({"held_out": "mini/telea"}, "x", "telea x"),
        ({"held_out": "own/mini/telea"}, "x", "own/mini/telea x"),
        ({"maps": ["a/1", "b/2"]}, "x", "x maps=a/1+b/2"),
        ({"loss": {"name": "focal", "gamma": 2}}, "x", "x loss=focal(gamma=2)"),
        ({"loss": {"name": "focal", "gamma": 2, "a": 1}, "w": [8, 4]}, "x", "x loss=focal(a=1,gamma=2) w=[8,4]"),
        ({"flag": True, "no": None, "two": "a  b", "void": ""}, "x", "x flag=true no=none two=a-b void=none"),
        ({"lr": 0.12345678, "n": 1e300}, "x", "lr=0.12345678 n=1e+300 x"),
        ({"lr": 0.12345678, "point": 3}, "x", "lr=0.123457 point=3 x"),
    ],
)  # fmt: skip
def test_a_name_has_numbers_first_and_each_axis_once(axes: dict[str, object], stage: str, text: str) -> None:
    assert trial_names.of(stage, "", {axis: frozen(value) for axis, value in axes.items()}).text == text


def test_a_name_rests_on_stage_case_and_axes_alone() -> None:
    """Siblings of two sources never share a name, and what else a start tests or trains on gives no other one."""
    twin = "ffhq/lama"
    for seen in ((LAMA,), (LAMA, twin)):
        for tested in ((LAMA,), (LAMA, twin), ("celebahq/ldm",)):
            both = [planned_of(spec_of(*seen), "alone", tested=tested, domain=each) for each in (LAMA, twin)]
            assert [trial.name for trial in both] == ["lama alone", "ffhq/lama alone"]
            assert all("lama" in trial.called.words for trial in both), "any of its words finds it"
    case = planned_of(spec_of(LAMA), "budgets").model_copy(update={"case": "train_all_4"})
    assert case.name == "budgets train_all_4"


def test_every_way_to_say_an_axis_finds_it() -> None:
    words = trial_names.of(
        "Tune", "", {"held_out": LAMA, "trial.optimizer.lr": 0.00012345678, "draw": 0, "point": 1}
    ).words
    assert {"lama", "celebahq/lama", "held_out=lama", "held_out=celebahq/lama"} < words
    assert {
        f"{key}={value}" for key in ("lr", "trial.optimizer.lr") for value in ("0.000123457", "0.00012345678")
    } < words
    assert {"draw=0", "point=1", "tune"} < words
