"""A finished trial, or maps that another tool made, on any images; a trial's rows go into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from rich.console import Console
from upath import UPath

from dfloc import registry
from dfloc.config import Checkpoint, EvaluationSpec, ExplainSpec, SampleList, TrialSpec
from dfloc.data import dolos, folder_pairs
from dfloc.data.dolos import Sample
from dfloc.data.importer import import_samples, is_imported
from dfloc.data.manifest import SampleRef, Split, domains_of, list_digest
from dfloc.engine import composite, external_maps
from dfloc.engine.predict import IMAGE_PROTOCOL, PROTOCOL, protocol_of
from dfloc.engine.route import ROUTE
from dfloc.errors import ConfigError, DataError, DflocError, WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.metrics.image_rows import Called
from dfloc.models import explain
from dfloc.planned import PlannedTrial
from dfloc.storage import Workspace
from dfloc.summary import validated
from dfloc.sweep import cluster, lookup, pair_scores, scores
from dfloc.sweep.data import Shards
from dfloc.sweep.machine import Machine, locked
from dfloc.sweep.pair_scores import PairScore
from dfloc.sweep.plan import Item
from dfloc.sweep.progress import Display
from dfloc.sweep.scores import DomainScore
from dfloc.sweep.sweep_data import SweepRequest, data_of, import_tree, sources
from dfloc.sweep.validation_errors import blamed
from dfloc.sweep.work import config_of, run, works
from dfloc.workers import first_cause

PAIRS = "pairs"  # data name of folder pairs that were imported to be evaluated

Lists = dict[str, Sequence[SampleRef]]


@dataclass(frozen=True, kw_only=True)
class ImagesRequest:
    """What the command line says of images.

    Attributes:
        data: folder of shards, or a tree, which is imported once.
        own: instead of `data`, folder pairs as `folder_pairs.read_pair` reads them; all images of one without splits
            are test images.
        domains: of `data`, full or short names; none: every local domain that has the split, and folders of `own` that
            have no masks; of a protocol of images every domain.
        protocol: whose metrics; None: declip-2025, of a trial that calls images image-1.
    """

    workspace: str
    data: str | None = None
    own: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    split: Split = "test"
    protocol: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest(ImagesRequest):
    """What the command line says.

    Attributes:
        run: the trial, as `lookup.find` takes it.
        address: of a running Ray; None = one of this process.
        tracking: MLflow's store, where `run` is one of its runs.
        explain: grad-cam: what maps are read off a trial that answers once an image; None: none.
        layer: whose, as `models.explain.layer_of` takes it.
    """

    run: str
    checkpoint: Checkpoint = "best"
    device: str = "cpu"
    address: str | None = None
    tracking: str | None = None
    explain: Literal["grad-cam"] | None = None
    layer: str | None = None
    wait: bool = False


@dataclass(frozen=True, kw_only=True)
class MapsRequest(ImagesRequest):
    """What the command line says; `maps` is the folder that they lie in."""

    maps: Path
    wait: bool = False


class ScoredTrial(NamedTuple):
    """A trial, and what its rows say.

    Attributes:
        spec: the trial's.
        protocol: whose metrics.
        lines: of each domain.
        pairs: of fakes beside reals.
        called: of each class, what its images are called; None where a model tells no more than real and fake apart.
        rows: of all domains.
    """

    spec: TrialSpec
    protocol: str
    lines: list[DomainScore]
    pairs: list[PairScore]
    called: Called | None
    rows: pa.Table


class ScoredMaps(NamedTuple):
    """As `ScoredTrial`, without a trial, and without classes, which no map tells."""

    protocol: str
    lines: list[DomainScore]
    pairs: list[PairScore]
    rows: pa.Table
    called: Called | None = None


def evaluate(request: EvaluationRequest, console: Console) -> ScoredTrial:
    """Score a finished trial on every domain that is asked for, and put the rows that are lacking into the ledger.

    Of a composite its parts are scored first.

    Raises:
        DflocError: bad input, another driver, no such device; or what a worker met.
    """
    workspace = Workspace(request.workspace, create=False)
    spec = lookup.find(workspace, request.run, request.tracking)
    by = _explain(request, spec)
    protocol = (request.protocol or PROTOCOL) if by else protocol_of(spec, request.protocol)
    protocols.find(protocol)
    cluster.check_device(request.device, request.address)
    for role, part in spec.parts.items():  # whose rows are joined, or whose features are read
        of = IMAGE_PROTOCOL if (role, spec.decoder.rule) == (ROUTE, "argmax") else protocol
        evaluate(replace(request, run=part.parent, protocol=of), console)
    with (
        locked(workspace, console, request.wait) as lock,
        Machine(workspace, lock, console, request.address) as machine,
    ):
        data = _find(request, workspace)
        if data is None:
            machine.begin(request.device, _sources(request, workspace, None))
            data = _bring(request, workspace, console)
        lists = _lists(request, data, protocol)
        evaluations = [_evaluation(request, spec, protocol, by, domain, refs) for domain, refs in lists.items()]
        lacking = [one for one in evaluations if not Ledger(workspace).has_whole_rows(spec.fingerprint, one.key)]
        if lacking:
            machine.keep({one.test.digest: lists[one.domain] for one in lacking})
            machine.begin(request.device, _sources(request, workspace, data))
            _run(machine, data.folder, spec, lacking, [ref for one in lacking for ref in lists[one.domain]])
    known = [data.folder], data.families
    lines = [scores.line(workspace, spec, one, lists[one.domain], *known) for one in evaluations]
    ledger = Ledger(workspace)
    rows = {one.domain: ledger.scored(one) for one in evaluations}
    valid = (
        None
        if request.split == "valid"
        else validated(ledger, spec.fingerprint, spec.valid, request.checkpoint, protocol)
    )
    together = pair_scores.of_pairs(rows, protocol, valid)
    called = pair_scores.called(rows, protocol)
    whole = pa.concat_tables(rows.values(), promote_options="permissive")
    return ScoredTrial(spec, protocol, lines, together, called, whole)


def score_maps(request: MapsRequest, console: Console) -> ScoredMaps:
    """Score a folder of maps on every domain that is asked for.

    Raises:
        DflocError: bad input, another driver where images must be imported, or maps that cannot be used.
    """
    protocol = request.protocol or PROTOCOL
    protocols.find(protocol)
    workspace = Workspace(request.workspace, create=False)
    data = _find(request, workspace)
    if data is None:
        with locked(Workspace(request.workspace), console, request.wait):
            data = _bring(request, workspace, console)
    lists = _lists(request, data, protocol)
    tables = external_maps.score(request.maps, lists, data.folder, protocol)
    lines = [scores.of_rows(rows, protocol, domain) for domain, rows in tables.items()]
    return ScoredMaps(protocol, lines, pair_scores.of_pairs(tables, protocol), pa.concat_tables(tables.values()))


def _explain(request: EvaluationRequest, spec: TrialSpec) -> ExplainSpec | None:
    if request.explain is None:
        if request.layer is not None:
            raise ConfigError(f"--layer {request.layer} is of an explanation: add --explain grad-cam")
        return None
    with blamed(lambda: "--layer" if request.layer else "--explain"):
        return ExplainSpec(name=request.explain, layer=explain.layer_of(spec, request.layer))


def _evaluation(
    request: EvaluationRequest,
    spec: TrialSpec,
    protocol: str,
    by: ExplainSpec | None,
    domain: str,
    refs: Sequence[SampleRef],
) -> EvaluationSpec:
    return EvaluationSpec(
        trial=spec.fingerprint,
        checkpoint=request.checkpoint,
        domain=domain,
        split=request.split,
        test=SampleList(digest=list_digest(refs), counts={domain: len(refs)}),
        protocol=protocol,
        plugin=registry.plugin_of("protocol", protocol),
        explain=by,
    )


def _run(
    machine: Machine, data: UPath, spec: TrialSpec, evaluations: Sequence[EvaluationSpec], refs: Sequence[SampleRef]
) -> None:
    """Score a trial, each evaluation an item of work of its own, once its features are there."""
    trial = PlannedTrial(fingerprint=spec.fingerprint, stage="", spec=spec)
    items = [Item(trial, train=False, evaluations=(one,)) for one in evaluations]
    recipes = composite.maps_of(spec, Ledger(machine.workspace))
    lost: WorkspaceError | None = None

    def missing() -> list[Job]:
        store = FeatureStore(machine.workspace.features, machine.say)
        jobs = extract.missing(store, refs, recipes)
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


def _find(asked: ImagesRequest, workspace: Workspace) -> Shards | None:
    """Return the shards that hold the images; None where they must be imported first."""
    if (asked.data is None) == (not asked.own):
        raise ConfigError(
            "say which images: --data DIR (shards or a tree), or --own mine/sd=FOLDER,fake=white, or without masks "
            "--own mine/fakes=FOLDER,generated --own mine/real=FOLDER,real"
        )
    if asked.own:
        folder = workspace.shards / PAIRS
        return Shards(folder, PAIRS) if is_imported(_own(asked, workspace), folder) else None
    found = data_of(_options(asked), workspace)
    return found if isinstance(found, Shards) else None


def _bring(asked: ImagesRequest, workspace: Workspace, console: Console) -> Shards:
    """Import what `_find` did not find, on the Ray that runs, or on one of its own; return the shards."""
    if not asked.own:
        return import_tree(_options(asked), workspace, console)
    samples, folder = _own(asked, workspace), workspace.shards / PAIRS
    with Display(console, "images imported", len(samples)) as display:
        done = import_samples(samples, folder, allow_overlap=True, on_progress=display.advance)
    if done.rejected:
        console.print(f"{len(done.rejected)} images rejected; {folder / 'rejected.csv'} says why", highlight=False)
    for note in done.manifest.notes:
        if note.startswith(tuple(f"{sample.domain}:" for sample in samples)):
            console.print(f"Warning: {note}", highlight=False)
    return Shards(folder, PAIRS)


def _sources(asked: ImagesRequest, workspace: Workspace, data: Shards | None) -> list[str]:
    """Return paths outside of the workspace that show whether a node sees the images."""
    if asked.own:
        own = [] if data else _own(asked, workspace)
        return list({sample.domain: str(sample.image.absolute()) for sample in own}.values())
    options = _options(asked)
    return sources(options, workspace, data or data_of(options, workspace))


def _lists(asked: ImagesRequest, data: Shards, protocol: str) -> Lists:
    """Return the samples of each domain that is asked for."""
    domains = data.manifest.domains
    own = folder_pairs.read_pairs(asked.own, "test", domains) if asked.own else []
    known = {sample.domain for sample in own} if asked.own else set(domains)
    names = list(dict.fromkeys(dolos.resolve(name, known) for name in asked.domains))
    if not names:
        whole = {domain for domain in known if protocols.find(protocol).reads == "image"}
        whole |= {domain for one in asked.own if (domain := folder_pairs.without_masks(one))}
        wanted = known & {*data.local, *whole}
        names = [name for name in sorted(wanted) if asked.split in domains[name].splits]
    if not names:
        cure = f"; name others by --domain: {', '.join(sorted(known))}" if known else ""
        raise DataError(f"{data.folder} has no local domain with a split {asked.split}; see dfloc data check{cure}")
    return {name: data.samples(name, asked.split) for name in names}


def _options(asked: ImagesRequest) -> SweepRequest:
    return SweepRequest(name="evaluate", workspace=asked.workspace, data=asked.data)


def _own(asked: ImagesRequest, workspace: Workspace) -> list[Sample]:
    return folder_pairs.read_pairs(asked.own, "test", domains_of(workspace.shards / PAIRS))
