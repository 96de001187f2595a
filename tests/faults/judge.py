"""What must be so after a disturbance, and after the same command was given again."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.command import Result, Study, runs
from tests.faults.ground import Ground, evaluations, names

MAX_LINES = 2
RAW = (
    r"Traceback \(most recent call last\)",
    r"Fatal Python error",
    r"\.(cc|cpp|h):\d+",
    r"\((raylet|pid=|gcs_server|autoscaler)",
    r"^\[[^]]*\b[EFIW]\b[^]]*\]",
    r"\*\*\* SIG|stack trace|StackTrace|Aborted \(core|core dumped",
    r"ray\.exceptions|RayTaskError|RayActorError",
    r"--- Logging error ---",
    r"Exception ignored",
)
"""What Ray, Python and C++ write, and a user should not see."""

STORE = ("mlflow.db", "mlartifacts/")
KEPT = ("torchinductor_*",)
"""Caches of libraries in the temp folder, one for a user and of one size."""


class State(NamedTuple):
    """A ledger at one time.

    Attributes:
        finished: trial -> file -> when it was written, and its content.
        attempts: trial -> how many times it was begun.
    """

    finished: dict[str, dict[str, str]]
    attempts: dict[str, int]

    @classmethod
    def of(cls, study: Study) -> "State":
        folders = list(study.root.glob("trials/*"))
        return cls(study.finished(), {folder.name: len(list(folder.glob("attempts/*"))) for folder in folders})


class Wanted(NamedTuple):
    """How a disturbed command may end.

    Attributes:
        codes: exit codes.
        says: a pattern that its output has; "" = nothing of it.
        lines: on stderr at most.
        seconds: within which it must have ended; None = it goes on to its end.
    """

    codes: tuple[int, ...]
    says: str = ""
    lines: int = 1
    seconds: float | None = None


def screen(result: Result) -> Iterator[str]:
    """Yield what a user should not see."""
    for text, name in ((result.out, "stdout"), (result.err, "stderr")):
        for pattern in RAW:
            if match := re.search(pattern, text, re.MULTILINE):
                yield f"{name} shows {_line(text, match.start())!r}"


def ended(result: Result, wanted: Wanted, seconds: float) -> Iterator[str]:
    """Yield what is wrong with how a disturbed command ended, `seconds` after the disturbance."""
    if result.code not in wanted.codes:
        yield f"it ended with {result.code}, not {' or '.join(map(str, wanted.codes))}: {_end(result)}"
    if wanted.says and not re.search(wanted.says, result.out + result.err):
        yield f"it did not say {wanted.says!r}: {_end(result)}"
    if len(lines := result.err.splitlines()) > wanted.lines:
        yield f"stderr has {len(lines)} lines: {result.err[:500]}"
    if wanted.seconds is not None and seconds > wanted.seconds:
        yield f"it ended after {seconds:.0f} s"
    yield from screen(result)


def finished(study: Study, result: Result, ground: Ground, before: State, uri: str) -> Iterator[str]:
    """Yield what is wrong after the same command was given again.

    Args:
        study: that was gone on with.
        result: of the command.
        ground: the study that nothing disturbed.
        before: the ledger between disturbance and command.
        uri: MLflow's store.
    """
    if result.code != 0 or "done, 0 to run" not in result.out:
        yield f"the same command ended with {result.code}: {_end(result)}"
        return
    if len(result.err.splitlines()) > MAX_LINES:
        yield f"the same command wrote to stderr: {result.err[:500]}"
    yield from screen(result)
    if study.numbers() != ground.numbers:
        yield "epochs or rows are not those of the quiet run"
    if evaluations(study) != ground.points:
        yield "evaluations.csv is not that of the quiet run"
    yield from _ledger(before, State.of(study))
    if (found := runs(uri)) != (wanted := sorted([(name, "FINISHED") for name in (*ground.numbers, "sweep")])):
        yield f"MLflow has {_difference(found, wanted)}"


def _ledger(before: State, after: State) -> Iterator[str]:
    for name, files in before.finished.items():
        if after.finished.get(name) != files:
            yield f"trial {name[:12]} was finished, and was written again"
    for name, number in after.attempts.items():
        was = before.attempts.get(name, 0)
        if number > was + 1 or (name in before.finished and number != was):
            yield f"trial {name[:12]} was begun {number - was} times more"


def rubbish(
    study: Study, ground: Ground, temp: Path, here: Path, shared: Callable[[], set[str]], own_store: bool = True
) -> Iterator[str]:
    """Yield what a finished study should not leave, and what it lacks.

    Args:
        study: that is finished.
        ground: the one that nothing disturbed.
        temp: its temp folder.
        here: the current folder of its command.
        shared: returns what is left in shared memory.
        own_store: MLflow's store is that of the workspace.
    """
    found, wanted = names(study.root), ground.files
    if not own_store:
        wanted = {name for name in wanted if not name.startswith(STORE)}
    if new := sorted(found - wanted):
        yield f"left in the workspace: {', '.join(new[:5])}"
    if gone := sorted(wanted - found):
        yield f"not in the workspace: {', '.join(gone[:5])}"
    if empty := [path.name for path in study.root.glob("sweeps/*/tune")]:
        yield f"left in the workspace: {', '.join(empty)}"
    if len(locks := sorted(path.name for path in study.root.glob("lock.*"))) > 1:
        yield f"left in the workspace: {', '.join(locks)}"
    kept = {path for pattern in KEPT for path in temp.glob(pattern)}
    if files := sorted(path.name for path in temp.iterdir() if path not in kept):
        yield f"left in the temp folder: {', '.join(files[:5])}"
    if files := sorted(path.name for path in here.iterdir()):
        yield f"left in the current folder: {', '.join(files[:5])}"
    if memory := sorted(shared()):
        yield f"left in /dev/shm: {', '.join(memory[:5])}"


def _difference(found: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> str:
    more, less = list(found), list(wanted)
    for run in wanted:
        if run in more:
            more.remove(run)
            less.remove(run)
    named = [f"{name[:12]} {status}" for name, status in more[:5]]
    return f"too much: {', '.join(named) or 'nothing'}; too little: {len(less)} runs"


def _end(result: Result) -> str:
    return " | ".join((result.out + result.err).splitlines()[-4:])


def _line(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    return text[start : start + 200].partition("\n")[0]
