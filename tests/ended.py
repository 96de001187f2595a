"""Ended trials in a ledger, with rows whose means are known: what tracking is tested on."""

from collections.abc import Mapping

import pyarrow as pa

from dfloc.config import (
    DecoderSpec,
    EvaluationSpec,
    InitFrom,
    Lineage,
    LossSpec,
    MapRecipe,
    OptimizerSpec,
    SampleList,
    ScheduleSpec,
    TrialSpec,
)
from dfloc.ledger import EpochRecord, Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord

DOMAINS = ("celebahq/ldm", "celebahq/lama", "celebahq/repaint-p2", "celebahq/repaint-p2-9k")
START = 1_750_000_000.0


def spec_of(*domains: str, count: int = 6, seed: int = 0, parent: PlannedTrial | None = None) -> TrialSpec:
    counts = dict.fromkeys(domains, count)
    seen = tuple(parent.spec.train.counts) if parent else ()
    return TrialSpec(
        train=SampleList(digest=f"train {counts}", counts=counts),
        valid=SampleList(digest=f"valid {domains}", counts=dict.fromkeys(domains, 2)),
        maps=(MapRecipe(map="srm/stats", weights="none", input_size=256, resize="pil-bilinear", semantics={}),),
        decoder=DecoderSpec(name="conv", depth=4, channels=(8,)),
        loss=LossSpec(name="bce"),
        optimizer=OptimizerSpec(name="adamw", lr=3e-4),
        schedule=ScheduleSpec(name="constant"),
        epochs=3,
        batch=4,
        seed=seed,
        init={"decoder": InitFrom(parent=parent.fingerprint)} if parent else {},
        lineage=Lineage(
            seen=seen,
            base=seen or domains,
            root=parent.fingerprint if parent else "",
            exposure=count if parent else 0,
        ),
    )


def planned_of(
    spec: TrialSpec, stage: str, tested: tuple[str, ...] = DOMAINS, protocol: str = "declip-2025", **axes: object
) -> PlannedTrial:
    evaluations = tuple(
        EvaluationSpec(
            trial=spec.fingerprint,
            checkpoint=checkpoint,
            domain=domain,
            test=SampleList(digest=f"test {domain}", counts={domain: 2}),
            protocol=protocol,
        )
        for domain in tested
        for checkpoint in ("best", "last")
    )
    parent = spec.init["decoder"].parent if spec.init else None
    return PlannedTrial(
        fingerprint=spec.fingerprint, stage=stage, axes=axes, parent=parent, spec=spec, evaluations=evaluations
    )


def record_of(*trials: PlannedTrial, sweep: str = "exposure-paper-dolos", protocol: str = "declip-2025") -> SweepRecord:
    return SweepRecord(
        sweep=sweep,
        name="exposure",
        title="How many?",
        preset="paper",
        data="dolos",
        domains=DOMAINS,
        protocol=protocol,
        trials=trials,
    )


def epochs_of(num: int) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=k,
            steps=2 * k,
            images=6,
            lr=1e-3 / k,
            train_loss=1 / k,
            valid={"loss": 0.5, "iou": 0.1 * k},
            seconds=2.0,
            time=START + 2 * k,
        )
        for k in range(1, num + 1)
    ]


def rows_of(evaluation: EvaluationSpec, iou: float, ap: float) -> pa.Table:
    """Two images, whose mean is the given number."""
    one = {
        "domain": evaluation.domain,
        "protocol": evaluation.protocol,
        "checkpoint": evaluation.checkpoint,
        "trial": evaluation.trial,
        **dict.fromkeys(("tp", "fp", "fn", "tn"), 1),
        **dict.fromkeys(("f1_fixed", "f1_best", "pbca"), 0.5),
    }
    return pa.Table.from_pylist([{**one, "iou": iou - 0.1, "ap": ap}, {**one, "iou": iou + 0.1, "ap": ap}])


def train(ledger: Ledger, planned: PlannedTrial, best_epoch: int = 2) -> None:
    """Let a trial be trained, and not evaluated."""
    attempt = ledger.begin(planned.spec)
    attempt.save_epoch(b"state", epochs_of(planned.spec.epochs))
    attempt.finish(b"best", b"last", best_epoch, {"torch": "2.14.1"})


def finish(ledger: Ledger, planned: PlannedTrial, iou: Mapping[str, float], ap: float = 0.9) -> None:
    """Let a trial be trained and evaluated: IoU by domain at the best epoch, half of it at the last one."""
    if ledger.done(planned.fingerprint) is None:
        train(ledger, planned)
    for each in planned.evaluations:
        value = iou[each.domain] if each.checkpoint == "best" else iou[each.domain] / 2
        ledger.put_rows(each.trial, each.key, rows_of(each, value, ap))
