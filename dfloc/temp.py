"""A short private temp folder of this process, gone with it."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from dfloc.errors import ConfigError

PREFIX = "dfloc-"
MAX_BYTES = (103 if sys.platform == "darwin" else 107) - 81
"""Of the folder that holds it: the system bounds a socket's path, and Ray's sockets lie up to 81 bytes deeper."""

_HELD = ".held"
_REMOVE_TRIES = 10


class TempFolder:
    """A folder that nobody else may enter, with a name that nobody can foresee.

    It lies where TMPDIR says, or in /tmp where that is too long for a socket. What a killed process has left there is
    removed by the next one: the kernel ends the hold of a process on its folder with the process.

    Attributes:
        path: of the folder.

    Raises:
        ConfigError: there is no folder for it.
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        place = _place()
        _remove_dead(place)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        held = self.path / f"{_HELD}.new"
        self._file = held.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        held.rename(self.path / _HELD)  # a name that it has only while it is held

    def remove(self) -> None:
        """Delete it; processes that are ending may still write into it, so try for a second."""
        for _ in range(_REMOVE_TRIES):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(0.1)
        self.leave()

    def leave(self) -> None:
        """Let go of it: the next process that needs such a folder deletes it."""
        self._file.close()


def clear() -> None:
    """Delete what killed processes have left where folders of this process would lie."""
    _remove_dead(_place())


def _place() -> Path:
    """Return the folder that holds it: the first one that is short enough and can be written."""
    places = [place for place in (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp") if place]
    for place in (Path(place).absolute() for place in places):
        if len(os.fsencode(place)) <= MAX_BYTES and place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            return place
    raise ConfigError(
        f"expected a temp folder that can be written and whose path has at most {MAX_BYTES} bytes, for Ray's sockets; "
        f"none of {', '.join(dict.fromkeys(places))} is one; name one by TMPDIR"
    )


def _remove_dead(place: Path) -> None:
    """Delete the folders of processes of this user that are gone."""
    for held in place.glob(f"{PREFIX}*/{_HELD}"):
        folder = held.parent
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with held.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it is held, or another process was quicker
            continue
