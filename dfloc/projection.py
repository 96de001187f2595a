"""One sweep's part of a store: which runs are this workspace's, and what they lack of the ledger."""

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq
from upath import UPath

from dfloc import disk, parent_run, run_layout, storage, summary
from dfloc.config import EvaluationSpec
from dfloc.frozen import fingerprint
from dfloc.identity import Identity
from dfloc.ledger import Ledger
from dfloc.mlflow_names import MAX_KEY, key, value
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.tracking_store import RELATIVE, RefusedError, Store

logger = logging.getLogger(__name__)

ENDS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
NO_FILES = " without files"

FINGERPRINT = "dfloc.fingerprint"
PARENT = "dfloc.sweep_run"
PROTOCOL = "dfloc.protocol"
STOPPED = "dfloc.stopped"
WORKSPACE = "dfloc.workspace"
PLACE = "dfloc.workspace_path"
SAME = "dfloc.same_trial"
MLFLOW_PARENT = "mlflow.parentRunId"
MLFLOW_NAME = "mlflow.runName"


@dataclass(frozen=True)
class Destination:
    """Whose runs are written, and where.

    Attributes:
        identity: the workspace's: a run is its own by this id, not by a path.
        experiment: name of the MLflow experiment.
        own: the store is the database inside the workspace.
    """

    identity: Identity
    experiment: str
    own: bool


class Projection:
    """Which runs a store has and what they lack; used by the tracker's thread alone.

    Runs of other workspaces are read, so that a trial that they recorded too is linked, and never written.

    Raises:
        StoreError: of the store, as every method.
    """

    def __init__(self, store: Store, side: Destination, ledger: Ledger, record: SweepRecord):
        self._store = store
        self._side = side
        self._ledger = ledger
        self._refused: set[str] = set()
        self.take(record)
        experiment = self._open_experiment()
        self._experiment = str(experiment.experiment_id)
        self._uploads = self._reaches(experiment.artifact_location)
        runs = list(store.runs(self._experiment))
        if side.own:
            self._follow(experiment, runs)
        own = [self._mended(run) for run in runs if self._is_own(run)]
        self._trials = run_layout.by_tag(store, FINGERPRINT, own)
        self._others: dict[str, list[str]] = {}
        for run in runs:
            if not self._is_own(run) and FINGERPRINT in run.data.tags:
                self._others.setdefault(run.data.tags[FINGERPRINT], []).append(run.info.run_id)
        self._parent = self._open_parent([run for run in own if run.data.tags.get(PARENT) == record.sweep])

    def take(self, record: SweepRecord) -> None:
        """Take the record of the sweep, at first and whenever trials were added to it."""
        self._record = record
        self._planned = {planned.fingerprint: planned for planned in reversed(record.trials)}

    @property
    def takes_files(self) -> bool:
        """Whether its files could be written from here so far."""
        return self._uploads

    def put(self, planned: PlannedTrial) -> None:
        """Bring the run of a trial up to date; nothing where it is already, or where the trial has not ended.

        Raises:
            RefusedError: a part of it, and all else is there; the next command tries again.
        """
        name = planned.fingerprint
        state = self._ledger.state(name, self._record.sweep)
        if state not in ENDS or name in self._refused:
            return
        planned = self._planned[name]
        found = summary.evaluated(self._record, self._ledger, planned)
        stages = list(dict.fromkeys(each.stage for each in self._record.trials if each.fingerprint == name))
        stamp = fingerprint([run_layout.NUMBER, state, ", ".join(stages), sorted(each.key for each in found)])[:16]
        run = self._trials.get(name)
        self._rename(run, planned)
        had = run.data.tags.get(key(self._tag("stamp"))) if run and run.info.status == ENDS[state] else None
        if had == stamp or (had == stamp + NO_FILES and not self._uploads):
            self._move(run, planned)
            return
        numbers = summary.summary(self._record, self._ledger, planned)
        run = self._of_today(run, planned) if run else self._create(planned)
        try:
            if had != stamp + NO_FILES:
                self._log(run, planned, numbers, self._found_by(stages))
        except RefusedError:
            self._refused.add(name)
            raise
        finally:
            self._store.end(run.info.run_id, ENDS[state], _milliseconds(self._ended(name)))
            self._trials[name] = run
        whole = self._upload_rows(run.info.run_id, [each for each in found if each.trial == name])
        self._store.tag(run.info.run_id, {self._tag("stamp"): stamp + ("" if whole else NO_FILES)})
        self._trials[name] = self._store.run(run.info.run_id)

    def _rename(self, run: Any, planned: PlannedTrial) -> None:
        """Give a run that this sweep recorded first the name that its trial has by now."""
        name = value(planned.name, MAX_KEY)
        if run and run.data.tags.get(MLFLOW_PARENT) == self._parent and run.info.run_name != name:
            self._store.tag(run.info.run_id, {MLFLOW_NAME: name})

    def _move(self, run: Any, planned: PlannedTrial) -> None:
        """Name the place of the workspace on a run that is complete, where it was another one."""
        if not run.data.tags.get(PLACE, "").endswith(f":{self._side.identity.path}"):
            words = summary.tags(self._record, self._ledger, planned)
            here = {name: word for name, word in words.items() if name == summary.WEIGHTS}
            self._store.tag(run.info.run_id, self._whose() | here)

    def _create(self, planned: PlannedTrial) -> Any:
        epochs = self._ledger.epochs(planned.fingerprint)
        start = epochs[0].time - epochs[0].seconds if epochs else self._ended(planned.fingerprint)
        tags = {
            FINGERPRINT: planned.fingerprint,
            **self._whose(),
            PROTOCOL: self._record.protocol_of(planned),
            MLFLOW_PARENT: self._parent,
            **run_layout.tags(),
        }
        return self._store.make_run(self._experiment, planned.name, tags, _milliseconds(start))

    def _of_today(self, run: Any, planned: PlannedTrial) -> Any:
        """Return a run of this layout: one of an older is made again, unless it has numbers of another protocol.

        It stays under the sweep that recorded it first, and has its tags, those of a user among them.
        """
        had = run.data.tags
        same = had.get(MLFLOW_PARENT) == self._parent or had.get(PROTOCOL) == self._record.protocol_of(planned)
        if run_layout.is_of_today(run) or not same:
            return run
        title, start = run.info.run_name, run.info.start_time
        made = self._store.make_run(self._experiment, title, run_layout.tags(), start, before=run)
        self._trials[planned.fingerprint] = made
        self._store.delete(run.info.run_id)
        return made

    def _log(self, run: Any, planned: PlannedTrial, numbers: Mapping[str, float], found_by: Mapping[str, str]) -> None:
        """Log what the run lacks; what it has already is changed by the sweep alone that recorded it first."""
        data = run.data
        mine = data.tags.get(MLFLOW_PARENT) == self._parent or run.info.status == ENDS["stopped"]
        had = {key(name): data.metrics.get(key(name)) for name in (*numbers, *data.metrics)}
        points = summary.curves(self._ledger, planned)
        if mine or data.tags.get(PROTOCOL) == self._record.protocol_of(planned):
            ended = self._ended(planned.fingerprint)
            kept = not mine and any(summary.is_mean(name) for name in data.metrics)  # means are over other domains
            points |= {
                name: [summary.LoggedValue(number, ended if had[key(name)] is None else time.time())]
                for name, number in numbers.items()
                if not (kept and summary.is_mean(name))
            }
        metrics = [
            (name, point.value, _milliseconds(point.time), point.epoch)
            for name, some in points.items()
            if had.get(key(name)) is None or (mine and had[key(name)] != some[-1].value)
            for point in some
        ]
        held_out = str(summary.axes(self._record, planned).get("held_out", ""))
        params = summary.params(planned.spec, self._record.weights, held_out)
        self._store.log(
            run.info.run_id,
            metrics,
            {name: word for name, word in params.items() if key(name) not in data.params},
            self._words(run, planned, found_by, mine),
        )

    def _words(self, run: Any, planned: PlannedTrial, found_by: Mapping[str, str], mine: bool) -> dict[str, str]:
        """Return the tags that a run is to have, after taking away those that are not true any more."""
        had = run.data.tags
        words = summary.tags(self._record, self._ledger, planned) | {PROTOCOL: self._record.protocol_of(planned)}
        tags = {name: word for name, word in words.items() if mine or key(name) not in had} | dict(found_by)
        stopped = self._ledger.stopped(planned.fingerprint, self._record.sweep)
        if stopped and self._ledger.state(planned.fingerprint, self._record.sweep) == "stopped":
            tags[STOPPED] = f"after epoch {stopped.epoch} by {self._record.sweep}"
        if planned.fingerprint in self._others:
            tags[SAME] = ", ".join(self._others[planned.fingerprint])
        past = {summary.FAILURE, STOPPED} - {*words, *tags} | self._found(had) - {key(name) for name in found_by}
        self._store.untag(run.info.run_id, sorted(had.keys() & past))
        return tags | self._whose()

    def _ended(self, name: str) -> float:
        stopped = self._ledger.stopped(name, self._record.sweep)
        end = self._ledger.done(name) or self._ledger.failure(name) or stopped
        assert end is not None, "only trials that ended are projected"
        return end.time

    def _whose(self) -> dict[str, str]:
        return {WORKSPACE: self._side.identity.id, PLACE: self._side.identity.place}

    def _is_own(self, run: Any) -> bool:
        return bool(run.data.tags.get(WORKSPACE) == self._side.identity.id)

    def _tag(self, kind: str) -> str:
        """Return the tag of this sweep on a trial's run."""
        return f"dfloc.{kind}.{self._record.sweep}"

    def _found_by(self, stages: Sequence[str]) -> dict[str, str]:
        """Return the tags by which the parent's description finds a trial: one of the sweep, and one a stage."""
        return {self._tag("sweep"): ", ".join(stages), **{f"{self._tag('stage')}/{stage}": "true" for stage in stages}}

    def _found(self, tags: Mapping[str, str]) -> set[str]:
        """Return those tags, as a run has them."""
        stage = key(f"{self._tag('stage')}/ ").rstrip()
        return {name for name in tags if name == key(self._tag("sweep")) or name.startswith(stage)}

    def _upload_rows(self, run_id: str, evaluations: Sequence[EvaluationSpec]) -> bool:
        with tempfile.TemporaryDirectory() as scratch:
            for each in evaluations:
                path = Path(scratch) / each.checkpoint / f"{each.domain.replace('/', '-')}.parquet"
                path.parent.mkdir(exist_ok=True)
                pq.write_table(self._ledger.rows(each.trial, each.key), path)
            return self._upload(run_id, Path(scratch), "rows")

    def _upload(self, run_id: str, folder: Path, name: str) -> bool:
        """Upload a folder; where files cannot be written from here that is told once, and numbers go on alone."""
        try:
            if self._uploads:
                self._store.upload(run_id, folder, name)
        except RefusedError as error:
            self._no_files(str(error))
        return self._uploads

    def _reaches(self, location: str) -> bool:
        """Return whether the files of an experiment belong to a place that is there; MLflow would make it again."""
        parts = urlsplit(location)
        folder = Path(unquote(parts.path)) if parts.scheme == "file" else Path(location)
        if parts.scheme not in ("", "file") or folder.parent.is_dir():
            return True
        self._no_files(f"they are kept in {folder}, which is not there")
        return False

    def _no_files(self, cause: str) -> None:
        self._uploads = False
        logger.warning("MLflow gets no files, numbers alone: %s; put that right, and the next command adds them", cause)

    def end(self, status: str, report: UPath | None) -> None:
        """End the parent run; a run of a trial that the sweep does not have any more is found by it no longer."""
        for name, run in self._trials.items():
            if name not in self._planned and (past := self._found(run.data.tags)):
                self._store.untag(run.info.run_id, sorted(past | run.data.tags.keys() & {key(self._tag("stamp"))}))
        if report:
            with tempfile.TemporaryDirectory() as scratch:
                copy = shutil.copytree(storage.local(report), Path(scratch) / "report", ignore=_scratch_files)
                self._upload(self._parent, copy, "report")
        try:
            if report:
                parent_run.answer(self._store, self._parent, report)
        finally:
            self._store.end(self._parent, status)

    def _open_experiment(self) -> Any:
        name = self._side.experiment
        found = self._store.experiment(name)
        if found and found.lifecycle_stage == "deleted":
            self._store.change_experiment("restore_experiment", found.experiment_id)
        if found and self._side.own and not found.artifact_location.startswith(RELATIVE):
            self._set_aside(found)
            found = None
        if found is None:
            location = f"{RELATIVE}/{self._side.identity.id}" if self._store.database else None
            found = self._store.make_experiment(name, location)
        return found

    def _set_aside(self, old: Any) -> None:
        """Rename an experiment whose files lie at an absolute path, which nothing can change: all is written anew."""
        number, name = 1, f"{old.name} before"
        while self._store.experiment(name):
            number, name = number + 1, f"{old.name} before {number + 1}"
        for run in self._store.runs(str(old.experiment_id)):
            if run.info.status == "RUNNING" and WORKSPACE in run.data.tags:
                self._store.end(run.info.run_id, "KILLED")
        self._store.change_experiment("rename_experiment", old.experiment_id, name)
        logger.warning(
            'MLflow kept the files of earlier runs under the absolute path %s; they stay as experiment "%s", and all '
            "trials are written anew",
            old.artifact_location,
            name,
        )

    def _follow(self, experiment: Any, runs: Sequence[Any]) -> None:
        """Give the runs of this workspace in its own database the id that it has by now."""
        mine, before = self._side.identity.id, experiment.tags.get(WORKSPACE)
        for run in runs:
            if run.data.tags.get(WORKSPACE) in {before, self._side.identity.path} - {None, mine}:
                self._store.tag(run.info.run_id, self._whose())
                run.data.tags.update(self._whose())
        if before != mine:
            self._store.change_experiment("set_experiment_tag", self._experiment, WORKSPACE, mine)

    def _mended(self, run: Any) -> Any:
        """Return a run that no driver is at work on any more: one of this workspace has only one driver, this one."""
        if run.info.status != "RUNNING":
            return run
        self._store.end(run.info.run_id, "KILLED")
        return self._store.run(run.info.run_id)

    def _open_parent(self, found: Sequence[Any]) -> str:
        whose = f"tags.`{WORKSPACE}` = '{self._side.identity.id}'"
        stages = dict.fromkeys(planned.stage for planned in self._record.trials)
        whole, *parts = (f"tags.`{key(name)}` != '' AND {whose}" for name in self._found_by(list(stages)))
        note = parent_run.note(self._record, whole, parts)
        tags = {PARENT: self._record.sweep, **self._whose(), PROTOCOL: self._record.protocol}
        tags["mlflow.note.content"] = note
        if not found:
            return str(self._store.make_run(self._experiment, self._record.sweep, tags).info.run_id)
        parent = str(found[-1].info.run_id)
        self._store.tag(parent, tags)
        self._store.end(parent, "RUNNING")
        return parent


def _scratch_files(folder: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if disk.SCRATCH.fullmatch(name)]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
