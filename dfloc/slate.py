"""What the driver writes down for the process that watches it, in memory that outlives it."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "DFLOC_SLATE"
"""Names the process that writes, and its file descriptor: a worker, which inherits it, writes nothing."""

SIZE = 1 << 16

_noted: dict[str, Any] = {}


class Slate:
    """A file without a name, which both processes have open; a write after the last one counts.

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

    def mine(self) -> None:
        """Have `note` of this process write here."""
        _noted.clear()
        _noted.update(self.read())
        os.environ[VARIABLE] = f"{os.getpid()}:{self._file.fileno()}"

    def close(self) -> None:
        """Forget it."""
        os.environ.pop(VARIABLE, None)
        self._file.close()

    def read(self) -> dict[str, Any]:
        """Return the facts; none where nothing was noted, or a writer was killed in between."""
        return _read(self._file.fileno())


def note(**facts: object) -> None:
    """Write facts down, where this process has a slate."""
    _noted.update(facts)
    while (descriptor := _mine()) is not None:
        noted = dict(_noted)
        text = json.dumps(noted).encode() + b"\n"
        if len(text) <= SIZE:
            os.pwrite(descriptor, text, 0)
        if noted == _noted:  # or a signal's handler, or another thread, has noted more, and this was older
            return


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
    try:
        found = json.loads(os.pread(descriptor, SIZE, 0).partition(b"\n")[0] or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that its parent has not asked about does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
