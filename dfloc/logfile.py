"""A log in a file, whose failure costs its lines alone."""

import logging
import os
from pathlib import Path

from dfloc import disk

logger = logging.getLogger(__name__)


class LogFile(logging.Handler):
    """Appends lines to a file, each with one write; what cannot be written is dropped, which is said once.

    Python's own handlers print a traceback for every line, and one more at the end. Of a full disk nothing is said
    here: whoever writes what counts says it.

    Args:
        path: of the file; made, with its folder, by the first line.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._path = path.absolute()  # the current folder may change before the first line
        self._handle = -1
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 (whatever a library logs)
            line = f"{record.levelname} {record.name}: {record.msg!r}"
        try:
            if self._handle < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(self._handle, f"{line}\n".encode(errors="backslashreplace"))
        except OSError as error:
            if not self._said and error.errno not in disk.FULL:
                self._said = True
                logger.warning("%s cannot be written, its lines are lost: %s", self._path, error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        super().close()
