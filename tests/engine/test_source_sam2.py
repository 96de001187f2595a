from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from upath import UPath

from dfloc.arithmetic import exact
from dfloc.engine.batches import StoredMaps
from dfloc.features import extract
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.models import sam2
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck
from tests.engine.conftest import Data
from tests.engine.loop import LoopMaps
from tests.small_sam2 import NAME, drawn, registered


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("sam2")):
        yield


MAPS = ("image_embed", "high_res_feats.0")


def test_stored_maps_of_sam2_are_those_of_the_loop_by_both_ways_in(data: Data, tmp_path: Path) -> None:
    checkpoint = tmp_path / "small.pt"
    torch.save({"model": drawn(sam2.build(NAME).state_dict())}, checkpoint)
    workspace = Workspace(tmp_path / "workspace")
    index = WeightsIndex(workspace)
    digest = index.digest(NAME, str(checkpoint))
    ways = {via: [recipe_for(f"{NAME}/{each}", digest, via) for each in MAPS] for via in (None, 40)}
    store = FeatureStore(UPath(tmp_path / "features"))
    jobs = extract.missing(store, data.samples, [recipe for recipes in ways.values() for recipe in recipes])
    known = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
    actor = extract._Backbones(store, data.folder, known, index, "cpu", (), WorkerCheck.begin())
    for job in jobs:
        assert actor(extract._item(job))["images"] == len(data.samples)
    backbone, read = sam2.make(NAME, str(checkpoint), "cpu"), {}
    for via, recipes in ways.items():
        read[via] = StoredMaps(store, recipes).read(data.samples)
        loop = LoopMaps({NAME: backbone}, recipes, data.folder)
        with exact(1):
            together = loop.read(data.samples)
            alone = torch.cat([loop.read([sample]) for sample in data.samples])
        assert torch.equal(read[via], together)
        assert torch.equal(read[via], alone), "an image says the same in any batch"
    assert not torch.equal(read[None], read[40])
