"""Views of augmented trials: what is planned, what it costs, and that only what is lacking is passed."""

import re

import pytest

from dfloc import storage
from dfloc.augmentation import AugmentSpec
from dfloc.config import TrialSpec
from dfloc.data.augment import NAMED, View
from dfloc.errors import ConfigError
from dfloc.features.extract import extract
from dfloc.features.store import TRUTH, FeatureStore, bytes_of, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.sweep.augmentation_cost import views
from dfloc.sweep.data import Expected
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import make
from dfloc.sweep.resolve import resolve
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.work import Work, run
from tests.sweep.conftest import Planner

pytestmark = pytest.mark.ray

BLUR = "trial.augment=blur"


def augments(planner: Planner, *settings: str) -> set[AugmentSpec | None]:
    return {trial.spec.augment for trial in planner.resolve(*settings).record.trials if trial.stage == "base"}


def test_a_sweep_file_names_an_augmentation(planner: Planner) -> None:
    assert augments(planner) == augments(planner, "trial.augment=none") == {None}
    assert augments(planner, BLUR) == {AugmentSpec(ops=NAMED["blur"])}
    assert augments(planner, "trial.augment={name: declip-all, views: 3, seed: 2}") == {
        AugmentSpec(ops=NAMED["declip-all"], views=3, seed=2)
    }
    [own] = augments(planner, "trial.augment={ops: [{name: jpeg, quality: [50, 60]}]}")
    assert own is not None
    assert own.ops[0].quality == (50, 60)
    assert augments(planner, "grid.trial.augment=[none, blur, declip-blur]") == {
        None,
        AugmentSpec(ops=NAMED["blur"]),
        AugmentSpec(ops=NAMED["declip-blur"]),
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("blurr", "blurr.*declip-all"),
        ("{ops: [{name: jpeg}]}", "jpeg needs quality"),
        ("{ops: [{name: blur, sigma: [0, 3], quality: [1, 2]}]}", "blur does not read quality"),
        ("{ops: [{name: noise}]}", "noise|blur"),
        ("{name: blur, views: 0}", "views"),
        ("{name: blur, view: 3}", "view"),
    ],
)
def test_what_is_no_augmentation_is_refused(planner: Planner, asked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planner.resolve(f"trial.augment={asked}")


def test_what_sam_2_takes_cannot_be_changed_and_the_stored_image_can(planner: Planner) -> None:
    sam2 = ("trial.maps=[sam2.1-tiny/image_embed]", "trial.weights=random")
    with pytest.raises(ConfigError, match=r"sam2.1-tiny/image_embed takes is normalised: use at: stored"):
        planner.resolve(*sam2, "trial.augment=declip-jpeg")
    assert augments(planner, *sam2, BLUR) == {AugmentSpec(ops=NAMED["blur"])}


def test_only_training_images_that_an_operation_touches_are_planned(planner: Planner) -> None:
    plan = planner.plan(BLUR)
    resolved = planner.resolve(BLUR)
    augment = AugmentSpec(ops=NAMED["blur"])
    trained = {
        ref.id for trial in plan.record.trials if trial.spec.augment for ref in resolved.lists[trial.spec.train.digest]
    }
    for number in (1, 2):
        jobs = [job for job in plan.jobs if job.view and job.view.number == number]
        assert sum(job.rows for job in jobs) == sum(View(augment, number).touches(name) for name in trained) > 0
        assert all(TRUTH not in job.recipes for job in jobs)
    assert {job.view and job.view.number for job in plan.jobs} == {None, 1, 2}
    clean = planner.plan().jobs
    assert {(job.shard_digest, job.group, job.wanted) for job in plan.jobs if not job.view} == {
        (job.shard_digest, job.group, job.wanted) for job in clean
    }


def lines_of(planner: Planner, *settings: str) -> list[str]:
    return [line for line in planner.plan(*settings).lines() if line.startswith(("views", "storage", "backbone"))]


def test_the_plan_says_what_views_cost(planner: Planner) -> None:
    size = bytes_of(recipe_for("srm/stats"))
    assert size == 66 * 32 * 32 * 2
    *_, storage_line, line = lines_of(planner, BLUR)
    distinct = {
        ref.id
        for trial in planner.resolve(BLUR).record.trials
        if trial.spec.augment
        for ref in planner.resolve(BLUR).lists[trial.spec.train.digest]
    }
    count = len(distinct)
    each = f"{count * 0.5:.0f} images through it, {count * 0.5 * size / 1e9:.2f} GB"
    whole = f"{count:.0f} images through it, {count * size / 1e9:.2f} GB"
    assert line == (
        f"views of blur, srm: 2, drawn anew in each epoch; 2 x 0.5 x {count} images = {whole}; with views: 1, {each}"
    )
    assert storage_line.endswith(f"and {count * size / 1e9:.2f} GB of their views")
    assert lines_of(planner, "trial.augment={name: blur, views: 1}")[-1] == (
        f"views of blur, srm: 1, taken in turn; 1 x 0.5 x {count} images = {each}; with views: epochs, {whole}"
    )
    assert lines_of(planner, "trial.augment=declip-all", "trial.epochs=7")[-1].startswith(
        f"views of declip-all, srm: 7, drawn anew in each epoch; 7 x {count} images = {7 * count} images through it, "
    )
    assert not any("views" in line for line in lines_of(planner))


def test_pixels_cost_nothing_more(planner: Planner) -> None:
    settings = ("trial.maps=[pixels]", BLUR)
    assert lines_of(planner, *settings)[-1] == (
        "views of blur, pixels: 2, drawn anew in each epoch; changed as they are read, nothing is stored"
    )
    assert all(job.view is None for job in planner.plan(*settings).jobs)


def test_each_backbone_says_for_itself_what_its_views_cost(planner: Planner) -> None:
    one, two = "{trial: {maps: [pixels], augment: blur}}", "{trial: {augment: {name: blur, views: 1}}}"
    settings = (f"stages.base.cases={{one: {one}, two: {two}}}", "stages.finetune=null")
    lines = [line for line in lines_of(planner, *settings) if line.startswith("views")]
    assert [line.partition(", ")[2].partition(";")[0] for line in lines] == [
        "pixels: 2, drawn anew in each epoch",
        "srm: 1, taken in turn",
    ]


def test_two_ways_into_a_backbone_are_two_passes_and_two_maps_of_one_way_are_one(planner: Planner) -> None:
    trial = planner.resolve(BLUR).record.trials[0]
    maps = (recipe_for("srm/stats"), recipe_for("srm/variance"), recipe_for("srm/variance", via=64))
    trial = trial.model_copy(update={"spec": trial.spec.model_copy(update={"maps": maps})})
    found = views([trial], lambda digests: 10 * len(digests))
    assert [(one.backbone, one.via, one.passes) for one in found] == [("srm", None, 10), ("srm", 64, 10)]
    assert [one.size for one in found] == [10 * 67 * 32 * 32 * 2, 10 * 32 * 32 * 2]
    assert ", srm via 64: 2, drawn anew" in found[1].line()


def test_without_data_the_plan_counts_by_what_is_asked(planner: Planner) -> None:
    expected = Expected(
        "tiny", {f"tiny/{name}": {"train": 10, "valid": 4, "test": 4} for name in ("blur", "noise")}, {}
    )
    study = expand(SweepFile(planner.file).choose("own", (BLUR, "trial.epochs=15")))
    resolved = resolve(study, expected, Inventory(planner.workspace), preset="own")
    store = FeatureStore(planner.workspace.features)
    plan = make(resolved, Ledger(planner.workspace), store, planner.workspace.root / "sweeps")
    *_, passes, _, told = (line for line in plan.lines() if line.startswith(("views", "storage", "backbone")))
    assert re.search(r"15 x 0.5 x 12 images = 90 images through it, .*; with views: 1, 6 images through it", told)
    clean = max(plan.images.values())
    assert f"{clean + 90} images through srm" in passes


def test_views_are_stored_once_and_a_trial_trains_on_them(planner: Planner) -> None:
    settings = (BLUR, "trial.seed=3")
    store, index = FeatureStore(planner.workspace.features), WeightsIndex(planner.workspace)
    plan = planner.plan(*settings)
    passed = extract(store, planner.shards, plan.jobs, weights=index)
    assert passed >= sum(job.rows for job in plan.jobs)
    assert planner.plan(*settings).jobs == planner.plan(BLUR).jobs == planner.plan().jobs == ()
    more = planner.plan("trial.augment={name: blur, views: 3}", "trial.epochs=4").jobs
    assert {job.view and job.view.number for job in more} == {3}
    weights = {name: trained(planner, *added) for name, added in (("blurred", settings), ("clean", settings[1:]))}
    assert weights["blurred"] != weights["clean"]


def trained(planner: Planner, *settings: str) -> bytes:
    """Train the study's first trial in this process; return its weights without what the file says of the spec."""
    resolved = planner.resolve(*settings)
    trial = resolved.record.trials[0]
    for digest, refs in resolved.lists.items():
        storage.put_json(planner.workspace.lists / f"{digest}.json", [ref.id for ref in refs])
    *_, told = run(Work(trial.spec, True, (), planner.workspace, planner.shards))
    assert told["finished"] is True
    assert trial.spec == TrialSpec.model_validate_json(trial.spec.model_dump_json())
    data = planner.ledger.weights(trial.fingerprint, "last").read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]
