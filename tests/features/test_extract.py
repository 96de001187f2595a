import os
import pickle
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from upath import UPath

from dfloc.data.manifest import Manifest, SampleRef, read_samples
from dfloc.data.shards import decode_image
from dfloc.errors import DataError, DflocError, WorkspaceError
from dfloc.features import extract as module
from dfloc.features.extract import Job, extract, missing
from dfloc.features.store import TRUTH, FeatureStore, recipe_for, unpack_bits
from dfloc.features.weights import WeightsIndex
from dfloc.models import srm
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck


def passed(store: FeatureStore, folder: UPath, jobs: list[Job], **how: Any) -> int:
    return extract(store, folder, jobs, weights=WeightsIndex(Workspace(store.root.parent)), **how)


STATS, VARIANCE = recipe_for("srm/stats"), recipe_for("srm/variance")
pytestmark = pytest.mark.ray


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(UPath(tmp_path / "features"))


def _samples(shards: UPath, domain: str = "tiny/blur", split: str = "train") -> list[SampleRef]:
    return read_samples(shards, Manifest.load(shards), domain, split)


def _pixels(shards: UPath, sample: SampleRef) -> tuple[np.ndarray, np.ndarray]:
    """Return image and mask of a sample from the tree that the shards were made of."""
    source, generator = sample.domain.split("/")
    name = sample.id.rpartition("/")[2]
    folder = Path(shards.parent / "tree" / source / "fake" / generator)
    return tuple(np.asarray(Image.open(folder / kind / sample.split / name)) for kind in ("images", "masks"))


@pytest.fixture(scope="module")
def filled(tiny_shards, tmp_path_factory) -> FeatureStore:
    """What one run over Ray makes of a generated and a real domain."""
    store = FeatureStore(UPath(tmp_path_factory.mktemp("filled")))
    samples = _samples(tiny_shards) + _samples(tiny_shards, "tiny/real", "test")
    assert passed(store, tiny_shards, missing(store, samples, [STATS, VARIANCE])) == len(samples) == 14
    return store


def _actor(store: FeatureStore, shards: UPath, jobs: list[Job]) -> module._Backbones:
    recipes = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
    weights = WeightsIndex(Workspace(store.root.parent))
    return module._Backbones(store, shards, recipes, weights, "cpu", (), WorkerCheck.begin())


def _fill(store: FeatureStore, shards: UPath, jobs: list[Job]) -> int:
    """Do the jobs in this process."""
    actor = _actor(store, shards, jobs)
    return sum(actor(module._item(job))["images"] for job in jobs)


def test_stored_maps_are_those_of_the_backbone_in_the_loop(tiny_shards, filled) -> None:
    samples = _samples(tiny_shards)
    backbone = srm.make("srm", "none", "cpu")
    inputs = torch.stack([backbone.preprocess(_pixels(tiny_shards, sample)[0]) for sample in samples])
    maps = backbone(inputs, ["stats", "variance"])
    for recipe, name in ((STATS, "stats"), (VARIANCE, "variance")):
        assert np.array_equal(filled.gather(recipe, samples), maps[name].numpy().astype(np.float16))


def test_two_ways_in_and_two_dtypes_of_one_backbone_in_one_job(tiny_shards, store, monkeypatch) -> None:
    via = recipe_for("srm/stats", via=24)
    exact = STATS.model_copy(update={"stored": "float32"})
    samples = _samples(tiny_shards)
    made = []
    monkeypatch.setattr(srm, "make", lambda *args, real=srm.make: made.append(args) or real(*args))
    _fill(store, tiny_shards, missing(store, samples, [STATS, via, exact]))
    assert len(made) == 1, "its weights are loaded once"
    backbone = srm.make("srm", "none", "cpu")
    for index, sample in enumerate(samples):
        image = _pixels(tiny_shards, sample)[0]
        small = np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR))
        for recipe, seen in ((STATS, image), (exact, image), (via, small)):
            expected = backbone(backbone.preprocess(seen)[None], ["stats"])["stats"].numpy()
            got = store.gather(recipe, samples)[index]
            assert got.dtype == recipe.stored
            assert np.array_equal(got, expected[0].astype(recipe.stored))
    assert not np.array_equal(store.gather(STATS, samples), store.gather(via, samples))


@pytest.mark.parametrize(("batch", "expected"), [(None, [4]), (1, [1, 1, 1, 1]), (3, [3, 1])])
def test_a_backbone_says_how_many_images_it_takes_at_once(tiny_shards, store, monkeypatch, batch, expected) -> None:
    handed = []

    class Counting(srm.Srm):
        def __call__(self, images_BCHW, wanted):
            handed.append(len(images_BCHW))
            return super().__call__(images_BCHW, wanted)

    backbone = Counting("cpu")
    if batch:
        backbone.batch = batch
    monkeypatch.setattr(srm, "make", lambda *_: backbone)
    [job, *_] = missing(store, _samples(tiny_shards), [STATS])
    _fill(store, tiny_shards, [job])
    assert handed == expected


def test_stored_targets_are_the_black_pixels_at_256(tiny_shards, filled) -> None:
    samples = _samples(tiny_shards)[::-1]
    for sample, mask_HW in zip(samples, unpack_bits(filled.gather(TRUTH, samples)), strict=True):
        black = Image.fromarray(255 - _pixels(tiny_shards, sample)[1])
        assert np.array_equal(mask_HW, np.asarray(black.resize((256, 256), Image.Resampling.BILINEAR)) > 127.5)
        assert 0 < mask_HW.sum() < mask_HW.size


def test_real_images_have_empty_targets(tiny_shards, filled) -> None:
    assert filled.gather(TRUTH, _samples(tiny_shards, "tiny/real", "test")).sum() == 0


def test_jobs_are_whole_row_groups_that_hold_a_wanted_row(tiny_shards, store) -> None:
    samples = _samples(tiny_shards)
    jobs = missing(store, [samples[0], samples[5], samples[6]], [STATS])
    assert [(job.group, job.wanted, job.rows) for job in jobs] == [(0, {0}, 1), (1, {1, 2}, 2)]
    assert all(job.recipes == (TRUTH, STATS) for job in jobs)
    assert _fill(store, tiny_shards, jobs) == 8
    assert store.gather(STATS, samples[:8]).shape == (8, 66, 32, 32)
    assert [job.group for job in missing(store, samples, [STATS])] == [2]
    assert missing(store, samples[:8], [STATS, STATS]) == []


def test_only_the_lacking_map_is_made(tiny_shards, store) -> None:
    samples = _samples(tiny_shards, split="test")
    _fill(store, tiny_shards, missing(store, samples, [STATS]))
    before = _written(store)
    [job] = missing(store, samples, [STATS, VARIANCE])
    assert job.recipes == (VARIANCE,)
    _fill(store, tiny_shards, [job])
    assert before.items() <= _written(store).items()
    assert missing(store, samples, [STATS, VARIANCE]) == []


def test_jobs_of_one_row_group_merge() -> None:
    left = Job("s", "d", 0, (TRUTH, STATS), frozenset({0, 1}))
    right = Job("s", "d", 0, (TRUTH, VARIANCE), frozenset({1, 2}))
    assert left.merged(right) == Job("s", "d", 0, (TRUTH, STATS, VARIANCE), frozenset({0, 1, 2}))


@pytest.mark.slow
def test_after_an_interruption_only_the_rest_is_done(tiny_shards, store) -> None:
    samples = _samples(tiny_shards) + _samples(tiny_shards, "tiny/noise")
    jobs = missing(store, samples, [STATS])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        passed(store, tiny_shards, jobs, on_progress=stop)
    left = missing(store, samples, [STATS])
    [spoilt, *_] = [job for job in jobs if (job.shard, job.group) not in {(one.shard, one.group) for one in left}]
    path = store.root / STATS.fingerprint / "0" / spoilt.shard_digest / f"{spoilt.group}.npy"
    path.write_bytes(path.read_bytes()[:100])
    whole = {job.shard_digest + str(job.group) for job in jobs} - {job.shard_digest + str(job.group) for job in left}
    files = {name: time for name, time in _written(store).items() if name != path.path}
    before = {name: time for name, time in files.items() if Path(name).parent.name + Path(name).stem in whole}
    seen = []
    left = missing(store, samples, [STATS])
    passed(store, tiny_shards, left, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (sum(job.rows for job in left),) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {name for name, time in before.items() if _written(store)[name] != time} <= {str(path.with_suffix(".json"))}
    assert missing(store, samples, [STATS]) == []
    assert all(store.whole([(STATS, 0, job.shard_digest, job.group) for job in jobs]))


def _written(store: FeatureStore) -> dict[str, int]:
    return {path.path: path.stat().st_mtime_ns for path in store.root.rglob("*.*") if path.is_file()}


def test_nothing_to_do_needs_no_ray(tiny_shards, store, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert passed(store, tiny_shards, []) == 0


def test_weights_that_the_workspace_does_not_know_are_one_error(tiny_shards, store) -> None:
    jobs = missing(store, _samples(tiny_shards, split="test"), [recipe_for("srm/stats", "hub:nothing")])
    with pytest.raises(WorkspaceError, match="hub:nothing of srm are not known") as raised:
        passed(store, tiny_shards, jobs)
    assert "\n" not in str(raised.value)


def test_a_shard_that_was_spoilt_since_is_named(tiny_shards, store, tmp_path) -> None:
    samples = _samples(tiny_shards, split="test")
    table = pq.read_table((tiny_shards / samples[0].shard).path)
    images = table["image"].to_pylist()
    images[1] = {"bytes": images[1]["bytes"][:200], "path": images[1]["path"]}
    spoilt = table.set_column(table.column_names.index("image"), "image", [pa.array(images, table["image"].type)])
    path = tmp_path / "spoilt" / samples[0].shard
    path.parent.mkdir(parents=True)
    pq.write_table(spoilt, path)
    with pytest.raises(DataError, match=samples[1].id):
        passed(store, UPath(tmp_path / "spoilt"), missing(store, samples, [STATS]))
    with pytest.raises(DataError, match="cannot read row group"):
        passed(store, UPath(tmp_path / "nowhere"), missing(store, samples, [STATS]))


class Dying(module._Backbones):
    def __call__(self, item: dict) -> dict:
        os._exit(1)


@pytest.mark.slow
def test_a_backbone_that_kills_its_process_ends_in_an_error(tiny_shards, store, monkeypatch) -> None:
    monkeypatch.setattr(module, "_Backbones", Dying)
    monkeypatch.setattr(module, "RETRIES", 1)
    with pytest.raises(DflocError, match="ActorDied"):
        passed(store, tiny_shards, missing(store, _samples(tiny_shards, split="test"), [STATS]))


def test_readers_apart_from_backbones_give_the_same(tiny_shards, store, tmp_path) -> None:
    """Where backbones have GPUs, tasks read: what they decoded passes between processes."""
    samples = _samples(tiny_shards, split="test")
    [job] = missing(store, samples, [STATS])
    actor = _actor(store, UPath(tmp_path / "nowhere"), [job])
    assert actor(module._read(module._item(job), tiny_shards, WorkerCheck.begin()))["images"] == 4
    together = FeatureStore(store.root / "together")
    _fill(together, tiny_shards, [job])
    for recipe in job.recipes:
        assert np.array_equal(store.gather(recipe, samples), together.gather(recipe, samples))
    receipt = actor(module._read(module._item(job), UPath(tmp_path / "nowhere"), WorkerCheck.begin()))
    assert isinstance(pickle.loads(receipt["error"]), DataError)


def test_readers_and_backbones_of_another_dfloc_do_nothing(tiny_shards, store) -> None:
    jobs = missing(store, _samples(tiny_shards, split="test"), [STATS])
    other = WorkerCheck.begin()._replace(runs={"dfloc": "0.0.1"})
    decoded = pickle.loads(module._read(module._item(jobs[0]), tiny_shards, other)["decoded"])
    assert isinstance(decoded, WorkspaceError)
    weights = WeightsIndex(Workspace(store.root.parent))
    with pytest.raises(
        WorkspaceError, match=r"runs dfloc \S+ \(source \w+\) from \S+ \(the driver: dfloc 0\.0\.1 from"
    ):
        extract(store, tiny_shards, jobs, weights=weights, proof=other)
    assert not store.root.exists()


def test_a_pass_in_parts_is_the_whole(tiny_shards, store, monkeypatch) -> None:
    samples = _samples(tiny_shards)
    jobs = missing(store, samples, [STATS])
    whole = FeatureStore(store.root / "whole")
    _fill(whole, tiny_shards, jobs)
    monkeypatch.setattr(module, "BATCH", 3)
    _fill(store, tiny_shards, jobs)
    assert np.array_equal(store.gather(STATS, samples), whole.gather(STATS, samples))


def test_an_image_is_let_go_before_the_next_is_decoded(tiny_shards, store, monkeypatch) -> None:
    held, most = set(), []

    def decode(data: bytes) -> np.ndarray:
        image_HWC = decode_image(data)
        held.add(id(image_HWC))
        weakref.finalize(image_HWC, held.discard, id(image_HWC))
        most.append(len(held))
        return image_HWC

    monkeypatch.setattr(module, "decode_image", decode)
    assert _fill(store, tiny_shards, missing(store, _samples(tiny_shards, split="test"), [STATS, VARIANCE])) == 4
    assert len(most) == 4
    assert max(most) <= 2


class Failing(srm.Srm):
    """Raises what a backbone of one's own may raise, in one of its two methods."""

    def __init__(self, method: str, error: Exception):
        super().__init__("cpu")
        self.method, self.error = method, error

    def preprocess(self, image_HWC: np.ndarray) -> torch.Tensor:
        if self.method == "preprocess":
            raise self.error
        return super().preprocess(image_HWC)

    def __call__(self, images_BCHW: torch.Tensor, wanted: Sequence[str]) -> dict[str, torch.Tensor]:
        if self.method == "__call__":
            raise self.error
        return super().__call__(images_BCHW, wanted)


@pytest.mark.parametrize("method", ["make", "preprocess", "__call__"])
@pytest.mark.parametrize("error", [OSError("the lab's server is down"), KeyError("the lab's server is down")])
def test_what_a_backbone_raises_is_said_with_its_name_and_class(tiny_shards, store, monkeypatch, method, error) -> None:
    def make(name: str, weights: str, device: str) -> srm.Srm:
        if method == "make":
            raise error
        return Failing(method, error)

    monkeypatch.setattr(srm, "make", make)
    [job] = missing(store, _samples(tiny_shards, split="test"), [STATS])
    told = pickle.loads(_actor(store, tiny_shards, [job])(module._item(job))["error"])
    assert isinstance(told, DflocError)
    assert "backbone srm: " in str(told)
    assert f"{type(error).__name__}: " in str(told)
    assert "the lab's server is down" in str(told)
    assert "\n" not in str(told)


class Broken(srm.Srm):
    def __call__(self, images_BCHW: torch.Tensor, wanted: Sequence[str]) -> dict[str, torch.Tensor]:
        maps = super().__call__(images_BCHW, wanted)
        maps["stats"][2, 0, 5, 5] = float("nan")
        return maps


def test_a_value_that_is_not_finite_is_an_error_and_leaves_no_receipt(tiny_shards, store, monkeypatch) -> None:
    samples = _samples(tiny_shards, split="test")
    monkeypatch.setattr(srm, "make", lambda name, weights, device: Broken(device))
    [job] = missing(store, samples, [STATS])
    actor = _actor(store, tiny_shards, [job])
    error = pickle.loads(actor(module._item(job))["error"])
    assert isinstance(error, DataError)
    assert samples[2].id in str(error)
    assert [job.recipes for job in missing(store, samples, [STATS])] == [(STATS,)]


def test_a_node_is_asked_before_it_passes_anything(tiny_shards, tmp_path) -> None:
    store, asked = FeatureStore(UPath(tmp_path / "features")), []
    jobs = missing(store, _samples(tiny_shards), [STATS])
    actor = _actor(store, tiny_shards, jobs)
    actor._proof = SimpleNamespace(check=lambda: asked.append(len(missing(store, _samples(tiny_shards), [STATS]))))
    assert actor(module._item(jobs[0]))["error"] == b""
    assert asked == [len(jobs)]

    def refuse() -> None:
        raise WorkspaceError("node one does not see the workspace")

    actor._proof = SimpleNamespace(check=refuse)
    receipt = actor(module._item(jobs[1]))
    assert (receipt["images"], str(pickle.loads(receipt["error"]))) == (0, "node one does not see the workspace")
    assert len(missing(store, _samples(tiny_shards), [STATS])) == len(jobs) - 1
