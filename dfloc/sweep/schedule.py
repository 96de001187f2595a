"""Items of work through Ray Tune: one Searcher, which releases an item when its parents are finished."""

import _thread
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher
from upath import UPath

from dfloc import disk, ending, slate
from dfloc.errors import DflocError, DiskFullError
from dfloc.sweep.plan import Item
from dfloc.sweep.trainable import train_pack
from dfloc.sweep.work import config_of

INFRASTRUCTURE_RETRIES = 3
GRACE_SECONDS = 3.0
"""For epochs in flight, where the process is told to end: it is killed soon, and the rest takes time too."""

TELL_SECONDS = 1.0
"""For the line that it is stopping, at the end, where nobody reads it."""


class More(Protocol):
    """Where items come from that are not known before others have run: a search."""

    def draw(self) -> list[Item] | None:
        """Return the items of the next point, none where all was done before; None: there is no more."""
        ...

    def wants(self, item: Item) -> bool:
        """Return whether an item that was handed in is still to be done."""
        ...

    def cut(self, item: Item, entry: dict[str, Any]) -> object | None:
        """Return why a trial that reports is to be stopped; None: it goes on."""
        ...


class ParentsFirst(Searcher):  # type: ignore[misc]
    """Hands out items of work, parents before children; each Tune trial is a pack (a list of items).

    Args:
        items: what is to run, parents before children.
        config_of: what the Tune trial of a pack is told.
        more: asked for items when none of these is ready.

    Attributes:
        items: every item so far, by fingerprint.
        dropped: name of an item -> why it was never started.
        stopping: set to hand out nothing more.
        refused: what `more` could not do; it is not asked again.
    """

    def __init__(
        self,
        items: Sequence[Item],
        config_of: Callable[[Sequence[Item]], dict[str, Any]],
        more: More | None = None,
    ):
        super().__init__(metric=None, mode=None)
        self.items = {item.trial.fingerprint: item for item in items}
        self.dropped: dict[str, str] = {}
        self.stopping = False
        self.refused: DflocError | None = None
        self._config_of = config_of
        self._more = more
        self._waiting = {item.trial.fingerprint: item for item in items}
        self._running: dict[str, list[Item]] = {}

    def __reduce__(self) -> tuple[type["ParentsFirst"], tuple[list[Item], type[dict[str, Any]]]]:
        return ParentsFirst, ([], dict)  # Tune pickles its searcher to restore a run; here none is ever restored.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next pack whose parents are finished; None = wait; FINISHED = there is no more."""
        ready = None if self.stopping else self._next()
        if ready is None:
            return None if self._waiting and not self.stopping else str(Searcher.FINISHED)
        del self._waiting[ready.trial.fingerprint]
        self._running[trial_id] = [ready]
        return self._config_of([ready])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Release the children of what finished; drop those of what failed, with a message."""
        for item in self._running.pop(trial_id, []):
            entry = f"pack/{item.trial.fingerprint}"  # Tune hands its searcher results flattened
            if error or f"{entry}/failed" in (result or {}):
                self._drop(item.trial.fingerprint, item.name, "failed")
            elif f"{entry}/finished" not in (result or {}):
                self._drop(item.trial.fingerprint, item.name, "did not finish")

    def cut(self, pack: dict[str, Any]) -> bool:
        """Return whether a trial that reports is to be stopped early, and write the reason into what it reports."""
        reasons = {name: self._more.cut(self.items[name], entry) for name, entry in pack.items()} if self._more else {}
        for name, reason in reasons.items():
            if reason is not None:
                pack[name]["stopped"] = str(reason)
        return any(reason is not None for reason in reasons.values())

    def _next(self) -> Item | None:
        """Return an item whose parents are finished, drawn anew where there is none."""
        while True:
            if self._more:
                self._waiting = {name: item for name, item in self._waiting.items() if self._more.wants(item)}
            running = {item.trial.fingerprint for pack in self._running.values() for item in pack}
            open_ones = {*self._waiting, *running}
            ready = next((item for item in self._waiting.values() if item.trial.parent not in open_ones), None)
            if ready or self._more is None:
                return ready
            try:
                drawn = self._more.draw()
            except DflocError as error:
                self.refused, self.stopping = error, True
                return None
            if drawn is None:
                return None
            new = {item.trial.fingerprint: item for item in drawn if item.trial.fingerprint not in open_ones}
            self.items |= new
            self._waiting |= new

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing is learned in between."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored: each start is planned anew from the ledger."""

    def _drop(self, parent: str, name: str, why: str) -> None:
        children = [fp for fp, item in self._waiting.items() if item.trial.parent == parent]
        for fp in children:
            child = self._waiting.pop(fp)
            self.dropped[child.name] = f"its parent {name} {why}"
            self._drop(fp, name, why)


class Packs:
    """The Tune run of a plan's items.

    Args:
        items: parents before children.
        on_report: told of every report of an item: `epoch`, `epochs`, and at its end `finished` or `failed`.
        on_stop: told when the process is asked to stop, and by which signal; by another thread, which may write.
        more: where further items come from while these run.

    Attributes:
        stopped: the signal that asked to stop; 0 = none.
    """

    def __init__(
        self,
        items: Sequence[Item],
        on_report: Callable[[Item, dict[str, Any]], object],
        on_stop: Callable[[int], None],
        more: More | None = None,
    ):
        self._items, self._more = list(items), more
        self._on_report = on_report
        self._on_stop = on_stop
        self._errors: list[str] = []
        self._dropped: dict[str, str] = {}
        self._refused: DflocError | None = None
        self._searcher: ParentsFirst | None = None
        self.stopped = 0

    def run(self, told: dict[str, Any], resources: dict[str, float], max_concurrent: int, folder: UPath) -> None:
        """Run until nothing is left, or the user stops it.

        Args:
            told: what every worker is told: workspace, data folder, device.
            resources: of one trial.
            max_concurrent: trials at once at most.
            folder: Tune's own files; gone afterwards.

        Raises:
            DflocError: `on_report` raised it; the epochs in flight were ended first.
            Ended: they were not ended in time, or the user does not want to wait for them.
        """
        searcher = self._searcher = ParentsFirst(self._items, lambda pack: config_of(pack, **told), self._more)
        with self._listening(searcher), self._cleared(Path(folder.path)):
            results = tune.Tuner(
                tune.with_resources(train_pack, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    max_concurrent_trials=max_concurrent,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name=time.strftime("%Y%m%d-%H%M%S"),
                    storage_path=str(folder),
                    verbose=0,
                    stop=_StopWhenAsked(searcher, self._cut),
                    failure_config=tune.FailureConfig(max_failures=INFRASTRUCTURE_RETRIES),
                    callbacks=[_Reports(self._report)],
                ),
            ).fit()
        if refused := self._refused or searcher.refused:
            raise refused
        self._errors = [str(error) for error in results.errors]
        self._dropped = searcher.dropped

    def troubles(self) -> Iterator[str]:
        """Yield a line for each trial whose worker died, and for each that was not started for its parent."""
        for error in self._errors:
            yield f"a trial's worker died: {error.strip().splitlines()[-1]}"
        if not self.stopped:
            yield from (f"not started: {name}: {why}" for name, why in self._dropped.items())

    def _report(self, pack: dict[str, Any]) -> None:
        """Pass reports on; an error of the driver ends the run in order, for Tune would wrap it."""
        assert self._searcher is not None
        try:
            for fingerprint, entry in pack.items():
                if "full" in entry:
                    raise DiskFullError(*entry["full"])
                self._on_report(self._searcher.items[fingerprint], entry)
        except DflocError as error:
            self._refused, self._searcher.stopping = error, True

    def _cut(self, pack: dict[str, Any]) -> bool:
        """Return whether a trial is to be stopped early; an error of the driver ends the run in order."""
        assert self._searcher is not None
        try:
            return self._searcher.cut(pack)
        except DflocError as error:
            self._refused, self._searcher.stopping = error, True
            return True

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
    def _listening(self, searcher: ParentsFirst) -> Iterator[None]:
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
            searcher.stopping = True
            if late.is_set() or (before and number == signal.SIGINT) or slate.gone(slate.facts()):
                raise ending.Ended(self.stopped)
            if number != signal.SIGINT and before in (0, signal.SIGINT):
                clock.start()
            if not before:
                tells.start()

        try:
            with ending.listening(ask):
                yield
        finally:
            clock.cancel()
            if tells.ident:
                tells.join(TELL_SECONDS)


class _StopWhenAsked(tune.Stopper):  # type: ignore[misc]
    """Stops a trial at a report, where an epoch is always saved before: one of the worse, or once all are to stop."""

    def __init__(self, searcher: ParentsFirst, cut: Callable[[dict[str, Any]], bool]):
        self._searcher, self._cut = searcher, cut

    def __reduce__(self) -> tuple[type["_StopWhenAsked"], tuple[ParentsFirst, type[bool]]]:
        return _StopWhenAsked, (self._searcher, bool)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.stopping or self._cut(result.get("pack", {}))

    def stop_all(self) -> bool:
        """Never at once."""
        return False


class _Reports(tune.Callback):  # type: ignore[misc]
    """Passes on what trials report."""

    def __init__(self, on_pack: Callable[[dict[str, Any]], None]):
        self._on_pack = on_pack

    def __reduce__(self) -> tuple[type["_Reports"], tuple[Callable[[dict[str, Any]], None]]]:
        return _Reports, (_nothing,)  # Tune pickles its callbacks to restore a run; here none is ever restored.

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass a report on."""
        self._on_pack(result.get("pack", {}))


def _nothing(pack: dict[str, Any]) -> None:
    """Take a report and do nothing."""
