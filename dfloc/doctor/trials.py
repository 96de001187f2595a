"""Trials against their records: weights, epochs, rows, and the records themselves."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from pydantic import BaseModel
from upath import UPath

from dfloc import digests, epochs, record, rows_file, storage
from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.doctor.finding import Check, Finding, reason
from dfloc.errors import WorkspaceError
from dfloc.ledger import Done, Failure, Ledger, Stopped
from dfloc.planned import is_named
from dfloc.storage import Workspace

_NAME = re.compile("[0-9a-f]{64}")


class RecordedTrials(NamedTuple):
    """What the records of the sweeps tell.

    Attributes:
        maps: fingerprint of a recipe -> its map.
        evaluations: key -> the evaluation, and the sweep that asks for it.
        data: names of the data that were used.
        records: how many records there are.
    """

    maps: dict[str, str]
    evaluations: dict[str, tuple[EvaluationSpec, str]]
    data: set[str]
    records: int


def planned(workspace: Workspace) -> tuple[RecordedTrials, list[Finding]]:
    """Read the records of all sweeps; return what they tell, and which are damaged or unverifiable."""
    sweeps = sorted((workspace.root / "sweeps").glob("*"), key=str)
    paths = [(sweep.name, path) for sweep in sweeps for path in record.files(sweep).values()]
    found, damaged = RecordedTrials({}, {}, set(), len(paths)), []
    for sweep, path in paths:
        try:
            start = record.read(path)
            if not storage.is_sealed(path):
                damaged.append(Finding("record", path, "has no digest of its own", state="unverifiable"))
        except WorkspaceError as error:
            after = f"start {sweep} again: it is planned anew, what is finished stays"
            damaged.append(Finding("record", path, reason(error, path), after, (path,)))
            continue
        for trial in start.trials:
            found.maps.update((recipe.fingerprint, recipe.map) for recipe in trial.spec.maps)
            found.evaluations.update((each.key, (each, sweep)) for each in trial.evaluations)
        found.data.add(start.data)
    return found, damaged


def checks(workspace: Workspace, recorded: RecordedTrials) -> Iterator[Check]:
    """Yield the checks of each trial's files."""
    ledger = Ledger(workspace)
    for trial in sorted(workspace.trials.glob("*"), key=str):
        if not _NAME.fullmatch(trial.name):
            continue
        if not trial.is_dir():
            wrong = "is a link to nothing" if storage.dangles(trial) else "is no folder"
            found = Finding("record", trial, wrong, "the trial is trained again", (trial,))
            yield Check("record", trial, partial(iter, [found]))
            continue
        yield Check("record", trial, partial(_records, ledger, trial))
        yield Check("epochs", trial, partial(_epochs, ledger, trial))
        yield Check("weights", trial, partial(_weights, ledger, trial))
        for path in sorted((trial / "rows").glob("*.parquet"), key=str):
            yield Check("rows", path, partial(_rows, ledger, path, recorded.evaluations))


def _records(ledger: Ledger, trial: UPath) -> Iterator[Finding]:
    done = _done(ledger, trial)
    again = f"the trial is trained again{_cost(trial, done)}"
    files: list[tuple[UPath, type[BaseModel]]] = [
        (trial / "done.json", Done),
        (trial / "failed.json", Failure),
        *((path, Stopped) for path in sorted((trial / "stopped").glob("*.json"), key=str)),
    ]
    for path, model in files:
        if wrong := _wrong(path, model):
            yield Finding("record", path, wrong, again if model is Done else "the trial is run again", (path,))
    for attempt in epochs.attempts(trial):
        path = attempt / "spec.json"
        if wrong := _wrong(path, TrialSpec) or _another(trial, path):
            counts = done is not None and done.attempt == attempt.name
            after, more = (again, (trial / "done.json",)) if counts else ("the trial begins another attempt", ())
            yield Finding("record", path, wrong, after, (path, *more))
    plain = [path for path, _ in files if _is_plain(path)]
    plain += [path for path in (attempt / "spec.json" for attempt in epochs.attempts(trial)) if _is_plain(path)]
    if plain:
        names = ", ".join(sorted({path.name for path in plain}))
        yield Finding("record", trial, f"has records without a digest: {names}", state="unverifiable")


def _is_plain(path: UPath) -> bool:
    """Return whether a record can be read, and lacks its digest."""
    try:
        return not storage.is_sealed(path)
    except (FileNotFoundError, WorkspaceError):
        return False


def _another(trial: UPath, path: UPath) -> str:
    """Return what is wrong where a spec is that of another trial."""
    if not path.exists():
        return ""
    spec = storage.get_model(TrialSpec, path)
    return "" if is_named(spec, trial.name) else f"is that of trial {spec.fingerprint[:12]}"


def _epochs(ledger: Ledger, trial: UPath) -> Iterator[Finding]:
    done = _done(ledger, trial)
    if done is None:
        for attempt in epochs.attempts(trial):
            yield from _unfinished(attempt)
        return
    path = trial / "attempts" / done.attempt / epochs.FILE
    try:
        ledger.epochs(trial.name)
    except WorkspaceError as error:
        again = f"the trial is trained again{_cost(trial, done)}"
        yield Finding("epochs", path, reason(error, path), again, (trial / "done.json", path))
        return
    if done.epochs and not done.epochs_sha256:
        yield Finding("epochs", path, "has no receipt", state="unverifiable")


def _unfinished(attempt: UPath) -> Iterator[Finding]:
    path, states = attempt / epochs.FILE, epochs.checkpoints(attempt)
    try:
        lines = storage.read(path).splitlines(keepends=True)
    except FileNotFoundError:
        lines = []
    except WorkspaceError:
        lines = [b""]
    try:
        epochs.read(lines)
    except ValueError:
        yield Finding("epochs", path, "is damaged", "the trial goes on from another attempt or anew", (*states, path))
        return
    for state in states:
        try:
            epoch, sha256, mark = epochs.marks(state)
            digests.read(state, sha256, limit=digests.MAX_BYTES)
            whole = epoch > len(lines) or digests.digest(b"".join(lines[:epoch])).startswith(mark)
        except FileNotFoundError:  # a newer one has taken its place
            continue
        except (ValueError, WorkspaceError):
            whole = False
        if not whole:
            yield Finding("epochs", state, "is damaged", "the trial goes on from an epoch before", (state,))


def _weights(ledger: Ledger, trial: UPath) -> Iterator[Finding]:
    done = _done(ledger, trial)
    if done is None:
        return
    again = f"trained again where a child or an evaluation needs them{_cost(trial, done)}"
    if not done.epochs:
        again = "where they are needed, import the checkpoint again or start its sweep"
    for which, sha256 in done.digests.items():
        path = trial / "attempts" / done.attempt / f"{which}.safetensors"
        if path.exists() and not digests.verified(path, sha256, afresh=True):
            yield Finding("weights", path, "is not what done.json says", again, (path,))


def _rows(ledger: Ledger, path: UPath, evaluations: Mapping[str, tuple[EvaluationSpec, str]]) -> Iterator[Finding]:
    trial, key = path.parts[-3], path.stem
    evaluation, sweep = evaluations.get(key, (None, ""))
    if storage.dangles(path):
        yield Finding("rows", path, "is a link to nothing", "evaluated again where it is asked for", (path,))
        return
    again = f"by the next start of {sweep}" if sweep else "by dfloc evaluate"
    images = f": {evaluation.test.size} images of {evaluation.domain}" if evaluation else ""
    try:
        ledger.scored(evaluation) if evaluation else ledger.rows(trial, key)
    except WorkspaceError as error:
        files = tuple(each for each in (path, path.with_suffix(".json")) if each.exists() or each.is_symlink())
        yield Finding("rows", path, reason(error, path), f"evaluated again {again}{images}", files)
        return
    if rows_file.receipt(path, trial) is None:
        yield Finding("rows", path, "has no receipt", state="unverifiable")


def _done(ledger: Ledger, trial: UPath) -> Done | None:
    try:
        return ledger.done(trial.name)
    except WorkspaceError:  # found among the records
        return None


def _wrong(path: UPath, model: type[BaseModel]) -> str:
    try:
        storage.get_model(model, path)
    except FileNotFoundError:
        return "is a link to nothing" if storage.dangles(path) else ""
    except WorkspaceError as error:
        return reason(error, path)
    return ""


def _cost(trial: UPath, done: Done | None) -> str:
    """Return what its training has cost, as the ledger tells, or else its epochs."""
    if done:
        return f": {done.epochs} epochs, {done.cost.seconds:.0f} s of one worker"
    for attempt in epochs.attempts(trial):
        try:
            records = epochs.read(storage.read(attempt / epochs.FILE).splitlines())
        except (ValueError, FileNotFoundError, WorkspaceError):
            continue
        if records:
            return f": {len(records)} epochs, {sum(record.seconds for record in records):.0f} s of one worker"
    return ""
