"""A segmenter from plan to rows: its encoder's weights enter the key, and training starts from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dfloc import storage
from dfloc.engine import checkpoint
from dfloc.features.store import FeatureStore
from dfloc.models import encoders
from dfloc.planned import PlannedTrial
from dfloc.sweep.work import Work, run
from tests.models.test_pixels import fill
from tests.sweep.conftest import Planner

pytestmark = pytest.mark.ray
DECODER = "{name: smp, architecture: fpn, encoder: mobilenet_v2, weights: WORD}"
FEW = (
    "trial.maps=[pixels]",
    "trial.epochs=1",
    "trial.optimizer.lr=1e-9",
    "stages.base.grid.held_out=[blur]",
    "stages.base.train={count: 2, valid: 1}",
    "stages.finetune.grid.n=[2]",
    "stages.finetune.train.valid=1",
    "stages.baselines.train={count: 2, valid: 1}",
    "evaluate.count=1",
)
NAME = "net.encoder.features.0.0.weight"


def planned(planner: Planner, word: str) -> tuple[PlannedTrial, PlannedTrial, Any]:
    resolved = planner.resolve(f"trial.decoder={DECODER.replace('WORD', word)}", *FEW)
    by_stage = {trial.stage: trial for trial in resolved.record.trials}
    return by_stage["base"], by_stage["finetune"], resolved


def first_filters(planner: Planner, trial: PlannedTrial) -> torch.Tensor:
    """Train a trial at a learning rate that moves nothing, and return its first convolution's weights."""
    told = list(run(Work(trial.spec, True, trial.evaluations, planner.workspace, planner.shards)))
    assert told[-1].get("finished"), told
    return checkpoint.read(planner.ledger.weights(trial.fingerprint, "last"))[NAME]


def test_training_starts_from_the_encoders_weights_and_a_child_from_its_parent(
    planner: Planner, tmp_path: Path
) -> None:
    given = encoders.weights("mobilenet_v2", "random:5")
    file = tmp_path / "encoder.safetensors"
    save_file({name: value for name, value in given.items() if "." in name}, file)
    drawn, _, _ = planned(planner, "random")
    base, child, resolved = planned(planner, str(file))
    assert drawn.spec.decoder.weights is None
    assert len(str(base.spec.decoder.weights)) == 64
    assert drawn.fingerprint != base.fingerprint
    samples = [ref for refs in resolved.lists.values() for ref in refs]
    fill(FeatureStore(planner.workspace.features), planner.shards, samples, base.spec.maps)
    for digest, refs in resolved.lists.items():
        storage.put_json(planner.workspace.lists / f"{digest}.json", [ref.id for ref in refs])
    name = NAME.removeprefix("net.encoder.")
    torch.testing.assert_close(first_filters(planner, base), given[name], rtol=0, atol=1e-6)
    assert not torch.allclose(first_filters(planner, drawn), given[name], atol=1e-3)
    file.unlink()
    torch.testing.assert_close(first_filters(planner, child), given[name], rtol=0, atol=1e-6)
