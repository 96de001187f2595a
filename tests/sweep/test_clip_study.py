"""The exposure study through CLIP's real adapters, with random weights, on a tree of Dolos' layout."""

from pathlib import Path

import pytest

from dfloc.data.manifest import Manifest, read_samples
from dfloc.features.store import FeatureStore, recipe_for
from tests.command import Study
from tests.sweep.test_prepare import as_dolos

MAPS = ("clip-vit-l14/layer1", "clip-rn50/layer3")
SETTINGS = (f"trial.maps=[{','.join(MAPS)}]", "trial.weights=random:3")


@pytest.mark.slow
@pytest.mark.ray
def test_a_tree_runs_through_both_backbones_and_the_numbers_are_marked(
    tmp_path: Path, tiny_tree: Path, ray_local: None
) -> None:
    study = Study(tmp_path / "workspace", as_dolos(tiny_tree, blur="ldm", noise="lama"))
    done = study.sweep(*SETTINGS, only=("finetune",))
    assert done.code == 0, done
    record = study.record("exposure-smoke-tree")
    assert record.synthetic
    assert record.weights == {"random:3": "random:3"}
    trials = [trial for trial in record.trials if trial.stage == "finetune"]
    assert {recipe.map: recipe.weights for recipe in trials[0].spec.maps} == dict.fromkeys(MAPS, "random:3")
    assert all(study.ledger.state(trial.fingerprint) == "done" for trial in trials)
    assert (
        "Weights: random:3, so these numbers mean nothing"
        in (study.root / "reports/exposure-smoke-tree/report.md").read_text()
    )

    workspace = study.ledger.folder("x").parent.parent
    shards = workspace / "shards/tree"
    [sample, *_] = read_samples(shards, Manifest.load(shards), "celebahq/ldm", "test")
    for name, shape in zip(MAPS, ((257, 1024), (1024, 14, 14)), strict=True):
        stored = FeatureStore(workspace / "features").gather(recipe_for(name, "random:3"), [sample])
        assert stored.shape == (1, *shape)

    again = study.sweep(*SETTINGS, only=("finetune",))
    assert "0 to run" in again.out
    assert "features" not in again.out
