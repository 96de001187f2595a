"""What a sweep says: of its data, of its plan, and how it ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from upath import UPath

from dfloc import screen
from dfloc.ledger import Ledger
from dfloc.record import Starts, union
from dfloc.report.variants import replaced
from dfloc.storage import Workspace
from dfloc.sweep import detectable
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Plan
from dfloc.sweep.prepare import Prepared, lacking, prepare
from dfloc.sweep.sweep_data import MINI, SweepRequest, data_of


@dataclass(frozen=True)
class SweepEnd:
    """How a sweep ended.

    Attributes:
        report: the folder of its report; None where nothing has been evaluated yet.
        answer: the sentences that it begins with.
        compare: where its trials stand side by side: MLflow's address, or the command that opens it.
        left: trials that are still to run.
        failed: name -> first cause, of what failed now or before.
        interrupted: the user stopped it.
        checks: what became of the checks of its file, a line each.
        unmet: whether one of them failed.
    """

    report: UPath | None
    answer: Sequence[str]
    compare: str
    left: int
    failed: dict[str, str]
    interrupted: bool
    checks: Sequence[str] = ()
    unmet: bool = False


def dry_run(options: SweepRequest, console: Console) -> None:
    """Print the plan; nothing is started, written or downloaded."""
    workspace = Workspace(options.workspace, create=False)
    data = data_of(options, workspace)
    prepared = prepare(options, workspace, data, Inventory(workspace, load=False))
    starts = Starts(workspace.sweep(prepared.plan.record.sweep))
    ready = (*of_data(options, prepared), *lacking(options, workspace, prepared), *prepared.plan.lines())
    shows = detectable.line(prepared.plan.record, Ledger(workspace))
    for line in (*ready, *shows, *replaced(union([*starts.all.values(), prepared.plan.record]))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def of_data(options: SweepRequest, prepared: Prepared) -> Iterator[str]:
    """Yield what is said of the data before all else."""
    if options.data is None and prepared.data.name == MINI:
        yield (
            f"No --data: the built-in mini-Dolos, preset {options.chosen_preset}. "
            "Its numbers show that everything works and say nothing about Dolos."
        )


def of_plan(plan: Plan, ledger: Ledger) -> Iterator[str]:
    """Yield what is done, what is left, and which differences the sweep can show."""
    distinct = len({trial.fingerprint for trial in plan.record.trials}) + plan.resolved.to_draw
    images = sum(job.rows for job in plan.jobs)
    features = f", {images} images to pass through the backbones" if images else ""
    stopped = f", {plan.stopped} stopped early" if plan.stopped else ""
    yield f"{plan.record.sweep}: {distinct} trials, {plan.done} done, {plan.left} to run{stopped}{features}"
    yield from (*plan.record.notes, *plan.notes, *detectable.line(plan.record, ledger))
    if plan.failed:
        yield f"not repeated: {len(plan.failed)} trials that failed, or whose parent did; --retry-failed runs them"


def of_end(outcome: SweepEnd, again: str) -> tuple[list[str], int]:
    """Return how a sweep ended and what to do next, and the exit code; `again`: the command that goes on."""
    lines = [f"{screen.ITEM}{sentence}" for sentence in outcome.answer]
    if outcome.report:
        lines.append(f"report: {outcome.report}/index.html    compare: {outcome.compare}")
    lines += outcome.checks
    lines += [f"failed: {name}: {cause}" for name, cause in list(outcome.failed.items())[:3]]
    if outcome.interrupted:
        lines.append(f"stopped, everything finished is saved; {outcome.left} to run. Go on with: {again}")
        return lines, 130
    if outcome.failed:
        again = again if "--retry-failed" in again else f"{again} --retry-failed"
        lines.append(f"{len(outcome.failed)} trials failed, the causes are above; run them again with: {again}")
        return lines, 1
    return [*lines, f"done, {outcome.left} to run"], int(outcome.unmet)


def show_end(outcome: SweepEnd, console: Console, again: str) -> int:
    """Say how a sweep ended; return the exit code."""
    lines, code = of_end(outcome, again)
    for line in lines:
        console.print(screen.wrapped(line), highlight=False, markup=False, soft_wrap=True)
    return code
