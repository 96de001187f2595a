"""The ledger projected into MLflow, by one thread, so that a sweep never waits for a server."""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from upath import UPath

from dfloc import database_uri, disk, identity, storage, tracking_uri
from dfloc.errors import ConfigError, DflocError
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.projection import FINGERPRINT, Destination, Projection
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.tracking_store import LostError, RefusedError, Store, StoreError

logger = logging.getLogger(__name__)

EXPERIMENT = "dfloc"
MAX_EXPERIMENT = 250
ANSWER_SECONDS = 10
LAST_ANSWER_SECONDS = 3
STUCK_SECONDS = 120
MAX_REFUSALS = 3

Status = Literal["FINISHED", "FAILED", "KILLED"]


def check_experiment(name: str) -> str:
    """Return the name of an experiment.

    Raises:
        ConfigError: MLflow would not take it, or keeps it for itself.
    """
    if name.strip() != name or not name.isprintable() or not 0 < len(name) <= MAX_EXPERIMENT or name == "Default":
        raise ConfigError(
            f'experiment "{name[:MAX_EXPERIMENT]}" should be a name of 1 to {MAX_EXPERIMENT} signs that can be '
            'printed, without blanks around it, and not "Default", which is MLflow\'s own'
        )
    return name


class Tracker:
    """Keeps MLflow as the ledger is; what a store misses while it is down, the next command fills in.

    Args:
        workspace: where the default store and its artifacts lie.
        ledger: what is projected.
        uri: another store; None = that of the environment, else sqlite in the workspace.
        experiment: MLflow's name for where the runs are put together.
        new_identity: a workspace that is a copy gets an id of its own.

    Raises:
        ConfigError: the URI or the experiment's name cannot be understood.
        WorkspaceError: the workspace's identity is damaged.

    Attributes:
        uri: the store's address.
        is_own: it is the database inside the workspace.
        notes: lines for the screen: whose word the store is, and what the workspace is a copy of.
    """

    def __init__(
        self,
        workspace: Workspace,
        ledger: Ledger,
        uri: str | None = None,
        experiment: str = EXPERIMENT,
        *,
        new_identity: bool = False,
    ):
        self.uri = tracking_uri.check(workspace, uri)
        self.is_own = storage.is_local(workspace.root) and self.uri == workspace.tracking_uri
        found, original = identity.identify(workspace, new_identity)
        self._side = Destination(found, check_experiment(experiment), self.is_own)
        self._is_muted = bool(original) and not self.is_own  # the runs there are the original's
        inherited = tracking_uri.inherited(uri)
        self.notes = [f"MLflow: the one at {tracking_uri.VARIABLE}={inherited}"] if inherited else []
        if original:
            until = f"; until then nothing is written to MLflow at {self.uri}" if self._is_muted else ""
            self.notes.append(f"this workspace is a copy of {original}; --new-identity tells them apart{until}")
        self._workspace = workspace
        self._ledger = ledger
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._store: Store | None = None
        self._projection: Projection | None = None
        self._warned = self._hurried = False
        self._missed: dict[str, Exception] = {}
        self._bug: Exception | None = None

    @property
    def ui_words(self) -> list[str]:
        """What `dfloc ui` needs to be told beside the workspace."""
        return [] if self._side.experiment == EXPERIMENT else ["--experiment", self._side.experiment]

    @property
    def is_whole(self) -> bool:
        """Whether the store has all that the record has; asked after `close`."""
        missed = self._warned or self._hurried or self._missed
        return bool(self._projection and self._projection.takes_files and not missed)

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

    def close(self, status: Status, report: UPath | None = None, seconds: float = math.inf) -> None:
        """Project all that the record has and the store lacks, end the parent run, and wait until that is done.

        Args:
            status: how the sweep ended.
            report: a folder to upload to the parent run.
            seconds: wait no longer, and only end the parent run: the next command fills in the rest.
        """
        self._hurried = seconds < math.inf
        until = time.monotonic() + seconds
        self._tasks.put(lambda: self._end(status, report))
        self._tasks.put(None)
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.1)
            if self._store and self._store.busy_seconds > STUCK_SECONDS:
                self._lose(LostError(f"{self._store.name} does not end its answer; the next command fills it in"))
                return
        if len(self._missed) > 1:
            logger.warning("MLflow lacks parts of %d trials more; the next command tries again", len(self._missed) - 1)
        if self._bug:
            raise self._bug

    def _work(self) -> None:
        while task := self._tasks.get():
            try:
                task()
            except StoreError as error:
                self._lose(error)
            except Exception as error:  # noqa: BLE001 (close raises it: a mistake of our own)
                self._projection, self._bug = None, error

    def _connect(self, seconds: float) -> None:
        if self._is_muted:
            return
        self._store = Store(self.uri)
        self._store.open(_log(self._workspace), seconds)
        self._projection = Projection(self._store, self._side, self._ledger, self._record)
        experiment = self._store.experiment(self._side.experiment).experiment_id
        tracking_uri.note(self._workspace.sweep(self._record.sweep), self.uri, str(experiment))

    def _renew(self, record: SweepRecord) -> None:
        self._record = record
        if self._projection:
            self._projection.take(record)

    def _put(self, planned: PlannedTrial) -> None:
        if self._projection is None or self._hurried:
            return
        try:
            self._projection.put(planned)
        except (RefusedError, DflocError, OSError) as error:
            if not self._missed:
                refused = isinstance(error, RefusedError)
                told = "trial %s: %s; all else is tracked" if refused else "trial %s is not tracked: %s"
                logger.warning(told, planned.fingerprint[:12], error)
            self._missed[planned.fingerprint] = error
            if isinstance(error, RefusedError) and error.status > 400 and len(self._missed) >= MAX_REFUSALS:
                raise

    def _end(self, status: Status, report: UPath | None) -> None:
        if self._bug:
            return
        if self._projection is None:
            self._connect(LAST_ANSWER_SECONDS)
        for planned in self._record.trials:
            self._put(planned)  # nothing of it in a hurry
        if self._projection:
            self._projection.end(status, report)

    def _lose(self, error: StoreError) -> None:
        """Go on without the store, and say so once; a full disk of this machine is told in the end."""
        self._projection = None
        if self._store and self._store.database:
            self._bug = disk.full_disk(error, self._store.database)
            if self._bug:
                return
        if not self._warned:
            logger.warning("%s", error)
        self._warned = True


def _log(workspace: Workspace) -> Path | None:
    return storage.local(workspace.root) / "logs" / "mlflow.log" if storage.is_local(workspace.root) else None


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
    database, missing = database_uri.database(uri), f"no trial {run_id}, and no such run in MLflow at {uri}"
    if database and not database.exists():
        raise ConfigError(f"{missing} (there is no such store); see dfloc ui")
    try:
        run = Store(uri).open(_log(workspace), ANSWER_SECONDS).run(run_id)
    except StoreError as error:
        raise ConfigError(f"{missing} ({error}); see dfloc ui") from error
    if FINGERPRINT not in run.data.tags:
        raise ConfigError(f"the MLflow run {run_id} is no trial's (a sweep's own, say); choose one below it")
    return str(run.data.tags[FINGERPRINT])
