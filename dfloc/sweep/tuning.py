"""Ray Tune under a scheduler: a Tune trial is a pack of items, with an entry for each in every report."""

import _thread
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from upath import UPath

from dfloc import disk, driver_notes, shutdown, storage
from dfloc.errors import DflocError, DiskFullError
from dfloc.sweep.plan import Item
from dfloc.sweep.scheduler import Next, Scheduler
from dfloc.sweep.work import config_of, run, works

INFRASTRUCTURE_RETRIES = 3
GRACE_SECONDS = 3.0
"""For epochs in flight, where the process is told to end: it is killed soon, and the rest takes time too."""

TELL_SECONDS = 1.0
"""For the line that it is stopping, at the end, where nobody reads it."""

ENDS = {"finished": "", "failed": "failed", "stopped": "was stopped early"}
"""Key of an entry with which an item ends -> how that is told of its children's parent."""


class Tuning(Searcher):  # type: ignore[misc]
    """The Tune run of a scheduler's items. A member of a pack ends by itself; the pack, when all of them have.

    Args:
        scheduler: says what is run next and what is stopped early.
        told: what every worker is told: workspace, data folder, device, proof.
        on_report: told of every report of an item: `epoch`, `epochs`, and at its end `finished`, `failed` or `stopped`.
        on_stop: told when the process is asked to stop, and by which signal; by another thread, which may write.

    Attributes:
        stopped: the signal that asked to stop; 0 = none.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        told: dict[str, Any],
        on_report: Callable[[Item, dict[str, Any]], object],
        on_stop: Callable[[int], None],
    ):
        super().__init__(metric=None, mode=None)
        self._scheduler, self._told = scheduler, told
        self._on_report, self._on_stop = on_report, on_stop
        self._packs: dict[str, dict[str, Item]] = {}
        self._errors: list[str] = []
        self._refused: DflocError | None = None
        self._stopping = False
        self.stopped = 0

    def __reduce__(self) -> tuple[type[str], tuple[()]]:
        return str, ()  # Tune pickles its searcher to restore a run; here none is ever restored.

    def run(self, resources: dict[str, float], max_concurrent: int, folder: UPath) -> None:
        """Run until nothing is left, or the user stops it; `folder` holds Tune's own files, and is gone afterwards.

        Raises:
            DflocError: `on_report` or the scheduler raised it; the epochs in flight were ended first.
            Ended: they were not ended in time, or the user does not want to wait for them.
        """
        with self._listening(), self._cleared(Path(folder.path)):
            results = tune.Tuner(
                tune.with_resources(train_pack, resources),
                tune_config=tune.TuneConfig(
                    search_alg=self,
                    num_samples=-1,
                    max_concurrent_trials=max_concurrent,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name=time.strftime("%Y%m%d-%H%M%S"),
                    storage_path=str(folder),
                    verbose=0,
                    stop=self.reported,
                    failure_config=tune.FailureConfig(max_failures=INFRASTRUCTURE_RETRIES),
                ),
            ).fit()
        if self._refused:
            raise self._refused
        self._errors = [str(error) for error in results.errors]

    def troubles(self) -> Iterator[str]:
        """Yield a line for each trial whose worker died, and for each that was not started for its parent."""
        for error in self._errors:
            yield f"a trial's worker died: {error.strip().splitlines()[-1]}"
        if not self.stopped:
            yield from (f"not started: {name}: {why}" for name, why in self._scheduler.dropped.items())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return what the worker of the next pack is told; None = wait; FINISHED = there is no more."""
        with self._in_order():
            found: Next = "end" if self._stopping else self._scheduler.suggest()
            if isinstance(found, Item):
                return self.pack(trial_id, found)
            if found == "wait":
                return None
        return str(Searcher.FINISHED)

    def pack(self, trial_id: str, *members: Item) -> dict[str, Any]:
        """Make items the members of a Tune trial; return what its worker is told."""
        self._packs[trial_id] = {item.trial.fingerprint: item for item in members}
        return config_of(members, **self._told)

    def reported(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Tell of each member's entry; return whether the trial is to be stopped: an epoch is always saved before."""
        members, stopped = self._packs.get(trial_id, {}), False
        with self._in_order():
            for name, entry in result.get("pack", {}).items():
                if name in members:  # its worker may have died after it ended, and be tried again
                    stopped |= self._take(members, members[name], entry)
        return self._stopping or (stopped and not members)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End the members that have not ended by themselves."""
        for item in self._packs.pop(trial_id, {}).values():
            self._scheduler.on_end(item, "failed" if error else "did not finish")

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger is the record, and each start is planned anew from it."""

    def _take(self, members: dict[str, Item], item: Item, entry: dict[str, Any]) -> bool:
        """Take the entry of a member; return whether it was stopped by it."""
        if "full" in entry:
            raise DiskFullError(*entry["full"])
        reason = "" if self._stopping else self._scheduler.on_result(item, entry)
        entry = entry | ({"stopped": reason} if reason else {})
        self._on_report(item, entry)
        if how := [told for key, told in ENDS.items() if key in entry]:
            del members[item.trial.fingerprint]
            self._scheduler.on_end(item, how[-1])
        return bool(reason)

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """End the run in order at an error of the driver, which Tune would wrap."""
        try:
            yield
        except DflocError as error:
            self._refused, self._stopping = self._refused or error, True

    @contextmanager
    def _cleared(self, folder: Path) -> Iterator[None]:
        """Delete Tune's own files at the end; what it makes of a full disk is what a worker said of it."""
        try:
            with disk.room(folder):
                yield
        except DiskFullError as full:
            raise self._refused or full from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The first Ctrl-C ends the epochs in flight, the second one everything; TERM and HUP do not wait for long."""
        late = threading.Event()

        def expire() -> None:
            late.set()
            _thread.interrupt_main(signal.SIGTERM)

        clock = threading.Timer(GRACE_SECONDS, expire)
        tells = threading.Thread(target=lambda: self._on_stop(self.stopped), daemon=True)  # a handler may not write

        def ask(number: int) -> None:
            before = self.stopped
            if before in (0, signal.SIGINT):
                self.stopped = number  # before any call: there the next one may interrupt this one
            self._stopping = True
            if late.is_set() or (before and number == signal.SIGINT) or driver_notes.gone(driver_notes.facts()):
                raise shutdown.Ended(self.stopped)
            if number != signal.SIGINT and before in (0, signal.SIGINT):
                clock.start()
            if not before:
                tells.start()

        try:
            with shutdown.listening(ask):
                yield
        finally:
            clock.cancel()
            if tells.ident:
                tells.join(TELL_SECONDS)


def train_pack(config: dict[str, Any]) -> None:
    """Train and evaluate the items of a pack; a Tune function trainable.

    The worker writes its own files into the workspace; what is reported is for scheduling and progress alone:
    `{"pack": {fingerprint: {"epoch", "epochs", "goes_on", "valid_iou", "finished", "failed", "full"}}}`.
    A full disk is reported, for what is raised is tried again.
    """
    for work in works(config):
        spec = work.spec
        try:
            with disk.room(storage.local(work.workspace.root)):
                for progress in run(work):
                    tune.report({"pack": {spec.fingerprint: progress}})
        except DiskFullError as full:
            ended = {"epoch": 0, "epochs": spec.epochs, "full": full.args}
            tune.report({"pack": {spec.fingerprint: ended}})
            return
