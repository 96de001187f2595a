"""A sweep file's short forms spelled out: a bare name as its mapping, an axis by its dotted name."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from dfloc.errors import ConfigError
from dfloc.planned import SearchAxis
from dfloc.sweep.setting import BARE


def spelled_out(value: Any, where: Callable[[Sequence[str]], str], path: tuple[str, ...] = ()) -> Any:
    """Return plain values with every bare name as the mapping that it stands for, and every axis by its dotted name.

    Args:
        value: of a sweep file, a preset or a setting.
        where: says where a key stands.
        path: to the value.

    Raises:
        ConfigError: an axis is named twice in one mapping.
    """
    if not isinstance(value, Mapping):
        return value
    if not _holds_axes(path):
        return {
            key: {BARE[key]: item} if key in BARE and isinstance(item, str) else spelled_out(item, where, (*path, key))
            for key, item in value.items()
        }
    axes: dict[str, Any] = {}
    for name, item in _axes(value, SearchAxis.model_fields.keys() if path[-1] == "space" else ()):
        if name in axes:
            place, what = where([*path, name]), f"{path[-1]} names axis {name} twice, with dots and nested"
            raise ConfigError(f"{place}: {what}; leave one of them out")
        axes[name] = item
    return axes


def yielding(value: Any, later: Any, path: tuple[str, ...] = ()) -> Any:
    """Return values less what later ones write in another form: an axis as list or range, a `from` as stage or trial.

    An axis that is taken away takes those below it along.

    Args:
        value: spelled out, as `later` is.
        later: what is merged over it.
        path: to both.
    """
    if not (isinstance(value, Mapping) and isinstance(later, Mapping)):
        return value
    if path[-1:] == ("from",):
        other = {"stage": "trial", "trial": "stage"}
        return {key: item for key, item in value.items() if later.get(other.get(key)) is None}
    if not _holds_axes(path):
        return {key: yielding(item, later.get(key), (*path, key)) for key, item in value.items()}
    return {axis: item for axis, item in value.items() if not _yields(axis, item, later)}


def _holds_axes(path: Sequence[str]) -> bool:
    match path:
        case ["presets", _, *rest] if rest:
            return _holds_axes(rest)
        case ["grid"] | ["search", "space"] | ["stages", _, "grid"] | ["stages", _, "cases", _, "grid"]:
            return True
    return False


def _axes(value: Mapping[str, Any], whole: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield axes by dotted name: `{trial: {loss: [...]}}` is the axis `trial.loss`.

    Args:
        value: of a grid or space.
        whole: keys of a mapping that is one axis.
        prefix: of the names.
    """
    for key, item in value.items():
        if isinstance(item, Mapping) and item and not any(name in whole for name in item):
            yield from _axes(item, whole, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _yields(axis: str, value: Any, later: Mapping[str, Any]) -> bool:
    new = later.get(axis)
    other = new is not None and not isinstance(value, str) and isinstance(new, Mapping) != isinstance(value, Mapping)
    return other or any(item is None and axis.startswith(f"{name}.") for name, item in later.items())
