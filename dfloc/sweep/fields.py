"""The body of a sweep file as written: short forms spelled out, axes and what takes their values, mappings merged."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from dfloc import registry
from dfloc.config import LossSpec, ScheduleSpec
from dfloc.errors import ConfigError
from dfloc.planned import SearchAxis
from dfloc.sweep.sweep_keys import BARE, AugmentAsk, DecoderAsk
from dfloc.sweep.train_keys import in_one
from dfloc.sweep.yaml_text import shown

Path = tuple[str, ...]


def spelled_out(value: Any, where: Callable[[Sequence[str]], str], path: tuple[str, ...] = ()) -> Any:
    """Return a value at a path with every bare name as the mapping that it stands for, every axis by its dotted name.

    Raises:
        ConfigError: an axis is named twice in one mapping.
    """
    if not isinstance(value, Mapping):
        return value
    if not _holds_axes(path):
        return {key: _spelled(key, item, where, (*path, key)) for key, item in value.items()}
    axes: dict[str, Any] = {}
    for name, item in _axes(value, SearchAxis.model_fields.keys() if path[-1] == "space" else ()):
        if name in axes:
            place, what = where([*path, name]), f"{path[-1]} names axis {name} twice, with dots and nested"
            raise ConfigError(f"{place}: {what}; leave one of them out")
        axes[name] = item
    return axes


def _spelled(key: str, item: Any, where: Callable[[Sequence[str]], str], path: tuple[str, ...]) -> Any:
    """Return what stands under a key: short forms as what they stand for."""
    if key in BARE and isinstance(item, str):
        return {BARE[key]: item}
    if key == "train" and isinstance(item, list):
        return in_one(item, where(path))
    return spelled_out(item, where, path)


def yielding(value: Any, later: Any, path: tuple[str, ...] = ()) -> Any:
    """Return values less what later ones write in another form: an axis as list or range, a `from` as stage or trial.

    Both are spelled out; an axis that is taken away takes those below it along.
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
    """Yield axes by dotted name: `{trial: {loss: [...]}}` is `trial.loss`; what has a key of `whole` is one axis."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item and not any(name in whole for name in item):
            yield from _axes(item, whole, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _yields(axis: str, value: Any, later: Mapping[str, Any]) -> bool:
    new = later.get(axis)
    other = new is not None and not isinstance(value, str) and isinstance(new, Mapping) != isinstance(value, Mapping)
    return other or any(item is None and axis.startswith(f"{name}.") for name, item in later.items())


def words_in(value: Any) -> set[str]:
    """Return every bare word inside a value."""
    if isinstance(value, Mapping):
        return {word for item in value.values() for word in words_in(item)}
    if isinstance(value, list | tuple):
        return {word for item in value for word in words_in(item)}
    return {value} if isinstance(value, str) else set()


def fields_of(body: Any, axis: str) -> list[Path]:
    """Return the fields that take their value from an axis: the one that it is named after, or where its name stands.

    A mapping of its name alone is taken whole: `loss: l` and `loss: {name: l}` are the same.
    """
    if "." in axis:
        return [tuple(axis.split("."))]
    if isinstance(body, str):
        return [()] if body == axis else []
    if body in ({"name": axis}, {"stage": axis}):
        return [()]
    inside = body.items() if isinstance(body, Mapping) else enumerate(body) if isinstance(body, list | tuple) else ()
    return [(str(key), *rest) for key, item in inside for rest in fields_of(item, axis)]


def reached(value: Any, field: Path) -> Any:
    """Return what a field of a checked cell holds."""
    for part in field:
        if isinstance(value, BaseModel):
            value = getattr(value, "parent" if part == "from" else part)
        else:
            value = value[part if isinstance(value, Mapping) else int(part)]
    return value


def plain(value: Any) -> Any:
    """Return a value as JSON has it; of what has a name, what it reads and what differs from its default."""
    if isinstance(value, AugmentAsk) and value.name == "none":
        return None
    if not isinstance(value, BaseModel):
        return value
    fields = value.model_dump(mode="json", exclude_defaults=True)
    tables = {
        LossSpec: registry.LOSS_FIELDS,
        DecoderAsk: registry.DECODER_FIELDS,
        ScheduleSpec: registry.SCHEDULE_FIELDS,
    }
    read = tables.get(type(value), {}).get(str(fields.get("name")))
    return fields if read is None else {key: item for key, item in fields.items() if key in read | {"name"}}


def bind(value: Any, axes: Mapping[str, Any]) -> Any:
    """Replace every bare axis name by the axis' value."""
    if isinstance(value, str):
        return axes.get(value, value)
    if isinstance(value, Mapping):
        bound = {key: bind(item, axes) for key, item in value.items()}
        whole = next((item for item in bound.values() if isinstance(item, Mapping)), None)
        return whole if whole is not None and list(bound) in (["name"], ["stage"]) else bound
    if isinstance(value, list | tuple):
        return [bind(item, axes) for item in value]
    return value


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings as one, later ones over earlier ones, key by key."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def put(body: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set what stands at the end of a path; a bare name on the way is spelled out.

    Raises:
        ConfigError: what stands on the way has no parts.
    """
    for length, part in enumerate(path[:-1], 1):
        above = body.get(part, {})
        above = {BARE[part]: above} if part in BARE and isinstance(above, str) else above
        if not isinstance(above, Mapping):
            whole = ".".join(path[:length])
            raise ConfigError(f"axis {'.'.join(path)} is a part of {whole}, which is {shown(above)} and has no parts")
        body[part] = dict(above)
        body = body[part]
    body[path[-1]] = value
