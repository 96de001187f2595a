"""One sweep from its name to its report: plan -> features -> trials -> ledger -> tracking -> report."""

import logging
import math
import shlex
import signal
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from upath import UPath

from dfloc import ending, slate, temp, tracking_uri
from dfloc.data import lists
from dfloc.errors import ConfigError, DflocError, TrialError
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.lock import DriverLock
from dfloc.record import Starts, SweepRecord
from dfloc.report.variants import replaced
from dfloc.storage import Workspace
from dfloc.sweep import cluster, said, settled
from dfloc.sweep.data import Shards
from dfloc.sweep.hunt import Hunt
from dfloc.sweep.known import Known
from dfloc.sweep.plan import Item, Plan
from dfloc.sweep.prepare import Options, Prepared, data_folder, data_of, prepare, resting, sources
from dfloc.sweep.progress import Display
from dfloc.sweep.room import Room
from dfloc.sweep.tree import import_tree
from dfloc.tracking import Tracker, check_experiment

logger = logging.getLogger(__name__)

ROUNDS = 3
HURRY_SECONDS = 2.0
"""For MLflow, where the process is asked to end."""
STOPPING = ("stopping; what is in flight has seconds", "stopping after the epochs in flight; Ctrl-C again ends at once")


def sweep(options: Options, console: Console) -> said.Outcome:
    """Run what is left of a sweep.

    Raises:
        DflocError: bad input, another driver, no such device; nothing was started then.
    """
    if options.data is None and options.chosen_preset == "paper":
        raise ConfigError("preset paper needs Dolos: add --data DIR, or --dry-run to see the plan")
    tracking_uri.check(Workspace(options.workspace, create=False), options.tracking)
    check_experiment(options.experiment)
    workspace = Workspace(options.workspace)
    with DriverLock(
        workspace.root,
        wait=options.wait,
        on_wait=lambda owner: console.print(f"waiting for the driver on {owner.name}"),
    ) as lock:
        if lock.succeeds:
            temp.clear()
        driver = Driver(options, console, workspace, lock)
        with driver.room.told():
            return driver.run()


class Driver:
    """The process that owns a workspace while a sweep runs."""

    def __init__(self, options: Options, console: Console, workspace: Workspace, lock: DriverLock):
        self.options = options
        self.console = console
        self.workspace = workspace
        self.lock = lock
        self.ledger = Ledger(workspace)
        self.known = Known(workspace, on_load=self.say)
        self.ray = cluster.Cluster(options.address, console, workspace.root / "logs")
        self.room = Room(workspace, self.say)
        self._kept: set[str] = set()

    def run(self) -> said.Outcome:
        """Do everything that is left."""
        try:
            prepared = self._prepare()
            self._say(said.of_plan(prepared.plan, self.ledger))
            self.record = self._keep(prepared)
            self._say(replaced(self.record))
            self.tracker.open(self.record)
            try:
                worked = bool(prepared.plan.left)
                prepared, interrupted = self._work(prepared) if worked else (prepared, False)
                if prepared.drawing:
                    self._renew(prepared, prepared.drawing.drawn(()))
                if worked or self.lock.succeeds:
                    self._drop_checkpoints()
                rests, seen = self._look()
                report = self._report(self.record, data_folder(self.options, self.workspace))
            except BaseException as error:
                if self.lock.held():
                    hurry = HURRY_SECONDS if isinstance(error, KeyboardInterrupt) else math.inf
                    self.tracker.close("KILLED", seconds=hurry)
                raise
            outcome = self._end(prepared, worked, interrupted, report)
            self._settle(outcome, rests, seen)
            return outcome
        finally:
            self.ray.stop()

    def _end(self, prepared: Prepared, worked: bool, interrupted: bool, report: UPath | None) -> said.Outcome:
        """Fill MLflow in and return how the sweep ended.

        Raises:
            TrialError: trials ended without a word.
        """
        after = self._plan_again(prepared) if worked else prepared.plan
        failed, left = self._failures(after), after.left
        lost = bool(left) and not failed and not interrupted
        self.tracker.close("KILLED" if interrupted else "FAILED" if failed or lost else "FINISHED", report)
        if lost:
            first = after.items[0].name if after.items else "one that was not drawn"
            raise TrialError(
                f"{left} trials ended without a result, the first is {first}; "
                f"see {self.ray.log}, then give the same command again"
            )
        return said.Outcome(report, self._compare(), left, failed, interrupted)

    def _drop_checkpoints(self) -> None:
        """Drop those of finished trials: a worker may have been killed before it did."""
        for name in {trial.fingerprint for trial in self.record.trials}:
            if self.ledger.state(name) == "done":
                self.ledger.drop_checkpoints(name)

    def _look(self) -> tuple[list[str], str]:
        """Return what a finished study rests on, and how that is before it is read."""
        try:
            rests = list(resting(self.options, self.workspace, self.record))
        except (DflocError, OSError) as error:  # who needs such a file says so
            logger.info("not to be settled: %s", error)
            return [], ""
        return rests, settled.seen(asdict(self.options), rests, settle=True)

    def _settle(self, outcome: said.Outcome, rests: Sequence[str], seen: str) -> None:
        """Note what is said of a finished study, where the same command would find the same and write nothing."""
        whole = self.tracker.is_whole and not self.tracker.notes
        if outcome.left or outcome.failed or outcome.interrupted or not (rests and whole):
            return
        options = self.options
        try:
            starts = Starts(self.workspace.sweep(self.record.sweep))
            again = prepare(options, self.workspace, data_of(options, self.workspace), Known(self.workspace))
        except (DflocError, OSError) as error:  # as it is now the same command would say it
            logger.info("not settled: %s", error)
            return
        if again.plan.left or starts.union != self.record or not starts.repeats(again.plan.record):
            return
        head = (*self.ray.notes, *said.of_data(options, again), f"workspace {self.workspace.root}")
        lines = [*head, *said.of_plan(again.plan, self.ledger), *replaced(self.record), *said.of_end(outcome, "")[0]]
        settled.keep(asdict(options), lines, rests, [f"reports/{self.record.sweep}", "mlflow.db"], seen)

    def _compare(self) -> str:
        if not self.tracker.is_own:
            return self.tracker.uri
        usual = self.workspace.root == Workspace("workspace", create=False).root
        where = [] if usual else ["--workspace", str(self.workspace.root)]
        return shlex.join(["dfloc", "ui", *where, *self.tracker.ui_words])

    def _prepare(self) -> Prepared:
        expected = data_of(self.options, self.workspace)
        prepared = prepare(self.options, self.workspace, expected, self.known)
        cluster.check_device(prepared.device, self.options.address)
        self.tracker = self._tracked()
        self._say((*said.of_data(self.options, prepared), f"workspace {self.workspace.root}", *self.tracker.notes))
        if not expected.present:
            self._begin(prepared.device, sources(self.options, self.workspace, expected))
            shards = import_tree(self.options, self.workspace, self.console)
            prepared = prepare(self.options, self.workspace, shards, self.known)
            self.room.look(prepared.plan)
            return prepared
        if prepared.plan.left:
            self.room.look(prepared.plan)
            self._begin(prepared.device, sources(self.options, self.workspace, expected))
        return prepared

    def _tracked(self) -> Tracker:
        """Return what tells MLflow; the first thing that a sweep without a mistake makes, an identity, is made here."""
        asked = self.options
        return Tracker(self.workspace, self.ledger, asked.tracking, asked.experiment, new_identity=asked.new_identity)

    def _begin(self, device: str, data: Sequence[str]) -> None:
        self.ray.begin(self.workspace, device, self.options.gpus_per_trial, data)

    def _keep(self, prepared: Prepared) -> SweepRecord:
        """Write what is planned: the start, and every list of samples; return the union of all starts."""
        self.lock.check()
        self.starts = Starts(self.workspace.sweep(prepared.plan.record.sweep))
        self.starts.begin(prepared.plan.record)
        self._keep_lists(prepared)
        if self.options.retry_failed:
            for item in prepared.plan.items:
                self.ledger.forget_failure(item.trial.fingerprint)
        return self.starts.union

    def _keep_lists(self, prepared: Prepared) -> None:
        for digest, refs in prepared.resolved.lists.items():
            if digest not in self._kept:
                lists.keep(self.workspace, digest, refs)
                self._kept.add(digest)

    def _renew(self, prepared: Prepared, drawn: SweepRecord) -> None:
        """Put what a search has drawn on record."""
        self.lock.check()
        self.starts.add(drawn)
        self._keep_lists(prepared)
        self.record = self.starts.union
        self.tracker.renew(self.record)

    def _hunt(self, prepared: Prepared, display: Display) -> Hunt | None:
        """Return the search, which adds to the record."""

        def keep(drawn: SweepRecord) -> None:
            self._renew(prepared, drawn)

        def told(name: str) -> None:
            display.finished(name, "done before")

        if prepared.drawing is None:
            return None
        return Hunt(prepared.drawing, keep=keep, check=self.lock.check, told=told)

    def _work(self, prepared: Prepared) -> tuple[Prepared, bool]:
        """Compute features, then run the trials; return what was run last, and whether the user stopped it.

        What a worker finds damaged is taken out of the store: it is computed again, and what read it is run again.

        Raises:
            Ended: TERM or HUP ended it.
        """
        for left in reversed(range(ROUNDS)):
            self._leave(prepared.plan.left)
            self._extract(prepared)
            stopped, troubles = self._train(prepared)
            if stopped not in (0, signal.SIGINT):
                raise ending.Ended(stopped)
            if stopped or not troubles or not left:
                break
            again = prepare(self.options, self.workspace, prepared.data, self.known)
            if not again.plan.jobs:
                break
            prepared = again
            self.say(f"{len(prepared.plan.jobs)} groups of stored features were damaged, they are made again")
        return prepared, bool(stopped)

    def _extract(self, prepared: Prepared) -> None:
        """Compute the features that are lacking."""
        from dfloc.features import extract

        plan, data = prepared.plan, prepared.data
        assert isinstance(data, Shards)
        assert self.ray.proof is not None
        if plan.jobs:
            total = sum(job.rows for job in plan.jobs)

            def on_progress(done: int, total: int) -> None:
                self.lock.check()
                display.advance(done, total)

            with Display(self.console, "features of images", total) as display:
                store = FeatureStore(self.workspace.features)
                extract.extract(
                    store,
                    data.folder,
                    plan.jobs,
                    weights=WeightsIndex(self.workspace),
                    device=prepared.device,
                    on_progress=on_progress,
                    proof=self.ray.proof,
                )

    def _train(self, prepared: Prepared) -> tuple[int, list[str]]:
        """Run every item through Tune; return the signal that stopped it, or 0, and what was said of lost trials."""
        held = cluster.resources(prepared.device, self.options.gpus_per_trial)
        max_concurrent = self.ray.max_concurrent(self.options.max_concurrent, held)
        from dfloc.sweep import schedule

        items = prepared.plan.items
        assert isinstance(prepared.data, Shards)

        def on_report(item: Item, entry: dict[str, Any]) -> None:
            self.lock.check()
            if display.reported(item.name, entry):
                self._ended(item)

        with Display(self.console, "trials", prepared.plan.left) as display:
            packs = schedule.Packs(
                items,
                on_report=on_report,
                on_stop=lambda number: display.say(STOPPING[number == signal.SIGINT]),
                more=self._hunt(prepared, display),
            )
            packs.run(
                told={
                    "workspace": str(self.workspace.root),
                    "data": str(prepared.data.folder),
                    "device": prepared.device,
                    "proof": self.ray.proof,
                },
                resources=held,
                max_concurrent=max_concurrent,
                folder=self.workspace.sweep(prepared.plan.record.sweep) / "tune",
            )
        troubles = list(packs.troubles())
        for line in troubles:
            self.say(line)
        return packs.stopped, troubles

    def _ended(self, item: Item) -> None:
        """Have a trial tracked that has ended, and count it."""
        self.tracker.submit(item.trial)
        self._leave(self._left - 1)

    def _leave(self, left: int) -> None:
        """Keep how many trials are left, for the last line of a driver that ends early."""
        self._left = left
        slate.note(left=left)

    def _failures(self, plan: Plan) -> dict[str, str]:
        failed = {}
        for trial in plan.record.trials:
            failure = self.ledger.failure(trial.fingerprint)
            if failure and self.ledger.state(trial.fingerprint) == "failed":
                failed[trial.name] = failure.message
        return failed

    def _report(self, record: SweepRecord, shards: UPath) -> UPath | None:
        from dfloc.report.build import build

        self.lock.check()
        evaluated = any(self.ledger.state(trial.fingerprint) == "done" for trial in record.trials)
        return build(self.workspace, record, shards=shards) if evaluated else None

    def _plan_again(self, prepared: Prepared) -> Plan:
        """Return what is still to run; Tune may end without a word, so the ledger is asked again."""
        return prepare(self.options, self.workspace, prepared.data, self.known).plan

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.say(line)

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
