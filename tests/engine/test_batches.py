from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from upath import UPath

from dfloc.config import SampleList
from dfloc.data.manifest import SampleRef
from dfloc.engine.batches import StoredMaps, StoredSource, look, other_ones
from dfloc.engine.fit import Member, fit
from dfloc.errors import ConfigError
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.models import srm
from dfloc.registry import map_spec
from tests.engine.conftest import Data
from tests.engine.fakes import make_spec, numbers
from tests.engine.loop import LoopSource


def test_a_batch_is_what_was_asked_in_that_order(data: Data) -> None:
    source = StoredSource(data.store, [data.recipe], data.samples)
    batch = source.batch([4, 0, 2], epoch=1)
    assert source.num_samples == 6
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, data.x[[4, 0, 2]])
    assert batch.target_BHW.dtype == torch.uint8
    assert np.array_equal(batch.target_BHW.numpy(), np.stack([data.fake[k] for k in (4, 0, 2)]))
    assert batch.rows == [4, 0, 2]


def test_the_same_set_is_the_same_list(data: Data) -> None:
    one, other = (StoredSource(data.store, [data.recipe], order) for order in (data.samples, data.samples[::-1]))
    assert one.samples == other.samples
    assert torch.equal(one.batch([1], 1).x, other.batch([1], 1).x)


def test_shuffled_targets_are_other_images_ones(data: Data) -> None:
    everything = list(range(6))
    own, *shuffled = (
        StoredSource(data.store, [data.recipe], data.samples, targets, seed).batch(everything, 1)
        for targets, seed in (("own", 0), ("shuffled", 0), ("shuffled", 0), ("shuffled", 1))
    )
    assert torch.equal(shuffled[0].target_BHW, shuffled[1].target_BHW)
    assert not torch.equal(shuffled[0].target_BHW, shuffled[2].target_BHW)
    for batch in shuffled:
        assert torch.equal(batch.x, own.x)
        same = (batch.target_BHW == own.target_BHW).flatten(1).all(1)
        assert not same.any()
        assert sorted(batch.target_BHW.sum((1, 2)).tolist()) == sorted(own.target_BHW.sum((1, 2)).tolist())


def test_labels_stand_beside_masks(data: Data) -> None:
    """Images of `labelled` are wholly fake, or real, as their label says; the others keep their masks."""
    weak, everything = {sample.id for sample in data.samples[1:4]}, list(range(6))
    own = StoredSource(data.store, [data.recipe], data.samples)
    both = StoredSource(data.store, [data.recipe], data.samples, labelled=weak)
    first, second = own.batch(everything, 1), both.batch(everything, 1)
    assert torch.equal(first.x, second.x)
    for place, sample in enumerate(both.samples):
        expected = torch.ones_like(first.target_BHW[0]) * (sample.mask_kind != "real")
        assert torch.equal(second.target_BHW[place], expected if sample.id in weak else first.target_BHW[place])
    every = StoredSource(data.store, [data.recipe], data.samples, labelled={one.id for one in data.samples})
    label = StoredSource(data.store, [data.recipe], data.samples, "label")
    assert torch.equal(every.batch(everything, 1).target_BHW, label.batch(everything, 1).target_BHW)


def test_shuffled_labels_move_among_themselves(data: Data) -> None:
    samples = [one._replace(mask_kind="real") if place % 2 else one for place, one in enumerate(data.samples)]
    weak, everything = {sample.id for sample in samples[:4]}, list(range(6))
    own = StoredSource(data.store, [data.recipe], samples, labelled=weak).batch(everything, 1).target_BHW
    found = [
        StoredSource(data.store, [data.recipe], samples, seed=seed, labelled=weak, labels="shuffled")
        for seed in range(8)
    ]
    drawn = [one.batch(everything, 1).target_BHW for one in found]
    for one in drawn:
        assert torch.equal(one[4:], own[4:]), "masks stay"
        assert sorted(one[:4].flatten(1).float().mean(1).tolist()) == [0, 0, 1, 1]
    assert any(not torch.equal(one, own) for one in drawn)
    assert torch.equal(drawn[3], found[3].batch(everything, 7).target_BHW), "the same in every epoch"


def masked(*masks: str) -> list[SampleRef]:
    kinds = ["fake_is_black" if mask else "real" for mask in masks]
    return [
        SampleRef(f"i{k}", "p", "s", "a/b", "train", "", mask, kind, "s", "d", 0, k)  # type: ignore[arg-type]
        for k, (mask, kind) in enumerate(zip(masks, kinds, strict=True))
    ]


@pytest.mark.parametrize("num_samples", [2, 3, 50])
def test_other_ones_has_no_fixed_point(num_samples: int) -> None:
    samples = masked(*(str(k) for k in range(num_samples)))
    drawn = [other_ones(samples, seed) for seed in range(20)]
    for found in drawn:
        assert sorted(found) == list(range(num_samples))
        assert all(other != position for position, other in enumerate(found))
    assert len(set(map(tuple, drawn))) > (10 if num_samples == 50 else 0)


@pytest.mark.parametrize(
    ("masks", "kept"),
    [
        ("abcdefgh" * 4, 0),
        ("aabbbcddde", 0),
        ("aaaabbcc", 0),
        ("aaaaabbc", 2),
        ("aaaaaaab", 6),
        ([""] * 6 + list("abc"), 3),
    ],
    ids=["four paired domains", "uneven", "half the same", "five of eight", "seven of eight", "reals"],
)
def test_no_image_gets_the_mask_it_has_where_that_can_be(masks: Sequence[str], kept: int) -> None:
    samples = masked(*masks)
    for seed in range(20):
        found = other_ones(samples, seed)
        assert sorted(found) == list(range(len(masks)))
        assert sum(masks[other] == masks[position] for position, other in enumerate(found)) == kept
        assert all(other != position for position, other in enumerate(found))


def test_one_mask_cannot_be_shuffled(data: Data) -> None:
    with pytest.raises(ConfigError, match="two different masks or more, not 1"):
        StoredSource(data.store, [data.recipe], data.samples[:1], "shuffled")
    with pytest.raises(ConfigError, match="not 1"):
        other_ones(masked("a", "a", "a"), 0)


def fused(root: UPath, names: list[str]) -> tuple[list[np.ndarray], torch.Tensor]:
    """Store random maps of two samples; return them as stored and as they are read."""
    store, draw, stored = FeatureStore(root), np.random.default_rng(0), []
    samples = [SampleRef(f"i{k}", "p", "s", "a/b", "train", "", "", "real", "s", "d", 0, k) for k in range(2)]
    for name in names:
        spec = map_spec(name)
        tokens = (2, spec.height * spec.width + 1, spec.channels)
        shape = tokens if spec.layout == "tokens" else (2, *spec[:3])
        stored.append(draw.standard_normal(shape).astype(np.float16))
        store.put(recipe_for(name), 0, "d", 0, stored[-1], ["i0", "i1"])
    return stored, StoredMaps(store, [recipe_for(name) for name in names]).read(samples)


def test_tokens_lose_their_cls_and_are_laid_out_by_rows(tmp_path) -> None:
    (tokens,), x = fused(UPath(tmp_path), ["clip-vit-l14/layer20"])
    assert x.shape == (2, 1024, 16, 16)
    for row, column in ((0, 0), (0, 15), (3, 5), (15, 15)):
        assert np.array_equal(x[1, :, row, column].numpy(), tokens[1, 1 + 16 * row + column].astype(np.float32))


def test_maps_are_resized_to_the_first_ones_grid_and_concatenated_in_order(tmp_path) -> None:
    (_, grid), x = fused(UPath(tmp_path), ["clip-vit-l14/layer20", "clip-rn50/layer3"])
    assert x.shape == (2, 2048, 16, 16)
    expected = cv2.resize(grid[1, 7].astype(np.float32), (16, 16), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(x[1, 1024 + 7].numpy(), expected, atol=1e-5)
    (first, _), other = fused(UPath(tmp_path / "other"), ["clip-rn50/layer3", "clip-vit-l14/layer20"])
    assert other.shape == (2, 2048, 14, 14)
    assert np.array_equal(other[:, :1024].numpy(), first.astype(np.float32))


def test_training_on_stored_features_equals_training_with_the_backbone_in_the_loop(data: Data) -> None:
    backbones = {"srm": srm.make("srm", "none", "cpu")}
    stored = StoredSource(data.store, [data.recipe], data.samples)
    loop = LoopSource(backbones, data.folder, data.store, [data.recipe], data.samples)
    spec = make_spec(train=SampleList(digest="t", counts={"a/one": 6}), epochs=2)
    members = [Member.create(spec, [map_spec("srm/stats")]) for _ in range(2)]
    records = [
        [numbers(results[0].record) for results in fit([member], source, source)]
        for member, source in zip(members, (stored, loop), strict=True)
    ]
    assert records[0] == records[1]
    assert members[0].weights("last") == members[1].weights("last")


def test_one_backbone_is_looked_through_on_two_ways_in() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in ((40, 52, 3), (64, 64, 3))]
    recipes = [recipe_for("srm/stats", via=16), recipe_for("srm/variance"), recipe_for("srm/variance", via=16)]
    x_BCHW = look(images, {"srm": srm.make("srm", "none", "cpu")}, recipes)
    small = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in images]
    backbone = srm.make("srm", "none", "cpu")
    for seen, names, channels in (
        (small, ["stats"], slice(0, 66)),
        (images, ["variance"], 66),
        (small, ["variance"], 67),
    ):
        maps = backbone(torch.stack([backbone.preprocess(image) for image in seen]), names)[names[0]]
        assert torch.equal(x_BCHW[:, channels].reshape(maps.shape), maps.half().float())
