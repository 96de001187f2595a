"""One item of work, from ledger to ledger, in this process."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from dfloc import plugin, storage
from dfloc.config import TrialSpec
from dfloc.data import sample_lists
from dfloc.data.manifest import Manifest, SampleRef, read_samples
from dfloc.errors import DataError, WorkspaceError
from dfloc.features.extract import extract
from dfloc.features.store import TRUTH, FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.planned import PlannedTrial
from dfloc.sweep.work import Work, run
from tests.sweep.conftest import Planner

pytestmark = pytest.mark.ray


class Bench:
    """The tiny study with its features and lists, so that each of its trials can be worked on."""

    def __init__(self, planner: Planner, features: UPath, *settings: str):
        self.planner = planner
        self.ledger = planner.ledger
        shutil.copytree(features.path, planner.workspace.features.path, copy_function=os.link)
        resolved = planner.resolve(*settings)
        self.trials = {(trial.stage, *trial.axes.values()): trial for trial in resolved.record.trials}
        for digest, refs in resolved.lists.items():
            storage.put_json(planner.workspace.lists / f"{digest}.json", [ref.id for ref in refs])

    def trial(self, stage: str) -> PlannedTrial:
        return next(trial for trial in self.trials.values() if trial.stage == stage)

    def work(self, trial: PlannedTrial, train: bool = True, spec: TrialSpec | None = None) -> Work:
        return Work(spec or trial.spec, train, trial.evaluations, self.planner.workspace, self.planner.shards)

    def run(self, trial: PlannedTrial, **how: Any) -> list[dict[str, Any]]:
        return list(run(self.work(trial, **how)))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, tiny_shards: UPath) -> UPath:
    """What the tiny study reads of its backbone."""
    planner = Planner(tmp_path_factory.mktemp("features"), tiny_shards)
    extract(
        FeatureStore(planner.workspace.features),
        planner.shards,
        planner.plan().jobs,
        weights=WeightsIndex(planner.workspace),
    )
    assert planner.plan().jobs == ()
    return planner.workspace.features


@pytest.fixture
def bench(planner: Planner, features: UPath) -> Bench:
    return Bench(planner, features)


def test_trains_scores_and_says_so(bench: Bench) -> None:
    base = bench.trial("base")
    told = bench.run(base)
    assert [entry["epoch"] for entry in told] == [1, 2, 2]
    assert told[-1]["finished"] is True
    done = bench.ledger.done(base.fingerprint)
    assert done is not None
    assert done.epochs == 2
    for evaluation in base.evaluations:
        rows = bench.ledger.rows(base.fingerprint, evaluation.key)
        assert set(rows["checkpoint"].to_pylist()) == {evaluation.checkpoint}
        assert set(rows["domain"].to_pylist()) == {evaluation.domain}
        assert len(rows) == evaluation.test.size


def test_evaluations_alone_leave_the_weights_alone(bench: Bench) -> None:
    base = bench.trial("base")
    bench.run(base)
    before = bench.ledger.done(base.fingerprint)
    lost = bench.ledger.folder(base.fingerprint) / "rows" / f"{base.evaluations[0].key}.parquet"
    rows = lost.read_bytes()
    lost.unlink()
    told = bench.run(base, train=False)
    assert [set(entry) for entry in told] == [{"epoch", "epochs", "finished"}]
    assert bench.ledger.done(base.fingerprint) == before
    assert lost.read_bytes() == rows


def test_a_try_after_a_finished_one_repeats_nothing(bench: Bench) -> None:
    base = bench.trial("base")
    bench.run(base)
    folder = bench.ledger.folder(base.fingerprint)
    lost = folder / "rows" / f"{base.evaluations[0].key}.parquet"
    rows, kept = lost.read_bytes(), {path: path.stat().st_ino for path in folder.rglob("*") if path != lost}
    lost.unlink()
    told = bench.run(base)
    assert [set(entry) for entry in told] == [{"epoch", "epochs", "finished"}]
    assert {path: path.stat().st_ino for path in folder.rglob("*") if path != lost} == kept
    assert lost.read_bytes() == rows


def test_goes_on_from_the_last_epoch_and_says_from_which(bench: Bench) -> None:
    base, other = (trial for trial in bench.trials.values() if trial.stage == "base")
    bench.run(other)
    broken: Iterator[dict[str, Any]] = run(bench.work(base))
    assert next(broken)["epoch"] == 1
    del broken
    told = bench.run(base)
    assert told[0] == {"epoch": 1, "epochs": 2, "goes_on": True}
    assert [entry["epoch"] for entry in told] == [1, 2, 2]


def test_an_interrupted_trial_ends_with_the_weights_of_a_whole_one(bench: Bench) -> None:
    base = bench.trial("base")
    bench.run(base)
    whole = bench.ledger.done(base.fingerprint)
    for path in bench.ledger.folder(base.fingerprint).rglob("*"):
        if path.is_file():
            path.unlink()
    next(run(bench.work(base)))
    bench.run(base)
    again = bench.ledger.done(base.fingerprint)
    assert whole is not None
    assert again is not None
    assert again.digests == whole.digests


def test_a_child_starts_from_its_parents_weights(bench: Bench) -> None:
    child = bench.trial("finetune")
    with_parent = next(trial for trial in bench.trials.values() if trial.fingerprint == child.parent)
    with pytest.raises(WorkspaceError, match="is not finished"):
        bench.run(child)
    assert bench.ledger.state(child.fingerprint) == "new", "not its own fault, so it may be tried again"
    bench.run(with_parent)
    assert bench.run(child)[-1]["finished"] is True
    assert bench.ledger.state(child.fingerprint) == "done"


def test_a_loss_that_is_no_number_is_a_failure_with_its_step(planner: Planner, features: UPath) -> None:
    bench = Bench(planner, features, "trial.optimizer.lr=1e30")
    base = bench.trial("base")
    told = bench.run(base)
    failure = bench.ledger.failure(base.fingerprint)
    assert failure is not None
    assert (failure.kind, told[-1]["failed"]) == ("nan", failure.message)
    assert failure.step is not None
    assert 1 <= failure.step <= 4
    assert bench.ledger.state(base.fingerprint) == "failed"


def test_a_sample_that_the_shards_lost_is_named_and_may_be_tried_again(bench: Bench) -> None:
    base = bench.trial("base")
    path = bench.planner.workspace.lists / f"{base.spec.train.digest}.json"
    storage.put_json(path, [*storage.get_json(path), "tiny/noise/train/gone.png"])
    with pytest.raises(DataError, match=r"no longer holds tiny/noise/train/gone\.png; import it again"):
        bench.run(base)
    assert bench.ledger.state(base.fingerprint) == "new"


def test_where_the_best_epoch_is_the_last_one_its_rows_serve_twice(
    tmp_path: Path, tiny_shards: UPath, features: UPath
) -> None:
    rows: dict[str, dict[str, list[object]]] = {}
    for select in ("last", "iou"):
        (tmp_path / select).mkdir()
        bench = Bench(Planner(tmp_path / select, tiny_shards), features, f"trial.select={select}", "trial.epochs=1")
        base = bench.trial("base")
        bench.run(base)
        for evaluation in base.evaluations:
            table = bench.ledger.rows(base.fingerprint, evaluation.key)
            assert set(table["checkpoint"].to_pylist()) == {evaluation.checkpoint}
            rows[f"{select} {evaluation.checkpoint} {evaluation.domain}"] = table.select(
                ["id", "iou", "tp"]
            ).to_pydict()
    for domain in ("tiny/blur", "tiny/noise"):
        assert rows[f"last best {domain}"] == rows[f"last last {domain}"] == rows[f"iou best {domain}"]


def test_an_error_of_the_machine_is_raised_and_no_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    base = bench.trial("base")
    monkeypatch.setattr(storage, "put", full)
    with pytest.raises(OSError, match="No space left"):
        bench.run(base)
    monkeypatch.undo()
    assert bench.ledger.failure(base.fingerprint) is None
    with pytest.raises(WorkspaceError, match="not finished"):
        bench.ledger.weights(base.fingerprint, "best")


def test_the_samples_of_a_list_are_those_that_it_is_named_by(bench: Bench) -> None:
    spec = bench.trial("base").spec
    workspace, shards = bench.planner.workspace, bench.planner.shards
    digest, path = spec.train.digest, workspace.lists / f"{spec.train.digest}.json"
    work = bench.work(bench.trial("base"))
    ids, right = storage.get_json(path), work.samples(digest)
    assert [sample.id for sample in right] == sorted(ids)
    for order in (sorted(ids), sorted(ids, reverse=True)):
        storage.put_json(path, order)
        assert work.samples(digest) == right, "a list of before is trained and scored in one order, whatever its own"
    other = next(name for name in (ref.id for ref in read_all(shards, "train")) if name not in ids)
    for odd in (ids[: len(ids) // 2], [*ids[1:], other], [*ids, ids[0]]):
        storage.put_json(path, odd)
        with pytest.raises(DataError, match=rf"list {digest[:12]} in .* are not those that were planned"):
            work.samples(digest)
    sample_lists.keep(workspace, digest, right)
    assert work.samples(digest) == right
    path.unlink()
    with pytest.raises(WorkspaceError, match="is gone; start the sweep again"):
        work.samples(digest)


def read_all(shards: UPath, split: str) -> list[SampleRef]:
    manifest = Manifest.load(shards)
    return [ref for domain in manifest.domains for ref in read_samples(shards, manifest, domain, split)]


def test_half_a_list_trains_nothing(bench: Bench) -> None:
    base = bench.trial("base")
    path = bench.planner.workspace.lists / f"{base.spec.train.digest}.json"
    storage.put_json(path, storage.get_json(path)[:3])
    with pytest.raises(DataError, match="are not those that were planned"):
        bench.run(base)
    assert bench.ledger.state(base.fingerprint) == "new"


def test_an_inverted_target_is_not_trained_on(bench: Bench) -> None:
    store, base = FeatureStore(bench.planner.workspace.features), bench.trial("base")
    sample = bench.work(base).samples(base.spec.train.digest)[0]
    file = store.root / TRUTH.fingerprint / "0" / sample.shard_digest / f"{sample.group}.npy"
    data = file.read_bytes()
    file.unlink()  # a link of the fixture's
    file.write_bytes(data[:128] + bytes(255 - value for value in data[128:]))
    assert store.state(file) == "damaged"
    with pytest.raises(WorkspaceError, match="are damaged"):
        bench.run(base)
    assert store.state(file) == "missing"
    plan = bench.planner.plan()
    assert [job.recipes for job in plan.jobs] == [(TRUTH,)]
    extract(store, bench.planner.shards, plan.jobs, weights=WeightsIndex(bench.planner.workspace))
    assert file.read_bytes() == data


AWAY = """
import torch

class Away(torch.nn.Conv2d):
    def solve(self, source):
        pass

    def forward(self, x_BCHW):
        raise OSError("the table of colours is away")

DECODERS = {"away": lambda spec, maps, generator: Away(maps[0].channels, 1, 1)}
"""


def test_an_own_decoders_oserror_is_raised_with_its_text_for_another_try(planner: Planner, features: UPath) -> None:
    plugin.use([plugin.Plugin("away.py", AWAY)])
    try:
        bench = Bench(planner, features, "trial.decoder={name: away}")
        with pytest.raises(OSError, match=r"^the table of colours is away$"):
            bench.run(bench.trial("base"))
    finally:
        plugin.use(())
    assert bench.ledger.failure(bench.trial("base").fingerprint) is None, "a network drive may be there again"
