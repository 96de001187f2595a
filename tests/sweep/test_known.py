"""A stage that starts from a finished trial of the workspace, trained elsewhere or by another sweep."""

import hashlib
from collections.abc import Callable

import pytest
import torch

from dfloc import storage
from dfloc.config import Imported, Lineage, SampleList, TrialSpec
from dfloc.engine import checkpoint
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.models import decoders
from dfloc.registry import map_spec
from dfloc.sweep.work import Work, run
from tests.sweep.conftest import Planner
from tests.sweep.test_work import features  # noqa: F401 (a fixture)

pytestmark = pytest.mark.ray
Change = Callable[[str], str]


@pytest.fixture
def elsewhere(planner: Planner) -> TrialSpec:
    """A finished trial of another depth than the study's, trained on a domain that the study does not have."""
    like = planner.resolve("trial.decoder.depth=8").record.trials[0].spec
    decoder = decoders.build(like.decoder, [map_spec("srm/stats")], torch.Generator().manual_seed(9))
    weights = checkpoint.to_bytes(checkpoint.weights_of(decoder), like)
    unknown = SampleList(digest="unknown", counts={})
    seen = ("tiny/other",)
    spec = like.model_copy(
        update={
            "train": unknown,
            "valid": unknown,
            "init": Imported(imported=hashlib.sha256(weights).hexdigest()),
            "lineage": Lineage(seen=seen, base=seen),
        }
    )
    planner.ledger.put_imported(spec, weights, {})
    return spec


def start(spec: TrialSpec) -> str:
    return f"stages.finetune.from={{trial: {spec.fingerprint[:10]}}}"


def test_its_cells_have_its_weights_maps_decoder_and_lineage(planner: Planner, elsewhere: TrialSpec) -> None:
    record = planner.resolve(start(elsewhere), "stages.finetune.grid.held_out=[blur,noise]").record
    children = [trial for trial in record.trials if trial.stage == "finetune"]
    cells = sorted((trial.axes["held_out"], trial.axes["n"]) for trial in children)
    assert cells == [(domain, n) for domain in ("tiny/blur", "tiny/noise") for n in (2, 4)]
    for child in children:
        assert child.parent == elsewhere.fingerprint
        assert child.spec.start is not None
        assert (child.spec.start.parent, child.spec.start.checkpoint) == (elsewhere.fingerprint, "best")
        assert child.spec.decoder.depth == 8, "the study's own decoder has 4"
        assert child.spec.lineage.base == ("tiny/other",)
        assert child.spec.lineage.exposure == child.axes["n"]
    assert {trial.spec.decoder.depth for trial in record.trials if trial.stage == "base"} == {4}
    said = f"stage finetune: maps and decoder of trial {elsewhere.fingerprint[:10]} (srm/stats)"
    assert said in record.notes


def test_the_rest_of_a_continue_chain_starts_from_the_cell_before(planner: Planner, elsewhere: TrialSpec) -> None:
    settings = (start(elsewhere), "stages.finetune.train.mode=cumulative", "stages.finetune.train.domains=tiny/blur")
    record = planner.resolve(*settings).record
    first, second = sorted((t for t in record.trials if t.stage == "finetune"), key=lambda trial: trial.axes["n"])
    assert (first.parent, second.parent) == (elsewhere.fingerprint, first.fingerprint)


def test_it_is_trained_from_those_weights(planner: Planner, elsewhere: TrialSpec, features: object) -> None:  # noqa: F811
    settings = (start(elsewhere), "stages.finetune.train.domains=tiny/blur", "trial.optimizer.lr=1e-12")
    resolved = planner.resolve(*settings)
    [child, *_] = [trial for trial in resolved.record.trials if trial.stage == "finetune"]
    for digest, refs in resolved.lists.items():
        storage.put_json(planner.workspace.lists / f"{digest}.json", [ref.id for ref in refs])
    (planner.workspace.root / "features").symlink_to(str(features))
    [*_, end] = run(Work(child.spec, True, (), planner.workspace, planner.shards))
    assert end["finished"]
    ours, theirs = (
        checkpoint.read(planner.ledger.weights(one, "last")) for one in (child.fingerprint, elsewhere.fingerprint)
    )
    moved = {name for name in ours if not torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-9)}
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved), "a step of 1e-12 moves statistics alone"


def test_no_such_trial_and_one_that_is_not_finished(planner: Planner, elsewhere: TrialSpec) -> None:
    with pytest.raises(ConfigError, match=r"stage finetune has no axis held_out; add stages.finetune.grid.held_out="):
        planner.resolve(start(elsewhere))
    domain = "stages.finetune.train.domains=tiny/blur"
    with pytest.raises(WorkspaceError, match="no trial 0123456"):
        planner.resolve("stages.finetune.from={trial: '0123456'}", domain)
    unfinished = planner.resolve().record.trials[0].spec
    planner.ledger.begin(unfinished)
    with pytest.raises(ConfigError, match=r"stage finetune starts from trial .* which has no weights"):
        planner.resolve(start(unfinished), domain)
    with pytest.raises(ConfigError, match="`from` names a stage or a trial"):
        planner.resolve("stages.finetune.from={stage: null, checkpoint: last}", domain)
