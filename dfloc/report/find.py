"""Which sweep of a name is meant: the latest one that was planned, or the one of a preset, data name and limit."""

from collections.abc import Collection

from upath import UPath

from dfloc.errors import ConfigError, WorkspaceError, did_you_mean
from dfloc.record import Starts, SweepRecord


def find(
    workspace: UPath,
    name: str,
    known: Collection[str],
    *,
    preset: str | None = None,
    data: str | None = None,
    limit: int | None = None,
) -> SweepRecord:
    """Return the record of the latest start of a sweep.

    Args:
        workspace: where it ran; it is not made where it is missing.
        name: of the sweep's file, or a full sweep name (the folder's).
        known: names of the sweeps that dfloc ships.
        preset: only sweeps of this preset.
        data: only sweeps of this data name.
        limit: only sweeps of this limit.

    Raises:
        ConfigError: no sweep has the name, or it was not run yet, or not so; says what is there and what to do.
        WorkspaceError: the record of a sweep that may be meant is damaged.
    """
    damaged: dict[str, str] = {}
    there = records(workspace, damaged)
    meant = [why for sweep, why in damaged.items() if f"{sweep}-".startswith(f"{name}-")]
    if meant and not any(record.sweep == name for record in there):
        raise WorkspaceError(meant[0])
    named = [record for record in there if name in (record.name, record.sweep)]
    if not named:
        if name in known:
            command = f"dfloc sweep {name} --workspace {workspace}"
            raise ConfigError(f"sweep {name} was not run in workspace {workspace}; run it: {command}")
        names = {*known, *(record.name for record in there)}
        raise ConfigError(f'unknown sweep "{name}"; {did_you_mean(name, names)}')
    wanted = {"preset": preset, "data": data, "limit": limit}
    asked = {key: value for key, value in wanted.items() if value is not None}
    fitting = [record for record in named if all(getattr(record, key) == value for key, value in asked.items())]
    if not fitting:
        words = " ".join(f"--{key} {value}" for key, value in asked.items())
        others = ", ".join(sorted(record.sweep for record in named))
        raise ConfigError(f"sweep {name} was not run with {words}; there is: {others}")
    return fitting[-1]


def records(workspace: UPath, damaged: dict[str, str] | None = None) -> list[SweepRecord]:
    """Return every record of the workspace, the sweep that was started last at the end.

    Args:
        workspace: where the sweeps ran.
        damaged: where it is given, what a record that cannot be read says is put here by the sweep's name.

    Raises:
        WorkspaceError: a record is damaged, and `damaged` is not given.
    """
    folder = workspace / "sweeps"
    found = []
    for path in sorted(folder.iterdir(), key=str) if folder.is_dir() else []:
        try:
            starts = Starts(path)
        except WorkspaceError as error:
            if damaged is None:
                raise
            damaged[path.name] = str(error)
        else:
            found += [starts] if starts.all else []
    return [starts.union for starts in sorted(found, key=lambda one: one.newest)]
