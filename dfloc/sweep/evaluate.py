"""A finished trial, or maps that another tool made, on any images; a trial's rows go into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console
from upath import UPath

from dfloc import registry
from dfloc.config import Checkpoint, EvaluationSpec, SampleList, TrialSpec
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.engine import external_maps
from dfloc.errors import DflocError, WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.planned import PlannedTrial
from dfloc.storage import Workspace
from dfloc.sweep import cluster, evaluation_data, lookup, scores
from dfloc.sweep.data import Shards
from dfloc.sweep.evaluation_data import ImagesRequest
from dfloc.sweep.machine import Machine, locked
from dfloc.sweep.plan import Item
from dfloc.sweep.progress import Display
from dfloc.sweep.scores import DomainScore
from dfloc.sweep.work import config_of, run, works
from dfloc.workers import first_cause


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest(ImagesRequest):
    """What the command line says.

    Attributes:
        run: the trial, as `lookup.find` takes it.
        address: of a running Ray; None = one of this process.
        tracking: MLflow's store, where `run` is one of its runs.
    """

    run: str
    protocol: str
    checkpoint: Checkpoint = "best"
    device: str = "cpu"
    address: str | None = None
    tracking: str | None = None
    wait: bool = False


@dataclass(frozen=True, kw_only=True)
class MapsRequest(ImagesRequest):
    """What the command line says; `maps` is the folder that they lie in."""

    maps: Path
    protocol: str
    wait: bool = False


class ScoredTrial(NamedTuple):
    """A trial, what its rows say of each domain, and the rows of all of them."""

    spec: TrialSpec
    lines: list[DomainScore]
    rows: pa.Table


class ScoredMaps(NamedTuple):
    """What the rows say of each domain, and the rows of all of them."""

    lines: list[DomainScore]
    rows: pa.Table


def evaluate(request: EvaluationRequest, console: Console) -> ScoredTrial:
    """Score a finished trial on every domain that is asked for, and put the rows that are lacking into the ledger.

    Raises:
        DflocError: bad input, another driver, no such device; or what a worker met.
    """
    workspace = Workspace(request.workspace, create=False)
    spec = lookup.find(workspace, request.run, request.tracking)
    protocols.find(request.protocol)
    cluster.check_device(request.device, request.address)
    with (
        locked(workspace, console, request.wait) as lock,
        Machine(workspace, lock, console, request.address) as machine,
    ):
        data = evaluation_data.find(request, workspace)
        if data is None:
            machine.begin(request.device, evaluation_data.sources(request, workspace, None))
            data = evaluation_data.bring(request, workspace, console)
        lists = evaluation_data.lists(request, data)
        evaluations = [_evaluation(request, spec, domain, refs) for domain, refs in lists.items()]
        lacking = [one for one in evaluations if not Ledger(workspace).has_whole_rows(spec.fingerprint, one.key)]
        if lacking:
            machine.keep({one.test.digest: lists[one.domain] for one in lacking})
            machine.begin(request.device, evaluation_data.sources(request, workspace, data))
            _run(machine, data.folder, spec, lacking, [ref for one in lacking for ref in lists[one.domain]])
    known = [data.folder], data.families
    lines = [scores.line(workspace, spec, one, lists[one.domain], *known) for one in evaluations]
    ledger = Ledger(workspace)
    rows = [ledger.scored(one) for one in evaluations]
    return ScoredTrial(spec, lines, pa.concat_tables(rows, promote_options="permissive"))


def score_maps(request: MapsRequest, console: Console) -> ScoredMaps:
    """Score a folder of maps on every domain that is asked for.

    Raises:
        DflocError: bad input, another driver where images must be imported, or maps that cannot be used.
    """
    protocols.find(request.protocol)
    data = _images(request, console)
    lists = evaluation_data.lists(request, data)
    tables = external_maps.score(request.maps, lists, data.folder, request.protocol)
    lines = [scores.of_rows(rows, request.protocol, domain) for domain, rows in tables.items()]
    return ScoredMaps(lines, pa.concat_tables(tables.values()))


def _evaluation(request: EvaluationRequest, spec: TrialSpec, domain: str, refs: Sequence[SampleRef]) -> EvaluationSpec:
    return EvaluationSpec(
        trial=spec.fingerprint,
        checkpoint=request.checkpoint,
        domain=domain,
        split=request.split,
        test=SampleList(digest=list_digest(refs), counts={domain: len(refs)}),
        protocol=request.protocol,
        plugin=registry.plugin_of("protocol", request.protocol),
    )


def _run(
    machine: Machine, data: UPath, spec: TrialSpec, evaluations: Sequence[EvaluationSpec], refs: Sequence[SampleRef]
) -> None:
    """Score a trial, each evaluation an item of work of its own, once its features are there."""
    trial = PlannedTrial(fingerprint=spec.fingerprint, stage="", spec=spec)
    items = [Item(trial, train=False, evaluations=(one,)) for one in evaluations]
    lost: WorkspaceError | None = None

    def missing() -> list[Job]:
        store = FeatureStore(machine.workspace.features, machine.say)
        jobs = extract.missing(store, refs, spec.maps)
        if store.damaged:
            machine.say(f"{len(store.damaged)} groups of stored features are damaged, they are made again")
        return jobs

    def work() -> WorkspaceError | None:
        nonlocal lost
        try:
            _score(machine, data, items)
            lost = None
        except WorkspaceError as error:
            lost = error
        return lost

    machine.run(data, missing(), work, missing)
    if lost:
        raise lost


def _score(machine: Machine, data: UPath, items: Sequence[Item]) -> None:
    """Do each item in a task of its own, wherever the cluster has room; a lost one is tried again by Ray."""
    import ray

    task = ray.remote(_do).options(num_cpus=machine.held["cpu"], num_gpus=machine.held.get("gpu", 0))
    settings = machine.worker_settings(data)
    with Display(machine.console, "domains", len(items)) as display:
        running = {task.remote(config_of([item], **settings)): item.evaluations[0].domain for item in items}
        while running:
            [ended], _ = ray.wait(list(running))
            try:
                error = ray.get(ended)
            except ray.exceptions.RayError as lost:
                what = f"{running[ended]} was not scored: {first_cause(lost)}"
                raise DflocError(f"{what}; give the same command again") from lost
            if error:
                raise error
            display.finished(running.pop(ended))


def _do(config: dict[str, Any]) -> DflocError | None:
    """Do what a task is told of; an error of ours is returned, for Ray would write into it."""
    try:
        for work in works(config):
            for _ in run(work):
                pass
    except DflocError as error:
        return error
    return None


def _images(request: MapsRequest, console: Console) -> Shards:
    workspace = Workspace(request.workspace, create=False)
    found = evaluation_data.find(request, workspace)
    if found is not None:
        return found
    with locked(Workspace(request.workspace), console, request.wait):
        return evaluation_data.bring(request, workspace, console)
