"""What the driver writes down for the process that watches it, in memory that outlives it."""

import fcntl
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "DFLOC_SLATE"
"""Names the process that writes, and its file descriptor: a worker, which inherits it, writes nothing."""


class DriverNotes:
    """A file without a name, which both processes have open; of two notes of a fact the last one counts.

    A note is one write at the end of the file, so that a handler of signals or another thread may come in between.

    Facts are `command` (the words that go on), `left` (trials to run), `log` (of Ray's words), `ray` (name -> pid of
    the processes of a Ray that was started here), `temp` (its folder), `gone` (which of them is), `interrupted` (when
    the last Ctrl-C came), `watched` (there is a parent), `driver` (its pid), and `code` (what the driver ends with,
    once it has said all that is to be said).
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("dfloc-slate"), "r+b", buffering=0)
        else:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (both processes keep it)
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)

    def mine(self) -> None:
        """Have `note` of this process write here."""
        os.environ[VARIABLE] = f"{os.getpid()}:{self._file.fileno()}"

    def close(self) -> None:
        """Forget it."""
        os.environ.pop(VARIABLE, None)
        self._file.close()

    def read(self) -> dict[str, Any]:
        """Return the facts; none where nothing was noted."""
        return _read(self._file.fileno())


def note(**facts: object) -> None:
    """Write facts down, where this process has such a file."""
    if (descriptor := _mine()) is not None:
        os.write(descriptor, json.dumps(facts).encode() + b"\n")


def facts() -> dict[str, Any]:
    """Return what this process has noted."""
    descriptor = _mine()
    return {} if descriptor is None else _read(descriptor)


def gone(facts: dict[str, Any]) -> str:
    """Return which of Ray's processes is not there any more; empty: all are, or none was started here."""
    return next((name for name, pid in facts.get("ray", {}).items() if not _lives(pid)), "")


def _mine() -> int | None:
    pid, _, descriptor = os.environ.get(VARIABLE, "").partition(":")
    return int(descriptor) if pid == str(os.getpid()) else None


def _read(descriptor: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in os.pread(descriptor, os.fstat(descriptor).st_size, 0).splitlines():
        with suppress(ValueError):  # its writer is at it, or was killed
            facts |= json.loads(line)
    return facts


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that its parent has not asked about does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
