"""Who owns a lock or a scratch folder: one process, told apart by boot, PID namespace, pid and start."""

import os
import platform
import time
import uuid
from pathlib import Path

import psutil
from pydantic import Field
from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.frozen import Frozen

MAX_BYTES = 1 << 16
ENDED = (b"Z", b"X")  # states of a process that is dead, and still in the table

_LAST_SECOND = 250_000_000_000  # of the year 9892: no calendar goes far beyond it
_MADE_UP = 1 << 40  # the bit of an address that no card has
_PROC = Path("/proc")


class Owner(Frozen):
    """Who drives, or writes: what the file of a lock or of a scratch folder says.

    Neither clock nor host name tells two processes apart: a clock is set, and containers share names.

    Attributes:
        host: for people.
        started: when the process was started, in seconds since 1970: for people.
        boot: id of the machine's boot; empty in files of before.
        namespace: in which the pid counts.
        ticks: of the process' start since the boot: a pid alone may have been given anew.
        token: of one lock: a process may hold several, one after the other.
        counter: goes up with every heartbeat.
        released: the driver ended in order.
    """

    host: str = Field(max_length=255)
    pid: int = Field(ge=1, lt=1 << 31)
    started: float = Field(ge=0, le=_LAST_SECOND)
    boot: str = ""
    namespace: str = ""
    ticks: int | None = None
    token: str = ""
    counter: int = 0
    released: bool = False

    @classmethod
    def me(cls) -> "Owner":
        """Return this process."""
        boot, namespace = _here()
        return cls(
            host=platform.node()[:255],
            pid=os.getpid(),
            started=max(0.0, psutil.Process().create_time()),
            boot=boot,
            namespace=namespace,
            ticks=_start(os.getpid()),
            token=uuid.uuid4().hex,
        )

    @classmethod
    def read(cls, path: UPath) -> "Owner":
        """Read a file.

        Raises:
            WorkspaceError: it is damaged.
            FileNotFoundError: there is none.
            OSError: it could not be read: nothing is known of its owner.
        """
        try:
            return cls.model_validate_json(storage.read(path, limit=MAX_BYTES))
        except FileNotFoundError as error:
            if storage.dangles(path):
                raise WorkspaceError(f"{path} is damaged: a link to nothing") from error
            raise
        except ValueError as error:
            raise WorkspaceError(f"{path} is damaged: not what dfloc writes") from error
        except WorkspaceError as error:
            if isinstance(error.__cause__, (OSError, MemoryError)) and not path.is_symlink():
                raise error.__cause__ from error
            raise

    @property
    def name(self) -> str:
        """How an error calls it."""
        host = "".join(letter if letter.isprintable() else "?" for letter in self.host)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"host {host}, pid {self.pid}, started {since}"

    def lives(self) -> bool | None:
        """Whether its process is there; None where that cannot be seen from here."""
        if not self.boot or (self.boot, self.namespace) != _here():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        found = _start(self.pid)
        if None in (found, self.ticks) or (found != self.ticks and not _PROC.exists()):
            return None
        return found == self.ticks


def _here() -> tuple[str, str]:
    """Return what a pid counts in: the machine's boot, and the PID namespace; ticks count in a time namespace.

    Where the system does not say, the network card stands for the machine; without one nothing is told apart.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [_PROC / "self/ns" / kind for kind in ("pid", "time")]
        return boot, " ".join(str(space.readlink()) for space in spaces if space.is_symlink())
    except OSError:
        card = uuid.getnode()
        return ("" if card & _MADE_UP else f"card {card:012x}"), ""


def _start(pid: int) -> int | None:
    """Return in which tick since the boot a process was started, -1 of one that has ended; None: that is not seen.

    Without /proc the ticks are of a clock, which may be set.
    """
    try:
        if not _PROC.exists():
            return round(psutil.Process(pid).create_time() * 100)
        if str((_PROC / "self").readlink()) != str(os.getpid()):  # it is of another namespace
            return None
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (OSError, psutil.Error):
        return None
    state, *numbers = stat.rpartition(b")")[2].split()  # a name may hold blanks and parentheses
    return -1 if state in ENDED else int(numbers[18])
