"""One sweep from its name to its report: plan -> features -> trials -> ledger -> tracking -> report."""

import logging
import math
import shlex
import signal
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from upath import UPath

from dfloc import driver_notes, parent_run, shutdown, temp, tracking_uri
from dfloc.errors import ConfigError, DflocError, TrialError
from dfloc.features.extract import Job
from dfloc.ledger import Ledger
from dfloc.record import Starts, SweepRecord
from dfloc.report.variants import replaced
from dfloc.storage import Workspace
from dfloc.sweep import cluster, messages, settled
from dfloc.sweep.data import Data, Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.machine import DiskSpace, Machine, locked
from dfloc.sweep.plan import Item, Plan
from dfloc.sweep.prepare import Prepared, prepare, resting
from dfloc.sweep.progress import Display
from dfloc.sweep.scheduler import ParentsFirst, Scheduler, SearchScheduler
from dfloc.sweep.sweep_data import SweepRequest, data_folder, data_of, import_tree, sources
from dfloc.tracking import Tracker, check_experiment

if TYPE_CHECKING:
    from dfloc.report.checks import Checked

logger = logging.getLogger(__name__)

HURRY_SECONDS = 2.0
"""For MLflow, where the process is asked to end."""
STOPPING = ("stopping; what is in flight has seconds", "stopping after the epochs in flight; Ctrl-C again ends at once")


def sweep(options: SweepRequest, console: Console) -> messages.SweepEnd:
    """Run what is left of a sweep.

    Raises:
        DflocError: bad input, another driver, no such device; nothing was started then.
    """
    if options.data is None and options.chosen_preset == "paper":
        raise ConfigError("preset paper needs Dolos: add --data DIR, or --dry-run to see the plan")
    tracking_uri.check(Workspace(options.workspace, create=False), options.tracking)
    check_experiment(options.experiment)
    workspace = Workspace(options.workspace)
    with locked(workspace, console, options.wait) as lock:
        if lock.succeeds:
            temp.clear()
        with Machine(workspace, lock, console, options.address, options.gpus_per_trial) as machine:
            driver = Driver(options, machine)
            with driver.disk_space.explained():
                return driver.run()


class Driver:
    """The process that owns a workspace while a sweep runs."""

    def __init__(self, options: SweepRequest, machine: Machine):
        self.options = options
        self.machine, self.workspace, self.lock = machine, machine.workspace, machine.lock
        self.ledger = Ledger(self.workspace)
        self.inventory = Inventory(self.workspace, on_load=machine.say)
        self.disk_space = DiskSpace(self.workspace, machine.say)

    def run(self) -> messages.SweepEnd:
        """Do everything that is left."""
        prepared = self._prepare()
        self._say(messages.of_plan(prepared.plan, self.ledger))
        self.record = self._keep(prepared)
        self._say(replaced(self.record))
        self.tracker.open(self.record)
        try:
            worked = bool(prepared.plan.left)
            prepared, interrupted = self._work(prepared) if worked else (prepared, False)
            if prepared.search:
                self._renew(prepared, prepared.search.drawn(()))
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

    def _end(self, prepared: Prepared, worked: bool, interrupted: bool, report: UPath | None) -> messages.SweepEnd:
        """Fill MLflow in and return how the sweep ended.

        Raises:
            TrialError: trials ended without a word.
        """
        after = self._planned(prepared.data).plan if worked else prepared.plan  # Tune may end without a word
        failed, left = self._failures(after), after.left
        lost = bool(left) and not failed and not interrupted
        self.tracker.close("KILLED" if interrupted else "FAILED" if failed or lost else "FINISHED", report)
        if lost:
            first = after.items[0].name if after.items else "one that was not drawn"
            raise TrialError(
                f"{left} trials ended without a result, the first is {first}; "
                f"see {self.machine.ray.log}, then give the same command again"
            )
        answer = parent_run.sentences(report) if report else ()
        found = self._checked() if report else []
        unmet = any(each.state == "FAIL" for each in found)
        lines = [each.line for each in found]
        return messages.SweepEnd(report, answer, self._compare(), left, failed, interrupted, lines, unmet)

    def _checked(self) -> "list[Checked]":
        """Return what became of the checks of the sweep's file."""
        if not self.record.checks:
            return []
        from dfloc.report import checks, evaluations
        from dfloc.report.groups import Study
        from dfloc.report.results import Results

        study = Study(self.record, Results(self.workspace, self.record))
        return checks.checked(evaluations.by_protocol(self.workspace, study))

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

    def _settle(self, outcome: messages.SweepEnd, rests: Sequence[str], seen: str) -> None:
        """Note what is said of a finished study, where the same command would find the same and write nothing."""
        whole = self.tracker.is_whole and not self.tracker.notes
        ended = outcome.left or outcome.failed or outcome.interrupted or outcome.unmet
        if ended or not (rests and whole):
            return
        options = self.options
        try:
            starts = Starts(self.workspace.sweep(self.record.sweep))
            again = prepare(options, self.workspace, data_of(options, self.workspace), Inventory(self.workspace))
        except (DflocError, OSError) as error:  # as it is now the same command would say it
            logger.info("not settled: %s", error)
            return
        if again.plan.left or starts.union != self.record or not starts.repeats(again.plan.record):
            return
        head = (*self.machine.ray.notes, *messages.of_data(options, again), f"workspace {self.workspace.root}")
        lines = [*head, *messages.of_plan(again.plan, self.ledger), *replaced(self.record)]
        lines += messages.of_end(outcome, "")[0]
        settled.keep(asdict(options), lines, rests, [f"reports/{self.record.sweep}", "mlflow.db"], seen)

    def _compare(self) -> str:
        if not self.tracker.is_own:
            return self.tracker.uri
        usual = self.workspace.root == Workspace("workspace", create=False).root
        where = [] if usual else ["--workspace", str(self.workspace.root)]
        return shlex.join(["dfloc", "ui", *where, *self.tracker.ui_words])

    def _prepare(self) -> Prepared:
        expected = data_of(self.options, self.workspace)
        prepared = self._planned(expected)
        cluster.check_device(prepared.device, self.options.address)
        self.tracker = self._tracked()
        self._say((*messages.of_data(self.options, prepared), f"workspace {self.workspace.root}", *self.tracker.notes))
        if not expected.present:
            self.machine.begin(prepared.device, sources(self.options, self.workspace, expected))
            shards = import_tree(self.options, self.workspace, self.machine.console)
            prepared = self._planned(shards)
            self.disk_space.look(prepared.plan)
            return prepared
        if prepared.plan.left:
            self.disk_space.look(prepared.plan)
            self.machine.begin(prepared.device, sources(self.options, self.workspace, expected))
        return prepared

    def _tracked(self) -> Tracker:
        """Return what tells MLflow; the first thing that a sweep without a mistake makes, an identity, is made here."""
        asked = self.options
        return Tracker(self.workspace, self.ledger, asked.tracking, asked.experiment, new_identity=asked.new_identity)

    def _keep(self, prepared: Prepared) -> SweepRecord:
        """Write what is planned: the start, and every list of samples; return the union of all starts."""
        self.lock.check()
        self.starts = Starts(self.workspace.sweep(prepared.plan.record.sweep))
        self.starts.begin(prepared.plan.record)
        self.machine.keep(prepared.plan.resolved.lists)
        if self.options.retry_failed:
            for item in prepared.plan.items:
                self.ledger.forget_failure(item.trial.fingerprint)
        return self.starts.union

    def _renew(self, prepared: Prepared, drawn: SweepRecord) -> None:
        """Put what a search has drawn on record."""
        self.lock.check()
        self.starts.add(drawn)
        self.machine.keep(prepared.plan.resolved.lists)
        self.record = self.starts.union
        self.tracker.renew(self.record)

    def _scheduler(self, prepared: Prepared, display: Display) -> Scheduler:
        """Return what decides about the plan's items; a search adds to the record."""
        if prepared.search is None:
            return ParentsFirst(prepared.plan.items)
        return SearchScheduler(
            prepared.plan.items,
            prepared.search,
            keep=lambda drawn: self._renew(prepared, drawn),
            check=self.lock.check,
            on_done_before=lambda name: display.finished(name, "done before"),
        )

    def _work(self, prepared: Prepared) -> tuple[Prepared, bool]:
        """Compute features, then run the trials; return what was run last, and whether the user stopped it.

        What a worker finds damaged is taken out of the store: it is computed again, and what read it is run again.

        Raises:
            Ended: TERM or HUP ended it.
        """
        stopped = 0

        def work() -> list[str]:
            nonlocal stopped
            stopped, troubles = self._train(prepared)
            if stopped not in (0, signal.SIGINT):
                raise shutdown.Ended(stopped)
            return [] if stopped else troubles

        def again() -> Sequence[Job]:
            nonlocal prepared
            after = self._planned(prepared.data)
            if after.plan.jobs:
                prepared = after
                self._leave(prepared.plan.left)
            return after.plan.jobs

        assert isinstance(prepared.data, Shards)
        self._leave(prepared.plan.left)
        self.machine.run(prepared.data.folder, prepared.plan.jobs, work, again)
        return prepared, bool(stopped)

    def _train(self, prepared: Prepared) -> tuple[int, list[str]]:
        """Run every item through Tune; return the signal that stopped it, or 0, and what was said of lost trials."""
        held = self.machine.held
        max_concurrent = self.machine.ray.max_concurrent(self.options.max_concurrent, held)
        from dfloc.sweep.tuning import Tuning

        assert isinstance(prepared.data, Shards)

        def on_report(item: Item, entry: dict[str, Any]) -> None:
            self.lock.check()
            if display.reported(item.name, entry):
                self._ended(item)

        with Display(self.machine.console, "trials", prepared.plan.left) as display:
            tuning = Tuning(
                self._scheduler(prepared, display),
                self.machine.worker_settings(prepared.data.folder),
                on_report=on_report,
                on_stop=lambda number: display.say(STOPPING[number == signal.SIGINT]),
            )
            tuning.run(held, max_concurrent, self.workspace.sweep(prepared.plan.record.sweep) / "tune")
        troubles = list(tuning.troubles())
        self._say(troubles)
        return tuning.stopped, troubles

    def _ended(self, item: Item) -> None:
        """Have a trial tracked that has ended, and count it."""
        self.tracker.submit(item.trial)
        self._leave(self._left - 1)

    def _leave(self, left: int) -> None:
        """Keep how many trials are left, for the last line of a driver that ends early."""
        self._left = left
        driver_notes.note(left=left)

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

    def _planned(self, data: Data) -> Prepared:
        return prepare(self.options, self.workspace, data, self.inventory)

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.machine.say(line)
