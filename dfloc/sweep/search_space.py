"""`search:` of a sweep file: what is drawn, how, and by what it is judged; and the points that there are to draw."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from dfloc.axis import frozen
from dfloc.errors import ConfigError
from dfloc.frozen import Frozen, Whole
from dfloc.planned import SearchAxis

Count = Annotated[Whole, Field(ge=1)]
Point = dict[str, Any]

OBJECTIVES = ("valid", "leave-one-training-domain-out")
MAX_LISTED = 10_000


class AxisAsk(SearchAxis):
    """One axis of a search as a user writes it.

    A list gives choices; `{low, high, log}` a range, of whole numbers where both ends are whole; `{of: AXIS, choices:
    {value of AXIS: [...]}}` choices that depend on another axis.
    """

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise ValueError("an axis of a search is a list of choices, or {low, high, log}")
        given = dict(value)
        if isinstance(given.get("choices"), Mapping):
            names = [str(frozen(key)) for key in given["choices"]]
            if again := next((name for name in names if names.count(name) > 1), ""):
                raise ValueError(f"choices has {again} twice, written in two ways; leave one of them out")
            given["choices"] = dict(zip(names, given["choices"].values(), strict=True))
        if all(type(given.get(end)) is int for end in ("low", "high")):
            given.setdefault("whole", True)
        return given

    @model_validator(mode="after")
    def _whole(self) -> "AxisAsk":
        lists = self.choices.values() if isinstance(self.choices, dict) else [self.choices]
        if self.low is None and self.high is None:
            if not lists or not all(lists):
                raise ValueError("an axis needs one choice at least")
            if (self.of is None) == isinstance(self.choices, dict):
                raise ValueError("choices that depend on another axis are {of: AXIS, choices: {its value: [...]}}")
            if any(choices.count(value) > 1 for choices in lists for value in choices):
                raise ValueError("an axis names each choice once")
            return self
        if self.low is None or self.high is None or self.choices or self.of:
            raise ValueError("a range has low and high, and no choices")
        if self.low >= self.high:
            raise ValueError(f"low should be less than high, but they are {self.low:g} and {self.high:g}")
        if self.whole and (self.low % 1 or self.high % 1):
            raise ValueError(f"a whole range has whole ends, but they are {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low > 0, but low is {self.low:g}")
        return self


class SamplerAsk(Frozen):
    """Which points are drawn: tpe (Optuna's, multivariate) or random.

    Attributes:
        name: tpe | random.
        startup: points that tpe draws at random before it learns.
        seed: of the draws.
    """

    name: Literal["tpe", "random"] = "tpe"
    startup: Count = 10
    seed: Annotated[Whole, Field(ge=0)] = 0


class PrunerAsk(Frozen):
    """Which trials are stopped early: asha (those that are not among the best of a rung) or none.

    Attributes:
        name: asha | none.
        min_epochs: the first rung; the next ones are at `factor` times as many epochs each.
        factor: of the trials that reached a rung, the best one in so many goes on.
    """

    name: Literal["asha", "none"] = "asha"
    min_epochs: Count = 1
    factor: Annotated[Whole, Field(ge=2)] = 3


class SearchAsk(Frozen):
    """What is searched.

    Attributes:
        stage: whose trials are drawn; its body names the axes as it would name those of a grid.
        trials: points to draw.
        space: axis -> what may be drawn; names as in a grid.
        objective: valid (mean validation IoU over the mixture's domains) | leave-one-training-domain-out (each point
            is trained once without each domain of the mixture and validated on it; their mean).
        sampler: how points are drawn.
        pruner: which trials are stopped early.
    """

    stage: str
    trials: Count
    space: Annotated[dict[str, AxisAsk], Field(min_length=1)]
    objective: str = "valid"
    sampler: SamplerAsk = SamplerAsk()
    pruner: PrunerAsk = PrunerAsk()

    @field_validator("objective")
    @classmethod
    def _sees_no_test(cls, value: str) -> str:
        if value not in OBJECTIVES:
            why = "a search never looks at test images" if value.startswith("test") else "there is no other"
            raise ValueError(f"should be {' or '.join(OBJECTIVES)}: {why}")
        return value

    @field_validator("space")
    @classmethod
    def _in_order(cls, value: dict[str, AxisAsk]) -> dict[str, AxisAsk]:
        Space(value)
        return value


class PointResult(NamedTuple):
    """A point that was drawn, and where it stands (`objective.Standing`)."""

    point: Point
    state: Literal["done", "stopped", "failed", "open"]
    value: float | None = None
    epochs: int = 0


class Space:
    """What a search draws from: a value of each axis.

    Args:
        axes: by name; one whose choices depend on another axis may stand before it.

    Attributes:
        axes: the same, an axis after the one that it depends on.
    """

    def __init__(self, axes: Mapping[str, SearchAxis]):
        self.axes = _in_order(axes)

    def choices(self, name: str, point: Mapping[str, Any]) -> Sequence[Any]:
        """Return the choices of an axis in a point whose earlier axes are known; empty for a range."""
        axis = self.axes[name]
        if isinstance(axis.choices, dict):
            return axis.choices.get(str(frozen(point[axis.of or ""])), ())
        return axis.choices

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Return whether a point has a value of each axis, and each lies in its choices or range."""
        return point.keys() == self.axes.keys() and all(self._holds(name, point) for name in self.axes)

    def num_points(self) -> int | None:
        """Return how many points there are; None where an axis is a range, or there are too many to list."""
        if any(axis.low is not None for axis in self.axes.values()):
            return None
        counted = sum(1 for _ in itertools.islice(self._product(list(self.axes)), MAX_LISTED + 1))
        return counted if counted <= MAX_LISTED else None

    def all(self) -> list[Point]:
        """Return every point of a space that has a number of points."""
        assert self.num_points() is not None
        return list(self._product(list(self.axes)))

    def cover(self, crossed: Collection[str]) -> list[Point]:
        """Return points in which every choice occurs, and every combination of the choices of some axes.

        Args:
            crossed: those axes; axes that depend on another, and these, are crossed too. Of a range both ends occur.

        Raises:
            ConfigError: too many combinations.
        """
        dependent = {name for one, axis in self.axes.items() if axis.of for name in (one, axis.of)}
        names = [name for name in self.axes if name in crossed or name in dependent]
        rest = [name for name in self.axes if name not in names]
        product = list(itertools.islice(self._product(names), MAX_LISTED + 1))
        if len(product) > MAX_LISTED:
            raise ConfigError(
                f"axes {', '.join(names)} of the search say together which images and maps are read, in more than "
                f"{MAX_LISTED:,} ways; name fewer choices"
            )
        rows = max([len(product), *(len(self._values(name, {})) for name in rest)])
        return [
            {
                **product[row % len(product)],
                **{name: (values := self._values(name, {}))[row % len(values)] for name in rest},
            }
            for row in range(rows)
        ]

    def inside(self) -> list[Point]:
        """Return points with the second number of each whole range, which a field of steps does not take."""
        second = {name: int(axis.low) + 1 for name, axis in self.axes.items() if axis.whole and axis.low is not None}
        return [{**point, **second} for point in self.cover([])] if second else []

    def _holds(self, name: str, point: Mapping[str, Any]) -> bool:
        axis, value = self.axes[name], point[name]
        if axis.low is None or axis.high is None:
            return value in self.choices(name, point)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and axis.low <= value <= axis.high and (not axis.whole or value == int(value))

    def _values(self, name: str, point: Mapping[str, Any]) -> Sequence[Any]:
        axis = self.axes[name]
        if axis.low is None or axis.high is None:
            return self.choices(name, point)
        ends = (axis.low, axis.high)
        return [int(end) for end in ends] if axis.whole else ends

    def _product(self, names: Sequence[str], point: Mapping[str, Any] | None = None) -> Iterator[Point]:
        point = point or {}
        if not names:
            yield dict(point)
            return
        for value in self._values(names[0], point):
            yield from self._product(names[1:], {**point, names[0]: value})


def _in_order(axes: Mapping[str, SearchAxis]) -> dict[str, SearchAxis]:
    """Return the axes, each after the one that it depends on.

    Raises:
        ValueError: an axis depends on none that is there, or the axes depend on each other in a circle, or the choices
            of a dependent axis are not given for each choice of the other, or for more.
    """
    ordered: dict[str, SearchAxis] = {}
    left = dict(axes)
    while left:
        ready = [name for name, axis in left.items() if axis.of is None or axis.of in ordered]
        if not ready:
            name, axis = next(iter(left.items()))
            raise ValueError(f'axis {name} is one `of` "{axis.of}", which should be another axis of the search')
        ordered |= {name: left.pop(name) for name in ready}
    for name, axis in ordered.items():
        if axis.of is not None and isinstance(axis.choices, dict):
            _check_dependent(name, axis, ordered[axis.of])
    return ordered


def _check_dependent(name: str, axis: SearchAxis, other: SearchAxis) -> None:
    if isinstance(other.choices, dict) or not other.choices:
        raise ValueError(f"axis {name} is one `of` {axis.of}, which should have a list of choices")
    assert isinstance(axis.choices, dict)
    expected, given = {str(frozen(value)) for value in other.choices}, set(axis.choices)
    if expected != given:
        lacking = ", ".join(sorted(expected - given)) or "nothing"
        more = ", ".join(sorted(given - expected)) or "nothing"
        raise ValueError(
            f"axis {name} should have choices for each of {axis.of}: it lacks {lacking} and has {more} more"
        )
