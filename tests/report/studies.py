"""Synthetic studies: records as a plan makes them, and rows whose true IoU is known."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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
from dfloc.frozen import fingerprint
from dfloc.ledger import EpochRecord, Ledger
from dfloc.metrics import protocols
from dfloc.planned import PlannedTrial
from dfloc.record import DomainFacts, SweepRecord
from dfloc.storage import Workspace

MINI = ("mini/checkerboard", "mini/reencode", "mini/renoise", "mini/telea")
DOLOS = ("celebahq/ldm", "celebahq/repaint-p2-9k", "celebahq/lama", "celebahq/pluralistic")
TABLES = (*(f"s000.exposure.{name.split('/')[1]}" for name in DOLOS), "s000.budgets")
VERSIONS = {"dfloc": "0.1.0", "torch": "2.14.1", "device": "cpu"}

Truth = Callable[[PlannedTrial, str], float]


@dataclass
class Maker:
    """Makes planned trials as the sweep does, only without data."""

    domains: Sequence[str] = MINI
    maps: Sequence[str] = ("srm/stats",)
    weights: str = "none"
    base_count: int = 53
    base_epochs: int = 8
    valid: int = 13
    num_test: int = 40
    epoch_steps: int | None = 10
    depth: int = 4
    draw: int = 0
    seed: int = 0
    protocol: str = "declip-2025"
    tests: Sequence[str] = ()
    trials: list[PlannedTrial] = field(default_factory=list)

    def plan(
        self,
        stage: str,
        counts: dict[str, int],
        *,
        case: str = "",
        parent: PlannedTrial | None = None,
        epochs: int = 0,
        decoder: str = "conv",
        maps: Sequence[str] | None = None,
        spec: dict[str, Any] | None = None,
        lists: str = "",
        **axes: Any,
    ) -> PlannedTrial:
        """Plan one trial.

        Args:
            spec: fields of the TrialSpec that are not the maker's own.
            lists: stages that name the same train and validate on the same images; empty: no other stage does.
        """
        held_out = axes.get("held_out")
        validated = [held_out] if parent and held_out in counts else counts
        valid = {domain: max(self.valid, counts[domain] // 10) for domain in validated}
        root = (parent.spec.lineage.root or parent.fingerprint) if parent else ""
        base = parent.spec.lineage.base if parent else tuple(sorted(counts))
        new = [count for domain, count in counts.items() if domain not in base]
        made = TrialSpec(
            train=self._list("train", counts, lists or stage, case, {} if lists else axes),
            valid=self._list("valid", valid, lists or stage, case, {}),
            maps=tuple(self._recipe(name) for name in maps or self.maps),
            decoder=DecoderSpec(name=decoder, depth=self.depth, init="declip"),
            loss=LossSpec(name="bce"),
            optimizer=OptimizerSpec(name="adamw"),
            schedule=ScheduleSpec(name="plateau"),
            epochs=epochs or self.base_epochs,
            epoch_steps=self.epoch_steps,
            batch=64 if len(maps or self.maps) == 1 else 32,
            seed=self.seed,
            init={"decoder": InitFrom(parent=parent.fingerprint)} if parent else {},
            lineage=Lineage(base=base, root=root, exposure=sum(new) if parent else 0),
        ).model_copy(update=spec or {})
        trial = PlannedTrial(
            fingerprint=made.fingerprint,
            stage=stage,
            case=case,
            axes={**axes, "draw": self.draw, "seed": self.seed},
            parent=parent.fingerprint if parent else None,
            spec=made,
            evaluations=tuple(self._evaluations(made.fingerprint)),
        )
        self.trials.append(trial)
        return trial

    def curves(self, ns: Sequence[int], epochs: int, **extra: Any) -> None:
        """Plan base, finetune, scratch and replay."""
        for held_out in self.domains:
            seen = {domain: self.base_count for domain in self.domains if domain != held_out}
            base = self.plan("base", seen, held_out=held_out)
            for n in ns:
                own = {held_out: n}
                replayed = own | dict.fromkeys(seen, max(1, n // len(seen)))
                cell = {"held_out": held_out, "n": n, "lists": "curves"}
                self.plan("finetune", own, parent=base, epochs=epochs, **cell, **extra)
                self.plan("scratch", own, **cell)
                self.plan("replay", replayed, parent=base, epochs=epochs, **cell)

    def baselines(self) -> None:
        every = dict.fromkeys(self.domains, self.base_count)
        for name in ("all-fake", "mean-mask", "threshold"):
            self.plan("baselines", every, decoder=name, epochs=1, maps=("srm/variance",))
            self.trials[-1] = self.trials[-1].model_copy(update={"axes": {"decoder": name, **self.trials[-1].axes}})

    def _list(self, split: str, counts: dict[str, int], *parts: object) -> SampleList:
        asked = {"pairing": "independent", "within": 3000} if len(set(counts.values())) > 1 else {}
        return SampleList(digest=fingerprint([split, counts, repr(parts), self.draw]), counts=counts, asked=asked)

    def _recipe(self, name: str) -> MapRecipe:
        return MapRecipe(map=name, weights=self.weights, input_size=224, resize="pil-bilinear", semantics={})

    def _evaluations(self, name: str) -> Iterator[EvaluationSpec]:
        for checkpoint in ("best", "last"):
            for domain in self.tests or self.domains:
                test = SampleList(digest=fingerprint(["test", domain]), counts={domain: self.num_test})
                yield EvaluationSpec(
                    trial=name, checkpoint=checkpoint, domain=domain, test=test, protocol=self.protocol
                )


def mini(seeds: int = 1) -> SweepRecord:
    """The built-in study: three n, two budgets, all controls."""
    maker = Maker()
    for seed in range(seeds):
        maker.seed = seed
        maker.curves([4, 16, 48], epochs=4)
        maker.plan("budgets", dict.fromkeys(MINI, 53), case="train_all_4")
        maker.plan("budgets", {domain: 24 if domain == MINI[0] else 12 for domain in MINI}, case="24-first-12-rest")
        for count in (4, 13):
            maker.plan("equal-total", dict.fromkeys(MINI, count), count=count)
    maker.seed = 0
    maker.baselines()
    return record(maker, "mini", synthetic=True)


def paper(ns: Sequence[int] = range(250, 3001, 250), num_test: int = 900) -> SweepRecord:
    """The study on Dolos, every stage."""
    fused = ("clip-vit-l14/layer20", "clip-rn50/layer3")
    maker = Maker(DOLOS, fused, "ab" * 32, 3000, 30, 300, num_test, None, 12)
    maker.curves(ns, epochs=10)
    for domain in DOLOS:
        maker.plan("budgets", {domain: 9000}, case="9000-each-per-model", domain=domain)
        maker.plan("budgets", {domain: 3000}, case="3000-each-per-model", domain=domain, maps=fused[:1])
        maker.plan("budgets", {domain: 3000}, case="3000-each-per-model-same-backbone", domain=domain)
    maker.plan("budgets", dict.fromkeys(DOLOS, 3000), case="3000-each-train_all_4")
    for first, rest in ((1000, 500), (1750, 750)):
        counts = {domain: first if domain == DOLOS[0] else rest for domain in DOLOS}
        maker.plan("budgets", counts, case=f"{first}-ldm-{rest}-rest")
    for count in (750, 2250):
        maker.plan("equal-total", dict.fromkeys(DOLOS, count), count=count)
    maker.baselines()
    return record(maker, "paper", tables=TABLES)


def record(maker: Maker, preset: str, **more: Any) -> SweepRecord:
    """Wrap planned trials."""
    data = "mini" if preset == "mini" else "dolos"
    facts = DomainFacts(images=maker.num_test, photographs=7)
    return SweepRecord(
        sweep=f"exposure-{preset}-{data}",
        name="exposure",
        title="How many samples of a new generator does a localizer need?",
        preset=preset,
        data=data,
        domains=tuple(maker.domains),
        protocol=maker.protocol,
        facts={domain: {"test": facts} for domain in maker.domains},
        weights={"ab" * 32: "openai"},
        trials=tuple(maker.trials),
        **more,
    )


def truth(trial: PlannedTrial, domain: str) -> float:
    """Return a plausible mean IoU: own domains are learned, others are not, the old ones are forgotten."""
    name, counts = trial.spec.decoder.name, trial.spec.train.counts
    if name in ("all-fake", "mean-mask", "threshold"):
        return {"all-fake": 0.17, "mean-mask": 0.21, "threshold": 0.24}[name]
    n = counts.get(domain, 0)
    own = 0.74 - 0.1 * (1 - min(n, 48) / 48) if n else 0.15
    if not n and domain in trial.spec.lineage.base:
        return 0.3
    return own


def fill(
    workspace: Workspace,
    study: SweepRecord,
    of: Truth = truth,
    skip: Callable[[PlannedTrial], str] | None = None,
    checkpoints: Sequence[str] = ("best", "last"),
) -> None:
    """Write ledger and rows as finished trials leave them.

    Args:
        workspace: where.
        study: whose trials.
        of: the mean IoU of a trial on a domain.
        skip: returns "failed", "new" or "" (finished) for a trial.
        checkpoints: which are evaluated.
    """
    ledger = Ledger(workspace)
    for trial in study.trials:
        fate = skip(trial) if skip else ""
        if fate == "new" or ledger.state(trial.fingerprint) != "new":
            continue
        attempt = ledger.begin(trial.spec)
        if fate == "failed":
            attempt.fail("nan", "the loss is NaN at step 17", epoch=2, step=17)
            continue
        mean = float(np.mean([of(trial, domain) for domain in trial.spec.valid.counts]))
        epochs = [_epoch(number, mean) for number in (1, 2)]
        attempt.save_epoch(b"state", epochs)
        attempt.finish(b"best", b"last", 2, VERSIONS)
        for evaluation in (each for each in trial.evaluations if each.checkpoint in checkpoints):
            mean = of(trial, evaluation.domain) - (0.02 if evaluation.checkpoint == "last" else 0)
            ledger.put_rows(trial.fingerprint, evaluation.key, rows(evaluation, mean))


def _epoch(number: int, valid_iou: float) -> EpochRecord:
    return EpochRecord(
        epoch=number, steps=10 * number, images=160, valid={"loss": 0.3, "iou": valid_iou}, seconds=1.0, time=1.0e9
    )


def rows(evaluation: EvaluationSpec, mean: float) -> pa.Table:
    """Return rows whose IoU has exactly this mean; photographs differ."""
    count = evaluation.test.size
    photographs = max(2, count // 6)
    stems = [f"mini/p{i % photographs}" for i in range(count)]
    seed = int(hashlib.sha256(evaluation.key.encode()).hexdigest()[:8], 16)
    shared = np.random.default_rng(7).normal(0, 0.08, photographs)[np.arange(count) % photographs]
    noise = shared + np.random.default_rng(seed).normal(0, 0.05, count)
    iou = mean + noise - noise.mean()
    empty = mean < 0.01
    measures = {
        "iou": iou,
        "f1": iou + 0.1,
        "f1_fixed": iou + 0.1,
        "f1_best": np.where(np.arange(count) == 0, np.nan, iou + 0.15),
        "ap": iou + 0.12,
        "auc": iou + 0.2,
        "mcc": iou - 0.1,
        "pbca": np.full(count, 0.9),
    }
    return pa.table(
        {
            "id": [f"{evaluation.domain}/test/{i}.png" for i in range(count)],
            "stem": stems,
            "domain": [evaluation.domain] * count,
            "split": ["test"] * count,
            "condition": ["clean"] * count,
            "protocol": [evaluation.protocol] * count,
            "checkpoint": [evaluation.checkpoint] * count,
            "mask_area": 0.04 + 0.4 * np.arange(count) / count,
            "tp": np.full(count, 0 if empty else 100, dtype=np.int64),
            "fp": np.full(count, 0 if empty else 10, dtype=np.int64),
            "fn": np.full(count, 30, dtype=np.int64),
            "tn": np.full(count, 900, dtype=np.int64),
            "mean_prob": np.full(count, 0.2),
            "trial": [evaluation.trial] * count,
            **{key: values for key, values in measures.items() if key in protocols.find(evaluation.protocol).per_image},
        }
    )
