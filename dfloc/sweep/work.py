"""One item of work, from ledger to ledger: train what is not trained, score what is not scored; knows no Ray."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import torch
from upath import UPath

from dfloc import disk, plugin, registry, repro, storage
from dfloc.config import Checkpoint, EvaluationSpec, ExplainSpec, SampleList, TrialSpec
from dfloc.data import sample_lists
from dfloc.data.manifest import Manifest, SampleRef, list_digest, read_samples
from dfloc.engine import checkpoint, composite
from dfloc.engine.batches import StoredMaps, StoredSource
from dfloc.engine.evaluate import evaluate
from dfloc.engine.explanation import Explainer, explainer
from dfloc.engine.fit import fit
from dfloc.engine.labels import Classes, label
from dfloc.engine.member import Member
from dfloc.errors import DataError, DflocError, WorkspaceError
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex, trained
from dfloc.ids import SampleId
from dfloc.ledger import Attempt, Ledger
from dfloc.models import decoders
from dfloc.plugin import Plugin
from dfloc.registry import map_spec
from dfloc.storage import Workspace
from dfloc.sweep.data import is_expected
from dfloc.sweep.plan import Item
from dfloc.worker_check import WorkerCheck

THREADS = 1
MACHINE_ERRORS = (DataError, MemoryError, OSError, WorkspaceError, torch.OutOfMemoryError)
OWN_ERRORS = Exception  # whatever else a plug-in raises

Progress = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What is to be done of one trial.

    Attributes:
        spec: the trial.
        train: whether it must be trained first.
        evaluations: those that have no rows yet.
        workspace: ledger, feature store and lists.
        data: folder of the shards.
        device: cpu | cuda.
    """

    spec: TrialSpec
    train: bool
    evaluations: Sequence[EvaluationSpec]
    workspace: Workspace
    data: UPath
    device: str = "cpu"

    def samples(self, digest: str) -> list[SampleRef]:
        """Return the samples of a list that the driver put into the workspace.

        Raises:
            DataError: the shards do not hold one of them, or other images under their names.
            WorkspaceError: the list is not there, or damaged.
        """
        ids = sample_lists.ids(self.workspace, digest)
        if ids is None:
            raise WorkspaceError(f"the list of samples {digest[:12]} is gone; start the sweep again, it makes it")
        found = {ref.id: ref for place in {SampleId.of(id_).place for id_ in ids} for ref in _read(self.data, *place)}
        lost = [id_ for id_ in ids if id_ not in found]
        if lost:
            raise DataError(f"{self.data} no longer holds {lost[0]}; import it again, or plan the sweep anew")
        samples = [found[id_] for id_ in ids]
        if list_digest(samples) != digest:
            raise DataError(
                f"the {len(samples)} samples of list {digest[:12]} in {self.data} are not those that were planned; "
                "start the sweep again"
            )
        return samples


def config_of(items: Sequence[Item], *, workspace: str, data: str, device: str, proof: WorkerCheck) -> dict[str, Any]:
    """Return what the worker of some items is told: plain values, so that any worker can read them.

    Raises:
        WorkspaceError: placeholders stand for samples of an item: nothing that rests on them may reach a ledger.
    """
    for item in items:
        spec = item.trial.spec
        if any(map(is_expected, _lists(spec, item.evaluations))):
            raise WorkspaceError(f"{item.name} is planned on samples that are not there; import them first")
    asked = [
        {
            "fingerprint": item.trial.fingerprint,
            "spec": item.trial.spec.model_dump(mode="json"),
            "train": item.train,
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in item.evaluations],
        }
        for item in items
    ]
    plugins = [tuple(one) for one in registry.plugins()]
    config = {"workspace": workspace, "data": data, "device": device, "proof": tuple(proof)}
    return {**config, "plugins": plugins, "items": asked}


def works(config: dict[str, Any]) -> Iterator[Work]:
    """Yield the items that a worker is told of, once it has proved itself and uses the driver's plug-ins.

    Raises:
        WorkspaceError: it does not see what the driver sees, or runs something else.
    """
    WorkerCheck(*config["proof"]).check()
    plugin.use([Plugin(*each) for each in config["plugins"]])
    workspace = Workspace(config["workspace"])
    for item in config["items"]:
        spec = TrialSpec.model_validate(item["spec"])
        assert spec.fingerprint == item["fingerprint"], "driver and worker run different versions of dfloc"
        evaluations = tuple(EvaluationSpec.model_validate(evaluation) for evaluation in item["evaluations"])
        yield Work(spec, item["train"], evaluations, workspace, UPath(config["data"]), config["device"])


def run(work: Work) -> Iterator[Progress]:
    """Do an item of work; what an earlier try of it has finished is not done again.

    Yields:
        `{"epoch", "epochs", "goes_on": True}` first where an earlier attempt left an epoch to go on from; after each
        epoch `{"epoch", "epochs", "valid_iou"}`; at the end `finished` or `failed` (the cause). An error of the trial's
        own is in the ledger then; errors of the machine are raised, and may be tried again.
    """
    ledger = Ledger(work.workspace)
    if work.spec.parts:
        _compose(work, ledger)
    elif work.train and not ledger.has_weights(work.spec.fingerprint):
        attempt = ledger.begin(work.spec)
        try:
            for progress in _train(work, ledger, attempt):
                yield progress
                if "failed" in progress:
                    return
        except MACHINE_ERRORS:
            raise
        except OWN_ERRORS as error:
            if full := disk.full_disk(error, storage.local(work.workspace.root)):
                raise full from error
            message = str(error) if isinstance(error, DflocError) else f"{type(error).__name__}: {error}"
            attempt.fail("error", message)
            yield _at_end(work, failed=message)
            return
    if not work.spec.parts:
        _evaluate(work, ledger)
    yield _at_end(work, finished=True)


def _compose(work: Work, ledger: Ledger) -> None:
    """Put a composite's end, which has no weight of its own, and what it lacks of rows."""
    if ledger.done(work.spec.fingerprint) is None:
        nothing = checkpoint.to_bytes({}, work.spec)
        ledger.begin(work.spec).finish(nothing, nothing, 0, repro.environment(work.device, THREADS))
    for one in (each for each in work.evaluations if not ledger.has_scored(each)):
        rows = composite.score(work.spec, one, work.samples(one.test.digest), work.data, ledger, work.device)
        ledger.put_rows(one.trial, one.key, rows)


def _train(work: Work, ledger: Ledger, attempt: Attempt) -> Iterator[Progress]:
    spec = work.spec
    store = FeatureStore(work.workspace.features)
    encoder = None if attempt.state else _encoder(work)
    member = Member.create(spec, _shapes(spec), work.device, _parent(spec, ledger), encoder)
    if attempt.state:
        member.restore(attempt.state)
        yield {"epoch": member.epoch, "epochs": spec.epochs, "goes_on": True}
    samples = work.samples(spec.train.digest)
    tokens = spec.decoder.reads_tokens
    of = None if spec.task == "localize" else label(spec)
    weak = [sample.id for sample in work.samples(spec.labelled.digest)] if spec.labelled else []
    source = StoredSource(
        *(store, spec.maps, samples, spec.targets, spec.seed, spec.augment),
        tokens=tokens,
        label=of,
        labelled=frozenset(weak),
        labels=spec.labels,
    )
    valid = StoredSource(store, spec.maps, work.samples(spec.valid.digest), tokens=tokens, label=of)
    records = list(attempt.records)
    for (result,) in fit([member], source, valid, THREADS):
        if result.divergence:
            where = result.divergence
            attempt.fail("nan", where.message, where.epoch, where.step)
            yield _at_end(work, failed=where.message)
            return
        assert result.record is not None
        records.append(result.record)
        attempt.save_epoch(member.state(), records)
        yield {"epoch": member.epoch, "epochs": spec.epochs, "valid_iou": result.record.worth}
    versions = repro.environment(work.device, THREADS)
    attempt.finish(member.weights("best"), member.weights("last"), member.best_epoch, versions)


def _evaluate(work: Work, ledger: Ledger) -> None:
    """Score what has no rows; where the best epoch is the last one, its rows serve for both checkpoints."""
    done = ledger.done(work.spec.fingerprint)
    same = done is not None and len(set(done.digests.values())) == 1
    lacking = [evaluation for evaluation in work.evaluations if not ledger.has_scored(evaluation)]
    for which in sorted({evaluation.checkpoint for evaluation in lacking}):
        score = _scorer(work, ledger, which)
        for evaluation in (evaluation for evaluation in lacking if evaluation.checkpoint == which):
            twin = evaluation.model_copy(update={"checkpoint": "last" if which == "best" else "best"}).key
            if same and ledger.has_whole_rows(work.spec.fingerprint, twin):
                table = _of_checkpoint(ledger.rows(work.spec.fingerprint, twin), which)
            else:
                table = score(evaluation)
            ledger.put_rows(work.spec.fingerprint, evaluation.key, table)


def _scorer(work: Work, ledger: Ledger, which: Checkpoint) -> Callable[[EvaluationSpec], pa.Table]:
    """Return what scores one checkpoint's weights."""
    tokens = work.spec.decoder.reads_tokens
    maps = StoredMaps(FeatureStore(work.workspace.features), work.spec.maps, tokens=tokens)
    of = work.spec
    decoder = decoders.build(of.decoder, _shapes(of), repro.generator(0, "init"), of.num_classes)
    checkpoint.load(ledger.weights(work.spec.fingerprint, which), decoder)

    def score(evaluation: EvaluationSpec) -> pa.Table:
        samples = work.samples(evaluation.test.digest)
        called, device = Classes.of(of), work.device
        made = explained(evaluation.explain) if evaluation.explain else None
        return evaluate(decoder, maps, samples, work.data, evaluation, called, made, device=device, num_threads=THREADS)

    @cache
    def explained(by: ExplainSpec) -> Explainer:
        decoder.to(work.device)
        return explainer(of, by, decoder, work.data, WeightsIndex(work.workspace), work.device)

    return score


def _of_checkpoint(table: pa.Table, which: Checkpoint) -> pa.Table:
    place = table.column_names.index("checkpoint")
    return table.set_column(place, table.schema.field(place), pa.array([which] * len(table), table.schema.types[place]))


def _parent(spec: TrialSpec, ledger: Ledger) -> dict[str, torch.Tensor] | None:
    if not spec.start:
        return None
    return checkpoint.read(ledger.weights(spec.start.parent, spec.start.checkpoint))


def _encoder(work: Work) -> dict[str, torch.Tensor] | None:
    """Return the weights that a segmenter's encoder, or a classifier, starts from; a parent's hold them already."""
    decoder = work.spec.decoder
    if work.spec.start or decoder.plugin or decoder.weights is None:
        return None
    kind, name = trained(decoder)
    return WeightsIndex(work.workspace).encoder(name, decoder.weights, kind)


def _lists(spec: TrialSpec, evaluations: Sequence[EvaluationSpec]) -> list[SampleList]:
    """Return every list that a trial's work reads."""
    own = [spec.train, spec.valid, *([spec.labelled] if spec.labelled else [])]
    return own + [one.test for one in evaluations]


def _shapes(spec: TrialSpec) -> list[Any]:
    return [map_spec(recipe.map) for recipe in spec.maps]


def _at_end(work: Work, **how: object) -> Progress:
    return {"epoch": work.spec.epochs, "epochs": work.spec.epochs, **how}


def _read(folder: UPath, domain: str, split: str) -> list[SampleRef]:
    return read_samples(folder, Manifest.load(folder), domain, split)
