"""One driver per workspace: `lock.<generation>`, created exclusively, kept alive by a counter."""

import errno
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from upath import UPath

from dfloc import disk, record, storage
from dfloc.errors import WorkspaceError
from dfloc.owner import Owner

T = TypeVar("T")

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
LOST_SECONDS = 60.0
"""Without a heartbeat a driver takes itself for lost; half of what another one waits, for a cache may hide a beat."""

STALE_SECONDS = 120.0

FOLDERS = ("shards", "features", "trials", "weights", "lists", "sweeps", "settled", "reports", "mlartifacts")
"""Of a workspace, in which scratch files are dfloc's."""

TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR}
_TRIES = 3
_END_SECONDS = 5.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds of a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def generations(root: UPath) -> list[int]:
    """Return the numbers of the lock files in a folder, the newest first."""
    names = (re.fullmatch(r"lock\.([1-9][0-9]*)", path.name) for path in root.iterdir())
    return sorted((int(match.group(1)) for match in names if match), reverse=True)


def driver(root: UPath) -> Owner | None:
    """Return who drives a workspace, at one look; an owner that cannot be seen from here drives until it has ended.

    Raises:
        OSError: the lock cannot be read.
    """
    owner = DriverLock(root).owner()
    if owner is None or owner.released:
        return None
    return owner if owner.lives() is not False else None


class DriverLock:
    """The right to drive a workspace's sweeps; a context manager.

    An owner that is seen to be dead is taken over at once; one that cannot be seen from here (on another machine, in
    another container) after its counter stood still for two minutes of this process' own clock.

    Args:
        root: the workspace's folder.
        wait: wait for the owner to end instead of refusing.
        stale_seconds: how long a counter must stand still.
        on_wait: told once whom it waits for.

    Attributes:
        succeeds: the owner before this one did not end in order: it may have left something behind.

    Raises:
        WorkspaceError: another driver owns the workspace; names host, pid and start.
    """

    def __init__(
        self,
        root: UPath,
        *,
        wait: bool = False,
        stale_seconds: float = STALE_SECONDS,
        on_wait: Callable[[Owner], None] | None = None,
    ):
        self._root = root
        self._wait = wait
        self._stale = stale_seconds
        self._on_wait = on_wait
        self._me = Owner.me()
        self._generation = 0
        self._beaten = self._began = 0.0
        self._why = ""
        self._lost = False
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._heartbeat, name="dfloc-lock", daemon=True)
        self.succeeds = False

    def __enter__(self) -> "DriverLock":
        announced = False
        while not self._create():
            owner = self._patiently(self.owner)
            if owner is None or owner.released:
                continue
            if not self._wait:
                raise WorkspaceError(
                    f"another driver owns {self._root}: {owner.name}; end it, or wait for it with --wait"
                )
            if not announced and self._on_wait:
                self._on_wait(owner)
                announced = True
            time.sleep(0.5)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beat.join(_END_SECONDS)  # a storage that hangs does not keep a command from ending
        try:
            if not self._beat.is_alive() and not self._overdue() and self._is_mine():
                self._tidy()
                self._write(self._me.model_copy(update={"released": True}))
        except (OSError, WorkspaceError) as error:  # the next driver sees that this process is gone
            logger.info("the driver's lock could not be released: %s", error)

    def held(self) -> bool:
        """Whether this driver still has the highest generation, by its own file, and could beat in time."""
        try:
            self.check()
        except WorkspaceError:
            return False
        return True

    def check(self) -> None:
        """Stop before a write that another driver would see.

        Raises:
            WorkspaceError: another driver took over, may have done so, or the lock is gone.
        """
        stops = "this one stops, what it finished is kept; give the same command again"
        if self._overdue():
            raise WorkspaceError(
                f"the lock of {self._root} could not be kept alive for over {LOST_SECONDS:.0f} seconds "
                f"({self._why or 'this process stood still'}), another driver may have taken over; {stops}"
            )
        try:
            mine = self._is_mine()
        except (OSError, WorkspaceError) as error:  # while it beats in time nobody takes over
            logger.info("the driver's lock cannot be looked at: %s", error)
            return
        if not mine:
            raise WorkspaceError(f"another driver took over {self._root}, or its lock was deleted; {stops}")

    def owner(self) -> Owner | None:
        """Return whose the newest lock file is; None where there is none. Of a damaged one the owner counts as dead.

        Raises:
            OSError: it cannot be read.
        """
        return self._look()[1]

    def _look(self) -> tuple[int, Owner | None]:
        generation = next(iter(generations(self._root)), 0)
        try:
            return generation, Owner.read(self._path(generation)) if generation else None
        except FileNotFoundError:  # taken over since it was listed
            return generation, None
        except WorkspaceError as error:
            logger.warning("%s; its owner counts as dead", error)
            return generation, self._me.model_copy(update={"boot": "", "released": True})

    def _create(self) -> bool:
        """Create the next generation where the highest one is free.

        Raises:
            WorkspaceError: the workspace cannot be written.
        """
        try:
            return self._patiently(self._try)
        except OSError as error:
            raise WorkspaceError(f"{self._root} cannot be written: {error}; name another by --workspace") from error

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask a storage that may fail for a moment."""
        for _ in range(_TRIES - 1):
            try:
                return ask()
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
                time.sleep(1.0)
        return ask()

    def _try(self) -> bool:
        highest, owner = self._look()
        if owner is not None and self._alive(highest, owner):
            return False
        before = now()
        created = storage.put_new(self._path(highest + 1), storage.json_bytes(self._me.model_dump(mode="json")))
        if not created:
            return False
        self._generation, self._beaten = highest + 1, before
        if owner is not None and not owner.released:
            logger.warning("took over from a driver that is gone: %s", owner.name)
        self.succeeds = owner is not None and (not owner.released or not owner.boot)
        self._began = self._path(self._generation).stat().st_mtime  # by the clock of its file system
        self._clear()
        return self._patiently(self._is_mine)

    def _tidy(self) -> None:
        """Take away what writers have left that were killed before this driver began: a worker may die alone."""
        if not storage.is_local(self._root):
            return
        root = storage.local(self._root)
        disk.clear(root, self._began, deep=False)
        for name in FOLDERS:
            disk.clear(root / name, self._began)
        for folder in root.glob("sweeps/*/tune"):
            if record.files(UPath(folder.parent)):
                shutil.rmtree(folder, ignore_errors=True)

    def _clear(self) -> None:
        """Take away the files of earlier generations; they are of no use to anybody."""
        for number in generations(self._root):
            if number < self._generation:
                try:
                    storage.remove(self._path(number))
                except OSError as error:
                    logger.info("%s stays: %s", self._path(number), error)

    def _alive(self, generation: int, owner: Owner) -> bool:
        if owner.released:
            return False
        lives = owner.lives()
        return self._moves(generation, owner) if lives is None else lives

    def _moves(self, generation: int, owner: Owner) -> bool:
        """Watch a counter that is not of here until it moves, or stood still at every look for too long.

        A look that fails shows nothing, nor does the time in which this process itself stood still.
        """
        logger.warning("%s: whether its driver lives is seen by its heartbeat only (%s)", self._root, owner.name)
        pause, still, before = min(1.0, self._stale / 4), 0.0, time.monotonic()
        while still < self._stale:
            time.sleep(pause)
            try:
                seen = self._look()
            except OSError as error:
                logger.info("%s cannot be looked at: %s", self._root, error)
                before = time.monotonic()
                continue
            if seen != (generation, owner):
                return True
            still += min(time.monotonic() - before, 2 * pause)
            before = time.monotonic()
        return False

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS) and not self._overdue():
            before = now()
            try:
                if not self._is_mine():
                    self._why = "it is another driver's, or was deleted"
                    return
                self._write(self._me.model_copy(update={"counter": self._me.counter + 1}))
            except Exception as error:  # noqa: BLE001 (whatever a storage raises, the next beat tries again)
                if not self._why:
                    logger.warning("the driver's lock could not be kept alive, it is tried again: %s", error)
                self._why = str(error)
            else:
                self._overdue()
                self._beaten, self._why = before, ""

    def _overdue(self) -> bool:
        """Whether this driver could not beat in time: once so, it is lost for good."""
        self._lost = self._lost or now() - self._beaten > LOST_SECONDS
        return self._lost

    def _is_mine(self) -> bool:
        """Whether the newest file is this driver's, or was: a damaged one is put anew."""
        generation, owner = self._look()
        return generation == self._generation and owner is not None and owner.token == self._me.token

    def _write(self, owner: Owner) -> None:
        storage.put_json(self._path(self._generation), owner.model_dump(mode="json"))
        self._me = owner

    def _path(self, generation: int) -> UPath:
        return self._root / f"lock.{generation}"
