"""What tells apart trials of one cell that two starts of a sweep planned with different settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfloc.planned import PlannedTrial

UNNAMED = frozenset({"train", "valid", "init", "seed", "lineage"})


def variants(trials: Sequence[PlannedTrial]) -> list[dict[str, Any]]:
    """Return for each trial the settings that tell it from another of the same stage, case and axes; mostly none.

    A second start with `--set trial.optimizer.lr=3e-4` plans the same cells once more. Their axes are the same, so
    the fields of their specs that differ become axes; where only data or parent differ, those do.
    """
    cells: dict[str, list[int]] = {}
    for place, trial in enumerate(trials):
        axes = sorted((key, str(value)) for key, value in trial.axes.items())
        cells.setdefault(repr((trial.stage, trial.case, axes)), []).append(place)
    told: dict[str, set[str]] = {}
    fields: dict[int, dict[str, Any]] = {}
    for places in cells.values():
        if len({trials[place].fingerprint for place in places}) > 1:
            fields |= {place: _settings(trials[place]) for place in places}
            told.setdefault(trials[places[0]].stage, set()).update(_differing([fields[place] for place in places]))
    result: list[dict[str, Any]] = []
    for place, trial in enumerate(trials):
        names = sorted(told.get(trial.stage, ()))
        own = fields.get(place) or (_settings(trial) if names else {})
        result.append({name: own[name] for name in names if name in own})
    return result


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for each in settings for name in each}
    differ = {name for name in names if len({str(each.get(name)) for each in settings}) > 1}
    named = {name for name in differ if name.split(".")[0] not in UNNAMED}
    return named or differ


def _settings(trial: PlannedTrial) -> dict[str, Any]:
    spec = trial.spec
    found = _flat(spec.model_dump(mode="json", exclude=set(UNNAMED) | {"maps"}))
    found["maps"] = " + ".join(recipe.map for recipe in spec.maps)
    lists = {"train": spec.train.digest[:8], "valid": spec.valid.digest[:8]}
    return found | lists | {"init": trial.parent[:8] if trial.parent else "none"}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found
