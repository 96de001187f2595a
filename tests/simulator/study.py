"""A small study, and what stands for its images, its backbone, its decoders and their training.

What stands for them is exact: every number is a digest of what it must depend on, and says whether that is what it
should be. So a file that is read and is not what was written shows at once, and so does a trial that is not resumed
where it was.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.data.manifest import SampleRef
from dfloc.engine.fit import EpochResult
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.outcome import EpochRecord
from dfloc.record import DomainFacts
from dfloc.sweep.data import Shards
from tests.simulator.world import World

STUDY = """
name: small
title: A small study
domains: [sim/one, sim/two]
device: cpu
trial:
  maps: [srm/stats]
  decoder: {name: conv, depth: 4, channels: [4], out_size: 32}
  loss: bce
  optimizer: {name: adamw, lr: 1e-2}
  schedule: constant
  epochs: 3
  batch: 2
stages:
  base:
    train: {domains: [sim/one], count: 4, valid: 2}
  finetune:
    from: base
    train: {domains: [sim/two], count: 2, valid: 2}
    trial: {epochs: 2}
  baselines:
    grid: {decoder: [all-fake]}
    train: {domains: [sim/one], count: 4, valid: 2}
    trial: {decoder: {name: decoder}}
evaluate: {domains: [sim/two], protocol: declip-2025}
presets:
  smoke: {}
"""
COUNTS = {"train": 4, "valid": 2, "test": 2}
EPOCH_SECONDS = 2.0
GROUP = 4
WEIGHTS_BYTES = 700


def digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def share(text: str) -> float:
    """Return a number between 0 and 1 that stands for a digest."""
    return int(text[:12], 16) / 16**12


class Images(Shards):
    """Two domains of a few images; no file."""

    def __init__(self) -> None:
        self.name, self.folder, self.local = "sim", UPath("/nowhere/sim"), ("sim/one", "sim/two")
        self.families, self.kinds = {}, dict.fromkeys(self.local, "local")
        self._refs = {
            (domain, split): [self._ref(domain, split, row) for row in range(count)]
            for domain in self.local
            for split, count in COUNTS.items()
        }

    @staticmethod
    def _ref(domain: str, split: str, row: int) -> SampleRef:
        name, stem = f"{domain}/{split}/{row}.png", f"sim/{split}{row}"
        marks = [digest(what, name) for what in ("image", "mask", "pixels")]
        shard = digest("shard", domain, split)
        place = (f"{domain}/{split}.parquet", shard, row // GROUP, row % GROUP)
        return SampleRef(name, stem, stem, domain, split, *marks[:2], "fake_is_white", *place, "", marks[2])

    def samples(self, domain: str, split: str) -> Sequence[SampleRef]:
        return self._refs[domain, split]

    def facts(self, domain: str) -> dict[str, DomainFacts]:
        return {split: DomainFacts(images=count, photographs=count) for split, count in COUNTS.items()}

    def notes(self, domains: Sequence[str], beside: Collection[str] = ()) -> tuple[str, ...]:
        return ()

    def group(self, shard: str, group: int) -> list[SampleRef]:
        """Return the samples of a row group."""
        refs = (ref for refs in self._refs.values() for ref in refs)
        return [ref for ref in refs if (ref.shard_digest, ref.group) == (shard, group)]


def feature(recipe: str, sample: str) -> int:
    return int(digest("feature", recipe, sample)[:2], 16)


class Engine:
    """Stands for the models: what `dfloc.sweep.work` asks of them.

    Attributes:
        trained: told of each epoch that is trained: trial, epoch.
    """

    def __init__(self, world: World, images: Images):
        self._world, self._images = world, images
        self.trained: Any = None

    def stand_ins(self) -> dict[str, Any]:
        """Return what takes the place of names in `dfloc.sweep.work`."""
        return {
            "Member": SimpleNamespace(create=self._create),
            "StoredSource": self._source,
            "StoredMaps": lambda store, maps, **how: (store, maps),
            "fit": self._fit,
            "decoders": SimpleNamespace(build=lambda *parts: SimpleNamespace()),
            "checkpoint": SimpleNamespace(read=self._read_weights, load=self._load),
            "evaluate": self._evaluate,
            "repro": SimpleNamespace(environment=lambda *parts: {"dfloc": "sim"}, generator=lambda *parts: None),
            "_read": lambda folder, domain, split: list(self._images.samples(domain, split)),
            "_shapes": lambda spec: [],
        }

    def extract(self, store: FeatureStore, job: Job) -> None:
        """Pass a row group through its backbones."""
        refs = self._images.group(job.shard_digest, job.group)
        for recipe in job.recipes:
            values = np.array([[feature(recipe.fingerprint, ref.id)] * 8 for ref in refs])
            store.put(recipe, "0", job.shard_digest, job.group, values, [ref.id for ref in refs])

    def _source(self, store: FeatureStore, maps: Any, samples: Sequence[SampleRef], *parts: Any, **how: Any) -> str:
        return self._gather(store, maps, samples)

    def _gather(self, store: FeatureStore, maps: Any, samples: Sequence[SampleRef]) -> str:
        """Return the digest of the features of samples, which must be those that were put."""
        for recipe in maps:
            rows = store.gather(recipe, samples)
            right = [[feature(recipe.fingerprint, ref.id)] * 8 for ref in samples]
            if rows.tolist() != right:
                self._world.violate(f"features of {samples[0].id} are read that were never put")
        return digest(*(ref.id for ref in samples))

    def _create(self, spec: TrialSpec, shapes: Any, device: str, parent: str | None, encoder: Any) -> "Learner":
        return Learner(self._world, spec, parent or "")

    def _fit(self, pack: Sequence["Learner"], source: str, valid: str, threads: int) -> Iterator[list[EpochResult]]:
        (learner,) = pack
        while learner.epoch < learner.spec.epochs:
            self._world.sleep(EPOCH_SECONDS * self._world.rng.uniform(0.5, 2))
            self.trained(learner.spec.fingerprint, learner.epoch + 1)
            record = learner.step(source, valid)
            yield [EpochResult(learner, record)]  # type: ignore[arg-type]

    def _read_weights(self, path: UPath) -> str:
        data = path.read_bytes()
        try:
            held = json.loads(data)
            right = held["sum"] == digest(held["chain"], held["of"])
        except (ValueError, KeyError, TypeError):
            right = False
        if not right:
            self._world.violate(f"weights are read that were never put: {path.name} of {path.parent.name}")
        return str(held["chain"])

    def _load(self, path: UPath, decoder: Any) -> None:
        decoder.chain = self._read_weights(path)

    def _evaluate(
        self,
        decoder: Any,
        maps: Any,
        samples: Sequence[SampleRef],
        data: UPath,
        evaluation: EvaluationSpec,
        *parts: Any,
        **how: Any,
    ) -> pa.Table:
        self._gather(*maps, samples)
        self._world.sleep(1.0)
        return table(decoder.chain, evaluation, samples)


def table(chain: str, evaluation: EvaluationSpec, samples: Sequence[SampleRef]) -> pa.Table:
    """Return the rows that weights give."""
    named = {name: getattr(evaluation, name) for name in ("trial", "checkpoint", "domain", "split")}
    rows = [{**named, "id": ref.id, "stem": ref.stem, "iou": share(digest(chain, ref.id))} for ref in samples]
    return pa.Table.from_pylist(rows)


class Learner:
    """Stands for `engine.member.Member`: its weights are a chain of digests, a link for each epoch."""

    def __init__(self, world: World, spec: TrialSpec, parent: str):
        self._world, self.spec = world, spec
        self.epoch, self.best_epoch, self.best = 0, 0, -1.0
        self._chain = self._best_chain = digest("init", spec.fingerprint, parent)
        if not spec.epochs:
            self._best_chain = self._chain

    def step(self, source: str, valid: str) -> EpochRecord:
        """Train an epoch."""
        self.epoch += 1
        self._chain = digest(self._chain, self.epoch, source, valid)
        iou = share(self._chain)
        if iou > self.best:
            self.best, self.best_epoch, self._best_chain = iou, self.epoch, self._chain
        return EpochRecord(
            epoch=self.epoch,
            steps=self.epoch,
            images=4,
            lr=0.01,
            train_loss=1 - iou,
            valid={"loss": 1 - iou, "iou": iou},
            seconds=EPOCH_SECONDS,
            time=0.0,
        )

    def state(self) -> bytes:
        """Return all that is needed to go on."""
        held = [self.spec.fingerprint, self.epoch, self.best_epoch, self.best, self._chain, self._best_chain]
        return json.dumps([*held, digest(*held)]).encode()

    def restore(self, state: bytes) -> None:
        """Go on from a state, which must be one of this trial's."""
        try:
            *held, mark = json.loads(state)
            right = mark == digest(*held) and held[0] == self.spec.fingerprint
        except (ValueError, TypeError):
            right = False
        if not right:
            self._world.violate("a checkpoint is read that was never put")
        _, self.epoch, self.best_epoch, self.best, self._chain, self._best_chain = held

    def weights(self, which: str) -> bytes:
        """Return the file of weights."""
        chain = self._best_chain if which == "best" else self._chain
        held = {"chain": chain, "of": self.spec.fingerprint, "sum": digest(chain, self.spec.fingerprint)}
        return json.dumps(held | {"pad": "x" * WEIGHTS_BYTES}).encode()


def write(folder: Path) -> Path:
    """Write the sweep's file and return where."""
    path = folder / "small.yaml"
    path.write_text(STUDY)
    return path
