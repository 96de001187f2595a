"""What is done to a sweep: kills, signals, a full disk, a clock, a server, a second driver."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.command import Started, marked, wait
from tests.faults import job
from tests.faults.job import SECONDS_TO_END
from tests.faults.judge import Wanted, screen
from tests.faults.scene import Kind, MissedError, Scene

ALWAYS = ("import", "features", "trials", "report")
AT_WORK = ("import", "features", "trials")
DROPPING = Path(__file__).parent.parent / "cases" / "dropping_server.py"
MEGABYTE = 1 << 20
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
STEPS = ("-5m", "-3h", "-2d")
CLOCK = """
import os, select, sys, time
if "LD_PRELOAD" not in os.environ:
    words = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, words, os.environ | {"LD_PRELOAD": os.environ["DFLOC_TEST_CLOCK"]})
del os.environ["LD_PRELOAD"]
time.sleep = lambda seconds: select.select([], [], [], max(0, seconds)) and None
"""
"""Gives every Python process a clock of libfaketime's (0.9.10), of which Ray's gcs dies; and a sleep that it knows."""


@contextlib.contextmanager
def kill_driver(scene: Scene) -> Iterator[None]:
    study = scene.lay()
    started = scene.begin()
    since = time.monotonic()
    os.kill(job.driver(study), signal.SIGKILL)
    scene.end(started, Wanted((137,), says=r"signal 9", seconds=SECONDS_TO_END), since)
    yield


@contextlib.contextmanager
def kill_command(scene: Scene) -> Iterator[None]:
    """The process that a user sees first, and that watches the driver: with it, everything ends."""
    scene.lay()
    started = scene.begin()
    since = time.monotonic()
    started.process.kill()
    scene.end(started, Wanted((-signal.SIGKILL,), lines=0, seconds=SECONDS_TO_END), since)
    yield


@contextlib.contextmanager
def kill_worker(scene: Scene) -> Iterator[None]:
    scene.lay()
    started = scene.begin()
    victim = job.some(job.workers, started.mark, scene.draw)
    since = time.monotonic()
    if victim:
        scene.notes.append(job.line(victim))
        job.send([victim], signal.SIGKILL)
    scene.end(started, Wanted((0,), says="done, 0 to run"), since)
    yield


def kill_of_ray(find: Callable[[str], list[psutil.Process]], name: str) -> Callable[[Scene], Iterator[None]]:
    @contextlib.contextmanager
    def disturb(scene: Scene) -> Iterator[None]:
        scene.lay()
        started = scene.begin()
        victim = job.some(find, started.mark, scene.draw)
        since = time.monotonic()
        job.send([victim] if victim else [], signal.SIGKILL)
        scene.end(started, Wanted((75,), says=name, seconds=SECONDS_TO_END), since)
        yield

    return disturb


def signalled(
    number: signal.Signals, whom: Callable[[Scene, Started], list[psutil.Process]], code: int
) -> Callable[[Scene], Iterator[None]]:
    @contextlib.contextmanager
    def disturb(scene: Scene) -> Iterator[None]:
        scene.lay()
        started = scene.begin()
        since = time.monotonic()
        job.send(whom(scene, started), number)
        scene.end(started, Wanted((code,), says=r"Go on with: |same command goes on", seconds=SECONDS_TO_END), since)
        yield

    return disturb


def one(scene: Scene, started: Started) -> list[psutil.Process]:
    """Whom `kill PID` is for: the command that was given, or the driver."""
    return [psutil.Process(scene.draw.choice([started.process.pid, job.driver(scene.bench.study)]))]


def everyone(scene: Scene, started: Started) -> list[psutil.Process]:
    return marked(started.mark)


def group(scene: Scene, started: Started) -> list[psutil.Process]:
    """Whom a terminal sends it to: its foreground group."""
    return [each for each in marked(started.mark) if os.getpgid(each.pid) == started.process.pid]


@contextlib.contextmanager
def disk_full(scene: Scene) -> Iterator[None]:
    """Everything that is free on the workspace's file system is taken at the moment."""
    place = scene.folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place)], check=True)
    try:
        scene.lay(place / "workspace")
        started = scene.begin()
        since = time.monotonic()
        _fill(place)
        scene.end(started, Wanted((2,), says=r"(?i)disk|space", seconds=60), since)
        refused = scene.bench.start().result()
        if refused.code != 2 or len(refused.err.splitlines()) != 1:
            scene.faults.append(f"started on a full disk, it ended with {refused.code}: {refused.err[-300:]}")
        scene.faults += screen(refused)
        (place / "ballast").unlink()
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place: Path) -> None:
    """Leave no byte free, and nothing of what is freed meanwhile."""
    with (place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            for size in (MEGABYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
            file.write(b"\0")


def no_mount() -> str:
    return "" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount a disk of the test's own"


@contextlib.contextmanager
def clock_back(scene: Scene) -> Iterator[None]:
    """The clock of every process goes back; then a second driver, to which the machine started at another time."""
    study = scene.lay()
    step = scene.draw.choice(STEPS)
    clock = scene.folder / "clock"
    clock.write_text("+0")
    (scene.folder / "path").mkdir()
    (scene.folder / "path" / "sitecustomize.py").write_text(CLOCK)
    environment = {
        "LD_PRELOAD": _library(),
        "PYTHONPATH": str(scene.folder / "path"),
        "DFLOC_TEST_CLOCK": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    started = scene.begin(**environment)
    since = time.monotonic()
    clock.write_text(step)
    scene.notes.append(step)
    time.sleep(1.5)
    _second(scene, started, study.root, through=_other_boot(scene.folder))
    scene.end(started, Wanted((0,), says="done, 0 to run"), since)
    yield


def _library() -> str:
    return next((name for name in FAKETIME if Path(name).exists()), "")


def no_faketime() -> str:
    if not _library():
        return "libfaketime is missing: apt-get install faketime"
    return "" if os.geteuid() == 0 else "only root can show a process another start of the machine"


def _other_boot(folder: Path) -> list[str]:
    """Return a command that runs another where the machine seems to have started an hour later."""
    lines = Path("/proc/stat").read_text().splitlines(keepends=True)
    moved = [f"btime {int(line.split()[1]) + 3600}\n" if line.startswith("btime ") else line for line in lines]
    (folder / "stat").write_text("".join(moved))
    script = f'mount --bind {folder}/stat /proc/stat && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


@contextlib.contextmanager
def second_driver(scene: Scene) -> Iterator[None]:
    study = scene.lay()
    started = scene.begin()
    since = time.monotonic()
    _second(scene, started, study.root)
    scene.end(started, Wanted((0,), says="done, 0 to run"), since)
    yield


def _second(scene: Scene, first: Started, root: Path, through: list[str] | None = None) -> None:
    """Give the command once more beside the first one: it is refused by name, with what to do."""
    pid = job.driver(scene.bench.study)
    second = scene.bench.start(through or ())
    result = second.result()
    if first.process.poll() is not None and result.code == 0:
        raise MissedError("the first had ended before the second began")
    names = f"another driver owns {root}" in result.err and f"pid {pid}" in result.err and "--wait" in result.err
    if result.code != 2 or not names or len(result.err.splitlines()) != 1:
        scene.faults.append(f"the second driver ended with {result.code}: {(result.out + result.err)[-300:]}")
    scene.faults += screen(result)


@contextlib.contextmanager
def reader_ends(scene: Scene) -> Iterator[None]:
    """Who reads the output has seen enough after a line."""
    study = scene.lay()
    since = time.monotonic()
    started = scene.bench.start(through=["sh", "-c", '"$@" | head -n 1', "sh"])
    scene.end(started, Wanted((0,), lines=0), since)
    if len(study.finished()) != len(scene.ground.numbers):
        scene.faults.append(f"the sweep did not go on: {len(study.finished())} trials are finished")
    yield


@contextlib.contextmanager
def dropping_server(scene: Scene) -> Iterator[str]:
    """MLflow's server drops most connections; then one that works takes its place."""
    port = _port()
    uri = f"http://127.0.0.1:{port}"
    scene.lay()
    scene.bench.arguments += ["--tracking", uri]
    server = subprocess.Popen([sys.executable, str(DROPPING), str(port)])
    try:
        wait(lambda: _answers(port), 60)
        since = time.monotonic()
        started = scene.bench.start()
        scene.end(started, Wanted((0,), says="MLflow"), since)
    finally:
        server.kill()
        server.wait()
    with _mlflow(port, scene.folder):
        yield uri


@contextlib.contextmanager
def _mlflow(port: int, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "art")]
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=quiet, cwd=folder, start_new_session=True)
    try:
        wait(lambda: _answers(port), 120)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


KINDS = {
    "kill driver": Kind("kill -9 of the driver", ALWAYS, kill_driver),
    "kill command": Kind("kill -9 of the command that watches the driver", ALWAYS, kill_command),
    "kill worker": Kind("kill -9 of a worker", AT_WORK, kill_worker),
    "kill gcs": Kind("kill -9 of Ray's gcs", ALWAYS, kill_of_ray(job.gcs, "gcs")),
    "kill raylet": Kind("kill -9 of Ray's raylet", ALWAYS, kill_of_ray(job.raylet, "raylet")),
    "term one": Kind("TERM to the driver alone", ALWAYS, signalled(signal.SIGTERM, one, 143)),
    "term all": Kind("TERM to every process of the job", ALWAYS, signalled(signal.SIGTERM, everyone, 143)),
    "int": Kind("INT, from a terminal", ALWAYS, signalled(signal.SIGINT, group, 130)),
    "hup": Kind("HUP, from a terminal that is closed", ALWAYS, signalled(signal.SIGHUP, group, 129)),
    "disk full": Kind("the disk is full", ALWAYS, disk_full, no_mount),
    "clock back": Kind("the clock goes back, and a second driver comes", AT_WORK, clock_back, no_faketime),
    "dropping server": Kind("MLflow's server drops connections", ALWAYS, dropping_server),
    "reader ends": Kind("`dfloc sweep ... | head -n 1`", ALWAYS, reader_ends),
    "second driver": Kind("a second driver", AT_WORK, second_driver),
}
