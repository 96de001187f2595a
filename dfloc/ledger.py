"""trials/<fingerprint>/: what is finished, and the only record of it."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Literal

import pyarrow as pa
from upath import UPath

from dfloc import digests, epochs, planned, rows_file, storage
from dfloc.config import Checkpoint, EvaluationSpec, TrialSpec
from dfloc.data import sample_lists
from dfloc.errors import WorkspaceError
from dfloc.outcome import Cost, Done, EpochRecord, Failure, Stopped, TrialState
from dfloc.storage import Workspace

__all__ = ["Attempt", "Cost", "Done", "EpochRecord", "Failure", "Ledger", "Stopped", "TrialState"]

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
MIN_PREFIX = 6
KEPT_LISTS = 64


class Attempt:
    """One try at a trial; it writes into its own folder only.

    Attributes:
        id: the folder's name.
        records: the epochs so far, those of the attempt that it goes on from included.
        state: the epoch checkpoint to go on from; None: start at the first epoch.
    """

    def __init__(self, ledger: "Ledger", spec: TrialSpec, records: list[EpochRecord], state: bytes | None):
        self.id = uuid.uuid4().hex
        self.records = records
        self.state = state
        self._ledger = ledger
        self._fingerprint = spec.fingerprint
        self._trial = ledger.folder(spec.fingerprint)
        self._folder = self._trial / "attempts" / self.id
        path = self._folder / "spec.json"
        storage.put(path, storage.sealed(spec, path))
        self._put_records()

    def save_epoch(self, state: bytes, records: Sequence[EpochRecord]) -> None:
        """Put the checkpoint of the last record's epoch, then all records; older checkpoints than two are dropped."""
        self.records = list(records)
        storage.put(self._folder / epochs.name(state, records), state)
        self._put_records()
        for path in epochs.checkpoints(self._folder)[KEPT_CHECKPOINTS:]:
            path.unlink(missing_ok=True)

    def finish(self, best: bytes, last: bytes, best_epoch: int, versions: Mapping[str, str]) -> bool:
        """Put both weights, then `done.json`; then drop the epoch checkpoints of all attempts.

        Returns:
            Whether this attempt is the one that counts: False where another one was first and still has its weights.
        """
        weights: dict[Checkpoint, bytes] = {"best": best, "last": last}
        for which, data in weights.items():
            storage.put(self._folder / f"{which}.safetensors", data)
        done = Done(
            attempt=self.id,
            epochs=len(self.records),
            best_epoch=best_epoch,
            digests={which: digests.digest(data) for which, data in weights.items()},
            cost=_cost(self.records),
            versions=dict(versions),
            time=time.time(),
            epochs_sha256=digests.digest(epochs.written(self.records)),
        )
        path = self._trial / "done.json"
        data = storage.sealed(done, path)
        counts = storage.put_new(path, data)
        if not counts and not self._ledger.has_weights(self._fingerprint):
            storage.put(path, data)
            counts = True
        self._ledger.drop_checkpoints(self._fingerprint)
        return counts

    def _put_records(self) -> None:
        storage.put(self._folder / epochs.FILE, epochs.written(self.records))

    def fail(
        self, kind: Literal["nan", "error"], message: str, epoch: int | None = None, step: int | None = None
    ) -> None:
        """Record that the trial failed for a cause of its own: it is not repeated until the failure is forgotten."""
        failure = Failure(kind=kind, message=message, attempt=self.id, epoch=epoch, step=step, time=time.time())
        path = self._trial / "failed.json"
        storage.put(path, storage.sealed(failure, path))


class Ledger:
    """What is known of every trial of a workspace.

    Every file is put whole, so that a kill at any moment leaves a ledger that can be read and gone on from.

    Attributes:
        workspace: whose.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._root = workspace.trials
        self._ids = lru_cache(KEPT_LISTS)(partial(sample_lists.ids, workspace))

    def folder(self, fingerprint: str) -> UPath:
        """Return the folder of a trial."""
        return self._root / fingerprint

    def state(self, fingerprint: str, sweep: str | None = None) -> TrialState:
        """Return how far a trial is.

        Args:
            fingerprint: of the trial.
            sweep: whose early stops count; None: nobody's.

        Returns:
            `done`; `failed` for a cause of its own; `stopped` early, by that sweep; `partial`: at least one epoch of it
            can be gone on from; or `new`.
        """
        folder = self.folder(fingerprint)
        if (folder / "done.json").exists():
            return "done"
        if (folder / "failed.json").exists():
            return "failed"
        if sweep and self._stop(fingerprint, sweep).exists():
            return "stopped"
        return "partial" if epochs.resumable(folder) else "new"

    def done(self, fingerprint: str) -> Done | None:
        """Return what is known of a finished trial; None where it is not finished."""
        path = self.folder(fingerprint) / "done.json"
        return storage.get_model(Done, path, wants_seal=_is_new) if path.exists() else None

    def failure(self, fingerprint: str) -> Failure | None:
        """Return why a trial failed; None where it did not."""
        path = self.folder(fingerprint) / "failed.json"
        return storage.get_model(Failure, path) if path.exists() else None

    def stop(self, fingerprint: str, sweep: str, stopped: Stopped) -> None:
        """Record that a sweep has stopped a trial: final for that sweep alone."""
        path = self._stop(fingerprint, sweep)
        storage.put(path, storage.sealed(stopped, path))

    def stopped(self, fingerprint: str, sweep: str) -> Stopped | None:
        """Return why a sweep stopped a trial early; None where it did not."""
        path = self._stop(fingerprint, sweep)
        return storage.get_model(Stopped, path) if path.exists() else None

    def forget_failure(self, fingerprint: str) -> None:
        """Let a failed trial run again."""
        (self.folder(fingerprint) / "failed.json").unlink(missing_ok=True)

    def spec(self, fingerprint: str) -> TrialSpec:
        """Return the full spec of a trial that was begun.

        Raises:
            WorkspaceError: it was never begun, or what says so is damaged, or another trial's.
        """
        trial = self.folder(fingerprint)
        damaged = None
        for folder in epochs.attempts(trial):
            path, cure = folder / "spec.json", f"delete {trial}, it is trained again"
            try:
                spec = storage.get_model(TrialSpec, path, cure)
                if not planned.is_named(spec, fingerprint):
                    raise WorkspaceError(f"{path} is not the spec of this trial; {cure}")
            except FileNotFoundError:
                continue
            except WorkspaceError as error:
                damaged = error
            else:
                return spec
        raise damaged or WorkspaceError(f"trial {fingerprint[:12]} was never begun in {self._root}")

    def epochs(self, fingerprint: str) -> list[EpochRecord]:
        """Return the epochs of the attempt that counts, or of the most advanced one; empty for a new trial.

        Raises:
            WorkspaceError: those of a finished trial are not those that it ended with.
        """
        folder, done = self.folder(fingerprint), self.done(fingerprint)
        if done is None:
            return next((one.records for one in epochs.resumable(folder)), [])
        path = folder / "attempts" / done.attempt / epochs.FILE
        cure = f"delete {folder / 'done.json'}, the trial is trained again"
        try:
            records = epochs.read(digests.read(path, done.epochs_sha256, cure).splitlines())
        except FileNotFoundError as error:
            raise WorkspaceError(f"{path} is gone; {cure}") from error
        except ValueError as error:
            raise WorkspaceError(f"{path} is damaged; {cure}") from error
        if len(records) != done.epochs or not min(1, done.epochs) <= done.best_epoch <= done.epochs:
            raise WorkspaceError(f"{path} has {len(records)} epochs of {done.epochs}, best {done.best_epoch}; {cure}")
        return records

    def weights(self, fingerprint: str, which: Checkpoint) -> UPath:
        """Return the file of a finished trial's weights, after a look whether they are those that it ended with.

        Raises:
            WorkspaceError: the trial is not finished, or its weights were deleted or changed.
        """
        done = self.done(fingerprint)
        if done is None:
            raise WorkspaceError(f"trial {fingerprint[:12]} has no weights: it is not finished")
        path = self.folder(fingerprint) / "attempts" / done.attempt / f"{which}.safetensors"
        if not path.exists():
            raise WorkspaceError(f"the {which} weights of trial {fingerprint[:12]} are gone ({path}); train it again")
        if not digests.verified(path, done.digests[which]):
            raise WorkspaceError(f"{path} is damaged: not what the ledger says; delete it, the trial is trained again")
        return path

    def has_weights(self, fingerprint: str) -> bool:
        """Return whether a trial is finished and both its weights are still there, and those that it ended with."""
        done = self.done(fingerprint)
        if done is None:
            return False
        folder = self.folder(fingerprint) / "attempts" / done.attempt
        return all(digests.verified(folder / f"{which}.safetensors", sha256) for which, sha256 in done.digests.items())

    def find(self, prefix: str) -> str:
        """Return the fingerprint of the one trial whose fingerprint begins so.

        Raises:
            WorkspaceError: no trial's does, or several do.
        """
        if len(prefix) < MIN_PREFIX or not set(prefix) <= set("0123456789abcdef"):
            raise WorkspaceError(f'"{prefix}" is no fingerprint: expected {MIN_PREFIX} to 64 hexadecimal digits')
        found = sorted(path.name for path in self._root.glob(f"{prefix}*") if path.is_dir())
        if not found:
            raise WorkspaceError(f"no trial {prefix} in {self._root}; name one by the first digits of its folder there")
        if len(found) > 1:
            raise WorkspaceError(f"{len(found)} trials begin with {prefix}: {', '.join(found[:3])}; give more digits")
        return found[0]

    def put_imported(self, spec: TrialSpec, weights: bytes, versions: Mapping[str, str]) -> None:
        """Put a decoder that was trained elsewhere, as a finished trial; the same one again replaces it.

        Args:
            spec: with `init` Imported, the digest of `weights`.
            weights: the safetensors file: best and last alike.
            versions: `repro.environment` of this machine.
        """
        (self.folder(spec.fingerprint) / "done.json").unlink(missing_ok=True)
        for folder in epochs.attempts(self.folder(spec.fingerprint)):
            folder.fs.rm(folder.path, recursive=True)
        self.begin(spec).finish(weights, weights, 0, versions)

    def drop_checkpoints(self, fingerprint: str) -> None:
        """Delete the epoch checkpoints of a finished trial; who finished it may have been killed before it did."""
        for folder in epochs.attempts(self.folder(fingerprint)):
            for path in folder.iterdir():
                if ".state" in path.name:
                    path.unlink(missing_ok=True)

    def begin(self, spec: TrialSpec) -> Attempt:
        """Start an attempt that goes on from the newest valid epoch of the most advanced earlier one."""
        name = spec.fingerprint[:12]
        for epoch, path, records in epochs.resumable(self.folder(spec.fingerprint)):
            try:
                data = digests.read(path, epochs.marks(path)[1], limit=digests.MAX_BYTES)
            except (FileNotFoundError, WorkspaceError) as error:
                logger.warning("trial %s: the checkpoint of epoch %d is damaged, skipped: %s", name, epoch, error)
                continue
            logger.info("trial %s goes on from epoch %d", name, epoch)
            return Attempt(self, spec, records, data)
        return Attempt(self, spec, [], None)

    def has_rows(self, fingerprint: str, key: str) -> bool:
        """Return whether an evaluation is there; cheap, nothing is read."""
        return self._rows(fingerprint, key).exists()

    def has_whole_rows(self, fingerprint: str, key: str) -> bool:
        """Return whether an evaluation is there and is what was put; damaged rows are said, and to be made again."""
        return rows_file.is_whole(self._rows(fingerprint, key), fingerprint)

    def has_scored(self, evaluation: EvaluationSpec) -> bool:
        """Return whether `scored` would return rows; damaged ones are said, and to be made again."""
        path = self._rows(evaluation.trial, evaluation.key)
        return rows_file.is_whole(path, evaluation.trial, partial(self._of, evaluation))

    def put_rows(self, fingerprint: str, key: str, table: pa.Table) -> None:
        """Put the rows of one evaluation, one per image."""
        rows_file.put(self._rows(fingerprint, key), fingerprint, table)

    def rows(self, fingerprint: str, key: str) -> pa.Table:
        """Read the rows of one evaluation.

        Raises:
            WorkspaceError: they are not there, or damaged.
        """
        return rows_file.read(self._rows(fingerprint, key), fingerprint)

    def scored(self, evaluation: EvaluationSpec) -> pa.Table:
        """Read the rows of an evaluation, and ask whether they are of what it names, one for each image of its list.

        Raises:
            WorkspaceError: they are not there, damaged, or of something else.
        """
        return self._of(evaluation, self.rows(evaluation.trial, evaluation.key))

    def all_rows(self, fingerprint: str) -> Iterator[pa.Table]:
        """Yield the rows of each evaluation of a trial that has any, in the order of their keys."""
        for path in sorted((self.folder(fingerprint) / "rows").glob("*.parquet"), key=lambda path: path.name):
            table = self.rows(fingerprint, path.stem)
            if len(table):
                yield table

    def _of(self, evaluation: EvaluationSpec, table: pa.Table) -> pa.Table:
        path = self._rows(evaluation.trial, evaluation.key)
        try:
            ids = self._ids(evaluation.test.digest)
        except WorkspaceError as error:
            logger.info("rows are not compared with their list: %s", error)
            ids = None
        return rows_file.of(evaluation, table, path, ids)

    def _stop(self, fingerprint: str, sweep: str) -> UPath:
        return self.folder(fingerprint) / "stopped" / f"{sweep}.json"

    def _rows(self, fingerprint: str, key: str) -> UPath:
        return self.folder(fingerprint) / "rows" / f"{key}.parquet"


def _is_new(done: Done) -> bool:
    return bool(done.epochs_sha256)


def _cost(records: Sequence[EpochRecord]) -> Cost:
    seconds = sum(record.seconds for record in records)
    images = sum(record.images for record in records)
    steps = records[-1].steps if records else 0
    return Cost(seconds=seconds, images_per_second=images / seconds if seconds else 0.0, steps=steps)
