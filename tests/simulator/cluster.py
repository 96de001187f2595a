"""What stands for Ray: workers that are processes of the world, and a Tuner that hands them trials."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.sweep.tuning import train_pack
from tests.simulator.world import Process, World

ROOM = 2


class Ray:
    """Stands for `dfloc.sweep.cluster.Cluster`."""

    def __init__(self, address: Any, console: Any, logs: Any):
        self.log = logs / "ray.log"
        self.proof: tuple[str, ...] | None = None

    def begin(self, *parts: Any) -> None:
        self.proof = ("sim",)

    def stop(self) -> None:
        self.proof = None

    def max_concurrent(self, asked: int | None, held: Any) -> int:
        return ROOM


class Workers:
    """Starts what the driver asks for as processes of their own, which end with it unless they are left behind.

    Attributes:
        of: worker's process id -> the driver's.
    """

    def __init__(self, world: World, extract: Callable[[FeatureStore, Job], None]):
        self.world, self._extract = world, extract
        self.of: dict[int, int] = {}

    def start(self, name: str, body: Callable[[], object]) -> Process:
        """Start a worker of the process that asks."""
        me = self.world.current
        assert me is not None
        worker = self.world.spawn(name, body, host=me.host)
        self.of[worker.pid] = me.pid
        return worker

    def extract(self, store: FeatureStore, folder: Any, jobs: Sequence[Job], **how: Any) -> int:
        """Stand for `features.extract.extract`: one worker; what one met is raised, one that died is started again."""
        for _ in range(4):
            worker = self.start("extract", lambda: [self._extract(store, job) for job in jobs])
            self.world.sleep(1e9, lambda: worker.ended)  # noqa: B023
            if worker.error is not None:
                raise worker.error
            if not worker.dead:
                break
        return len(jobs)

    def tuner(self, report: Callable[[dict[str, Any]], None]) -> Any:
        """Return what stands for `ray.tune`; `report`: what a worker's entries go to."""
        return SimpleNamespace(
            report=report,
            Tuner=lambda trainable, *, tune_config, run_config: Tuner(self, tune_config, run_config),
            with_resources=lambda trainable, resources: trainable,
            TuneConfig=SimpleNamespace,
            RunConfig=SimpleNamespace,
            FailureConfig=SimpleNamespace,
        )


class Trial:
    """A trial of Tune: a worker that does what it is told, and waits at each report until it was heard."""

    def __init__(self, workers: Workers, name: str, config: dict[str, Any]):
        self.name, self.config, self.failures = name, config, 0
        self._workers = workers
        self.heard: list[dict[str, Any]] = []
        self.begin()

    def begin(self) -> None:
        self.heard.clear()
        self.worker = self._workers.start(self.name, self._work)
        reporters[self.worker.pid] = self._report

    def _work(self) -> None:
        train_pack(self.config)

    def _report(self, result: dict[str, Any]) -> None:
        self.heard.append(result)
        self._workers.world.sleep(1e9, lambda: not self.heard)


reporters: dict[int, Callable[[dict[str, Any]], None]] = {}
"""Who hears the reports of a worker."""


class Tuner:
    """Stands for `ray.tune.Tuner`, as far as `sweep.tuning` uses it."""

    def __init__(self, workers: Workers, tune_config: Any, run_config: Any):
        self._workers, self._world = workers, workers.world
        self._searcher, self._room = tune_config.search_alg, tune_config.max_concurrent_trials
        self._reported = run_config.stop
        self._retries = run_config.failure_config.max_failures
        self._running: list[Trial] = []
        self._errors: list[str] = []

    def fit(self) -> Any:
        """Run until the searcher has no more."""
        number, finished = 0, False
        while True:
            while not finished and len(self._running) < self._room:
                config = self._searcher.suggest(f"t{number}")
                if config is None:
                    break
                finished = config == "FINISHED"
                if not finished:
                    self._running.append(Trial(self._workers, f"t{number}", config))
                    number += 1
            if not self._running and (finished or config is None):
                return SimpleNamespace(errors=self._errors)
            self._world.sleep(5.0, lambda: any(one.heard or one.worker.ended for one in self._running))
            for trial in list(self._running):
                self._look(trial)

    def _look(self, trial: Trial) -> None:
        if trial.heard:
            if self._reported(trial.name, trial.heard[0]):
                self._world.kill(trial.worker.pid)
                self._end(trial)
            else:
                trial.heard.clear()
        elif trial.worker.ended:
            if trial.worker.error is None and not trial.worker.dead:
                self._end(trial)
            elif trial.failures < self._retries:
                trial.failures += 1
                trial.begin()
            else:
                self._errors.append(f"{type(trial.worker.error).__name__}: {trial.worker.error}")
                self._end(trial, error=True)

    def _end(self, trial: Trial, error: bool = False) -> None:
        self._running.remove(trial)
        self._searcher.on_trial_complete(trial.name, None, error)
