"""`compose`: what is paired with what, what is refused, and rows that are those of the parts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from upath import UPath

from dfloc import storage
from dfloc.data.shards import ShardReader, decode_image
from dfloc.engine import route
from dfloc.engine.composite import maps_of
from dfloc.engine.predict_composite import predictor
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.features.extract import extract
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.planned import PlannedTrial
from dfloc.summary import summary
from dfloc.sweep.data import Shards
from dfloc.sweep.plan import Item
from dfloc.sweep.scheduler import ParentsFirst
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.work import Work, run
from tests.sweep.conftest import STUDY, Planner

HEAD, _, _ = STUDY.partition("stages:")
TWO = (
    HEAD
    + """
stages:
  detector:
    train: {domains: [all, real], count: 6, valid: 2}
    trial: &whole {task: detect, decoder: {name: linear, pool: mean+max, standardize: true}, loss: ce}
    evaluate: {protocol: image-1}
  classifier:
    train: {domains: [real, all], count: 6, valid: 2}
    trial: {<<: *whole, task: attribute}
    evaluate: {protocol: thesis-2025}
  generalist: {train: {domains: all, count: 6, valid: 2}}
  specialists:
    grid: {domain: "${domains}"}
    train: {domains: domain, count: 6, valid: 2}
    cases: {wide: {}, narrow: {trial: {decoder: {channels: [2]}}}}
  fixed: {train: {domains: all, count: 6, valid: 2}, trial: {seed: 7}}
  composed:
    compose:
      detector+generalist: {route: detector, fake: generalist}
      classifier+2: {route: classifier, blur: specialists/narrow, rest: specialists/wide}
      one: {rule: mean, parts: [generalist]}
      two: {rule: mean, parts: [generalist, fixed]}
      specialists: {rule: mean, parts: [specialists/wide], over: domain}
      seeds: {rule: mean, parts: [generalist], over: seed}
evaluate: {domains: "${domains}", protocol: declip-2025}
presets: {own: {}}
"""
)
pytestmark = pytest.mark.ray


class Two(Planner):
    """Plans the two-step study against the tiny shards."""

    def __init__(self, folder: Path, shards: UPath):
        super().__init__(folder, shards)
        self.file.write_text(TWO)

    def trials(self, *settings: str, **how: int) -> dict[str, PlannedTrial]:
        return {trial.name: trial for trial in self.resolve(*settings, **how).record.trials}


@pytest.fixture
def two(tmp_path: Path, tiny_shards: UPath) -> Two:
    return Two(tmp_path, tiny_shards)


def roles(trials: dict[str, PlannedTrial], name: str) -> dict[str, str]:
    names = {trial.fingerprint: each for each, trial in trials.items()}
    return {role: names[part.parent] for role, part in trials[name].spec.parts.items()}


def test_parts_pair_by_seed_and_class(two: Two) -> None:
    trials = two.trials(seeds=2)
    for seed in (0, 1):
        assert roles(trials, f"composed detector+generalist seed={seed}") == {
            "route": f"detector seed={seed}",
            "fake": f"generalist seed={seed}",
        }
        assert roles(trials, f"composed classifier+2 seed={seed}") == {
            "route": f"classifier seed={seed}",
            "blur": f"tiny/blur specialists narrow seed={seed}",
            "noise": f"tiny/noise specialists wide seed={seed}",
        }
        assert roles(trials, f"composed two seed={seed}") == {"0": f"generalist seed={seed}", "1": "fixed seed=7"}
        wide = [f"tiny/{name} specialists wide seed={seed}" for name in ("blur", "noise")]
        assert [*roles(trials, f"composed specialists seed={seed}").values()] == wide
    assert [*roles(trials, "composed seeds seed=0").values()] == ["generalist seed=0", "generalist seed=1"]
    assert "composed seeds seed=1" not in trials


def test_draws_pair_too(two: Two) -> None:
    trials = two.trials("stages.detector.train.count=3", "stages.generalist.train.count=3", draws=2)
    found = roles(trials, "composed detector+generalist draw=1 seed=0")
    assert found == {"route": "detector draw=1 seed=0", "fake": "generalist draw=1 seed=0"}


def test_a_fingerprint_follows_from_those_of_the_parts(two: Two) -> None:
    before = two.trials()
    after = two.trials("stages.generalist.trial.epochs=3")
    changed = {name for name, trial in before.items() if trial.fingerprint != after[name].fingerprint}
    assert changed == {
        f"{name} seed=0"
        for name in ("generalist", "composed detector+generalist", "composed one", "composed two", "composed seeds")
    }


def test_what_ancestors_saw_is_seen(two: Two) -> None:
    lineage = two.trials()["composed classifier+2 seed=0"].spec.lineage
    assert lineage.seen == ("tiny/blur", "tiny/noise", "tiny/real")
    assert lineage.base == ("tiny/blur", "tiny/noise", "tiny/real")


def test_nothing_of_it_is_trained(two: Two) -> None:
    """Of six composites two are the same: the mean of one model, and that over the one seed that there is."""
    plan = two.plan()
    trained = [item.name for item in plan.items if item.train]
    assert len(plan.items) == len(trained) + 5
    assert not any(name.startswith("composed") for name in trained)
    assert f"{len(plan.items)} to run: {len(trained)} to train" in "\n".join(plan.lines())
    assert not any("balance" in line and "composed" in line for line in plan.lines())


def test_only_keeps_a_composite_with_its_parts(two: Two) -> None:
    data = Shards(two.shards, "tiny")
    study = expand(SweepFile(two.file).choose("own"), only=["composed/classifier+2"], data=data)
    assert [one.case for one in study.composites] == ["classifier+2"]
    kept = {(cell.stage, cell.case, cell.axes.get("domain")) for cell in study.cells}
    assert kept == {
        ("classifier", "", None),
        ("specialists", "narrow", "tiny/blur"),
        ("specialists", "wide", "tiny/noise"),
    }


REFUSED = [
    ("detector+generalist.route=nobody", 'unknown stage "nobody"'),
    ("detector+generalist.fake=specialists/vast", 'unknown case "vast" of stage specialists'),
    ("detector+generalist.fake=generalist/wide", 'unknown case "wide" of stage generalist; it has none'),
    ("classifier+2.lama=generalist", 'classifier tells no class "lama" apart'),
    ("detector+generalist.route=generalist", "generalist localizes, but a router detects or attributes"),
    ("detector+generalist.fake=classifier", "classifier calls images .attribute., but a part gives a map"),
    ("two.parts=[detector]", "detector calls images .detect., but a part gives a map"),
    ("detector+generalist.fake=specialists", "specialists is 4 trials; name a case, such as specialists/wide"),
    ("detector+generalist.fake=specialists/wide", "is 2 trials, which differ in domain; average them by rule: mean"),
    ("detector+generalist.fake=null", "no part has the maps of fake; add fake: STAGE"),
    ("classifier+2.rest=null", "no part has the maps of noise; add noise: STAGE, or rest: STAGE"),
    ("detector+generalist.rest=generalist", "every class has a part of its own"),
    ("detector+generalist.real=generalist", "an image that is called real has an empty map; leave real out"),
    ("detector+generalist.fake=composed", "made of trained trials, not of itself"),
    ("two.parts=[composed/one]", "made of trained trials, not of composed/one, a composite"),
    ("one.parts=[]", "rule mean needs parts"),
    ("one.over=depth", 'generalist has no axis "depth"'),
    ("one.route=detector", "route is of rule: argmax"),
    ("detector+generalist.route=null", "rule argmax needs a router"),
    ("detector+generalist.over=seed", "over is of rule: mean"),
]


@pytest.mark.parametrize(("setting", "why"), REFUSED, ids=[setting for setting, _ in REFUSED])
def test_what_cannot_be_composed_is_refused_at_the_plan(two: Two, setting: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        two.plan(f"stages.composed.compose.{setting}")
    assert "composed" in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("stages.composed.train.count=3",), "a stage that composes trains nothing: move train to a stage of its own"),
        (("stages.detector.evaluate.protocol=null",), "for this stage alone|use protocol: image-1"),
        (("stages.generalist.evaluate.protocol=dfloc-1",), "scored by dfloc-1, the composite by declip-2025"),
        (("stages.generalist.from=composed",), "composes trials and has no weights"),
    ],
)
def test_stages_around_it(two: Two, settings: tuple[str, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        two.plan(*settings)


def test_a_part_whose_domain_lacks_leaves_a_named_hole(two: Two) -> None:
    resolved = two.resolve("domains=[tiny/blur,tiny/noise,tiny/gone]", "stages.fixed.train.domains=[tiny/blur]")
    assert any(
        note.startswith("composed/specialists is left out: it waits for specialists wide domain=tiny/gone")
        for note in resolved.record.notes
    )
    assert not any(trial.case == "specialists" for trial in resolved.record.trials)


def test_a_composite_waits_for_all_its_parts_and_falls_with_one(two: Two) -> None:
    items = two.plan().items
    by_name = {item.name: item for item in items}
    scheduler, started = ParentsFirst(items), list[str]()
    while isinstance(found := scheduler.suggest(), Item):
        started.append(found.name)
    assert found == "wait"
    assert not any(name.startswith("composed") for name in started)
    for name in started:
        scheduler.on_end(by_name[name], "failed" if name == "detector seed=0" else "")
    assert scheduler.dropped == {"composed detector+generalist seed=0": "its parent detector seed=0 failed"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_shards: UPath) -> Two:
    """The study, run in this process."""
    two = Two(tmp_path_factory.mktemp("two"), tiny_shards)
    extract(FeatureStore(two.workspace.features), two.shards, two.plan().jobs, weights=WeightsIndex(two.workspace))
    for digest, refs in two.resolve().lists.items():
        storage.put_json(two.workspace.lists / f"{digest}.json", [ref.id for ref in refs])
    for item in two.plan().items:
        list(run(Work(item.trial.spec, item.train, item.evaluations, two.workspace, two.shards)))
    return two


def frames(two: Two, name: str) -> Iterator[tuple[PlannedTrial, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Yield a composite with the rows of an evaluation of it, and those of its parts; of its router as `route`."""
    trial = two.trials()[name]
    for each in trial.evaluations:
        parts = {
            role: route.rows_of(two.ledger, part.parent, each).to_pandas()
            for role, part in trial.spec.parts.items()
            if role != "route"
        }
        if "route" in trial.spec.parts:
            parts["route"] = route.routers(two.ledger, trial.spec.parts["route"].parent, each).to_pandas()
        yield trial, two.ledger.scored(each).to_pandas(), parts


@pytest.mark.parametrize("name", ["composed detector+generalist seed=0", "composed classifier+2 seed=0"])
def test_rows_are_the_join_by_hand(done: Two, name: str) -> None:
    seen = set[str]()
    for trial, own, parts in frames(done, name):
        router = parts.pop("route")
        for place, called in enumerate(router.called):
            seen.add(called)
            row = own.iloc[place]
            assert row.routed == called
            assert (row.id, row.score) == (router.id[place], router.score[place])
            assert row.trial == trial.fingerprint
            if called == "real":
                assert (row.part, row.tp, row.fp, row.mean_prob) == ("", 0, 0, 0)
                assert row.fn == parts[next(iter(parts))].iloc[place][["tp", "fn"]].sum()
                assert row.iou == (1 if row.fn == 0 else pytest.approx(0, abs=1e-6))
            else:
                part = parts[called].iloc[place]
                assert row.part == part.trial
                assert row[["iou", "ap", "tp", "fp", "fn", "tn", "mean_prob"]].equals(
                    part[["iou", "ap", "tp", "fp", "fn", "tn", "mean_prob"]]
                )
    assert len(seen) > 1, "else nothing is chosen"


def test_it_equals_the_right_router_where_routing_is_right(done: Two) -> None:
    trial = done.trials()["composed classifier+2 seed=0"]
    for each in trial.evaluations:
        found = route.routed(done.ledger, trial.spec, each, "iou")
        assert found is not None
        right = found.true_N == found.called_N
        assert (found.own_N[right] == found.oracle_N[right]).all()
        if each.domain == "tiny/real":
            own = done.ledger.scored(each).to_pandas()
            assert ((own.tp + own.fp) == 0).mean() >= right.mean()


def test_predict_gives_what_the_rows_are_of(done: Two) -> None:
    reader = ShardReader(done.shards)
    for name in ("classifier+2", "detector+generalist", "two", "one"):
        trial = done.trials()[f"composed {name} seed=0"]
        look, each = predictor(done.workspace, trial.spec, "best", "cpu"), trial.evaluations[0]
        refs = {ref.id: ref for ref in done.resolve().lists[each.test.digest]}
        for row in done.ledger.scored(each).to_pylist():
            ref = refs[row["id"]]
            said = look(decode_image(reader.group(ref.shard, ref.group)[ref.row]["image"]["bytes"]))
            assert said.prob_HW is not None
            assert said.routed == (row.get("routed") or "")
            assert said.part == (row.get("part") or "")
            assert said.mean == pytest.approx(row["mean_prob"], abs=1e-6)
            assert int((said.prob_HW > 0.5).sum()) == row["tp"] + row["fp"]


def test_the_mean_of_one_part_is_that_part_bit_for_bit(done: Two) -> None:
    trials = done.trials()
    one, alone = trials["composed one seed=0"], trials["generalist seed=0"]
    for mine, theirs in zip(one.evaluations, alone.evaluations, strict=True):
        own, other = (done.ledger.scored(each).to_pandas().drop(columns="trial") for each in (mine, theirs))
        pd.testing.assert_frame_equal(own, other, check_exact=True)


def test_a_mean_lies_between_its_parts(done: Two) -> None:
    for _, own, parts in frames(done, "composed two seed=0"):
        low, high = np.minimum(*(part.mean_prob for part in parts.values())), None
        high = np.maximum(*(part.mean_prob for part in parts.values()))
        assert ((own.mean_prob >= low - 1e-6) & (own.mean_prob <= high + 1e-6)).all()
        assert own.mean_prob.to_numpy() == pytest.approx(np.mean([part.mean_prob for part in parts.values()], 0))


def test_a_second_run_has_nothing_to_do(done: Two) -> None:
    assert done.plan().items == ()


def test_lost_rows_are_joined_again_and_a_lost_end_is_put_again(done: Two) -> None:
    trial = done.trials()["composed classifier+2 seed=0"]
    folder = done.ledger.folder(trial.fingerprint)
    lost = folder / "rows" / f"{trial.evaluations[0].key}.parquet"
    before = lost.read_bytes()
    lost.unlink()
    (folder / "done.json").unlink()
    [item] = done.plan().items
    assert (item.train, item.evaluations) == (False, trial.evaluations[:1])
    list(run(Work(item.trial.spec, item.train, item.evaluations, done.workspace, done.shards)))
    assert lost.read_bytes() == before
    assert done.plan().items == ()


def test_nothing_starts_from_a_composite(done: Two) -> None:
    name = done.trials()["composed two seed=0"].fingerprint[:12]
    with pytest.raises(ConfigError, match=f"trial {name} is composed of others and has no weights; start from one of"):
        done.plan(f"stages.fixed.from={{trial: '{name}'}}")


def test_reals_that_a_part_without_weights_is_not_scored_on_are_not_joined(done: Two) -> None:
    trials = done.trials()
    composed, part = trials["composed detector+generalist seed=0"], trials["generalist seed=0"]
    before = {
        path: path.read_bytes() for one in (composed, part) for path in done.ledger.folder(one.fingerprint).rglob("*.*")
    }
    for one in (composed, part):
        for each in one.evaluations:
            if each.domain == "tiny/real":
                (done.ledger.folder(one.fingerprint) / "rows" / f"{each.key}.parquet").unlink()
    for path in done.ledger.folder(part.fingerprint).rglob("*.safetensors"):
        path.unlink()
    found = done.plan()
    asked = done.plan("evaluate.reals=[real]")
    for path, content in before.items():
        path.write_bytes(content)
    assert found.items == ()
    assert any("not scored on tiny/real, since their weights are gone" in note for note in found.notes)
    assert {item.name for item in asked.items} == {composed.name, part.name}


def test_a_mean_is_scored_on_what_its_parts_read(done: Two) -> None:
    trials = done.trials()
    part, mean = trials["generalist seed=0"].spec, trials["composed two seed=0"].spec
    assert mean.maps == ()
    assert tuple(maps_of(mean, done.ledger)) == part.maps
    routed = trials["composed detector+generalist seed=0"].spec
    assert maps_of(routed, done.ledger) == (), "rows alone are read"


def test_a_part_that_failed_leaves_a_named_hole(two: Two) -> None:
    detector = two.trials()["detector seed=0"]
    two.ledger.begin(detector.spec).fail("error", "of its own")
    plan = two.plan()
    said = "composed detector+generalist seed=0 waits for detector seed=0, which failed"
    assert said in plan.notes
    assert not any(item.trial.case == "detector+generalist" for item in plan.items)


def test_a_part_without_rows_is_named(two: Two) -> None:
    trial = two.trials()["composed detector+generalist seed=0"]
    with pytest.raises(WorkspaceError, match=r"has no rows of tiny/blur .* dfloc evaluate"):
        route.routers(two.ledger, trial.spec.parts["route"].parent, trial.evaluations[0])


def test_what_mlflow_is_told(done: Two) -> None:
    record = done.resolve().record
    trial = done.trials()["composed classifier+2 seed=0"]
    numbers = summary(record, done.ledger, trial)
    each = next(one for one in trial.evaluations if one.domain == "tiny/blur" and one.checkpoint == "best")
    router = route.routers(done.ledger, trial.spec.parts["route"].parent, each).to_pandas()
    assert numbers["route/tiny/blur/recall"] == (router.called == "blur").mean()
    costs = [
        found.cost
        for one in trial.evaluations
        if one.checkpoint == "best" and one.domain != "tiny/real"
        if (found := route.routed(done.ledger, trial.spec, one, "iou"))
    ]
    assert numbers["route/cost"] == pytest.approx(np.mean(costs))
    assert "test/tiny/blur/iou" in numbers
    alone = summary(record, done.ledger, done.trials()["generalist seed=0"])
    assert not any(name.startswith("route/") for name in alone)
