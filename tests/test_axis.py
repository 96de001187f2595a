import itertools
import json

import pytest

from dfloc.axis import LONGEST, frozen

NEST = [{"name": "blur", "sigma": [0, 3.0]}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, 3),
        (1e-3, 0.001),
        ("bce", "bce"),
        (None, "none"),
        (True, "true"),
        (False, "false"),
        ({"name": "focal", "gamma": 3.0}, "focal(gamma=3)"),
        ({"gamma": 3, "alpha": 0.5, "name": "focal"}, "focal(alpha=0.5, gamma=3)"),
        ({"name": "focal"}, "focal"),
        (["srm/stats", "pixels"], "srm/stats + pixels"),
        ([16, 8.0], "[16, 8]"),
        ({"rest": 4, "first": 8}, "first=8, rest=4"),
        ({"ops": NEST}, "ops=[blur(sigma=[0, 3])]"),
        ([{"name": "bce"}, {"name": "dice", "weight": 0.5}], "bce + dice(weight=0.5)"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_a_value_has_one_form(value: object, text: object) -> None:
    assert (frozen(value), type(frozen(value))) == (text, type(text))
    assert frozen(json.loads(json.dumps(value))) == text
    assert frozen(frozen(value)) == text
    assert len({frozen(value), text}) == 1


def test_what_differs_has_another_form() -> None:
    parts = [None, "none", True, "true", 1, "1", "a, b", ["a", "b"], {"a": "b"}, "a=b", "[1]", [1], "x y", '"x y"', ""]
    values = [[1, part] for part in parts] + [{"k": part} for part in parts]
    alike = [pair for pair in itertools.combinations(values, 2) if frozen(pair[0]) == frozen(pair[1])]
    assert alike == []


def test_a_huge_value_is_cut_and_stays_itself() -> None:
    first, second = ([f"map{number}" for number in range(1000)] + [last] for last in ("a", "b"))
    assert len(str(frozen(first))) < LONGEST + 20
    assert frozen(first) != frozen(second)
    assert frozen(list(first)) == frozen(first)
