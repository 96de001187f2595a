"""A stage that starts from a finished trial of the workspace, trained elsewhere or by another sweep."""

import hashlib
from collections.abc import Callable

import pytest
import torch

from dfloc import storage
from dfloc.config import Imported, Lineage, SampleList, TrialSpec
from dfloc.engine import checkpoint
from dfloc.errors import ConfigError
from dfloc.models import decoders
from dfloc.registry import map_spec
from dfloc.sweep.inventory import Inventory
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


def test_a_held_out_domain_that_it_was_trained_on_is_told(planner: Planner, elsewhere: TrialSpec) -> None:
    held_out = "stages.finetune.grid.held_out=[blur,noise]"
    notes = " ".join(planner.resolve(start(elsewhere), held_out).record.notes)
    assert "is held out, but" not in notes
    for base, said in (
        (
            ("tiny/noise",),
            f"noise is held out, but trial {elsewhere.fingerprint[:10]} or an ancestor was trained on it",
        ),
        ((), f"what trial {elsewhere.fingerprint[:10]} was trained on is not known"),
    ):
        spec = elsewhere.model_copy(update={"lineage": Lineage(seen=base, base=base)})
        planner.ledger.put_imported(spec, b"weights", {})
        notes = " ".join(planner.resolve(start(elsewhere), held_out).record.notes)
        assert said in notes
        assert "tiny/blur is held out" not in notes


def test_the_rest_of_a_continue_chain_starts_from_the_cell_before(planner: Planner, elsewhere: TrialSpec) -> None:
    settings = (start(elsewhere), "stages.finetune.train.mode=cumulative", "stages.finetune.train.domains=tiny/blur")
    record = planner.resolve(*settings).record
    first, second = sorted((t for t in record.trials if t.stage == "finetune"), key=lambda trial: trial.axes["n"])
    assert (first.parent, second.parent) == (elsewhere.fingerprint, first.fingerprint)
    assert [trial.spec.decoder.depth for trial in (first, second)] == [8, 8], "the study's own decoder has 4"


def test_maps_and_decoder_go_on_through_every_stage_behind_it(planner: Planner, elsewhere: TrialSpec) -> None:
    start = f"stages.base.from={{trial: {elsewhere.fingerprint[:10]}}}"
    record = planner.resolve(start, "stages.finetune.trial.maps=[srm/variance]").record
    found = {(t.stage, t.spec.decoder.depth, t.spec.maps[0].map) for t in record.trials if t.stage != "baselines"}
    assert found == {("base", 8, "srm/stats"), ("finetune", 8, "srm/stats")}


def test_a_case_has_its_own_start(planner: Planner, elsewhere: TrialSpec) -> None:
    trial = f"{{from: {{trial: {elsewhere.fingerprint[:10]}}}, train: {{domains: tiny/blur}}}}"
    record = planner.resolve(f"stages.finetune.cases={{theirs: {trial}, ours: {{}}}}").record
    bases = {trial.fingerprint for trial in record.trials if trial.stage == "base"}
    parents = {
        case: {trial.parent for trial in record.trials if (trial.stage, trial.case) == ("finetune", case)}
        for case in ("theirs", "ours")
    }
    assert parents == {"theirs": {elsewhere.fingerprint}, "ours": bases}
    record = planner.resolve(f"stages.finetune={{from: null, cases: {{theirs: {trial}}}}}").record
    assert {trial.parent for trial in record.trials if trial.stage == "finetune"} == {elsewhere.fingerprint}


def test_disjoint_avoids_the_photographs_that_it_was_trained_on(planner: Planner, elsewhere: TrialSpec) -> None:
    settings = (
        "stages.finetune.train.domains=tiny/blur",
        "stages.finetune.train.pairing=disjoint",
        "stages.finetune.grid.n=[1]",
    )
    with pytest.raises(ConfigError, match=r"disjoint: on which source images trial .* was trained is not known"):
        planner.resolve(start(elsewhere), *settings)
    refs = sorted(planner.resolve().lists.values(), key=len)[-1]
    own = [ref for ref in refs if ref.domain == "tiny/blur"][:3]
    storage.put_json(planner.workspace.lists / "unknown.json", [ref.id for ref in own])
    resolved = planner.resolve(start(elsewhere), *settings)
    [child] = [trial for trial in resolved.record.trials if trial.stage == "finetune"]
    chosen = {ref.stem for ref in resolved.lists[child.spec.train.digest]}
    assert chosen
    assert not chosen & {ref.stem for ref in own}


def test_it_is_named_as_for_any_other_command(planner: Planner) -> None:
    record = planner.resolve().record
    record.save(planner.workspace.sweep(record.sweep))
    base = record.trials[0]
    planner.ledger.begin(base.spec).finish(b"best", b"last", 1, {})
    settings = (f"stages.finetune.from={{trial: '{base.name}'}}", "stages.finetune.train.domains=tiny/blur")
    children = [t for t in planner.resolve(*settings).record.trials if t.stage == "finetune"]
    assert {child.parent for child in children} == {base.fingerprint}
    with pytest.raises(ConfigError, match="digits alone are read as a number: put them in quotes"):
        planner.resolve("stages.finetune.from={trial: 123456}", "stages.finetune.train.domains=tiny/blur")


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
    with pytest.raises(ConfigError, match=r"^--set stages\.finetune\.from=.*no trial 0123456"):
        planner.resolve("stages.finetune.from={trial: '0123456'}", domain)
    unfinished = planner.resolve().record.trials[0].spec
    planner.ledger.begin(unfinished)
    with pytest.raises(ConfigError, match=r"trial .* is not finished"):
        planner.resolve(start(unfinished), domain)
    done = planner.ledger.done(elsewhere.fingerprint)
    assert done is not None
    (planner.ledger.folder(elsewhere.fingerprint) / "attempts" / done.attempt / "best.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"stage finetune starts from trial .*, whose weights are gone"):
        planner.resolve(start(elsewhere), domain)
    with pytest.raises(ConfigError, match="`from` names a stage or a trial"):
        planner.resolve("stages.finetune.from={stage: null, checkpoint: last}", domain)


@pytest.mark.parametrize(
    ("head", "sizes", "said"),
    [
        ("sam2.1-tiny", [1_000_000, 1024], "at most 4096 pixels"),
        ("sam2.1-tiny", [224, 512], "sees 1024 pixels, which stands last"),
        ("pixels", [224, 256], "resized at once; leave input out"),
    ],
)
def test_sizes_that_an_image_cannot_pass_are_refused(planner: Planner, head: str, sizes: list[int], said: str) -> None:
    name = head if head == "pixels" else f"{head}/image_embed"
    with pytest.raises(ConfigError, match=said):
        Inventory(planner.workspace).recipes([name], "random", sizes)


def test_the_size_on_the_way_enters_the_recipe_and_the_own_size_alone_is_none(planner: Planner) -> None:
    known = Inventory(planner.workspace)
    found = [known.recipes(["sam2.1-tiny/image_embed"], "random", sizes)[0] for sizes in ([224, 1024], [1024], None)]
    assert [recipe.via for recipe in found] == [224, None, None]
    assert found[1] == found[2] != found[0]
