"""Where Ray's own lines go: a log file, so that the screen shows the sweep alone."""

import logging
import os
import sys
from typing import TextIO

from upath import UPath

from dfloc import disk, driver_notes, storage
from dfloc.logfile import LogFile

EARLY = ("ray._private", "ray.data", "ray.tune", "ray.train")


class RayLog:
    """Sends Ray's loggers, and what its native code writes to file descriptor 2, into a file.

    Python's own `sys.stderr` stays where it is: on the screen, or in a notebook.

    Args:
        path: of the file; made with its folder.
    """

    def __init__(self, path: UPath):
        target = storage.local(path)
        with disk.room(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = target.open("a", encoding="utf-8")
        self._handler = LogFile(target)
        self._screen = sys.stderr

    def begin(self) -> None:
        """Send them there; before `ray.init`, which empties the handlers of the logger `ray` itself."""
        self._take(EARLY)
        sys.stderr.flush()
        self._kept = os.dup(2)
        if _writes_to_2(sys.stderr):
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        os.dup2(self._file.fileno(), 2)

    def begun(self) -> None:
        """Send the logger `ray` there too, after `ray.init`."""
        self._take(("ray",))

    def end(self) -> None:
        """Give file descriptor 2 back; where nothing of Python writes to it, as on the command line, it stays."""
        if self._screen is sys.stderr and driver_notes.facts():
            return
        os.dup2(self._kept, 2)
        os.close(self._kept)
        if sys.stderr is not self._screen:
            sys.stderr.close()
            sys.stderr = self._screen

    def _take(self, names: tuple[str, ...]) -> None:
        for name in names:
            logger = logging.getLogger(name)
            logger.handlers = [self._handler]
            logger.propagate = False


def _writes_to_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except OSError:  # a notebook's has none
        return False
