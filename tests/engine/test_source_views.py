"""Training on augmented draws: stored views, changed pixels, and the backbone in the loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from upath import UPath

from dfloc import repro
from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import DecoderSpec, MapRecipe, SampleList
from dfloc.data.augment import NAMED, View, views_of
from dfloc.engine.batches import StoredSource
from dfloc.engine.fit import Member, fit
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.features import extract
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.models import pixels, srm
from dfloc.registry import map_spec
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck
from tests.engine.conftest import Data
from tests.engine.fakes import make_spec, numbers
from tests.engine.loop import LoopSource

STATS, PIXELS = recipe_for("srm/stats"), recipe_for("pixels")
MIXED = (
    AugmentOp(name="blur", sigma=(0.5, 3.0), probability=0.5),
    AugmentOp(name="jpeg", quality=(30, 90), probability=0.4, at="input"),
)
EVERYTHING = list(range(6))


FLIP = AugmentSpec(ops=NAMED["flip"])


@pytest.mark.parametrize("recipe", [STATS, PIXELS], ids=lambda recipe: recipe.map)
def test_a_flip_is_of_image_and_mask_alike(tmp_path: Path, data: Data, recipe: MapRecipe) -> None:
    """What a model sees of a flipped image is that of the image turned over, and its mask too; others are untouched."""
    extracted(tmp_path, data, [recipe], FLIP, 2)
    stored, loop = sources(tmp_path, data, recipe, FLIP)
    clean, both = stored.batch(EVERYTHING, 0), [stored.batch(EVERYTHING, epoch) for epoch in (1, 2)]
    turned = set[tuple[int, int]]()
    for epoch, batch in enumerate(both, 1):
        view = View(FLIP, epoch)
        for place, sample in enumerate(stored.samples):
            mask_HW = clean.target_BHW[place]
            flipped = view.flips(sample.id)
            assert torch.equal(batch.target_BHW[place], mask_HW.flip(-1) if flipped else mask_HW)
            assert torch.equal(batch.x[place], clean.x[place]) == (not flipped)
            if flipped and recipe is PIXELS:
                assert torch.equal(batch.x[place], clean.x[place].flip(-1))
            turned |= {(epoch, place)} if flipped else set()
        torch.testing.assert_close(batch.x, loop.batch(EVERYTHING, epoch).x)
    assert 0 < len(turned) < 12
    whole = StoredSource(stored._store, [recipe], data.samples, "label", augment=FLIP).batch(EVERYTHING, 1)
    assert whole.target_BHW.flatten(1).float().mean(1).tolist() == [1.0] * 6


def extracted(folder: Path, data: Data, recipes: Sequence[MapRecipe], augment: AugmentSpec, epochs: int) -> int:
    """Store the clean view and those of so many epochs in this process; return the number of images passed."""
    store, proof, passed = FeatureStore(UPath(folder / "features")), WorkerCheck.begin(), 0
    for view in (None, *views_of(augment, epochs)):
        jobs = extract.missing(store, data.samples, recipes, view)
        known = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
        actor = extract._Backbones(store, data.folder, known, WeightsIndex(Workspace(folder)), "cpu", (), proof)
        for job in jobs:
            item = extract._item(job)  # of every other view read apart, as before backbones on GPUs
            made = actor(extract._read(item, data.folder, proof) if view and view.number % 2 else item)
            assert made["error"] == b""
            passed += made["images"]
    return passed


def sources(folder: Path, data: Data, recipe: MapRecipe, augment: AugmentSpec) -> tuple[StoredSource, LoopSource]:
    backbones = {"srm": srm.make("srm", "none", "cpu"), "pixels": pixels.make("pixels", "none", "cpu")}
    store = FeatureStore(UPath(folder / "features"))
    stored = StoredSource(store, [recipe], data.samples, augment=augment)
    return stored, LoopSource(backbones, data.folder, store, [recipe], data.samples, augment)


def touched(augment: AugmentSpec, data: Data, number: int) -> list[bool]:
    return [View(augment, number).touches(sample.id) for sample in data.samples]


@pytest.mark.parametrize("ops", [MIXED, NAMED["declip-all"]], ids=["mixed", "declip-all"])
def test_stored_views_are_those_of_the_backbone_in_the_loop(
    data: Data, tmp_path: Path, ops: tuple[AugmentOp, ...]
) -> None:
    augment = AugmentSpec(ops=ops)
    changed = sum(sum(touched(augment, data, number)) for number in (1, 2))
    assert changed == 12 if ops != MIXED else 0 < changed < 12
    assert extracted(tmp_path, data, [STATS], augment, 2) == 6 + changed
    assert extracted(tmp_path, data, [STATS], augment, 2) == 0
    assert extracted(tmp_path, data, [STATS], augment, 3) == sum(touched(augment, data, 3))
    stored, loop = sources(tmp_path, data, STATS, augment)
    for epoch in (0, 1, 2):
        order = [3, 0, 5, 1, 4, 2]
        assert torch.equal(stored.batch(order, epoch).x, loop.batch(order, epoch).x)
    clean = stored.batch(EVERYTHING, 0).x
    for epoch in (1, 2):
        differs = (stored.batch(EVERYTHING, epoch).x != clean).flatten(1).any(1).tolist()
        assert differs == touched(augment, data, epoch)


def test_training_on_stored_views_equals_training_with_augmentation_in_the_loop(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=MIXED)
    spec = make_spec(train=SampleList(digest="t", counts={"a/one": 6}), epochs=3, augment=augment, select="last")
    extracted(tmp_path, data, [STATS], augment, spec.epochs)
    records, weights = [], []
    for source in sources(tmp_path, data, STATS, augment):
        member = Member.create(spec, [map_spec("srm/stats")])
        records.append([numbers(results[0].record) for results in fit([member], source, source)])
        weights.append(member.weights("last"))
    assert records[0] == records[1]
    assert weights[0] == weights[1]
    plain = Member.create(spec, [map_spec("srm/stats")])
    clean, _ = sources(tmp_path, data, STATS, augment)
    clean.augment = None
    assert [numbers(results[0].record) for results in fit([plain], clean, clean)] != records[0]


def test_after_a_kill_an_epoch_reads_the_view_that_it_would_have_read(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=MIXED)
    spec = make_spec(train=SampleList(digest="t", counts={"a/one": 6}), epochs=3, augment=augment)
    extracted(tmp_path, data, [STATS], augment, spec.epochs)
    stored, _ = sources(tmp_path, data, STATS, augment)
    whole, killed, again = (Member.create(spec, [map_spec("srm/stats")]) for _ in range(3))
    assert len(list(fit([whole], stored, stored))) == 3
    next(fit([killed], stored, stored))
    again.restore(killed.state())
    assert len(list(fit([again], sources(tmp_path, data, STATS, augment)[0], stored))) == 2
    assert again.weights("last") == whole.weights("last")


def test_an_epoch_of_some_steps_reads_one_view(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augment, read = AugmentSpec(ops=MIXED), []
    spec = make_spec(train=SampleList(digest="t", counts={"a/one": 6}), epochs=2, epoch_steps=5, augment=augment)
    extracted(tmp_path, data, [STATS], augment, 2)
    stored, _ = sources(tmp_path, data, STATS, augment)
    batch = stored.batch
    monkeypatch.setattr(stored, "batch", lambda indices, epoch: read.append(epoch) or batch(indices, epoch))
    list(
        fit([Member.create(spec, [map_spec("srm/stats")])], stored, StoredSource(stored._store, [STATS], data.samples))
    )
    assert [epoch for epoch in read if epoch] == [1] * 5 + [2] * 5


def sigma_of(augment: AugmentSpec, number: int, sample_id: str) -> float | None:
    """The draw of a blur as DESIGN words it, by hand: whether first, then how much."""
    view = View(augment, number)
    generator = repro.generator(augment.seed, "view", number, f"{view._digest}/0/{sample_id}")
    if torch.rand(1, generator=generator).item() >= augment.ops[0].probability:
        return None
    low, high = augment.ops[0].sigma
    return low + (high - low) * torch.rand(1, generator=generator).item()


def test_pixels_are_blurred_as_they_are_read(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=NAMED["blur"])
    assert extracted(tmp_path, data, [PIXELS], augment, 15) == 6
    stored, loop = sources(tmp_path, data, PIXELS, augment)
    clean = stored.batch(EVERYTHING, 0).x.numpy()
    sigmas = [sigma_of(augment, 2, sample.id) for sample in data.samples]
    assert 0 < sum(sigma is None for sigma in sigmas) < 6
    x_BCHW = stored.batch(EVERYTHING, 2).x.numpy()
    for sigma, seen, image in zip(sigmas, x_BCHW, clean, strict=True):
        expected = image if sigma is None else np.rint(ndimage.gaussian_filter(image, (0, sigma, sigma), truncate=4))
        assert np.abs(seen - expected).max() <= 1
        assert (seen != expected).mean() < 1e-3
    assert torch.equal(stored.batch(EVERYTHING, 2).x, loop.batch(EVERYTHING, 2).x)


def test_epochs_draw_anew_and_one_view_does_not(data: Data, tmp_path: Path) -> None:
    every, one = AugmentSpec(ops=NAMED["blur"]), AugmentSpec(ops=NAMED["blur"], views=1)
    extracted(tmp_path, data, [PIXELS], every, 1)
    anew, same = (sources(tmp_path, data, PIXELS, augment)[0] for augment in (every, one))
    assert torch.equal(anew.batch(EVERYTHING, 1).x, same.batch(EVERYTHING, 1).x)
    assert torch.equal(same.batch(EVERYTHING, 2).x, same.batch(EVERYTHING, 1).x)
    assert not torch.equal(anew.batch(EVERYTHING, 2).x, anew.batch(EVERYTHING, 1).x)


def test_targets_are_the_same_in_every_view(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=NAMED["declip-all"])
    extracted(tmp_path, data, [PIXELS], augment, 1)
    stored, _ = sources(tmp_path, data, PIXELS, augment)
    targets = [stored.batch(EVERYTHING, epoch).target_BHW for epoch in (0, 1, 2)]
    assert torch.equal(targets[0], targets[1])
    assert torch.equal(targets[0], targets[2])
    assert not torch.equal(stored.batch(EVERYTHING, 1).x, stored.batch(EVERYTHING, 0).x)


def test_before_the_resize_is_another_image_than_after_it(data: Data, tmp_path: Path) -> None:
    op = AugmentOp(name="blur", sigma=(2.0, 2.0))
    seen = []
    for at in ("stored", "input"):
        augment = AugmentSpec(ops=(op.model_copy(update={"at": at}),))
        extracted(tmp_path, data, [STATS], augment, 1)
        seen.append(sources(tmp_path, data, STATS, augment)[0].batch(EVERYTHING, 1).x)
    same = (seen[0] == seen[1]).flatten(1).all(1).tolist()
    assert same == [fake.shape == (256, 256) for fake in data.fake]


def test_a_view_that_is_not_there_is_an_error_and_no_clean_image(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=NAMED["declip-blur"])
    extracted(tmp_path, data, [STATS], augment, 1)
    stored, _ = sources(tmp_path, data, STATS, augment)
    with pytest.raises(WorkspaceError, match="missing; start the sweep again"):
        stored.batch([0], 2)


def test_a_truncated_view_is_made_again_alone(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=NAMED["declip-blur"])
    extracted(tmp_path, data, [STATS], augment, 2)
    before = sources(tmp_path, data, STATS, augment)[0].batch(EVERYTHING, 2).x
    path = tmp_path / "features" / STATS.fingerprint / View(augment, 2).name / "d" / "0.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WorkspaceError, match="are damaged; start the sweep again"):
        sources(tmp_path, data, STATS, augment)[0].batch([0], 2)
    assert extracted(tmp_path, data, [STATS], augment, 2) == 6
    assert torch.equal(sources(tmp_path, data, STATS, augment)[0].batch(EVERYTHING, 2).x, before)


class Floats:
    """A backbone whose input is no image of bytes."""

    maps, digest = {"stats": map_spec("srm/stats")}, "none"

    def preprocess(self, image_HWC: np.ndarray) -> torch.Tensor:
        small = np.asarray(Image.fromarray(image_HWC).resize((8, 8)))
        return torch.from_numpy(small.transpose(2, 0, 1) / 255.0)

    def __call__(self, images_BCHW: torch.Tensor, wanted: Sequence[str]) -> dict[str, Any]:
        raise AssertionError


def test_at_input_needs_an_input_of_bytes(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=NAMED["declip-blur"])
    loop = LoopSource({"srm": Floats()}, data.folder, data.store, [STATS], data.samples, augment)
    with pytest.raises(ConfigError, match=r"takes float64 \[3, 8, 8\]: use at: stored"):
        loop.batch([0], 1)


def test_trials_of_other_seeds_share_the_stored_views(data: Data, tmp_path: Path) -> None:
    augment = AugmentSpec(ops=MIXED)
    extracted(tmp_path, data, [STATS], augment, 1)
    store = FeatureStore(UPath(tmp_path / "features"))
    specs = [make_spec(seed=seed, augment=augment, decoder=DecoderSpec(name="conv").model_dump()) for seed in (0, 1)]
    assert specs[0].fingerprint != specs[1].fingerprint
    seen = [
        StoredSource(store, [STATS], order, seed=spec.seed, augment=spec.augment).batch(EVERYTHING, 1).x
        for spec, order in zip(specs, (data.samples, data.samples[::-1]), strict=True)
    ]
    assert torch.equal(seen[0], seen[1])


def test_members_of_other_views_are_no_pack(data: Data, tmp_path: Path) -> None:
    extracted(tmp_path, data, [STATS], AugmentSpec(ops=MIXED), 0)
    clean, _ = sources(tmp_path, data, STATS, AugmentSpec(ops=MIXED))
    specs = [make_spec(augment=augment) for augment in (None, AugmentSpec(ops=MIXED))]
    with pytest.raises(AssertionError):
        next(fit([Member.create(spec, [map_spec("srm/stats")]) for spec in specs], clean, clean))
