"""The command line on a workspace, as a user has it: what it says, what it leaves, which processes are its own."""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console

import dfloc
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep import messages, run
from dfloc.sweep.sweep_data import SweepRequest

DFLOC = str(Path(sys.executable).with_name("dfloc"))
MARK = "DFLOC_TEST_MARK"
SECONDS = 400
HARMFUL = ("random", "statistics", "types", "logging", "tokenize")
NO_RAY = "raise AssertionError('Ray was imported')\n"


class Result(NamedTuple):
    """How a command ended; `cpu` counts the seconds of its own process and of those that it waited for."""

    code: int
    out: str
    err: str
    cpu: float = 0.0


class Started:
    """A running `dfloc`, with every process that descends from it.

    Args:
        args: of the command.
        folder: of what it says.
        through: a command that runs it.
        place: the folder that it runs in; None = that of the tests.
        unread: nobody reads what it says.
        environment: added to a fresh shell's.
    """

    def __init__(
        self,
        args: list[str],
        folder: Path,
        through: Sequence[str] = (),
        place: Path | None = None,
        unread: bool = False,
        **environment: str,
    ):
        self.mark = uuid.uuid4().hex
        self._files = [folder / f"{self.mark}.{name}" for name in ("out", "err")]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [*through, DFLOC, *args],
                stdout=_unread() if unread else out,
                stderr=err,
                cwd=place,
                env=fresh() | environment | {MARK: self.mark},
                start_new_session=True,
            )

    @property
    def driver(self) -> psutil.Process:
        """The process that works: the one that was started has a child, which keeps it."""
        return psutil.Process(self.process.pid).children()[0].children()[0]

    def pids(self, name: str = "") -> list[int]:
        """Return its processes, or those of a name."""
        found = [self.process.pid, *(one.pid for one in psutil.Process(self.process.pid).children(recursive=True))]
        return [pid for pid in found if name in ("", psutil.Process(pid).name())]

    def alive(self) -> list[str]:
        """Return the commands of all its processes: each inherits its environment."""
        return [_command(process) for process in marked(self.mark)]

    def until(self, condition: Callable[[], bool]) -> None:
        wait(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, f"ended too early: {self.result()}"

    def result(self) -> Result:
        self.process.wait(SECONDS)
        return Result(self.process.returncode, *(path.read_text() for path in self._files))

    def said(self) -> str:
        return self._files[0].read_text()


class Study:
    """A workspace, and the exposure study in the preset `smoke` on it.

    Args:
        root: the workspace.
        data: folder of shards; None = the built-in data.
    """

    def __init__(self, root: Path, data: Path | None = None):
        self.root = root
        self.ledger = Ledger(Workspace(root))
        given = ["--data", str(data)] if data else []
        self.args = ["--preset", "smoke", "--workspace", str(root), *given]
        self.data = data

    @property
    def built_in(self) -> list[str]:
        """The arguments by which another workspace reads the built-in data that were made for this one."""
        return ["--data", str(self.root / "shards" / "mini")]

    def command(
        self, *args: str, name: str = "exposure", no_ray: Path | None = None, folder: Path | None = None
    ) -> Result:
        """Run `dfloc sweep` to its end in a folder; with `no_ray` (a scratch folder) where Ray cannot be imported."""
        environment = fresh()
        if no_ray:
            (no_ray / "ray.py").write_text(NO_RAY)
            environment["PYTHONPATH"] = os.pathsep.join([str(no_ray), environment.get("PYTHONPATH", "")])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [DFLOC, "sweep", name, *self.args, *args],
            capture_output=True,
            text=True,
            env=environment,
            timeout=SECONDS,
            cwd=folder,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Result(done.returncode, done.stdout, done.stderr, cpu)

    def start(self, *args: str, unread: bool = False) -> Started:
        """Start `dfloc sweep` and return at once."""
        return Started(["sweep", "exposure", *self.args, *args], self.root.parent, unread=unread)

    def sweep(self, *settings: str, name: str = "exposure", **how: Any) -> Result:
        """Run a sweep inside this process, on the Ray that it has, by default a trial at a time: a worker costs."""
        console = Console(file=io.StringIO(), width=200)
        code = messages.show_end(
            run.sweep(self.options(*settings, name=name, **{"max_concurrent": 1, **how}), console),
            console,
            again="dfloc sweep",
        )
        assert isinstance(console.file, io.StringIO)
        return Result(code, console.file.getvalue(), "")

    def options(self, *settings: str, name: str = "exposure", **how: Any) -> SweepRequest:
        """Return what `sweep` runs."""
        data = str(self.data) if self.data else None
        return SweepRequest(name=name, workspace=str(self.root), data=data, preset="smoke", settings=settings, **how)

    def record(self, sweep: str = "exposure-smoke-mini") -> SweepRecord:
        record = SweepRecord.load(Workspace(self.root).sweep(sweep))
        assert record is not None
        return record

    def planned(self, stage: str, **axes: object) -> list[PlannedTrial]:
        trials = [trial for trial in self.record().trials if trial.stage == stage]
        return [trial for trial in trials if axes.items() <= trial.axes.items()]

    def finished(self) -> dict[str, dict[str, str]]:
        """Return trial -> file -> time and content of everything below a finished trial's folder, rows aside."""
        return {path.parent.name: _stamps(path.parent) for path in self.root.glob("trials/*/done.json")}

    def numbers(self) -> dict[str, dict[str, Any]]:
        """Return trial -> all its numbers but those of the clock."""
        found: dict[str, dict[str, Any]] = {}
        for folder in sorted(self.root.glob("trials/*")):
            epochs = [record.model_dump(exclude={"seconds", "time"}) for record in self.ledger.epochs(folder.name)]
            rows = {path.stem: self.ledger.rows(folder.name, path.stem) for path in folder.glob("rows/*.parquet")}
            texts = {key: repr(table.to_pylist()) for key, table in rows.items()}  # to the last digit, NaN included
            found[folder.name] = {"epochs": epochs, "rows": texts}
        return found

    def epochs_of_trial(self, name: str) -> int:
        """Return how many epochs of a trial are on record."""
        return len(self.ledger.epochs(name))

    def epochs_of(self, stage_epochs: int) -> int:
        """Return the most epochs that an unfinished trial of so many epochs has on record."""
        found = [0]
        for path in self.root.glob("trials/*/attempts/*/epochs.jsonl"):
            spec = path.with_name("spec.json")
            finished = (path.parents[2] / "done.json").exists()
            if not finished and spec.exists() and json.loads(spec.read_text())["epochs"] == stage_epochs:
                found.append(len(path.read_bytes().splitlines()))
        return max(found)

    def copy(self, root: Path, tracked: bool = True, alone: bool = False) -> "Study":
        """Return this study in another workspace; its immutable files are shared. Data stay where they are.

        Args:
            root: of the other workspace.
            tracked: with MLflow's store.
            alone: share nothing, not even the data: a link to a file from elsewhere changes when it was last changed.
        """
        names = ("features", "lists", "trials", "sweeps", *(["mlflow.db", "mlartifacts"] if tracked else []))
        data = self.data or self.root / "shards" / "mini"
        root.mkdir()
        for name in names:
            if (self.root / name).is_dir():
                shutil.copytree(self.root / name, root / name, copy_function=shutil.copy2 if alone else os.link)
            elif (self.root / name).exists():
                shutil.copy2(self.root / name, root / name)
        return Study(root, shutil.copytree(data, root.parent / "shards" / data.name) if alone else data)


def other_checkout(folder: Path) -> Path:
    """Put another dfloc into a folder, one that takes every mask the wrong way round, beside harmful modules."""
    shutil.copytree(Path(dfloc.__file__).parent, folder / "dfloc", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "dfloc/data/shards.py").open("a") as file:
        file.write("\n\n_right = fakeness\n\n\ndef fakeness(*args, **how):\n    return 255 - _right(*args, **how)\n")
    for name in HARMFUL:
        (folder / f"{name}.py").write_text(f"raise AssertionError('{name}.py of the current folder was imported')\n")
    return folder


def runs(uri: str) -> list[tuple[str, str]]:
    """Return (fingerprint or sweep, status) of every run in an MLflow store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return sorted((run.data.tags.get("dfloc.fingerprint", "sweep"), run.info.status) for run in found)


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes whose environment carries a mark: it is inherited."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "one that has just ended"


def wait(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def _unread() -> int:
    """Return a file descriptor for what nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def fresh() -> dict[str, str]:
    """Return the environment of a fresh shell: Ray leaves settings of its own in that of the tests."""
    own = ("RAY_", "TUNE_", "MLFLOW_", "DFLOC_")
    return {key: value for key, value in os.environ.items() if not key.startswith(own)}


def _stamps(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".parquet"]
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in files
    }
