"""Faults that are put into the code to see them found: each is a way in which such code is often wrong."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from upath import UPath

from dfloc import digests, disk, epochs, lock, rows_file, storage
from dfloc.ledger import Attempt, Ledger
from dfloc.outcome import EpochRecord
from dfloc.owner import Owner
from dfloc.sweep import machine, work

Fault = Callable[[], AbstractContextManager[Any]]


def _is_folder(handle: int) -> bool:
    return Path(f"/proc/self/fd/{handle}").is_dir()


@contextmanager
def _synced(replacement: Callable[[Callable[[int], None], int], None]) -> Iterator[None]:
    """Let `dfloc.disk` sync otherwise; what it is put on is looked up when it is called."""

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def fsync(self, handle: int) -> None:
            replacement(os.fsync, handle)

    with mock.patch.object(disk, "os", Os()):
        yield


def no_file_sync() -> AbstractContextManager[Any]:
    """A file is put without being synced."""
    return _synced(lambda sync, handle: sync(handle) if _is_folder(handle) else None)


def no_folder_sync() -> AbstractContextManager[Any]:
    """A name is given without its folder being synced."""
    return _synced(lambda sync, handle: None if _is_folder(handle) else sync(handle))


def failed_sync_ignored() -> AbstractContextManager[Any]:
    """A sync that fails is taken for one that did not."""

    def replacement(sync: Callable[[int], None], handle: int) -> None:
        try:
            sync(handle)
        except OSError:
            return

    return _synced(replacement)


def folders_not_synced() -> AbstractContextManager[Any]:
    """New folders are made without their own names being synced."""
    return mock.patch.object(disk, "make", lambda folder: folder.mkdir(parents=True, exist_ok=True))


def written_in_place() -> AbstractContextManager[Any]:
    """A file is written where it stands, not beside it and renamed."""

    def put(path: UPath, data: bytes) -> None:
        disk.make(Path(path.path).parent)
        with Path(path.path).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        disk.sync(Path(path.path).parent)

    return mock.patch.object(storage, "put", put)


def looks_before_it_creates() -> AbstractContextManager[Any]:
    """An exclusive create looks whether there is a file, then puts one."""

    def put_new(path: UPath, data: bytes) -> bool:
        if path.exists():
            return False
        storage.put(path, data)
        return True

    return mock.patch.object(storage, "put_new", put_new)


def lock_without_generation() -> AbstractContextManager[Any]:
    """A dead driver's lock is taken over by putting one's own in its place."""

    def attempt(self: lock.DriverLock) -> bool:
        highest, owner = self._look()
        if owner is not None and self._alive(highest, owner):
            return False
        self._generation, self._beaten = max(1, highest), lock.now()
        self._write(self._me)
        return True

    return mock.patch.object(lock.DriverLock, "_try", attempt)


def lock_by_its_age() -> AbstractContextManager[Any]:
    """An owner lives as long as its file is young, whatever became of its process."""
    put, put_new, times = storage.put, storage.put_new, dict[str, float]()

    def written(path: UPath, data: bytes) -> None:
        times[path.path] = time.time()
        put(path, data)

    def created(path: UPath, data: bytes) -> bool:
        times.setdefault(path.path, time.time())
        return put_new(path, data)

    def alive(self: lock.DriverLock, generation: int, owner: Owner) -> bool:
        since = time.time() - times.get(self._path(generation).path, 0.0)
        return not owner.released and since < lock.LOST_SECONDS

    stack = ExitStack()
    stack.enter_context(mock.patch.multiple(storage, put=written, put_new=created))
    stack.enter_context(mock.patch.object(lock.DriverLock, "_alive", alive))
    return stack


def lock_never_checked() -> AbstractContextManager[Any]:
    """A driver does not ask whether it still has its lock."""
    return mock.patch.multiple(lock.DriverLock, check=lambda self: None, held=lambda self: True)


def done_before_weights() -> AbstractContextManager[Any]:
    """A trial is said to be finished, and its checkpoints are dropped, before its weights are put."""
    finish, put = Attempt.finish, storage.put

    def finished(self: Attempt, *args: Any) -> bool:
        waiting: list[tuple[UPath, bytes]] = []

        def later(path: UPath, data: bytes) -> None:
            if path.suffix == ".safetensors":
                waiting.append((path, data))
            else:
                put(path, data)

        with mock.patch.object(storage, "put", later):
            counts = finish(self, *args)
        for path, data in waiting:
            put(path, data)
        return counts

    return mock.patch.object(Attempt, "finish", finished)


def checkpoints_dropped_first() -> AbstractContextManager[Any]:
    """The epochs' checkpoints are deleted before a trial is said to be finished."""
    finish = Attempt.finish

    def finished(self: Attempt, *args: Any) -> bool:
        for folder in epochs.attempts(self._trial):
            for path in epochs.checkpoints(folder):
                path.unlink(missing_ok=True)
        return finish(self, *args)

    return mock.patch.object(Attempt, "finish", finished)


def epochs_appended() -> AbstractContextManager[Any]:
    """An epoch's line is appended, not put with all the others."""

    def put_records(self: Attempt) -> None:
        path = Path((self._folder / epochs.FILE).path)
        had = path.read_bytes() if path.exists() else b""
        with path.open("ab") as file:
            file.write(epochs.written(self.records)[len(had) :])

    return mock.patch.object(Attempt, "_put_records", put_records)


def epoch_before_its_checkpoint() -> AbstractContextManager[Any]:
    """An epoch's line is put before its checkpoint, and the older checkpoint is dropped first."""

    def save_epoch(self: Attempt, state: bytes, records: list[EpochRecord]) -> None:
        self.records = list(records)
        self._put_records()
        for path in epochs.checkpoints(self._folder):
            path.unlink(missing_ok=True)
        storage.put(self._folder / epochs.name(state, records), state)

    return mock.patch.object(Attempt, "save_epoch", save_epoch)


def digests_not_compared() -> AbstractContextManager[Any]:
    """What is read is not compared with its digest."""
    stack = ExitStack()
    stack.enter_context(mock.patch.object(digests, "read", lambda path, sha256, *args, **how: storage.read(path)))
    stack.enter_context(mock.patch.object(digests, "verified", lambda path, *args, **how: path.exists()))
    return stack


def receipts_not_compared() -> AbstractContextManager[Any]:
    """Rows are taken for whole where they are there."""
    return mock.patch.object(rows_file, "is_whole", lambda path, *args: path.exists())


def retries_train_again() -> AbstractContextManager[Any]:
    """A worker does not look whether an earlier try has finished the trial."""

    class Forgetful(Ledger):
        def has_weights(self, fingerprint: str) -> bool:
            return False

    return mock.patch.object(work, "Ledger", Forgetful)


def lists_forgotten() -> AbstractContextManager[Any]:
    """The lists of samples are thought to be there already."""

    return mock.patch.object(machine.Machine, "keep")


def scratch_left() -> AbstractContextManager[Any]:
    """Nobody takes away what killed writers have left."""
    return mock.patch.multiple(lock.DriverLock, _tidy=lambda self: None)


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        no_file_sync,
        no_folder_sync,
        failed_sync_ignored,
        folders_not_synced,
        written_in_place,
        looks_before_it_creates,
        lock_without_generation,
        lock_by_its_age,
        lock_never_checked,
        done_before_weights,
        checkpoints_dropped_first,
        epochs_appended,
        epoch_before_its_checkpoint,
        digests_not_compared,
        receipts_not_compared,
        retries_train_again,
        lists_forgotten,
        scratch_left,
    )
}

SELDOM = (
    "looks-before-it-creates",
    "lock-without-generation",
    "digests-not-compared",
    "receipts-not-compared",
    "epoch-before-its-checkpoint",
)
LESS_OFTEN = ("retries-train-again", "done-before-weights", "checkpoints-dropped-first", "failed-sync-ignored")
WITHIN = dict.fromkeys(FAULTS, 40) | dict.fromkeys(LESS_OFTEN, 100) | dict.fromkeys(SELDOM, 400)
"""Seeds within which a fault is found, from 1 on."""
