from pathlib import Path

import pytest
import torch
from upath import UPath

from dfloc.arithmetic import exact
from dfloc.engine.batches import StoredMaps
from dfloc.features import extract
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.models import clip
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck
from tests import small_clip
from tests.engine.conftest import Data
from tests.engine.loop import LoopMaps

MAPS = ["clip:small-vit/layer3", "clip:small-resnet/layer2", "clip:small-vit/layer0"]


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    small_clip.register(tmp_path_factory.mktemp("models"))


def test_stored_maps_of_clip_are_those_of_the_loop(data: Data, tmp_path: Path) -> None:
    recipes = [recipe_for(name, "random:1") for name in MAPS]
    store = FeatureStore(UPath(tmp_path / "features"))
    jobs = extract.missing(store, data.samples, recipes)
    known = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
    actor = extract._Backbones(
        store, data.folder, known, WeightsIndex(Workspace(tmp_path)), "cpu", (), WorkerCheck.begin()
    )
    for job in jobs:
        assert actor(extract._item(job))["images"] == len(data.samples)
    stored = StoredMaps(store, recipes).read(data.samples)
    backbones = {name: clip.make(name, "random:1", "cpu") for name in ("clip:small-vit", "clip:small-resnet")}
    loop = LoopMaps(backbones, recipes, data.folder)
    with exact(1):
        together = loop.read(data.samples)
        alone = torch.cat([loop.read([sample]) for sample in data.samples])
    assert stored.shape == (len(data.samples), 32 + 64 + 32, 4, 4)
    assert torch.equal(stored, together)
    torch.testing.assert_close(stored, alone, rtol=1e-3, atol=1e-4)
