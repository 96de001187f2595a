"""One seed: a study from its first start to its end, through all that goes wrong; and what must hold meanwhile."""

import builtins
import json
import logging
import random
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import pyarrow

from dfloc import identity, lock, owner, shutdown, storage
from dfloc.disk import SCRATCH
from dfloc.errors import DflocError
from dfloc.features import extract, store
from dfloc.ledger import Ledger
from dfloc.record import SweepRecord
from dfloc.report import build
from dfloc.storage import Workspace
from dfloc.sweep import prepare, run, tuning, work
from dfloc.sweep.sweep_data import SweepRequest
from tests.simulator import study
from tests.simulator.chaos import Chaos
from tests.simulator.cluster import Ray, Workers, reporters
from tests.simulator.disk import Disk
from tests.simulator.watch import Watch
from tests.simulator.world import Event, Process, Thread, World

pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)

PLACE = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
OPS = 600  # of a start in which nothing goes wrong, about
QUICK = {"HEARTBEAT_SECONDS": lock.HEARTBEAT_SECONDS / 4, "LOST_SECONDS": lock.LOST_SECONDS / 4}
STALE_SECONDS = lock.STALE_SECONDS / 4
RUBBISH = "rubbish is left"
LAST_STARTS = 1  # in which nothing goes wrong any more: so many, and the study is done


class Result(NamedTuple):
    """What came of a seed."""

    seed: int
    violations: list[str]
    log: list[str]
    writes: list[int]
    numbers: dict[str, Any]


class Simulation:
    """The world of a seed."""

    def __init__(self, seed: int, folder: Path):
        self.seed = seed
        self.world = World(seed)
        self.disk = Disk(folder / "workspace", self.world)
        self.workspace = Workspace(folder / "workspace", create=False)
        self.images = study.Images()
        self.engine = study.Engine(self.world, self.images)
        self.workers = Workers(self.world, self.engine.extract)
        self.watch = Watch(self.world, self.workers, self.workspace)
        self.engine.trained = self.watch.trained
        self._resolved = _resolved(folder)
        self._starts = 0
        self._chaos = Chaos()
        self._first = 0
        self._driver: Process | None = None
        self._orphaned = 0
        self._random = random.Random(seed ^ 0x5EED)

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Put the world beneath the code."""
        world = self.world
        Event.world = Thread.world = world
        self.world.chaos = self._happens
        real = {"time": time.time, "monotonic": time.monotonic, "sleep": time.sleep}

        def simulated(name: str, asked: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args: real[name](*args) if world.current is None else asked(*args)

        with ExitStack() as stack:
            put = stack.enter_context
            put(mock.patch.object(time, "time", simulated("time", lambda: world.now + world.wall)))
            put(mock.patch.object(time, "monotonic", simulated("monotonic", lambda: world.now)))
            put(mock.patch.object(time, "sleep", simulated("sleep", world.sleep)))
            put(mock.patch.multiple(uuid, uuid4=lambda: uuid.UUID(int=self._random.getrandbits(128))))
            put(mock.patch.object(lock, "threading", SimpleNamespace(Event=Event, Thread=Thread)))
            put(mock.patch.multiple(lock, now=lambda: world.now, **QUICK))
            put(mock.patch.dict(lock.DriverLock.__init__.__kwdefaults__, stale_seconds=STALE_SECONDS))
            put(mock.patch.multiple(owner, **_identity(world)))
            put(mock.patch.object(store, "ThreadPoolExecutor", _Serial))
            put(mock.patch.object(storage, "json_bytes", _json_bytes))
            put(mock.patch.multiple(work, WorkerCheck=_WorkerCheck, **self.engine.stand_ins()))
            put(mock.patch.object(tuning, "tune", self.workers.tuner(self._report)))
            put(mock.patch.object(shutdown, "listening", _listening(world)))
            put(mock.patch.object(identity, "socket", SimpleNamespace(gethostname=lambda: world.current.host)))
            put(mock.patch.object(extract, "extract", self.workers.extract))
            put(mock.patch.object(build, "build", self._build))
            put(
                mock.patch.multiple(
                    run, Tracker=self._tracker, DiskSpace=_DiskSpace, data_of=lambda *parts: self.images
                )
            )
            put(mock.patch.object(run, "temp", SimpleNamespace(clear=lambda: None)))
            put(mock.patch.multiple(run.cluster, Cluster=Ray, check_device=lambda *parts: None))
            put(mock.patch.multiple(prepare, SweepFile=_File, find=Path, expand=lambda *parts: self._resolved[0]))
            put(mock.patch.multiple(prepare, resolve=lambda *parts, **how: self._resolved[1]))
            put(self.disk.mounted())
            put(self.watch.watching())
            put(_logged(world))
            yield

    def start(self, chaos: Chaos) -> Process:
        """Give the command once."""
        self._starts += 1
        self._chaos, self._first, self._driver, self._orphaned = chaos, self.world.ops, None, 0
        self.world.note(f"start {self._starts}; to come: {chaos}")
        self._driver = self._drive(f"driver {self._starts}", "here", wait=False)
        driver = self._driver
        self.world.run()
        self.watch.crashed()
        if self._power:
            self.world.boots += 1
            for line in self.disk.crash(self.world.rng):
                self.world.note(line)
        self._judge(driver)
        if not self.world.violations:
            self.watch.check()
        return driver

    def _judge(self, driver: Process) -> None:
        error = driver.error
        if isinstance(error, DflocError) and (self._chaos.spoils or self._power):
            return
        if isinstance(error, OSError) and self._chaos.errors:
            return
        if error is not None:
            self.world.violate(f"the driver ended with {type(error).__name__}: {error}")

    _power = False

    def _drive(self, name: str, host: str, wait: bool) -> Process:
        options = SweepRequest(name="small", workspace=str(self.workspace.root), preset="smoke", wait=wait)
        console = SimpleNamespace(print=lambda *text, **how: self.world.note(f"says: {text[0]}"), is_terminal=False)
        return self.world.spawn(name, lambda: run.sweep(options, console), host=host)  # type: ignore[arg-type]

    def _happens(self, process: Process, kind: str, path: str) -> None:
        """Do to an operation what is to be done to it."""
        world, chaos, number = self.world, self._chaos, self.world.ops - self._first
        process.last = world.now
        self.watch.born(process.pid)
        self.watch.writes(process, kind, path)
        world.wall += chaos.steps.get(number, 0.0)
        if number == chaos.power:
            self._power = True
            world.note("the machine loses power")
            world.kill(*{one.pid for one in world.processes})
        driver = self._driver
        assert driver is not None
        if number == chaos.driver:
            mine = [worker for worker, owner in self.workers.of.items() if owner == driver.pid]
            world.note(f"the driver is killed{', its workers go on' if chaos.orphans else ' with its workers'}")
            world.kill(driver.pid, *(() if chaos.orphans else mine))
        if number in chaos.workers:
            alive = sorted(pid for pid in self.workers.of if world.alive(pid))
            if alive:
                chosen = world.rng.choice(alive)
                world.note(f"worker {chosen} is killed")
                world.kill(chosen)
        if number == chaos.stop and driver.handlers:
            world.note("the user asks to stop")
            driver.handlers[-1](signal.SIGINT)
        if chaos.second and number == chaos.second[0]:
            self._drive(f"second {self._starts}", *chaos.second[1:])
        if number == chaos.stall:
            world.note("the driver is stalled")
            for one in world.processes:
                if one.pid == driver.pid:
                    one.stalled = world.now + 100
            if process.pid == driver.pid:
                world.pause()
        if lost := chaos.error(world.rng, number, kind):
            world.note(f"fails: {lost.strerror}{' after it was done' if lost.after else ''}")
            self.watch.excused.update(part for part in path.split("/") if kind == "read" and len(part) >= 64)
            raise lost

    def _tracker(self, workspace: Workspace, *parts: Any, **how: Any) -> "_Tracker":
        return _Tracker(workspace, self.watch.submitted)

    def _report(self, result: dict[str, Any]) -> None:
        assert self.world.current is not None
        reporters[self.world.current.pid](result)

    def _build(self, workspace: Workspace, record: SweepRecord, shards: Any) -> Any:
        """Stand for the report: read everything, put one file."""
        ledger = Ledger(workspace)
        done = [one for one in record.trials if ledger.state(one.fingerprint) == "done"]
        scored = [each for one in done for each in one.evaluations if ledger.has_rows(each.trial, each.key)]
        points = {each.key: ledger.scored(each)["iou"].to_pylist() for each in scored}
        storage.put_json(workspace.report(record.sweep) / "points.json", points)
        return workspace.report(record.sweep)


def simulate(seed: int, starts: list[Chaos] | None = None, fault: Callable[[], Any] | None = None) -> Result:
    """Run a seed.

    Args:
        seed: of everything.
        starts: what goes wrong in each start before the last one; None: drawn.
        fault: makes the code worse: a context manager.
    """
    right = {} if starts == [] else _reference()
    with tempfile.TemporaryDirectory(prefix="dfloc-sim-", dir=PLACE) as folder:
        one = Simulation(seed, Path(folder))
        with fault() if fault else ExitStack(), one.standing():
            _run(one, starts)
            numbers = {} if one.world.violations else one.watch.numbers()
            if not one.world.violations and right and numbers != right:
                one.world.violations.append("the numbers are others than those of a run in which nothing went wrong")
    told = ([line.replace(one.disk.root, "") for line in lines] for lines in (one.world.violations, one.world.log))
    return Result(seed, *told, one.world.writes, numbers)


def _run(one: Simulation, starts: list[Chaos] | None) -> None:
    rng, world = random.Random(one.seed), one.world
    world.restless = rng.choice([0.0, 0.03, 0.3, 0.5])
    one.disk.nameless = starts is not None or rng.random() < 0.7
    drawn = [Chaos.draw(rng, OPS) for _ in range(rng.choice([1, 1, 1, 2]))] if starts is None else starts
    for chaos in drawn:
        one._power = False
        one.start(chaos)
        if world.violations:
            return
        if starts is None and rng.random() < 0.4:
            _rot(one, rng)
    one._power = False
    for _ in range(LAST_STARTS):
        outcome = one.start(Chaos()).result
    if not world.violations and (outcome is None or outcome.left or outcome.failed):  # type: ignore[attr-defined]
        world.violations.append(f"the study is not done after a start in which nothing went wrong: {outcome}")
    left = [path for path in one.disk.files() if SCRATCH.fullmatch(path.rpartition("/")[2])]
    if left and not world.violations:
        world.violations.append(f"{RUBBISH}: {left[0]}")


def _rot(one: Simulation, rng: random.Random) -> None:
    """Damage a file that can be made again, of any kind as often."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(one.disk.files()):
        kind = "list" if path.startswith("lists/") else path.rpartition(".")[2]
        kinds.setdefault(kind, []).append(path)
    kinds = {kind: kinds[kind] for kind in ("list", "state", "npy", "parquet") if kind in kinds}
    if kinds:
        path = rng.choice(kinds[rng.choice(list(kinds))])
        one.world.note(f"rots: /{path}")
        one.watch.excused.update(path.split("/"))
        one.disk.rot(path, rng)


@cache
def _reference() -> dict[str, Any]:
    return simulate(0, starts=[]).numbers


_studies: dict[str, Any] = {}


def _resolved(folder: Path) -> tuple[Any, Any]:
    """Return the study and its trials: the same for every seed, for they rest on nothing that lies on the disk."""
    if not _studies:
        from dfloc.sweep.inventory import Inventory
        from dfloc.sweep.resolve import resolve
        from dfloc.sweep.study import expand
        from dfloc.sweep.sweep_file import SweepFile

        images = study.Images()
        asked = expand(SweepFile(study.write(folder)).choose("smoke", (), images.local))
        known = Inventory(Workspace(folder / "none", create=False))
        _studies["small"] = asked, resolve(asked, images, known, preset="smoke")
    return _studies["small"]


class _File:
    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = {}

    def domains_asked(self, *parts: Any) -> list[str]:
        return ["sim/one", "sim/two"]

    def choose(self, *parts: Any) -> "_File":
        return self


def _identity(world: World) -> dict[str, Any]:
    """Return what tells processes apart, for `dfloc.owner`."""

    def me() -> Process:
        assert world.current is not None
        return world.current

    def kill(pid: int, number: int) -> None:
        if not world.alive(pid):
            raise ProcessLookupError

    return {
        "os": SimpleNamespace(getpid=lambda: me().pid, kill=kill),
        "platform": SimpleNamespace(node=lambda: me().host),
        "psutil": SimpleNamespace(Process=lambda: SimpleNamespace(create_time=lambda: 1e9)),
        "_here": lambda: (f"{me().host} {world.boots}", "pid:[1]"),
        "_start": lambda pid: pid * 100 if world.alive(pid) else None,
    }


def _json_bytes(value: object) -> bytes:
    """Stand for `storage.json_bytes`: seeds write the same records over and over, in an encoder that is slow."""
    return _indented(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False))


_encode = storage.json_bytes


@lru_cache(10_000)
def _indented(text: str) -> bytes:
    return _encode(json.loads(text))


class _Serial:
    def __init__(self, workers: int | None):
        self.map = builtins.map

    def __enter__(self) -> "_Serial":
        return self

    def __exit__(self, *how: object) -> None:
        pass


class _WorkerCheck:
    def __init__(self, *parts: Any):
        pass

    def check(self) -> None:
        pass


def _listening(world: World) -> Callable[[Callable[[int], None]], AbstractContextManager[None]]:
    """Return what stands for `dfloc.shutdown.listening`."""

    @contextmanager
    def listening(on: Callable[[int], None]) -> Iterator[None]:
        assert world.current is not None
        handlers = world.current.handlers
        handlers.append(on)
        try:
            yield
        finally:
            handlers.remove(on)

    return listening


class _DiskSpace:
    def __init__(self, *parts: Any):
        self.look = self.explained = lambda *plan: ExitStack()


class _Tracker:
    uri, ui_words = "nowhere", ()
    is_own = is_whole = False
    notes = ()

    def __init__(self, workspace: Workspace, submit: Callable[[object], None]):
        identity.identify(workspace)
        self.submit = submit

    def open(self, record: Any) -> None:
        pass

    renew = open

    def close(self, *how: Any, seconds: float = 0.0) -> None:
        pass


@contextmanager
def _logged(world: World) -> Iterator[None]:
    handler = logging.Handler()
    handler.emit = lambda record: world.note(f"logs: {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.getLogger("dfloc")
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
