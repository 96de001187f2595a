"""What must hold, whatever happens: told of what the code has promised, compared with what is there afterwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pyarrow as pa

from dfloc import rows_file
from dfloc.config import TrialSpec
from dfloc.data import sample_lists
from dfloc.errors import DflocError
from dfloc.ledger import Attempt, Ledger
from dfloc.lock import STALE_SECONDS, DriverLock
from dfloc.outcome import EpochRecord
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.run import Driver
from tests.simulator.cluster import Workers
from tests.simulator.world import Process, World

HEARD_SECONDS = STALE_SECONDS / 4 * 0.8  # a driver whose counter stood still for less is alive to all others


class Watch:
    """The invariants.

    Attributes:
        excused: trials of which a read has failed or a file has rotted: an epoch of theirs may be trained again.
    """

    def __init__(self, world: World, workers: Workers, workspace: Workspace):
        self._world, self._workers, self._workspace = world, workers, workspace
        self.excused: set[str] = set()
        self._done: dict[str, tuple[int, dict[str, str]]] = {}
        self._epochs: dict[str, dict[int, int]] = {}
        self._rows: dict[tuple[str, str], tuple[int, str]] = {}
        self._planned: dict[str, set[str]] = {}
        self._begun: dict[int, int] = {}
        self._drivers: dict[int, tuple[Process, str]] = {}
        self._ending = set[int]()
        self._taken: dict[int, int] = {}  # a driver that was taken over -> its writes since

    def born(self, pid: int) -> int:
        """Return the operation before which a worker began, or began to look at what is there."""
        return self._begun.setdefault(pid, self._world.ops)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Be told of what the code does."""
        with ExitStack() as stack:
            for kind, name, after in (
                (Attempt, "save_epoch", self._saved),
                (Attempt, "finish", self._finished),
                (Ledger, "put_rows", self._put),
                (Driver, "_keep", self._recorded),
            ):
                stack.enter_context(mock.patch.object(kind, name, _followed(getattr(kind, name), after)))
            stack.enter_context(mock.patch.object(Ledger, "begin", _led(Ledger.begin, self._begins)))
            stack.enter_context(mock.patch.object(DriverLock, "__enter__", self._entering(DriverLock.__enter__)))
            stack.enter_context(mock.patch.object(DriverLock, "__exit__", self._leaving(DriverLock.__exit__)))
            yield

    def trained(self, trial: str, epoch: int) -> None:
        """Be told that an epoch is trained."""
        kept = self._epochs.get(trial, {}).get(epoch)
        if kept is not None and kept < self._me() and trial not in self.excused:
            self._world.violate(f"epoch {epoch} of trial {trial[:6]} was saved, and is trained again")

    def writes(self, process: Process, kind: str, path: str) -> None:
        """Be told of an operation: a driver that was taken over may end what it is writing, and begins nothing."""
        shared = path.startswith(("/sweeps", "/reports"))
        named = kind == "rename" or (kind == "link" and not path.endswith(".part"))
        if process.pid in self._taken and shared and named:
            self._taken[process.pid] += 1
            if self._taken[process.pid] > 1:
                self._world.violate("a driver that was taken over goes on writing")

    def submitted(self, trial: object) -> None:
        """Be told that a driver has a trial tracked, which it asks its lock for."""
        me = self._world.current
        if me is not None and me.pid in self._taken:
            self._world.violate("a driver that was taken over goes on tracking")

    def crashed(self) -> None:
        """Forget who was running."""
        self._begun.clear()
        self._drivers.clear()
        self._ending.clear()
        self._taken.clear()

    def check(self) -> None:
        """Compare what was promised with what is there."""
        ledger = Ledger(self._workspace)
        try:
            for trial, (_, sums) in self._done.items():
                found = ledger.done(trial)
                if found is None or found.digests != sums or not ledger.has_weights(trial):
                    self._world.violate(f"trial {trial[:6]} was finished, and is not")
                elif len(ledger.epochs(trial)) != found.epochs or ledger.spec(trial).fingerprint != trial:
                    self._world.violate(f"of trial {trial[:6]}, which was finished, epochs or spec are lost")
            for (trial, key), (_, mark) in self._rows.items():
                if trial not in self.excused and self._sum(trial, key) != mark:
                    self._world.violate(f"rows of trial {trial[:6]} were put, and are others")
            for sweep, planned in self._planned.items():
                record = SweepRecord.load(self._workspace.sweep(sweep))
                if record is None or planned - {one.fingerprint for one in record.trials}:
                    self._world.violate(f"the record of {sweep} was put, and is lost")
            for path in self._workspace.lists.glob("*.json") if self._workspace.lists.exists() else ():
                if path.name not in self.excused:
                    sample_lists.ids(self._workspace, path.stem)
        except DflocError as error:
            self._world.violate(f"what was put cannot be read: {error}")

    def numbers(self) -> dict[str, Any]:
        """Return every number of the finished trials."""
        ledger = Ledger(self._workspace)
        found: dict[str, Any] = {}
        for folder in self._workspace.trials.iterdir():
            done = ledger.done(folder.name)
            epochs = [one.model_dump(exclude={"time"}) for one in ledger.epochs(folder.name)]
            rows = {path.stem: rows_file.read(path, folder.name).to_pylist() for path in folder.glob("rows/*.parquet")}
            found[folder.name] = (done and (done.digests, done.best_epoch, done.epochs), epochs, rows)
        return found

    def _sum(self, trial: str, key: str) -> str | None:
        """Return the digest of rows, after a look whether they are what was put; None where they are not there."""
        found = rows_file.receipt(self._workspace.trials / trial / "rows" / f"{key}.parquet", trial)
        return found.sha256 if found else None

    def _me(self) -> int:
        me = self._world.current
        assert me is not None
        return self.born(me.pid)

    def _begins(self, ledger: Ledger, spec: TrialSpec) -> None:
        done = self._done.get(spec.fingerprint)
        if done is not None and done[0] < self._me():
            self._world.violate(f"trial {spec.fingerprint[:6]} was finished, and is trained again")

    def _saved(self, attempt: Attempt, result: object, state: bytes, records: list[EpochRecord]) -> None:
        self._epochs.setdefault(attempt._fingerprint, {})[len(records)] = self._world.ops

    def _finished(self, attempt: Attempt, counts: bool, *args: object) -> None:
        done = Ledger(self._workspace).done(attempt._fingerprint)
        if done is None:
            self._world.violate("a trial is finished without a word of it")
            return
        if counts != (done.attempt == attempt.id):
            self._world.violate(f"two attempts of trial {attempt._fingerprint[:6]} count, or none")
        self._done.setdefault(attempt._fingerprint, (self._world.ops, dict(done.digests)))

    def _put(self, ledger: Ledger, result: object, trial: str, key: str, table: pa.Table) -> None:
        before = self._rows.get((trial, key))
        if before is not None and before[0] < self._me() and trial not in self.excused:
            self._world.violate(f"rows of trial {trial[:6]} were put, and are made again")
        self._rows[trial, key] = (self._world.ops, self._sum(trial, key))

    def _recorded(self, driver: Driver, record: SweepRecord, *args: object) -> None:
        self._planned.setdefault(record.sweep, set()).update(one.fingerprint for one in record.trials)

    def _entering(self, enter: Callable[[DriverLock], DriverLock]) -> Callable[[DriverLock], DriverLock]:
        def entered(lock: DriverLock) -> DriverLock:
            found = enter(lock)
            me = self._world.current
            assert me is not None
            for pid, (other, _) in self._drivers.items():
                if pid == me.pid or not self._world.alive(pid):
                    continue
                if pid in self._ending and not lock.succeeds:  # it has released the lock, and is about to know it
                    continue
                if me.host == other.host or self._world.now - other.last < HEARD_SECONDS:
                    self._world.violate(f"{me.name} drives, and so does {other.name}")
                self._taken.setdefault(pid, 0)
            self._drivers[me.pid] = (me, me.host)
            return found

        return entered

    def _leaving(self, leave: Callable[..., None]) -> Callable[..., None]:
        def left(lock: DriverLock, *how: object) -> None:
            me = self._world.current
            if me is not None:
                self._ending.add(me.pid)
            leave(lock, *how)
            if me is not None:
                self._drivers.pop(me.pid, None)

        return left


def _followed(method: Callable[..., Any], told: Callable[..., None]) -> Callable[..., Any]:
    def call(owner: Any, *args: Any) -> Any:
        result = method(owner, *args)
        told(owner, result, *args)
        return result

    return call


def _led(method: Callable[..., Any], told: Callable[..., None]) -> Callable[..., Any]:
    def call(owner: Any, *args: Any) -> Any:
        told(owner, *args)
        return method(owner, *args)

    return call
