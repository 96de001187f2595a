"""One driver per workspace: `lock.<generation>`, created exclusively, kept alive by a counter."""

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

import psutil
from upath import UPath

from dfloc import storage
from dfloc.config import Frozen
from dfloc.errors import WorkspaceError

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0


class Owner(Frozen):
    """Who drives: what the lock's file says.

    Attributes:
        started: when the process was started, in seconds since 1970: a pid alone may have been given anew.
        counter: goes up with every heartbeat.
        released: the driver ended in order.
    """

    host: str
    pid: int
    started: float
    counter: int = 0
    released: bool = False

    @property
    def name(self) -> str:
        """How an error calls it."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"host {self.host}, pid {self.pid}, started {since}"

    def lives(self) -> bool | None:
        """Whether its process is there; None where it is one of another host."""
        if self.host != socket.gethostname():
            return None
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1
        except psutil.NoSuchProcess:
            return False

    @classmethod
    def me(cls) -> "Owner":
        """Return this process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())


def driver(root: UPath) -> Owner | None:
    """Return who drives a workspace, at one look; an owner on another host drives until it has ended in order.

    Raises:
        WorkspaceError: the lock is damaged.
    """
    lock = DriverLock(root)
    generation = lock.highest()
    owner = lock.owner(generation)
    if owner is None or owner.released:
        return None
    return owner if owner.lives() is not False else None


class DriverLock:
    """The right to drive a workspace's sweeps; a context manager.

    A dead owner on this host is taken over at once; one elsewhere after its counter stood still for two minutes.

    Args:
        root: the workspace's folder.
        wait: wait for the owner to end instead of refusing.
        stale_seconds: how long a counter of another host must stand still.
        on_wait: told once whom it waits for.

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
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._heartbeat, name="dfloc-lock", daemon=True)

    def __enter__(self) -> "DriverLock":
        told = False
        while not self._create():
            owner = self.owner(self.highest())
            if owner is None:
                continue
            if not self._wait:
                raise WorkspaceError(
                    f"another driver owns {self._root}: {owner.name}; end it, or wait for it with --wait"
                )
            if not told and self._on_wait:
                self._on_wait(owner)
                told = True
            time.sleep(0.5)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._beat.join()
        if self.held():
            self._write(self._me.model_copy(update={"released": True}))

    def held(self) -> bool:
        """Whether this driver still has the highest generation."""
        return self.highest() == self._generation

    def check(self) -> None:
        """Stop before a write that another driver would see.

        Raises:
            WorkspaceError: another driver took over.
        """
        if not self.held():
            raise WorkspaceError(f"another driver took over {self._root}; this one stops, what it finished is kept")

    def _create(self) -> bool:
        """Create the next generation where the highest one is free.

        Raises:
            WorkspaceError: the workspace cannot be written.
        """
        try:
            return self._try() and self.held()
        except OSError as error:
            raise WorkspaceError(f"{self._root} cannot be written: {error}; name another by --workspace") from error

    def _try(self) -> bool:
        highest = self.highest()
        owner = self.owner(highest)
        if owner is not None and self._alive(highest, owner):
            return False
        created = storage.put_new(self._path(highest + 1), storage.json_bytes(self._me.model_dump(mode="json")))
        if created:
            self._generation = highest + 1
            if owner is not None and not owner.released:
                logger.warning("took over from a driver that is gone: %s", owner.name)
            for number in range(max(1, highest - 1), highest + 1):
                self._path(number).unlink(missing_ok=True)
        return created

    def _alive(self, generation: int, owner: Owner) -> bool:
        if owner.released:
            return False
        lives = owner.lives()
        return self._moves(generation, owner) if lives is None else lives

    def _moves(self, generation: int, owner: Owner) -> bool:
        """Watch a counter of another host until it moves, or stood still for too long."""
        until = time.monotonic() + self._stale
        while time.monotonic() < until:
            now = self.owner(self.highest())
            if self.highest() != generation or now is None or now.counter != owner.counter:
                return True
            time.sleep(min(1.0, self._stale / 4))
        return False

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            if not self.held():
                return
            self._me = self._me.model_copy(update={"counter": self._me.counter + 1})
            try:
                self._write(self._me)
            except OSError as error:
                logger.warning("the driver's lock could not be kept alive: %s", error)

    def highest(self) -> int:
        """Return the number of the newest lock file; 0 where there is none."""
        names = (re.fullmatch(r"lock\.(\d+)", path.name) for path in self._root.iterdir())
        return max((int(match.group(1)) for match in names if match), default=0)

    def owner(self, generation: int) -> Owner | None:
        """Return whose a lock file is; None where it is gone."""
        if generation == 0:
            return None
        try:
            return storage.get_model(Owner, self._path(generation))
        except FileNotFoundError:
            return None

    def _write(self, owner: Owner) -> None:
        storage.put_json(self._path(self._generation), owner.model_dump(mode="json"))

    def _path(self, generation: int) -> UPath:
        return self._root / f"lock.{generation}"
