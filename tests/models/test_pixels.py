from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from upath import UPath

from dfloc import registry
from dfloc.data.manifest import Manifest, SampleRef, read_samples
from dfloc.data.shards import decode_image
from dfloc.engine.batches import StoredMaps, look
from dfloc.errors import ConfigError
from dfloc.features import extract as module
from dfloc.features.extract import missing
from dfloc.features.store import TRUTH, FeatureStore, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.models import pixels
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck

RECIPE = recipe_for("pixels")


def fill(store: FeatureStore, shards: UPath, samples: Sequence[SampleRef], recipes: Sequence[object]) -> None:
    jobs = missing(store, samples, recipes)
    told = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
    actor = module._Backbones(
        store, shards, told, WeightsIndex(Workspace(store.root.parent)), "cpu", (), WorkerCheck.begin()
    )
    for job in jobs:
        assert actor(module._item(job))["error"] == b""


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (300, 100)])
def test_is_the_image_resized_by_pil(size):
    image_HWC = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    [map_CHW] = pixels.make("pixels", "none", "cpu")(pixels.Pixels("cpu").preprocess(image_HWC)[None], [""])[""]
    expected = np.asarray(Image.fromarray(image_HWC).resize((256, 256), Image.Resampling.BILINEAR))
    assert map_CHW.dtype == torch.uint8
    assert np.array_equal(map_CHW.numpy().transpose(1, 2, 0), expected)


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (299, 299), (640, 480)])
def test_of_299_it_is_the_image_resized_by_pil_to_the_last_grey_level(size):
    image_HWC = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    made = pixels.make("pixels299", "none", "cpu")
    [map_CHW] = made(made.preprocess(image_HWC)[None], [""])[""]
    expected = np.asarray(Image.fromarray(image_HWC).resize((299, 299), Image.Resampling.LANCZOS))
    assert np.array_equal(map_CHW.numpy().transpose(1, 2, 0), expected)
    recipe = recipe_for("pixels299")
    assert (recipe.resize, recipe.stored, recipe.weights, recipe.input_size) == ("pil-lanczos", "uint8", "none", 299)
    assert registry.map_spec("pixels299") == (3, 299, 299, "grid")


def test_a_recipe_says_that_bytes_are_stored():
    assert (RECIPE.map, RECIPE.stored, RECIPE.weights, RECIPE.input_size) == ("pixels", "uint8", "none", 256)
    assert registry.map_spec(RECIPE.map) == (3, 256, 256, "grid")


@pytest.mark.ray
def test_is_stored_as_bytes_and_read_back_equal_after_one_decoding(tiny_shards, tmp_path, monkeypatch):
    samples = read_samples(tiny_shards, Manifest.load(tiny_shards), "tiny/blur", "train")
    decoded = []

    def decode(data: bytes) -> np.ndarray:
        image_HWC = decode_image(data)
        decoded.append(image_HWC)
        return image_HWC

    monkeypatch.setattr(module, "decode_image", decode)
    store = FeatureStore(UPath(tmp_path / "features"))
    fill(store, tiny_shards, samples, [RECIPE, recipe_for("srm/stats")])
    assert len(decoded) == len(samples)
    passed = sorted(samples, key=lambda sample: (sample.shard, sample.group, sample.row))
    x_BCHW = StoredMaps(store, [RECIPE]).read(passed)
    assert missing(store, samples, [RECIPE]) == []
    assert (x_BCHW.dtype, x_BCHW.shape) == (torch.float32, (len(samples), 3, 256, 256))
    expected = torch.stack([pixels.Pixels("cpu").preprocess(image_HWC) for image_HWC in decoded]).float()
    assert torch.equal(x_BCHW, look(decoded, {"pixels": pixels.Pixels("cpu")}, [RECIPE]))
    assert torch.equal(x_BCHW, expected)
    raw = store.gather(RECIPE, samples)
    assert raw.dtype == np.uint8
    assert len(store.gather(TRUTH, samples)) == len(samples)


def test_has_no_weights():
    with pytest.raises(ConfigError, match='backbone "pixels" has no weights; use weights: none instead of "openai"'):
        pixels.make("pixels", "openai", "cpu")
