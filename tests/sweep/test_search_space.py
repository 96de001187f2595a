from typing import Any

import pytest
from pydantic import ValidationError

from dfloc.planned import SearchAxis
from dfloc.sweep.search_space import AxisAsk, SearchAsk, Space

LAYERS = SearchAxis(of="backbone", choices={"vit": (["v/1"], ["v/2"], ["v/3"]), "rn": (["r/1"],)})
BACKBONES = SearchAxis(choices=("vit", "rn"))
LR = SearchAxis(low=1e-5, high=1e-2, log=True)


def asked(**space: Any) -> SearchAsk:
    return SearchAsk.model_validate({"stage": "s", "trials": 2, "space": space})


def test_an_axis_stands_after_the_one_it_depends_on() -> None:
    assert list(Space({"layer": LAYERS, "lr": LR, "backbone": BACKBONES}).axes) == ["lr", "backbone", "layer"]


def test_a_space_of_choices_is_listed_with_what_depends_on_others() -> None:
    space = Space({"layer": LAYERS, "backbone": BACKBONES, "depth": SearchAxis(choices=(4, 12))})
    assert space.num_points() == (3 + 1) * 2 == len(space.all())
    assert Space({"lr": LR, "backbone": BACKBONES}).num_points() is None


def test_every_choice_occurs_and_what_is_read_in_every_combination() -> None:
    loss, blur = SearchAxis(choices=("bce", "dice", "focal", "jaccard", "lovasz")), SearchAxis(choices=("none", "blur"))
    space = Space({"backbone": BACKBONES, "layer": LAYERS, "loss": loss, "blur": blur, "lr": LR})
    cover = space.cover(["blur"])
    assert len(cover) == (3 + 1) * 2
    assert {(point["backbone"], *point["layer"], point["blur"]) for point in cover} == {
        (backbone, layer, how)
        for backbone, layers in (("vit", ["v/1", "v/2", "v/3"]), ("rn", ["r/1"]))
        for layer in layers
        for how in ("none", "blur")
    }
    assert {point["loss"] for point in cover} == set(loss.choices)
    assert {point["lr"] for point in cover} == {1e-5, 1e-2}


@pytest.mark.parametrize(
    ("point", "held"),
    [
        ({"backbone": "vit", "layer": ["v/2"], "lr": 1e-3}, True),
        ({"backbone": "rn", "layer": ["v/2"], "lr": 1e-3}, False),
        ({"backbone": "vit", "layer": ["v/2"], "lr": 1e-1}, False),
        ({"backbone": "vit", "layer": ["v/2"], "lr": None}, False),
        ({"backbone": "vit", "layer": ["v/2"]}, False),
        ({"backbone": "vit", "layer": ["v/2"], "lr": 1e-3, "depth": 4}, False),
    ],
)
def test_what_a_space_holds(point: dict[str, Any], held: bool) -> None:
    assert Space({"backbone": BACKBONES, "layer": LAYERS, "lr": LR}).holds(point) is held


def test_ends_without_a_point_mean_whole_numbers() -> None:
    space = Space(asked(depth={"low": 1, "high": 8}, lr={"low": 1e-3, "high": 1}).space)
    assert (space.axes["depth"].whole, space.axes["lr"].whole) == (True, False)
    assert not space.holds({"depth": 2.5, "lr": 0.5})
    assert [type(point["depth"]) for point in space.cover([])] == [int, int]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ([], "needs one choice"),
        (4, "a list of choices, or {low, high, log}"),
        ([4, 4], "each choice once"),
        ({"low": 1e-2, "high": 1e-2}, "low should be less than high, but they are 0.01 and 0.01"),
        ({"low": 2, "high": 1}, "low should be less than high"),
        ({"low": 0, "high": 1.0, "log": True}, "a logarithm needs low > 0, but low is 0"),
        ({"low": 1e-3}, "a range has low and high"),
        ({"low": 1, "high": 2, "choices": [1]}, "a range has low and high, and no choices"),
        ({"of": "lr", "choices": [1]}, "depend on another axis"),
        ({"choices": {"a": []}, "of": "b"}, "needs one choice"),
    ],
)
def test_an_axis_that_cannot_be_drawn_is_refused(axis: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AxisAsk.model_validate(axis)


@pytest.mark.parametrize(
    ("of", "choices", "message"),
    [
        ("bakcbone", {"vit": [1], "rn": [2]}, 'one `of` "bakcbone", which should be another axis'),
        ("backbone", {"vit": [1]}, "it lacks rn and has nothing more"),
        ("backbone", {"vit": [1], "rn": [2], "sam": [3]}, "it lacks nothing and has sam more"),
        ("lr", {"vit": [1]}, "lr, which should have a list of choices"),
        ("layer", {"vit": [1]}, "should be another axis"),
    ],
)
def test_choices_that_depend_on_nothing_are_refused(of: str, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        asked(backbone=["vit", "rn"], lr={"low": 0.1, "high": 1}, layer={"of": of, "choices": choices})
