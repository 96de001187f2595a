import itertools
import shutil
from pathlib import Path

import pytest
from upath import UPath

from dfloc import plugin
from dfloc.data.dolos import scan
from dfloc.data.importer import import_samples
from dfloc.data.manifest import Manifest
from dfloc.data.mixture import Mixture, by_rank, ranked, select
from dfloc.errors import ConfigError, DataError
from dfloc.planned import PlannedTrial
from dfloc.storage import Workspace
from dfloc.sweep.data import Expected, Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Resolved
from dfloc.sweep.resolve import resolve
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from tests.sweep.conftest import STUDY, Planner


def trials(resolved: Resolved, stage: str, **axes: object) -> list[PlannedTrial]:
    found = [trial for trial in resolved.record.trials if trial.stage == stage]
    return [trial for trial in found if axes.items() <= trial.axes.items()]


def train_ids(resolved: Resolved, trial: PlannedTrial) -> set[str]:
    return {ref.id for ref in resolved.lists[trial.spec.train.digest]}


def test_base_trains_on_every_domain_but_the_held_out_one(planner: Planner) -> None:
    resolved = planner.resolve()
    for held_out, other in (("tiny/blur", "tiny/noise"), ("tiny/noise", "tiny/blur")):
        (base,) = trials(resolved, "base", held_out=held_out)
        assert base.spec.train.counts == {other: 6}
        assert base.spec.lineage.base == (other,)
        assert {ref.domain for ref in resolved.lists[base.spec.train.digest]} == {other}


def test_a_schedule_that_cannot_work_is_refused_when_it_is_planned(planner: Planner) -> None:
    plugin.use([plugin.Plugin("own.py", "SCHEDULES = {'own': lambda spec, maps: spec}")])
    try:
        with pytest.raises(ConfigError, match=r'plug-in own\.py: schedule "own": TypeError'):
            planner.resolve("trial.schedule=own")
    finally:
        plugin.use(())


def test_child_names_its_parent_and_its_exposure(planner: Planner) -> None:
    resolved = planner.resolve()
    (base,) = trials(resolved, "base", held_out="tiny/blur")
    for n in (2, 4):
        (child,) = trials(resolved, "finetune", held_out="tiny/blur", n=n)
        assert child.parent == base.fingerprint == child.spec.init["decoder"].parent
        assert child.spec.lineage.exposure == n
        assert child.spec.lineage.seen == ("tiny/noise",)
        assert child.spec.lineage.root == base.fingerprint
    assert base.spec.lineage.exposure == 0


def test_counts_are_nested_and_the_same_in_another_sweep(planner: Planner) -> None:
    resolved, other = planner.resolve(), planner.resolve("name=other", "stages.finetune.grid.n=[2]")
    small, large = (trials(resolved, "finetune", held_out="tiny/blur", n=n)[0] for n in (2, 4))
    assert train_ids(resolved, small) < train_ids(resolved, large)
    (again,) = trials(other, "finetune", held_out="tiny/blur", n=2)
    assert again.fingerprint == small.fingerprint


def test_replay_changes_the_ids_and_leaves_validation_alone(planner: Planner) -> None:
    resolved = planner.resolve("stages.finetune.grid.train.replay=[none,equal]", "draws=2")
    for n, draw in itertools.product((2, 4), (0, 1)):
        plain, replay = (
            trials(resolved, "finetune", held_out="tiny/blur", n=n, draw=draw, **{"train.replay": how})[0]
            for how in ("none", "equal")
        )
        added = train_ids(resolved, replay) - train_ids(resolved, plain)
        (base,) = trials(resolved, "base", held_out="tiny/blur", draw=draw)
        first = by_rank(resolved.lists[base.spec.train.digest], draw)[:n]
        assert added == {ref.id for ref in first}, "the first of its only domain by rank"
        assert replay.spec.valid == plain.spec.valid


def test_cumulative_and_incremental_train_on_the_ids_they_should(planner: Planner) -> None:
    restart = planner.resolve()
    large = train_ids(restart, trials(restart, "finetune", held_out="tiny/blur", n=4)[0])
    small = train_ids(restart, trials(restart, "finetune", held_out="tiny/blur", n=2)[0])
    for mode, expected in (("cumulative", large), ("incremental", large - small)):
        resolved = planner.resolve(f"stages.finetune.train.mode={mode}")
        first, second = (trials(resolved, "finetune", held_out="tiny/blur", n=n)[0] for n in (2, 4))
        assert second.parent == first.fingerprint
        assert train_ids(resolved, second) == expected
        assert second.spec.lineage.exposure == 4
        assert second.spec.lineage.base == ("tiny/noise",)


def test_disjoint_fine_tunes_on_photographs_that_the_base_never_saw(planner: Planner) -> None:
    disjoint = ("stages.finetune.train.pairing=disjoint", "stages.base.train.count=2")
    resolved = planner.resolve(*disjoint, "stages.finetune.grid.n=[2]")
    (child,) = trials(resolved, "finetune", held_out="tiny/blur")
    (base,) = trials(resolved, "base", held_out="tiny/blur")
    stems = [{ref.stem for ref in resolved.lists[trial.spec.train.digest]} for trial in (child, base)]
    assert not stems[0] & stems[1]
    with pytest.raises(DataError, match="of source images that the parent did not see"):
        planner.resolve(*disjoint, "stages.finetune.grid.n=[9]")


@pytest.mark.parametrize(("mode", "sizes"), [("cumulative", (2, 4)), ("incremental", (2, 2))])
def test_disjoint_rounds_are_nested_and_skip_the_base_alone(
    planner: Planner, mode: str, sizes: tuple[int, int]
) -> None:
    resolved = planner.resolve(
        "stages.finetune.train.pairing=disjoint", "stages.base.train.count=2", f"stages.finetune.train.mode={mode}"
    )
    (base,) = trials(resolved, "base", held_out="tiny/blur")
    rounds = [trials(resolved, "finetune", held_out="tiny/blur", n=n)[0] for n in (2, 4)]
    first, second = (train_ids(resolved, trial) for trial in rounds)
    assert (len(first), len(second)) == sizes
    assert first < second if mode == "cumulative" else not first & second
    seen = {ref.stem for ref in resolved.lists[base.spec.train.digest]}
    assert not seen & {ref.stem for trial in rounds for ref in resolved.lists[trial.spec.train.digest]}
    assert [trial.spec.lineage.exposure for trial in rounds] == [2, 4]


def test_seeds_and_draws_are_axes_of_their_own(planner: Planner) -> None:
    resolved = planner.resolve(seeds=2, draws=2)
    bases = trials(resolved, "base", held_out="tiny/blur")
    assert sorted((t.axes["draw"], t.axes["seed"]) for t in bases) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    digests = {draw: {t.spec.train.digest for t in bases if t.axes["draw"] == draw} for draw in (0, 1)}
    assert [len(found) for found in digests.values()] == [1, 1]
    assert digests[0] != digests[1]
    assert len({t.fingerprint for t in bases}) == 4


def test_draw_is_the_mixture_seed(planner: Planner) -> None:
    resolved = planner.resolve(draws=2)
    (base,) = trials(resolved, "base", held_out="tiny/blur", draw=1)
    shards = Shards(planner.shards, "tiny")
    drawn = select(ranked(shards.samples), Mixture(counts={"tiny/noise": 6}, split="train", seed=1))
    assert train_ids(resolved, base) == {ref.id for ref in drawn}


def test_baselines_ignore_what_only_training_reads(planner: Planner) -> None:
    plain = {t.fingerprint for t in trials(planner.resolve(), "baselines")}
    other = planner.resolve("trial.optimizer.lr=0.5", "trial.decoder.depth=8", "trial.epochs=7", seeds=2)
    assert {t.fingerprint for t in trials(other, "baselines")} == plain
    assert len(plain) == 2


def test_every_trial_is_scored_on_every_domain_with_both_weights(planner: Planner) -> None:
    resolved = planner.resolve()
    for trial in resolved.record.trials:
        seen = {(e.checkpoint, e.domain, e.test.size) for e in trial.evaluations}
        assert seen == {(c, d, 4) for c in ("best", "last") for d in ("tiny/blur", "tiny/noise", "tiny/real")}


def test_limit_scales_counts_and_tests(planner: Planner) -> None:
    resolved = planner.resolve(limit=3)
    (base,) = trials(resolved, "base", held_out="tiny/blur")
    assert (base.spec.train.size, base.spec.valid.size) == (3, 1)
    assert {e.test.size for e in base.evaluations} == {3}
    assert {t.axes["n"] for t in trials(resolved, "finetune")} == {1, 2}
    assert resolved.record.sweep == "tiny-own-tiny-limit3"
    assert (resolved.record.limit_rule, planner.resolve().record.limit_rule) == (2, 1)
    assert any("limited to 3 of 6 images" in note for note in resolved.record.notes)


def limit_told(planner: Planner, *settings: str, limit: int | None = None) -> tuple[int, str]:
    with pytest.raises(DataError) as told:
        planner.resolve(*settings, limit=limit)
    return int(str(told.value).rpartition("--limit ")[2]), str(told.value)


@pytest.mark.parametrize(
    "settings",
    [
        ("stages.base.train.count=11",),
        ("stages.base.train.count=40", "stages.base.train.valid=5"),
        ("stages.base.train.count=40", "stages.base.train.valid=37"),
        ("stages.base.train.count=333", "stages.finetune.grid.n=[100,200,333]", "stages.finetune.train.valid=99"),
        ("stages.baselines.train.count={first: 25, rest: 7}", "stages.base.train.within=9"),
        ("stages.finetune.train.mode=cumulative", "stages.finetune.grid.n=[2, 31]"),
    ],
)
@pytest.mark.parametrize("limit", [None, 1000])
def test_the_limit_that_is_told_is_the_largest_that_fits(
    planner: Planner, settings: tuple[str, ...], limit: int | None
) -> None:
    largest, _ = limit_told(planner, *settings, limit=limit)
    assert planner.resolve(*settings, limit=largest).record.trials
    assert limit_told(planner, *settings, limit=largest + 1)[0] == largest


def test_all_that_there_is_too_little_of_is_named_at_once(planner: Planner) -> None:
    _, told = limit_told(planner, "stages.baselines.train.count={first: 40, rest: 20}", "stages.base.train.valid=50")
    for lack in (
        "tiny/blur has 10 train images, but the study asks for 40",
        "tiny/noise has 10 train images, but the study asks for 20",
        "tiny/blur has 4 valid images, but the study asks for 50",
        "tiny/noise has 4 valid images, but the study asks for 50",
    ):
        assert told.count(lack) == 1
    assert told.count("images, but") == 4


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("stages.base.train.count=all", "stages.base.train.valid=all"), ("stages.base.train={count: 10, valid: 4}",)),
        (("stages.base.train.count={blur: all, rest: 3}",), ("stages.base.train.count={blur: 10, rest: 3}",)),
        (("stages.finetune.grid.n=[2, all]",), ("stages.finetune.grid.n=[2, 10]",)),
        (("stages.base.train.count=all", "stages.base.train.within=7"), ("stages.base.train={count: 7, within: 7}",)),
    ],
)
def test_all_is_the_number_that_there_are(
    planner: Planner, words: tuple[str, ...], numbers: tuple[str, ...], limit: int | None
) -> None:
    found, written = (planner.resolve(*settings, limit=limit).record.trials for settings in (words, numbers))
    assert [(trial.fingerprint, trial.axes) for trial in found] == [
        (trial.fingerprint, trial.axes) for trial in written
    ]
    assert found != planner.resolve(limit=limit).record.trials


def test_all_is_what_data_that_are_not_there_are_said_to_have(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    data = Expected("tiny", {name: {"train": 9, "valid": 3, "test": 5} for name in ("tiny/blur", "tiny/noise")}, {})
    settings = ("stages.base.train={count: all, valid: all}", "evaluate.count=all")
    study = expand(SweepFile(path).choose("own", settings), data=data)
    base = resolve(study, data, Inventory(Workspace(tmp_path, create=False)), preset="own").record.trials[0]
    assert (base.spec.train.size, base.spec.valid.size) == (9, 3)
    assert {evaluation.test.size for evaluation in base.evaluations if evaluation.split == "test"} == {5}


def test_a_test_list_is_all_that_there_is_unless_a_number_is_given(planner: Planner) -> None:
    plain, every, three = (planner.resolve(*how) for how in ((), ("evaluate.count=all",), ("evaluate.count=3",)))
    keys = [{one.key for trial in each.record.trials for one in trial.evaluations} for each in (plain, every, three)]
    assert keys[0] == keys[1]
    assert keys[0].isdisjoint(keys[2])


def test_all_of_what_the_parent_did_not_see_is_no_number(planner: Planner) -> None:
    with pytest.raises(ConfigError, match="stage finetune: pairing disjoint needs a number, not `all`"):
        planner.resolve("stages.finetune.train={count: all, pairing: disjoint}", "stages.finetune.grid.n=null")


PIXELS = "trial.maps=[pixels]"
DEEP = "trial.decoder={name: smp, architecture: deeplabv3plus, encoder: mobilenet_v2, weights: random}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            (PIXELS, DEEP, "trial.batch=5"),
            "6 training images in batches of 5 leave one; ask for another batch, such as 4",
        ),
        ((PIXELS, DEEP, "trial.batch=1"), "but its batch is 1; ask for another batch, such as 2,"),
        ((PIXELS, DEEP, "trial.batch=1", "trial.epoch_steps=3"), "but its batch is 1"),
        (
            (PIXELS, DEEP, "stages.finetune.grid.n=[1]"),
            "1 training images in batches of 4 leave one; ask for more images",
        ),
        (
            (PIXELS, DEEP, "trial.batch=1000000", "stages.finetune.grid.n=[1]"),
            "1 training images in batches of 1000000 leave one; ask for more images",
        ),
        (
            ("trial.decoder.grid=1", "trial.batch=5"),
            "decoder conv cannot be trained on one image, but 6 training images",
        ),
    ],
)
def test_a_batch_of_one_is_refused_for_what_cannot_be_trained_on_it(
    planner: Planner, settings: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError) as told:
        planner.resolve(*settings)
    assert said in str(told.value)
    blamed = settings[-1] if "epoch_steps" not in settings[-1] else settings[-2]
    assert str(told.value).startswith(f"--set {blamed}: {'finetune' if 'n=' in blamed else 'base'} held_out=tiny/blur ")


@pytest.mark.parametrize(
    "settings",
    [
        (PIXELS, DEEP, "trial.batch=4"),
        (PIXELS, DEEP, "trial.batch=5", "trial.epoch_steps=3"),
        (PIXELS, DEEP.replace("weights", "batch_norm: frozen, weights"), "trial.batch=5"),
        (PIXELS, DEEP.replace("deeplabv3plus", "fpn"), "trial.batch=5"),
        ("trial.batch=5",),
        ("trial.batch=1",),
    ],
)
def test_what_leaves_no_image_alone_or_can_be_trained_on_one_is_planned(
    planner: Planner, settings: tuple[str, ...]
) -> None:
    assert planner.resolve(*settings).record.trials


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("trial.input=[224]", "input [224]: srm sees 256 pixels, which stands last"),
        ("trial.maps=[srm/stat]", 'unknown map of srm "stat"'),
        ("trial.weights={clip-rn5: random}", 'unknown backbone "clip-rn5"'),
    ],
)
def test_maps_weights_and_sizes_are_each_blamed_on_their_own_key(planner: Planner, setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        planner.resolve("stages.base.trial.batch=3", setting)
    assert f"--set {setting}: {said}" in str(told.value)


@pytest.mark.parametrize(
    ("setting", "more", "said"),
    [
        (
            "stages.base.train.count={tiny/blur: 4, rest: 2}",
            ("stages.base.train.domains=[noise]",),
            "train.count names tiny/blur, but base held_out=",
        ),
        (
            "stages.base.train.valid={tiny/blur: 1, tiny/noise: 2}",
            ("stages.base.train.domains=[noise]",),
            "train.valid names tiny/blur, but base held_out=",
        ),
        ("trial.weights={clip-rn50: random}", (), "weights for clip-rn50, but no trial reads a map of it"),
        ("trial.augment={name: none, ops: [{name: blur, sigma: [0, 1]}]}", (), "augment none has no ops; leave out"),
    ],
)
def test_a_value_that_no_trial_would_read_is_refused(
    planner: Planner, setting: str, more: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError) as told:
        planner.resolve(*more, setting)
    assert f"--set {setting}: {said}" in str(told.value)


@pytest.mark.parametrize(
    "setting",
    [
        "stages.base.train.count={tiny/blur: 4, tiny/noise: 2}",
        "stages.finetune.train.valid={tiny/blur: 1, rest: 2}",
        "stages.baselines.train.count={first: 4, rest: 2}",
        "trial.augment={name: none, ops: []}",
    ],
)
def test_a_value_that_some_trial_reads_is_planned(planner: Planner, setting: str) -> None:
    assert planner.resolve(setting, "stages.finetune.grid.held_out=[blur]").record.trials


OWN = """
import torch

class Normed(torch.nn.Sequential):
    def __init__(self, channels):
        super().__init__(torch.nn.AdaptiveAvgPool2d(1), torch.nn.BatchNorm2d(channels), torch.nn.Conv2d(channels, 1, 1))

DECODERS = {"normed": lambda spec, maps, generator: Normed(maps[0].channels)}
"""


def test_a_plug_in_that_cannot_be_trained_on_one_image_is_told_at_the_plan(planner: Planner) -> None:
    plugin.use([plugin.Plugin("own.py", OWN)])
    try:
        with pytest.raises(ConfigError, match=r"^--set trial\.batch=5: base .*decoder normed cannot be trained on one"):
            planner.resolve("trial.decoder={name: normed}", "trial.batch=5")
        assert planner.resolve("trial.decoder={name: normed}", "trial.batch=4").record.trials
    finally:
        plugin.use(())


@pytest.mark.parametrize(
    ("axis", "values", "one"),
    [
        ("trial.precision", "[auto, fp32]", "fp32"),
        ("train.domains", "[[blur], [tiny/blur]]", "tiny/blur"),
        ("train.domains", "[blur, tiny/blur]", "tiny/blur"),
        ("train.count", "[{blur: 3, rest: 4}, {tiny/blur: 3, rest: 4}]", "rest=4, tiny/blur=3"),
    ],
)
def test_a_value_that_is_settled_by_device_or_data_is_one(planner: Planner, axis: str, values: str, one: str) -> None:
    found = planner.resolve(f"stages.base.grid.{axis}={values}", "stages.base.train.domains=all")
    bases = trials(found, "base")
    assert [trial.axes[axis] for trial in bases] == [one] * len(bases)
    assert len(bases) == 2, "one of each held_out"
    assert any(f"{axis} is {one} in" in note for note in found.record.notes)


def test_a_domain_that_has_two_numbers_is_refused(planner: Planner) -> None:
    for count in ("{blur: 3, tiny/blur: 4, rest: 2}", "{first: 3, blur: 4, rest: 2}"):
        with pytest.raises(ConfigError, match=r"train\.count=.*count names tiny/blur twice"):
            planner.resolve("stages.base.train.domains=all", f"stages.base.train.count={count}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluate.domains=[blurr]", r'--set evaluate\.domains=\[blurr\]: unknown domain "blurr"'),
        ("evaluate.protocol=x", r'--set evaluate\.protocol=x: unknown protocol "x"'),
        ("stages.base.from={trial: abcdef}", r"--set stages\.base\.from=.*: no trial abcdef"),
        ("grid.trial.weights=[random]", r'--set grid\.trial\.weights=\[random\]: trial\.weights is "random"'),
        ("grid.trial.loss=[bce,bec]", r'--set grid\.trial\.loss=\[bce,bec\]: unknown loss "bec"'),
        ("trial.loss=bec", r'--set trial\.loss=bec: unknown loss "bec"'),
        ("stages.base.grid.trial.decoder=[linear,cnov]", r"--set stages\.base\.grid\.trial\.decoder=.*unknown decoder"),
        ("grid.trial.maps=[[srm/stats],[srm/x]]", r"--set grid\.trial\.maps=.*unknown map of srm"),
        ("stages.base.train.domains=[blurr]", r"--set stages\.base\.train\.domains=\[blurr\]: unknown domain"),
        (
            "stages.base.train.count={blur: 3}",
            r"--set stages\.base\.train\.count=.*count names no number for tiny/noise",
        ),
    ],
)
def test_a_name_that_nothing_has_is_blamed_on_what_gave_it(planner: Planner, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planner.resolve(setting)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("stages.base.train.count=11", DataError, "has 10 train images, but the study asks for 11.*--limit 10"),
        ("stages.base.train.valid=5", DataError, "has 4 valid images.*asks for 5"),
        ("trial.maps=[srm/stat]", ConfigError, 'unknown map of srm "stat"; did you mean "stats"'),
        ("trial.maps=[smr/stats]", ConfigError, 'unknown backbone "smr"; did you mean "srm"'),
        ("trial.decoder.name=cnov", ConfigError, 'unknown decoder "cnov"; did you mean "conv"'),
        ("trial.loss=bec", ConfigError, 'unknown loss "bec"; did you mean "bce"'),
        ("stages.finetune.train.domains=tiny/blurr", ConfigError, 'unknown domain "tiny/blurr"; did you mean'),
        ("evaluate.protocol=declip-2024", ConfigError, 'unknown protocol "declip-2024"; did you mean "declip-2025"'),
        ("stages.base.train.replay=equal", ConfigError, "replay needs a parent"),
    ],
)
def test_what_is_wrong_is_named(planner: Planner, setting: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        planner.resolve(setting)


def test_short_domain_names_are_understood(planner: Planner) -> None:
    named = planner.resolve("stages.base.train.domains=blur")
    assert {t.spec.lineage.base for t in trials(named, "base")} == {("tiny/blur",)}


def test_a_photograph_in_two_splits_stops_the_plan_unless_the_import_allowed_it(
    planner: Planner, tiny_tree: Path, tmp_path: Path
) -> None:
    for part in ("images", "masks"):
        folder = tiny_tree / "tiny/fake/blur" / part
        shutil.copy(folder / "train/train0-0.png", folder / "test/train0-7.png")
    planner.shards = UPath(tmp_path / "twice")
    import_samples(scan(tiny_tree), planner.shards, allow_overlap=True)
    assert any("tiny/train0" in note for note in planner.resolve().record.notes)
    manifest = Manifest.load(planner.shards)
    manifest.model_copy(update={"notes": ()}).save(planner.shards)
    with pytest.raises(DataError, match=r"1 source images lie in two splits, the first is tiny/train0 \(test, train\)"):
        planner.resolve()


def test_a_protocol_that_chooses_a_threshold_scores_the_trials_own_validation_images(planner: Planner) -> None:
    assert {each.split for trial in planner.resolve().record.trials for each in trial.evaluations} == {"test"}
    resolved = planner.resolve("evaluate.protocol=dfloc-1")
    for trial in resolved.record.trials:
        added = [each for each in trial.evaluations if each.split == "valid"]
        assert [each.domain for each in added] == sorted(trial.spec.valid.counts)
        assert {each.checkpoint for each in added} == {"best"}
        ids = [ref.id for each in added for ref in resolved.lists[each.test.digest]]
        assert sorted(ids) == sorted(ref.id for ref in resolved.lists[trial.spec.valid.digest])
        assert {each.domain: each.test.size for each in added} == trial.spec.valid.counts
    plain = planner.resolve().record.trials
    assert [trial.fingerprint for trial in plain] == [trial.fingerprint for trial in resolved.record.trials]
