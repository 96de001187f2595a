"""The points of a search's space: those that it holds, and a few in which every choice occurs."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from dfloc.axis import frozen
from dfloc.errors import ConfigError
from dfloc.planned import SearchAxis

Point = dict[str, Any]

MAX_LISTED = 10_000


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
