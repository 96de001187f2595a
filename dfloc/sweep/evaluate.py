"""A finished trial on any shards: what is lacking is computed, and its rows go into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console
from upath import UPath

from dfloc import plugin, registry
from dfloc.config import Checkpoint, EvaluationSpec, SampleList, TrialSpec
from dfloc.data import lists as kept
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.errors import DflocError, WorkspaceError
from dfloc.features import extract
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.lock import DriverLock
from dfloc.metrics import protocols
from dfloc.plugin import Plugin
from dfloc.proof import Proof
from dfloc.storage import Workspace
from dfloc.sweep import cluster, images, lookup, scores
from dfloc.sweep.images import Asked
from dfloc.sweep.progress import Display
from dfloc.sweep.scores import Line
from dfloc.sweep.work import Work, run
from dfloc.workers import first_cause

ROUNDS = 3
GPUS = 1.0  # of each domain's task on a GPU


@dataclass(frozen=True, kw_only=True)
class Request(Asked):
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


class Scored(NamedTuple):
    """A trial, what its rows say of each domain, and the rows of all of them."""

    spec: TrialSpec
    lines: list[Line]
    rows: pa.Table


def evaluate(request: Request, console: Console) -> Scored:
    """Score a finished trial on every domain that is asked for, and put the rows that are lacking into the ledger.

    Raises:
        DflocError: bad input, another driver, no such device; or what a worker met.
    """
    workspace = Workspace(request.workspace, create=False)
    spec = lookup.find(workspace, request.run, request.tracking)
    protocols.find(request.protocol)
    cluster.check_device(request.device, request.address)
    with DriverLock(
        workspace.root,
        wait=request.wait,
        on_wait=lambda owner: console.print(f"waiting for the driver on {owner.name}"),
    ) as lock:
        ray = cluster.Cluster(request.address, console, workspace.root / "logs")
        try:
            data = images.find(request, workspace)
            if data is None:
                ray.begin(workspace, request.device, GPUS, images.sources(request, workspace, None))
                data = images.bring(request, workspace, console)
            lists = images.lists(request, data)
            evaluations = [_evaluation(request, spec, domain, refs) for domain, refs in lists.items()]
            lacking = [one for one in evaluations if not Ledger(workspace).has_whole_rows(spec.fingerprint, one.key)]
            if lacking:
                lock.check()
                for one in lacking:
                    kept.keep(workspace, one.test.digest, lists[one.domain])
                ray.begin(workspace, request.device, GPUS, images.sources(request, workspace, data))
                assert ray.proof is not None
                work = Work(spec, False, lacking, workspace, data.folder, request.device)
                _run(work, [ref for one in lacking for ref in lists[one.domain]], ray.proof, console)
        finally:
            ray.stop()
    known = [data.folder], data.families
    lines = [scores.line(workspace, spec, one, lists[one.domain], *known) for one in evaluations]
    ledger = Ledger(workspace)
    rows = [ledger.scored(one) for one in evaluations]
    return Scored(spec, lines, pa.concat_tables(rows, promote_options="permissive"))


def _evaluation(request: Request, spec: TrialSpec, domain: str, refs: Sequence[SampleRef]) -> EvaluationSpec:
    return EvaluationSpec(
        trial=spec.fingerprint,
        checkpoint=request.checkpoint,
        domain=domain,
        split=request.split,
        test=SampleList(digest=list_digest(refs), counts={domain: len(refs)}),
        protocol=request.protocol,
        plugin=registry.plugin_of("protocol", request.protocol),
    )


def _run(work: Work, refs: Sequence[SampleRef], proof: Proof, console: Console) -> None:
    """Compute what features are lacking, and score; again, where a worker has found some damaged and taken them out."""
    for left in reversed(range(ROUNDS)):
        _extract(work, refs, proof, console)
        try:
            _score(work, proof, console)
            return
        except WorkspaceError:
            lost = extract.missing(FeatureStore(work.workspace.features), refs, work.spec.maps)
            if not left or not lost:
                raise
            _say(console, f"{len(lost)} groups of stored features were damaged, they are made again")


def _extract(work: Work, refs: Sequence[SampleRef], proof: Proof, console: Console) -> None:
    store = FeatureStore(work.workspace.features, partial(_say, console))
    jobs = extract.missing(store, refs, work.spec.maps)
    if store.damaged:
        _say(console, f"{len(store.damaged)} groups of stored features are damaged, they are made again")
    with Display(console, "features of images", sum(job.rows for job in jobs)) as display:
        extract.extract(
            store,
            work.data,
            jobs,
            weights=WeightsIndex(work.workspace),
            device=work.device,
            on_progress=display.advance,
            proof=proof,
        )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _score(work: Work, proof: Proof, console: Console) -> None:
    """Score each evaluation in a task of its own, wherever the cluster has room; a lost one is tried again by Ray."""
    import ray

    held = cluster.resources(work.device, GPUS)
    task = ray.remote(_score_one).options(num_cpus=held["cpu"], num_gpus=held.get("gpu", 0))
    plugins = [tuple(one) for one in registry.plugins()]
    with Display(console, "domains", len(work.evaluations)) as display:
        running = {task.remote(_told(work, one, proof), plugins): one.domain for one in work.evaluations}
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


def _told(work: Work, evaluation: EvaluationSpec, proof: Proof) -> dict[str, Any]:
    """Return what a task is told: plain values, so that any worker can read them."""
    return {
        "spec": work.spec.model_dump(mode="json"),
        "evaluation": evaluation.model_dump(mode="json"),
        "workspace": str(work.workspace.root),
        "data": str(work.data),
        "device": work.device,
        "proof": tuple(proof),
    }


def _score_one(told: dict[str, Any], plugins: Sequence[tuple[Any, ...]]) -> DflocError | None:
    """Put one evaluation's rows into the ledger; an error of ours is returned, for Ray would write into it."""
    try:
        Proof(*told["proof"]).check()
        plugin.use([Plugin(*one) for one in plugins])
        spec = TrialSpec.model_validate(told["spec"])
        evaluation = EvaluationSpec.model_validate(told["evaluation"])
        work = Work(spec, False, (evaluation,), Workspace(told["workspace"]), UPath(told["data"]), told["device"])
        for _ in run(work):
            pass
    except DflocError as error:
        return error
    return None
