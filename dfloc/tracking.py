"""The ledger projected into MLflow, by one thread, so that a sweep never waits for a server."""

import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import pyarrow.parquet as pq
from upath import UPath

from dfloc import storage, summary, tracking_uri
from dfloc.config import EvaluationSpec, fingerprint
from dfloc.errors import ConfigError, DflocError
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

EXPERIMENT = "dfloc"
LAYOUT = 1  # raised when the names or meanings of params, metrics or tags change: older runs are then written again
ANSWER_SECONDS = 10
LAST_ANSWER_SECONDS = 3
MAX_METRICS = 900  # of one request, which takes 1000 metrics, params and tags together
ENDS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

FINGERPRINT = "dfloc.fingerprint"
PARENT = "dfloc.sweep_run"
PROTOCOL = "dfloc.protocol"
STOPPED = "dfloc.stopped"
WORKSPACE = "dfloc.workspace"
MLFLOW_PARENT = "mlflow.parentRunId"

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Keeps MLflow as the ledger is; what a store misses while it is down, the next command fills in.

    Args:
        workspace: where the default store and its artifacts lie.
        ledger: what is projected.
        uri: another store; None = sqlite in the workspace.

    Raises:
        ConfigError: the URI cannot be understood.
    """

    def __init__(self, workspace: Workspace, ledger: Ledger, uri: str | None = None):
        self.uri = tracking_uri.check(workspace, uri)
        self._workspace = workspace
        self._ledger = ledger
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._projection: _Projection | None = None
        self._warned = False
        self._bug: Exception | None = None

    def open(self, record: SweepRecord) -> None:
        """Find or make the sweep's parent run, and mend what a killed driver left RUNNING; returns at once."""
        self._record = record
        self._tasks.put(lambda: self._connect(ANSWER_SECONDS))
        self._thread.start()

    def renew(self, record: SweepRecord) -> None:
        """Take a record to which trials were added; returns at once."""
        self._tasks.put(lambda: self._renew(record))

    def submit(self, planned: PlannedTrial) -> None:
        """Have a finished, failed or stopped trial projected; returns at once."""
        self._tasks.put(lambda: self._put(planned))

    def close(self, status: Status, report: UPath | None = None) -> None:
        """Project all that the record has and the store lacks, end the parent run, and wait until that is done.

        Args:
            status: how the sweep ended.
            report: a folder to upload to the parent run.
        """
        self._tasks.put(lambda: self._end(status, report))
        self._tasks.put(None)
        self._thread.join()
        if self._bug:
            raise self._bug

    def _work(self) -> None:
        while task := self._tasks.get():
            try:
                task()
            except OSError as error:
                self._lose(error)
            except Exception as error:  # noqa: BLE001 (close raises it)
                if isinstance(error, _store_errors()):
                    self._lose(error)
                else:
                    self._projection, self._bug = None, error

    def _connect(self, seconds: float) -> None:
        tracking_uri.quiet(storage.local(self._workspace.root) / "logs" / "mlflow.log")
        tracking_uri.probe(self.uri, seconds)
        self._projection = _Projection(self.uri, self._workspace, self._ledger, self._record)

    def _renew(self, record: SweepRecord) -> None:
        self._record = record
        if self._projection:
            self._projection.take(record)

    def _put(self, planned: PlannedTrial) -> None:
        if self._projection is None:
            return
        try:
            self._projection.put(planned)
        except DflocError as error:
            logger.warning("trial %s is not tracked: %s", planned.fingerprint[:12], error)

    def _end(self, status: Status, report: UPath | None) -> None:
        if self._bug:
            return
        if self._projection is None:
            self._connect(LAST_ANSWER_SECONDS)
        for planned in self._record.trials:
            self._put(planned)
        assert self._projection is not None
        self._projection.end(status, report)

    def _lose(self, error: Exception) -> None:
        """Go on without the store, and say so once."""
        self._projection = None
        if not self._warned:
            cause = str(error).strip().partition("\n")[0][:200]
            logger.warning("MLflow at %s does not answer (%s); the next command fills it in", self.uri, cause)
        self._warned = True


class _Projection:
    """The store's side: which runs it has and what they lack; used by the tracker's thread alone."""

    def __init__(self, uri: str, workspace: Workspace, ledger: Ledger, record: SweepRecord):
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._workspace = str(workspace.root)
        self._ledger = ledger
        self._uploads = True
        self.take(record)
        self._experiment = self._open_experiment(None if uri.startswith("http") else workspace.artifacts)
        runs = [self._mended(run) for run in self._all_runs()]
        self._trials = {run.data.tags[FINGERPRINT]: run for run in runs if FINGERPRINT in run.data.tags}
        self._parent = self._open_parent([run for run in runs if run.data.tags.get(PARENT) == record.sweep])

    def take(self, record: SweepRecord) -> None:
        """Take the record of the sweep, at first and whenever trials were added to it."""
        self._record = record
        self._planned = {planned.fingerprint: planned for planned in reversed(record.trials)}

    def put(self, planned: PlannedTrial) -> None:
        """Bring the run of a trial up to date; nothing where it is already, or where the trial has not ended."""
        name = planned.fingerprint
        state = self._ledger.state(name, self._record.sweep)
        if state not in ENDS:
            return
        planned = self._planned[name]
        found = summary.evaluated(self._record, self._ledger, planned)
        stages = ", ".join(dict.fromkeys(each.stage for each in self._record.trials if each.fingerprint == name))
        stamp = fingerprint([LAYOUT, state, stages, sorted(each.key for each in found)])[:16]
        run = self._trials.get(name)
        if run and run.data.tags.get(self._key("stamp")) == stamp and run.info.status == ENDS[state]:
            return
        numbers = summary.summary(self._record, self._ledger, planned)
        run = run or self._create(planned)
        self._upload_rows(run.info.run_id, [each for each in found if each.trial == name])
        stopped = self._ledger.stopped(name, self._record.sweep) if state == "stopped" else None
        early = {STOPPED: f"after epoch {stopped.epoch} by {self._record.sweep}"} if stopped else {}
        self._log(run, planned, numbers, {self._key("sweep"): stages, self._key("stamp"): stamp, **early})
        self._client.set_terminated(run.info.run_id, ENDS[state], _milliseconds(self._ended(name)))
        self._trials[name] = self._client.get_run(run.info.run_id)

    def _create(self, planned: PlannedTrial) -> Any:
        epochs = self._ledger.epochs(planned.fingerprint)
        start = epochs[0].time - epochs[0].seconds if epochs else self._ended(planned.fingerprint)
        tags = {
            FINGERPRINT: planned.fingerprint,
            WORKSPACE: self._workspace,
            PROTOCOL: self._record.protocol_of(planned),
            MLFLOW_PARENT: self._parent,
        }
        return self._client.create_run(self._experiment, _milliseconds(start), tags, planned.name)

    def _log(self, run: Any, planned: PlannedTrial, numbers: dict[str, float], tags: dict[str, str]) -> None:
        """Log what the run lacks; what it has already is changed by the sweep alone that recorded it first."""
        from mlflow.entities import Metric, Param, RunTag

        mine = run.data.tags.get(MLFLOW_PARENT) == self._parent or run.info.status == ENDS["stopped"]
        had, wanted = run.data.metrics, summary.curves(self._ledger, planned)
        if mine or run.data.tags[PROTOCOL] == self._record.protocol_of(planned):
            ended = self._ended(planned.fingerprint)
            kept = not mine and any(summary.is_mean(key) for key in had)  # means of two sweeps are over other domains
            for key, value in numbers.items():
                if kept and summary.is_mean(key):
                    continue
                wanted[key] = [summary.Point(value, time.time() if key in had else ended)]
        metrics = [
            Metric(key, point.value, _milliseconds(point.time), point.epoch)
            for key, points in wanted.items()
            if key not in had or (mine and had[key] != points[-1].value)
            for point in points
        ]
        words = summary.tags(self._ledger, planned) | {PROTOCOL: self._record.protocol_of(planned)}
        tags = {key: word for key, word in words.items() if mine or key not in run.data.tags} | tags
        for past in (run.data.tags.keys() & {summary.FAILURE, STOPPED}) - {*words, *tags}:
            self._client.delete_tag(run.info.run_id, past)
        wanted_params = summary.params(planned.spec, self._record.weights)
        params = [Param(*item) for item in wanted_params.items() if item[0] not in run.data.params]
        while len(metrics) > MAX_METRICS:
            self._client.log_batch(run.info.run_id, metrics[:MAX_METRICS])
            metrics = metrics[MAX_METRICS:]
        self._client.log_batch(run.info.run_id, metrics, params, [RunTag(*item) for item in tags.items()])

    def _ended(self, name: str) -> float:
        stopped = self._ledger.stopped(name, self._record.sweep)
        end = self._ledger.done(name) or self._ledger.failure(name) or stopped
        assert end is not None, "only trials that ended are projected"
        return end.time

    def _key(self, kind: str) -> str:
        """Return the tag of this sweep on a trial's run, in MLflow's alphabet."""
        return f"dfloc.{kind}." + re.sub(r"[^-. \w]", "_", self._record.sweep)

    def _upload_rows(self, run_id: str, evaluations: Sequence[EvaluationSpec]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for each in evaluations:
                path = Path(scratch) / each.checkpoint / f"{each.domain.replace('/', '-')}.parquet"
                path.parent.mkdir(exist_ok=True)
                pq.write_table(self._ledger.rows(each.trial, each.key), path)
            self._upload(run_id, Path(scratch), "rows")

    def _upload(self, run_id: str, folder: Path, name: str) -> None:
        """Upload a folder; a store whose files cannot be reached from here is told once, and gets numbers alone."""
        try:
            if self._uploads:
                self._client.log_artifacts(run_id, str(folder), name)
        except (PermissionError, FileNotFoundError, ImportError) as error:
            self._uploads = False
            logger.warning("MLflow gets no files: its artifact store cannot be written from here (%s)", error)

    def end(self, status: Status, report: UPath | None) -> None:
        """End the parent run."""
        if report:
            self._upload(self._parent, storage.local(report), "report")
        self._client.set_terminated(self._parent, status)

    def _open_experiment(self, artifacts: UPath | None) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            location = artifacts and storage.local(artifacts).as_uri()
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _all_runs(self) -> Iterator[Any]:
        page = self._client.search_runs([self._experiment])
        yield from page
        while page.token:
            page = self._client.search_runs([self._experiment], page_token=page.token)
            yield from page

    def _mended(self, run: Any) -> Any:
        """Return a run that no driver is at work on any more: one of this workspace has only one driver, this one."""
        if run.info.status != "RUNNING" or run.data.tags.get(WORKSPACE) != self._workspace:
            return run
        self._client.set_terminated(run.info.run_id, "KILLED")
        return self._client.get_run(run.info.run_id)

    def _open_parent(self, found: Sequence[Any]) -> str:
        tags = {
            PARENT: self._record.sweep,
            WORKSPACE: self._workspace,
            PROTOCOL: self._record.protocol,
            "mlflow.note.content": summary.note(self._record, self._key("sweep")),
        }
        if not found:
            return str(self._client.create_run(self._experiment, None, tags, self._record.sweep).info.run_id)
        parent = str(found[-1].info.run_id)
        for item in tags.items():
            self._client.set_tag(parent, *item)
        self._client.update_run(parent, status="RUNNING")
        return parent


def trial_of(workspace: Workspace, run_id: str, uri: str | None = None) -> str:
    """Return the fingerprint of the trial that a run of a store records.

    Args:
        workspace: where the default store lies.
        run_id: MLflow's, 32 hexadecimal digits.
        uri: another store; None = sqlite in the workspace.

    Raises:
        ConfigError: the store cannot be understood or does not answer, has no such run, or the run is no trial's.
    """
    uri = tracking_uri.check(workspace, uri)
    try:
        if uri.startswith(tracking_uri.SQLITE) and not Path(uri.removeprefix(tracking_uri.SQLITE)).exists():
            raise FileNotFoundError("there is no such store")
        tracking_uri.quiet(storage.local(workspace.root) / "logs" / "mlflow.log")
        tracking_uri.probe(uri, ANSWER_SECONDS)
        from mlflow import MlflowClient

        run = MlflowClient(tracking_uri=uri).get_run(run_id)
    except Exception as error:
        if not isinstance(error, (OSError, *_store_errors())):
            raise
        cause = str(error).strip().partition("\n")[0][:200]
        raise ConfigError(f"no trial {run_id}, and no such run in MLflow at {uri} ({cause}); see dfloc ui") from error
    if FINGERPRINT not in run.data.tags:
        raise ConfigError(f"the MLflow run {run_id} is no trial's (a sweep's own, say); choose one below it")
    return str(run.data.tags[FINGERPRINT])


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _store_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError
