"""Made-up studies of images as a whole: detectors and classifiers with rows, a baseline, and one that has collapsed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dfloc.config import DecoderSpec, EvaluationSpec, LossSpec, OptimizerSpec
from dfloc.data import dolos
from dfloc.ledger import EpochRecord, Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace, json_bytes
from tests.metrics.image_rows import attributed, detected
from tests.report.studies import DOLOS, VERSIONS, Maker, record

REAL = "celebahq/real"
NUM = 24  # test images of a domain
TABLES = {
    "detect": ("s003.clip_linear", "s003.sam_linear"),
    "attribute": ("s003.attribution", "nb.classification.recall"),
}
SEPARATION = {"in": 3.0, "out": 0.5}


def detection(domains: Sequence[str] = DOLOS, **more: object) -> SweepRecord:
    """Two detectors of one domain each, one of all but one, the share of each class, and one that calls all real."""
    maker = _maker(domains)
    for case, maps in (("clip-linear", "clip-vit-l14/projected"), ("sam-linear", "sam-vit-b/pooled")):
        for domain in domains:
            _plan(maker, "detect", {domain: 9000, REAL: 9000}, "single", case=case, maps=(maps,), domain=domain)
    for domain in domains:
        rest = {name: 3000 for name in domains if name != domain}
        _plan(maker, "detect", {**rest, REAL: 9000}, "leave-one-out", maps=("srm/stats",), held_out=domain)
    every = {**dict.fromkeys(domains, 3000), REAL: 3000}
    _plan(maker, "detect", every, "single", case="collapsed", maps=("srm/absolute",))
    _plan(maker, "detect", every, "baselines", maps=("srm/variance",), decoder=DecoderSpec(name="prior"))
    return _record(maker, "detection", "detect", **more)


def attribution(tests: Sequence[str] = (), **more: object) -> SweepRecord:
    """Two classifiers, one that calls all images LaMa's, and the share of each class."""
    maker = _maker(DOLOS, tests)
    every = {REAL: 9000, **dict.fromkeys(DOLOS, 9000)}
    for case, maps in (("clip-linear", "clip-vit-l14/projected"), ("sam-linear", "sam-vit-b/pooled")):
        _plan(maker, "attribute", every, "classify", case=case, maps=(maps,))
    _plan(maker, "attribute", every, "classify", case="collapsed", maps=("srm/absolute",))
    _plan(maker, "attribute", every, "baselines", maps=("srm/variance",), decoder=DecoderSpec(name="prior"))
    return _record(maker, "attribution", "attribute", **more)


def fill(workspace: Workspace, of: SweepRecord) -> None:
    """Write what the trials leave behind."""
    ledger = Ledger(workspace)
    for trial in of.trials:
        attempt = ledger.begin(trial.spec)
        worth = 0.9 if "clip" in trial.spec.maps[0].map else 0.7
        attempt.save_epoch(b"state", [_epoch(number, worth - 0.1 / number) for number in (1, 2)])
        attempt.finish(b"best", b"last", 2, VERSIONS)
        for each in (each for each in trial.evaluations if each.checkpoint == "best"):
            rows = (_detected if trial.spec.task == "detect" else _attributed)(trial, each)
            for name, value in (("checkpoint", each.checkpoint), ("trial", each.trial)):
                rows = rows.set_column(rows.schema.get_field_index(name), name, [[value] * len(rows)])
            ledger.put_rows(each.trial, each.key, rows)
        if trial.case == "clip-linear" and trial.spec.task == "detect":
            _validate(workspace, trial)


def _validate(workspace: Workspace, trial: PlannedTrial) -> None:
    """Score a trial's validation list, and put the list: what a threshold is chosen on."""
    names: list[str] = []
    for domain in trial.spec.valid.counts:
        real = domain == REAL
        rows = detected("image-1", domain, valid_scores(domain).tolist())
        ids = [f"{domain}/valid/{place}.png" for place in range(NUM)]
        told = {"id": ids, "split": ["valid"] * NUM, "trial": [trial.fingerprint] * NUM}
        for name, values in told.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, [values])
        Ledger(workspace).put_rows(trial.fingerprint, ("ab" if real else "cd") * 32, rows)
        names += ids
    path = workspace.lists / f"{trial.spec.valid.digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_bytes(sorted(names)))


def valid_scores(domain: str) -> np.ndarray:
    """Return the scores of the validation images of a domain, by every detector that has them."""
    return np.random.default_rng(len(domain)).beta(*((2, 6) if domain == REAL else (4, 4)), NUM)


def filled(folder: Path, of: SweepRecord) -> Workspace:
    """Return a workspace in which the trials of a record have run."""
    workspace = Workspace(folder)
    fill(workspace, of)
    of.save(workspace.sweep(of.sweep))
    return workspace


def classes() -> tuple[str, ...]:
    """Return the classes of the classifiers here."""
    return ("real", *(dolos.family(domain, {}) for domain in DOLOS))


def _maker(domains: Sequence[str], tests: Sequence[str] = ()) -> Maker:
    return Maker(domains, weights="ab" * 32, protocol="image-1", num_test=NUM, tests=tests or (*domains, REAL))


def _plan(
    maker: Maker,
    task: str,
    counts: dict[str, int],
    stage: str,
    decoder: DecoderSpec | None = None,
    case: str = "",
    maps: Sequence[str] = (),
    **axes: object,
) -> None:
    named = ("real", "fake") if task == "detect" else classes()
    optimizer = OptimizerSpec(name="adam" if stage == "classify" else "adamw")
    spec = {
        "optimizer": optimizer,
        "task": task,
        "classes": named,
        "loss": LossSpec(name="ce"),
        "select": "ap",
        "decoder": decoder or DecoderSpec(name="linear"),
    }
    maker.plan(stage, counts, case=case, maps=maps, spec=spec, **axes)


def _record(maker: Maker, name: str, task: str, **more: object) -> SweepRecord:
    found = record(maker, "paper", tables=TABLES[task])
    return found.model_copy(update={"name": name, "sweep": f"{name}-paper-dolos", "title": name, **more})


def _epoch(number: int, worth: float) -> EpochRecord:
    valid = {"loss": 0.3, "ap": worth, "accuracy": worth}
    return EpochRecord(epoch=number, steps=10 * number, images=160, valid=valid, seconds=1.0, time=1.0e9)


def _rng(trial: PlannedTrial, each: EvaluationSpec) -> np.random.Generator:
    return np.random.default_rng([*f"{trial.stage}{trial.case}{each.domain}".encode()])


def _stems() -> list[str]:
    return [f"celebahq/{place // 3:03}" for place in range(NUM)]


def _detected(trial: PlannedTrial, each: EvaluationSpec) -> pa.Table:
    real = each.domain == REAL
    fakes = {name for name in trial.spec.train.counts if name != REAL}
    apart = SEPARATION["in" if each.domain in fakes else "out"] * (0.8 if "sam" in trial.case else 1)
    logit = _rng(trial, each).normal(-1.5 if real else apart - 1.5, 1, NUM)
    score = np.full(NUM, 0.5) if trial.spec.decoder.name == "prior" else 1 / (1 + np.exp(-logit))
    score = score / 2 if trial.case == "collapsed" else score
    return detected("image-1", each.domain, score.tolist(), stems=_stems())


def _attributed(trial: PlannedTrial, each: EvaluationSpec) -> pa.Table:
    named, rng = classes(), _rng(trial, each)
    own = "real" if each.domain == REAL else dolos.family(each.domain, {})
    right = 0.8 if "clip" in trial.case else 0.6
    called = [
        own if own in named and rng.random() < right else named[int(rng.integers(len(named)))] for _ in range(NUM)
    ]
    called = [named[1]] * NUM if trial.case == "collapsed" else called
    called = [named[0]] * NUM if trial.spec.decoder.name == "prior" else called
    probs = {name: [0.6 if name == one else 0.4 / (len(named) - 1) for one in called] for name in named}
    return attributed("image-1", each.domain, own, probs, _stems())
