"""Files of a workspace, changed after they were written: an error, or exactly what was written."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from upath import UPath

from dfloc.config import EvaluationSpec, SampleList, TrialSpec
from dfloc.data import dolos, rejects, sample_lists
from dfloc.data.manifest import Manifest, SampleRef, list_digest, read_areas, read_samples
from dfloc.data.publish import SplitPart as Split
from dfloc.data.publish import Written as Shard
from dfloc.data.publish import publish
from dfloc.data.rejects import Reject
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.data.writer import ShardJob, write_shard
from dfloc.engine import checkpoint
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.features.weights import Origin, WeightsIndex
from dfloc.ledger import Ledger, Stopped
from dfloc.outcome import EpochRecord
from dfloc.planned import PlannedTrial
from dfloc.record import DomainFacts, SweepRecord
from dfloc.storage import Workspace
from tests.conftest import write_tiny_tree
from tests.engine.fakes import make_spec
from tests.fuzz import mutate
from tests.fuzz.harness import Case, Part, WrongError
from tests.report.studies import rows

DOMAIN = "tiny/blur"
PLACE = (DOMAIN, "train")


class Kind(NamedTuple):
    """Files of one kind, and the public function that reads them.

    Attributes:
        files: the files that may be changed; two or more, so that one can stand in another's place.
        read: returns what is in all of them, compared by ==.
    """

    files: Sequence[Path]
    read: Callable[[], object]


class Small:
    """A workspace with one or two files of every kind, as dfloc writes them.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path):
        self.root = root
        self.workspace = Workspace(root / "workspace")
        self.ledger = Ledger(self.workspace)
        self.data = self.workspace.shards / "tiny"
        self.manifest = self._shards(root / "tree")
        self.samples = self._samples()
        self.digest = list_digest(self.samples)
        sample_lists.keep(self.workspace, self.digest, self.samples)
        sample_lists.keep(self.workspace, list_digest(self.samples[:4]), self.samples[:4])
        self.recipe = recipe_for("srm/stats")
        self._features()
        self.specs = [self._trial(seed) for seed in (0, 1)]
        self.going = self._unfinished(make_spec(seed=5))
        self._failed(make_spec(seed=6))
        self.sweeps = [self._sweep(name) for name in ("one", "two")]
        self.words = [self._weights(number) for number in (0, 1)]

    def _shards(self, tree: Path) -> Manifest:
        write_tiny_tree(tree)
        parts: dict[Any, Split] = {}
        written = []
        for sample in dolos.scan(tree):
            parts.setdefault((sample.domain, sample.split), Split([], [], "", "")).samples.append(sample)
        for (domain, split), part in parts.items():
            path = f"{domain}/{split}-00000.parquet"
            receipt = write_shard(ShardJob(self.data / ".import" / path, part.samples, 4))
            written.append(Shard(path, (domain, split), receipt))
        rejects.save(self.data, [Reject(f"{DOMAIN}/train/{name}.png", f"{name}.png", "no mask") for name in "ab"])
        manifest = publish(self.data, self.data / ".import", Manifest(domains={}), parts, written)
        shutil.rmtree(Path(self.data.path, ".import"))
        return manifest

    def _samples(self) -> list[SampleRef]:
        return read_samples(self.data, Manifest.load(self.data), *PLACE)

    def _features(self) -> None:
        store, draw = FeatureStore(self.workspace.features), np.random.default_rng(0)
        for group in sorted({sample.group for sample in self.samples}):
            mine = [sample for sample in self.samples if sample.group == group]
            maps = draw.random((len(mine), 3, 4, 4)).astype(np.float16)
            store.put(self.recipe, 0, mine[0].shard_digest, group, maps, [sample.id for sample in mine])

    def _trial(self, seed: int) -> TrialSpec:
        spec = make_spec(seed=seed)
        attempt = self.ledger.begin(spec)
        records = self.records(seed)
        for number in range(len(records)):
            attempt.save_epoch(f"state {number}".encode(), records[: number + 1])
        weights = [checkpoint.to_bytes({"w": torch.full((5,), value + seed)}, spec) for value in (0.25, 0.5)]
        attempt.finish(*weights, 2, {"torch": "2"})
        for which in ("best", "last"):
            test = SampleList(digest=self.digest, counts={DOMAIN: 12})
            one = EvaluationSpec(trial=spec.fingerprint, checkpoint=which, domain=DOMAIN, test=test, protocol="dfloc-1")
            self.ledger.put_rows(spec.fingerprint, one.key, rows(one, 0.5 + seed / 8))
        return spec

    @staticmethod
    def records(seed: int) -> list[EpochRecord]:
        """Return three epochs."""
        return [
            EpochRecord(
                epoch=k, steps=9 * k, images=36, lr=0.01, train_loss=1 / (k + seed),
                valid={"loss": 0.7, "iou": 0.2 * k}, seconds=1.5, time=1e9 + k,
            )
            for k in (1, 2, 3)
        ]  # fmt: skip

    def _unfinished(self, spec: TrialSpec) -> TrialSpec:
        attempt = self.ledger.begin(spec)
        for number in (1, 2, 3):
            attempt.save_epoch(f"state {number}".encode(), self.records(5)[:number])
        for number, sweep in enumerate(("one", "two")):
            self.ledger.stop(spec.fingerprint, sweep, Stopped(epoch=1 + number, value=0.25, needed=0.4, time=3.0))
        return spec

    def _failed(self, spec: TrialSpec) -> None:
        self.ledger.begin(spec).fail("nan", "the loss is NaN", epoch=2, step=17)

    def _sweep(self, name: str) -> UPath:
        trials = [
            PlannedTrial(fingerprint=spec.fingerprint, stage=name, axes={"seed": spec.seed, "n": 8}, spec=spec)
            for spec in self.specs
        ]
        record = SweepRecord(
            sweep=f"{name}-smoke-tiny", name=name, title="What?", preset="smoke", data="tiny", domains=(DOMAIN,),
            protocol="dfloc-1", facts={DOMAIN: {"test": DomainFacts(images=4, photographs=2)}}, trials=tuple(trials),
        )  # fmt: skip
        record.save(self.workspace.sweep(record.sweep))
        return self.workspace.sweep(record.sweep)

    def _weights(self, number: int) -> tuple[str, str]:
        """Note where weights come from, and return whose they are and their digest."""
        origin = Origin(backbone="clip-rn50", word=f"tag-{number}", digest=f"{number:064x}")
        WeightsIndex(self.workspace)._put(origin)
        return origin.backbone, origin.digest

    def kinds(self) -> dict[str, Kind]:
        """Return the files of every kind, and how they are read."""
        trials, root = Path(self.workspace.trials.path), Path(self.workspace.root.path)
        ids = [spec.fingerprint for spec in self.specs]
        shards = sorted(Path(self.data.path, DOMAIN).glob("*.parquet"))

        def of(pattern: str) -> list[Path]:
            return [path for name in ids for path in sorted((trials / name).glob(pattern))]

        going = sorted((trials / self.going.fingerprint).glob("attempts/*/*.*"))
        records = sorted(root.glob("sweeps/*/starts/*.json"))
        features = sorted(root.glob("features/*/*/*/*"))
        return {
            "rows": Kind(of("rows/*.parquet"), self.rows),
            "epochs": Kind(of("attempts/*/epochs.jsonl"), lambda: [self.ledger.epochs(name) for name in ids]),
            "done": Kind(of("done.json"), lambda: [self.ledger.done(name) for name in ids]),
            "spec": Kind(of("attempts/*/spec.json"), lambda: [self.ledger.spec(name) for name in ids]),
            "weights": Kind(of("attempts/*/*.safetensors"), self.weights),
            "checkpoints": Kind(going, self.gone_on),
            "failed": Kind(
                sorted(trials.glob("*/failed.json")), lambda: self.ledger.failure(make_spec(seed=6).fingerprint)
            ),
            "stopped": Kind(sorted(trials.glob("*/stopped/*.json")), self.stops),
            "lists": Kind(sorted(root.glob("lists/*.json")), self.lists),
            "features": Kind([path for path in features if path.suffix == ".npy"], self.features),
            "features' receipts": Kind([path for path in features if path.suffix == ".json"], self.features),
            "shards": Kind(shards, self.pictures),
            "shards' names": Kind(shards, self.names),
            "manifest": Kind([Path(self.data.path, "manifest.json")], lambda: Manifest.load(self.data)),
            "rejects": Kind([Path(self.data.path, "rejected.csv")], lambda: rejects.read(self.data) and None),
            "plan": Kind(records, lambda: [SweepRecord.load(folder) for folder in self.sweeps]),
            "weights index": Kind(sorted(root.glob("weights/*.json")), self.sources),
        }

    def rows(self) -> object:
        """Return all rows, to the last digit."""
        return [
            (name, key.stem, repr(self.ledger.rows(name, key.stem).to_pylist()))
            for name in (spec.fingerprint for spec in self.specs)
            for key in sorted(Path(self.ledger.folder(name).path).glob("rows/*.parquet"))
        ]

    def weights(self) -> object:
        """Return the weights of both trials."""
        found = [
            checkpoint.read(self.ledger.weights(spec.fingerprint, which))
            for spec in self.specs
            for which in ("best", "last")
        ]
        return [{name: tensor.tolist() for name, tensor in each.items()} for each in found]

    def gone_on(self) -> object:
        """Return whether the unfinished trial goes on from an epoch that it had, or from none, and its other files."""
        attempt = self.ledger.begin(self.going)
        folder = self.ledger.folder(self.going.fingerprint) / "attempts" / attempt.id
        folder.fs.rm(folder.path, recursive=True)
        number = len(attempt.records)
        state = f"state {number}".encode() if number else None
        return attempt.state == state and attempt.records == self.records(5)[:number], self.ledger.spec(
            self.going.fingerprint
        )

    def stops(self) -> object:
        """Return why both sweeps have stopped the unfinished trial."""
        return [self.ledger.stopped(self.going.fingerprint, sweep) for sweep in ("one", "two")]

    def lists(self) -> object:
        """Return the ids of both lists."""
        return [sample_lists.ids(self.workspace, list_digest(samples)) for samples in (self.samples, self.samples[:4])]

    def features(self) -> object:
        """Return the stored maps of all samples."""
        return FeatureStore(self.workspace.features).gather(self.recipe, self.samples).tobytes()

    def pictures(self) -> object:
        """Return what training sees of the shards: pixels and truth of every sample."""
        manifest, reader = Manifest.load(self.data), ShardReader(self.data)
        found = hashlib.sha256()
        for split in manifest.domains[DOMAIN].splits:
            samples = read_samples(self.data, manifest, DOMAIN, split)
            for sample, truth_HW in zip(samples, read_truth(self.data, samples, reader), strict=True):
                row = reader.group(sample.shard, sample.group)[sample.row]
                found.update(decode_image(row["image"]["bytes"]).tobytes() + truth_HW.tobytes())
        return found.hexdigest()

    def names(self) -> object:
        """Return the references to all samples, and their areas."""
        manifest = Manifest.load(self.data)
        splits = manifest.domains[DOMAIN].splits
        return [(read_samples(self.data, manifest, DOMAIN, s), read_areas(self.data, splits[s])) for s in splits]

    def sources(self) -> object:
        """Return where the weights of both digests are loaded from."""
        index = WeightsIndex(self.workspace)
        return [index.source(backbone, digest) for backbone, digest in self.words]


class Written(NamedTuple):
    """A workspace, its files by kind, what each reader says before anything is changed, and all bytes."""

    made: Small
    kinds: dict[str, Kind]
    expected: dict[str, object]
    files: dict[Path, bytes]

    def restore(self) -> None:
        """Put back what was changed, and what a reader that found it damaged has removed or made."""
        for path in (path for path in self.made.root.rglob("*") if path.is_file() and path not in self.files):
            path.unlink()
        for path, data in self.files.items():
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


@cache
def small() -> Written:
    """Return a workspace with files of every kind."""
    made = Small(Path(tempfile.mkdtemp(prefix="dfloc-fuzz-stored-")))
    with quiet(made.root):
        kinds = made.kinds()
        expected = {name: kind.read() for name, kind in kinds.items()}
    shutil.rmtree(made.root / "tree")
    return Written(made, kinds, expected, {path: path.read_bytes() for path in made.root.rglob("*") if path.is_file()})


def remove() -> None:
    """Delete the workspace, where one was made."""
    if small.cache_info().currsize:
        shutil.rmtree(small().made.root)
        small.cache_clear()


def quiet(root: Path) -> Any:
    """Keep notes of what was verified in the workspace's own folder."""
    return mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(root / "cache")})


def change(data: bytes, others: Sequence[bytes], rng: Random) -> tuple[str, bytes]:
    """Return a change of a stored file and its name: mostly one bit; else what a crash, a full disk, a copy leaves."""
    how = rng.random()
    if how < 0.75:
        return "one bit", mutate.flip(data, rng)
    if how < 0.83:
        return "cut", mutate.cut(data, rng)
    if how < 0.86:
        return "empty", b""
    if how < 0.93 and others:
        return "another's", rng.choice(others)
    return "run", mutate.run(data, rng)


def _make(rng: Random) -> Case:
    written = small()
    name = rng.choice(list(written.kinds))
    kind = written.kinds[name]
    path = rng.choice(list(kind.files))
    others = [written.files[file] for file in kind.files if file != path and file.suffix == path.suffix]
    what, changed = change(written.files[path], others, rng)

    def read(data: bytes) -> str:
        with quiet(written.made.root):
            path.write_bytes(data)
            try:
                found = kind.read()
            finally:
                written.restore()
        if found != written.expected[name]:
            raise WrongError(f"{name}: something else, and no error")
        return "right"

    return Case(f"{name}, {what}", changed, read)


PART = Part("stored files", 1500, _make, shrinks=False)
