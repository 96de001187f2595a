"""One `dfloc sweep` that is to be disturbed: its processes by what they are, and places of its own."""

import contextlib
import json
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.command import Started, Study, marked

AGENTS = ("DashboardAgent", "RuntimeEnvAgent", "log_monitor")
SHARED = ("plasma", "ray", "torch")
"""How Ray and torch begin the names of what they put into shared memory."""

SECONDS_TO_END = 15.0


class Bench:
    """Where a study runs: its workspace, a short temp folder and an empty current folder, none of them another's.

    Attributes:
        study: on the workspace.
        temp: what TMPDIR names.
        here: the current folder.
    """

    def __init__(self, study: Study, settings: Sequence[str], folder: Path):
        self.study, self.settings, self.folder = study, list(settings), folder
        self.temp = Path(tempfile.mkdtemp(prefix="dff-", dir="/tmp"))
        self.here = folder / "here"
        self.here.mkdir()
        self.arguments = [*self.settings]
        self._started: list[Started] = []

    @property
    def command(self) -> list[str]:
        """The arguments of `dfloc`, the same each time."""
        return ["sweep", "exposure", *self.study.args, *self.arguments]

    def start(self, through: Sequence[str] = (), **environment: str) -> Started:
        """Give the command."""
        started = Started(
            self.command, self.folder, through, self.here, **{"TMPDIR": str(self.temp), "COLUMNS": "400"} | environment
        )
        self._started.append(started)
        return started

    def close(self) -> None:
        """End whatever is left, and delete the temp folder."""
        for started in self._started:
            end(started.mark)
        shutil.rmtree(self.temp, ignore_errors=True)


def hear() -> None:
    """Let commands that are started from here hear INT and HUP: under nohup, or in the background, both are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def driver(study: Study) -> int:
    """Return the pid that the workspace's lock names."""
    newest = max(study.root.glob("lock.*"), key=lambda path: int(path.suffix[1:] or 0))
    return int(json.loads(newest.read_text())["pid"])


def gcs(mark: str) -> list[psutil.Process]:
    return _named(mark, r"/gcs_server(\s|$)")


def raylet(mark: str) -> list[psutil.Process]:
    return _named(mark, r"/raylet/raylet(\s|$)")


def workers(mark: str) -> list[psutil.Process]:
    """Return the workers that are at work, else the idle ones."""
    found = [process for process in _named(mark, r"^ray::") if not any(name in line(process) for name in AGENTS)]
    return [process for process in found if re.match(r"ray::(Impl|Map|_map|train)", line(process))] or found


def _named(mark: str, pattern: str) -> list[psutil.Process]:
    return [process for process in marked(mark) if re.search(pattern, line(process))]


def line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()  # Ray's workers fill theirs up with blanks
    return ""


def some(find: Callable[[str], list[psutil.Process]], mark: str, draw: random.Random) -> psutil.Process | None:
    """Return one of the processes of a kind; None where there is none in time."""
    for _ in range(200):
        if found := find(mark):
            return draw.choice(found)
        time.sleep(0.05)
    return None


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def left(mark: str, seconds: float = SECONDS_TO_END) -> list[str]:
    """Return the commands of the processes that are left after some seconds."""
    until = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return [line(process)[:100] for process in found]


def end(mark: str) -> None:
    """Kill what a test has left."""
    for _ in range(20):
        if not (found := marked(mark)):
            return
        send(found, signal.SIGKILL)
        time.sleep(0.2)


@contextlib.contextmanager
def shared_memory() -> Iterator[Callable[[], set[str]]]:
    """Give what returns the files of such names that have come into /dev/shm since, and that no process holds."""
    before = set(_shared())

    def come() -> set[str]:
        new = set(_shared()) - before
        return new - _held() if new else new

    yield come


def _shared() -> list[str]:
    place = Path("/dev/shm")
    return [path.name for path in place.iterdir() if path.name.startswith(SHARED)] if place.is_dir() else []


def _held() -> set[str]:
    names = set[str]()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            names.update(re.findall(r"/dev/shm/([^/\n]+?)(?: \(deleted\))?$", maps.read_text(), re.MULTILINE))
    return names
