from typing import Any

import pytest

from dfloc import names
from tests.ended import planned_of, spec_of

LAMA = "celebahq/lama"
TWO = ("celebahq/ldm", LAMA)


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
        ({"held_out": TWO[0], "left_out": TWO[1]}, "x", "held_out=ldm left_out=lama x"),
        ({"maps": ["a/1", "b/2"]}, "x", "x maps=a/1+b/2"),
        ({"loss": {"name": "focal", "gamma": 2}}, "x", "x loss=focal(gamma=2)"),
        ({"flag": True, "no": None, "two": "a  b", "void": ""}, "x", "x flag=True no=None two=a-b void=none"),
        ({"odd": {}, "deep": [[1, 2], {"a": [3]}]}, "x", "x odd=() deep=1+2+(a=3)"),
    ],
)  # fmt: skip
def test_a_name_has_numbers_first_and_each_axis_once(axes: dict[str, Any], stage: str, text: str) -> None:
    assert names.of(stage, "", axes, TWO).text == text


def test_a_generator_stands_alone_only_where_it_is_one() -> None:
    twin = "ffhq/lama"
    assert planned_of(spec_of(LAMA), "finetune", held_out=LAMA, n=16).name == "n=16 lama finetune"
    assert planned_of(spec_of(LAMA, twin), "finetune", held_out=LAMA, n=16).name == "n=16 celebahq/lama finetune"
    alone = planned_of(spec_of("celebahq/ldm"), "finetune", tested=("celebahq/ldm",), held_out=twin)
    assert alone.name == "lama finetune", "a held-out domain is one, whether it is tested on or not"
    case = planned_of(spec_of(LAMA), "budgets").model_copy(update={"case": "train_all_4"})
    assert case.name == "budgets train_all_4"


def test_every_way_to_say_an_axis_finds_it() -> None:
    words = names.of("Tune", "", {"held_out": LAMA, "trial.optimizer.lr": 1e-4, "draw": 0}, TWO).words
    assert {"lama", "celebahq/lama", "held_out=lama", "held_out=celebahq/lama"} < words
    assert {"lr=0.0001", "trial.optimizer.lr=0.0001", "draw=0", "tune"} < words
