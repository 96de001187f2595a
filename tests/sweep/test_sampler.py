import math
from collections.abc import Callable
from typing import Literal

import pytest

from dfloc.planned import SearchAxis
from dfloc.sweep.sampler import importance, suggest
from dfloc.sweep.search_space import Point, PointResult, SamplerAsk, Space

SPACE = Space(
    {
        "lr": SearchAxis(low=1e-5, high=1e-1, log=True),
        "width": SearchAxis(low=1, high=8, whole=True),
        "backbone": SearchAxis(choices=("vit", "rn")),
        "layer": SearchAxis(of="backbone", choices={"vit": (["v/1"], ["v/2"]), "rn": (["r/1"], ["r/2"], ["r/3"])}),
    }
)


def loss_of_lr(point: Point) -> float:
    return -((math.log10(point["lr"]) + 3) ** 2)


def drawn_points(value: Callable[[Point], float], name: str, seed: int, num: int) -> list[PointResult]:
    tried: list[PointResult] = []
    for number in range(num):
        point = suggest(SPACE, tried, SamplerAsk(name=name, seed=seed), number)  # type: ignore[arg-type]
        tried.append(PointResult(point, "done", value(point)))
    return tried


def test_tpe_finds_what_is_good_sooner_than_chance() -> None:
    means = {
        name: sum(one.value or 0 for seed in range(3) for one in drawn_points(loss_of_lr, name, seed, 30)[10:])
        for name in ("tpe", "random")
    }
    assert means["tpe"] > 0.75 * means["random"], "both are losses below 0: a quarter less at least"


def test_every_point_lies_in_the_space_and_is_plain_to_read() -> None:
    for one in drawn_points(loss_of_lr, "tpe", 0, 25):
        assert SPACE.holds(one.point)
        assert one.point["lr"] == float(f"{one.point['lr']:.3e}")
        assert isinstance(one.point["width"], int)


def test_the_points_before_decide_alone() -> None:
    tried = drawn_points(loss_of_lr, "tpe", 5, 14)
    again = [suggest(SPACE, tried[:number], SamplerAsk(seed=5), number) for number in range(14)]
    assert again == [one.point for one in tried]
    assert suggest(SPACE, tried, SamplerAsk(seed=6), 14) != suggest(SPACE, tried, SamplerAsk(seed=5), 14)
    assert suggest(SPACE, tried, SamplerAsk(seed=5), 14, 1) != suggest(SPACE, tried, SamplerAsk(seed=5), 14)


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_how_a_point_ended_matters(state: Literal["failed", "stopped"]) -> None:
    tried = drawn_points(loss_of_lr, "random", 0, 12)
    value = {"failed": None, "stopped": -1.0}[state]
    ended = [*tried[:6], *(PointResult(one.point, state, value, 2) for one in tried[6:])]
    assert suggest(SPACE, ended, SamplerAsk(startup=2), 12) != suggest(SPACE, tried, SamplerAsk(startup=2), 12)


def test_points_that_are_still_open_are_no_hindrance() -> None:
    tried = [
        *drawn_points(loss_of_lr, "random", 0, 6),
        *(PointResult(one.point, "open") for one in drawn_points(loss_of_lr, "random", 1, 3)),
    ]
    assert SPACE.holds(suggest(SPACE, tried, SamplerAsk(startup=2), 9))


def test_tpe_stays_away_from_what_failed() -> None:
    """Learning rates above 1e-3 fail; the value does not depend on it."""
    tried: list[PointResult] = []
    for number in range(40):
        point = suggest(SPACE, tried, SamplerAsk(), number)
        tried.append(PointResult(point, "failed") if point["lr"] > 1e-3 else PointResult(point, "done", 0.5))
    assert sum(one.state == "failed" for one in tried[20:]) < 20 * 0.5 * 0.8, "by chance it would be half of them"


def test_importance_is_of_what_the_objective_depends_on() -> None:
    by_lr = importance(SPACE.axes, drawn_points(loss_of_lr, "random", 0, 40))
    assert next(iter(by_lr)) == "lr"
    assert by_lr["lr"] > 0.8
    assert sum(by_lr.values()) == pytest.approx(1)
    by_layer = importance(SPACE.axes, drawn_points(lambda point: float(point["layer"] == ["r/2"]), "random", 0, 40))
    assert next(iter(by_layer)) == "layer"


def test_importance_needs_values_that_differ() -> None:
    assert importance(SPACE.axes, drawn_points(lambda point: 0.5, "random", 0, 6)) == {}
