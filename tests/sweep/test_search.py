"""A search without Ray: trials fare as told, and a kill may come after any epoch."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from dfloc.engine import checkpoint
from dfloc.errors import ConfigError
from dfloc.features.store import FeatureStore
from dfloc.models import decoders
from dfloc.outcome import EpochRecord
from dfloc.planned import PlannedTrial
from dfloc.record import Starts, SweepRecord, files
from dfloc.registry import map_spec
from dfloc.repro import generator
from dfloc.sweep.data import Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Item, Plan, make
from dfloc.sweep.resolve import resolve
from dfloc.sweep.scheduler import SearchScheduler
from dfloc.sweep.search import Search
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from tests.sweep.conftest import STUDY, Planner

SEARCH = """
search:
  stage: search
  trials: 7
  space:
    lr: {low: 1e-4, high: 1e-1, log: true}
    depth: [4, 8]
    loss: [bce, dice]
  sampler: {startup: 3}
  pruner: {min_epochs: 1, factor: 2}
"""
TRAIN = """  search:
    train: {domains: all, count: 6, valid: 2}
"""
STAGE = f"""{TRAIN}    trial: {{decoder: {{depth: depth}}, optimizer: {{lr: lr}}, loss: {{name: loss}}, epochs: 3}}
"""
FINITE = ("search.space.lr=[1e-3,1e-2]",)


class KilledError(Exception):
    pass


Fare = Callable[[PlannedTrial], Sequence[float] | None]


def fare(trial: PlannedTrial) -> Sequence[float] | None:
    """Return validation IoU by epoch; None: it diverges."""
    spec = trial.spec
    if spec.optimizer.lr > 5e-2:
        return None
    final = 0.8 - 0.1 * (math.log10(spec.optimizer.lr) + 3) ** 2 - 0.1 * (spec.decoder.depth == 8)
    final -= 0.05 * (spec.loss.name == "dice")
    return [final * share for share in (0.5, 0.8, 1.0)]


@dataclass
class Run:
    """One start of a search, one trial at a time.

    Attributes:
        kill: after so many epochs of all trials.
        keep: puts a point on record.
        told: names of trials that were done before.
        epochs: that were trained.
    """

    planner: Planner
    settings: tuple[str, ...] = ()
    fare: Fare = fare
    kill: int = 10**6
    keep: Callable[[Starts, SweepRecord], None] = Starts.add
    told: list[str] = field(default_factory=list)
    epochs: int = 0

    def plan(self, retry_failed: bool = False) -> tuple[Plan, Search]:
        study = expand(SweepFile(self.planner.file).choose("own", self.settings), only=("search",))
        data, workspace = Shards(self.planner.shards, "tiny"), self.planner.workspace
        resolved = resolve(study, data, Inventory(workspace), preset="own")
        old = Starts(workspace.sweep(resolved.record.sweep)).all
        found = Search(study, resolved, self.planner.ledger, [*old.values()])
        store = FeatureStore(workspace.features)
        drawn = found.resolved(retry_failed)
        return make(drawn, self.planner.ledger, store, workspace.root / "sweeps", retry_failed), found

    def go(self) -> "Run":
        plan, drawn = self.plan()
        folder = self.planner.workspace.sweep(plan.record.sweep)
        starts = Starts(folder)
        starts.begin(plan.record)
        keep = partial(self.keep, starts)
        scheduler = SearchScheduler(plan.items, drawn, keep=keep, check=lambda: None, on_done_before=self.told.append)
        while isinstance(item := scheduler.suggest(), Item):
            how = "did not finish"
            for entry in self._train(item):
                if how := scheduler.on_result(item, entry):
                    break
                how = entry.get("failed", "" if "finished" in entry else "did not finish")
            scheduler.on_end(item, how)
        assert item == "end"
        return self

    def _train(self, item: Item) -> Iterator[dict[str, Any]]:
        spec, ledger = item.trial.spec, self.planner.ledger
        assert item.train
        attempt = ledger.begin(spec)
        records = list(attempt.records)
        if records:
            yield {"epoch": len(records), "epochs": 3, "goes_on": True}
        values = self.fare(item.trial)
        for epoch in range(len(records) + 1, 4):
            if values is None:
                attempt.fail("nan", "diverged")
                yield {"epoch": 3, "epochs": 3, "failed": "diverged"}
                return
            if self.epochs == self.kill:
                raise KilledError
            self.epochs += 1
            records.append(
                EpochRecord(
                    epoch=epoch, steps=epoch, images=1, valid={"loss": 0, "iou": values[epoch - 1]}, seconds=1, time=0
                )
            )
            attempt.save_epoch(b"state", records)
            yield {"epoch": epoch, "epochs": 3, "valid_iou": values[epoch - 1]}
        finish(self.planner, item.trial, attempt, epoch=3)
        yield {"epoch": 3, "epochs": 3, "finished": True}

    def points(self) -> list[tuple[str, ...]]:
        record = SweepRecord.load(self.planner.workspace.sweep("tiny-own-tiny"))
        assert record
        assert record.search
        return list(record.search.points)

    def states(self) -> list[tuple[str, int]]:
        ledger = self.planner.ledger
        return [
            (ledger.state(name, "tiny-own-tiny"), len(ledger.epochs(name))) for names in self.points() for name in names
        ]

    def trials(self) -> list[PlannedTrial]:
        record = SweepRecord.load(self.planner.workspace.sweep("tiny-own-tiny"))
        assert record
        by_name = {trial.fingerprint: trial for trial in record.trials}
        return [by_name[name] for names in self.points() for name in names]


def finish(planner: Planner, trial: PlannedTrial, attempt: Any, epoch: int) -> None:
    decoder = decoders.build(trial.spec.decoder, [map_spec(trial.spec.maps[0].map)], generator(0, "init"))
    weights = checkpoint.to_bytes(checkpoint.weights_of(decoder), trial.spec)
    attempt.finish(weights, weights, epoch, {})
    import pyarrow as pa

    for evaluation in trial.evaluations:
        images = [f"image {number}" for number in range(evaluation.test.size)]
        rows = pa.table({"id": images, "stem": images, "iou": [0.5] * len(images)})
        planner.ledger.put_rows(trial.fingerprint, evaluation.key, rows)


@pytest.fixture
def searched(planner: Planner) -> Planner:
    planner.file.write_text(STUDY.replace("evaluate:", f"{STAGE}evaluate:") + SEARCH)
    return planner


def search(planner: Planner, *settings: str, **how: Any) -> Run:
    return Run(planner, settings, **how)


def at(planner: Planner, name: str) -> Planner:
    """Return the same study in another workspace."""
    folder = planner.file.parent / name
    folder.mkdir()
    other = Planner(folder, planner.shards)
    other.file.write_text(planner.file.read_text())
    return other


def test_a_search_draws_what_was_asked_and_ends(searched: Planner) -> None:
    plan, _ = search(searched).plan()
    assert (len(plan.items), plan.resolved.to_draw, plan.left) == (0, 7, 7)
    run = search(searched).go()
    assert len(run.points()) == 7
    states = run.states()
    assert states[0] == ("done", 3), "the first has no rival"
    assert {"done", "stopped"} <= {state for state, _ in states}
    assert all(epochs < 3 for state, epochs in states if state == "stopped")
    plan, _ = search(searched).plan()
    assert (plan.left, plan.stopped) == (0, sum(state == "stopped" for state, _ in states))
    assert any(line.endswith(f"stopped early by the search: {plan.stopped}") for line in plan.lines())
    assert not plan.jobs, "no backbone looks at anything for a search that is over"


def test_the_spec_of_a_point_is_the_one_that_a_grid_would_give(searched: Planner) -> None:
    drawn = search(searched, *FINITE).go().trials()
    grid = [f"stages.search.grid.{key}" for key in ("lr=[1e-3,1e-2]", "depth=[4,8]", "loss=[bce,dice]")]
    searched.file.write_text(searched.file.read_text().replace(SEARCH, ""))
    study = expand(SweepFile(searched.file).choose("own", grid), only=("search",))
    data = Shards(searched.shards, "tiny")
    listed = resolve(study, data, Inventory(searched.workspace), preset="own").record.trials
    assert len(drawn) == 7
    assert {trial.fingerprint for trial in drawn} < {trial.fingerprint for trial in listed}
    assert len(listed) == 8


@pytest.mark.parametrize("kill", [0, 1, 2, 3, 4, 7])
def test_a_killed_search_goes_on_as_if_it_had_not_been(searched: Planner, kill: int) -> None:
    whole = search(at(searched, "whole")).go()
    with pytest.raises(KilledError):
        search(searched, kill=kill).go()
    rest = search(searched).go()
    assert rest.points() == whole.points()
    assert rest.states() == whole.states()
    assert kill + rest.epochs == whole.epochs, "no epoch is trained twice"


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("point", [1, 2, 5])
def test_a_kill_before_or_behind_the_record_of_a_point_loses_none_and_draws_none_twice(
    searched: Planner, point: int, written: bool
) -> None:
    def keep(starts: Starts, drawn: SweepRecord) -> None:
        number = len(starts.union.search.points) + 1 if starts.union.search else 0
        if number < point or written:
            starts.add(drawn)
        if number == point:
            raise KilledError

    whole = search(at(searched, "whole")).go()
    with pytest.raises(KilledError):
        search(searched, keep=keep).go()
    assert len(search(searched).points()) == point - (not written)
    rest = search(searched).go()
    assert (rest.points(), rest.states()) == (whole.points(), whole.states())
    assert not [path for path in searched.workspace.sweep("tiny-own-tiny").rglob("*") if path.suffix == ".part"]


def test_a_start_of_other_stages_or_another_protocol_keeps_what_was_drawn(searched: Planner) -> None:
    whole = search(at(searched, "whole")).go()
    search(searched, "search.trials=4").go()
    place = searched.workspace.sweep("tiny-own-tiny")
    other = searched.resolve("evaluate.protocol=dfloc-1", only=("baselines",)).record
    record = other.save(place)
    assert record.search
    assert len(record.search.points) == 4
    assert {trial.stage for trial in record.trials} == {"baselines", "search"}
    assert record.protocols == ("declip-2025", "dfloc-1")
    assert search(searched, "search.trials=4").plan()[0].left == 0
    rest = search(searched).go()
    assert rest.points() == whole.points()
    assert {trial.stage for trial in (SweepRecord.load(place) or record).trials} == {"baselines", "search"}


def test_the_same_search_again_adds_no_file(searched: Planner) -> None:
    search(searched).go()
    place = searched.workspace.sweep("tiny-own-tiny")
    before = {path.path: path.read_bytes() for path in files(place).values()}
    assert [path.rpartition("/")[2] for path in before] == ["1.json", *(f"1.{k}.json" for k in range(1, 8))]
    search(searched).go()
    assert {path.path: path.read_bytes() for path in files(place).values()} == before
    search(searched, "search.trials=6").go()
    assert len(files(place)) == 9


def test_more_points_go_on_from_those_that_were_drawn(searched: Planner) -> None:
    first = search(searched, "search.trials=4").go()
    before = first.points()
    more = search(searched, "search.trials=7").go()
    assert more.points()[:4] == before
    assert more.points() == search(at(searched, "at-once")).go().points()


def test_a_search_that_comes_back_to_an_earlier_space_finds_its_points(searched: Planner) -> None:
    """Between them another space was searched, another recipe, and no search at all: nothing is drawn twice."""
    first = search(searched).go()
    narrow = search(searched, "search.space.lr={low: 1e-4, high: 2e-4, log: true}", "search.trials=2").go()
    search(searched, "stages.search.trial.batch=2", "search.trials=2").go()
    searched.resolve(only=("baselines",)).record.save(searched.workspace.sweep("tiny-own-tiny"))
    again = search(searched)
    assert again.plan()[0].left == 0
    assert again.go().epochs == 0
    assert {*again.points()} >= {*first.points()}
    assert len({*again.points()}) == len(again.points())
    assert narrow.points(), "of another space"


def test_more_seeds_or_fewer_keep_the_points(searched: Planner) -> None:
    settings = ("search.pruner=none", "search.trials=2")
    before = search(searched, *settings).go().points()
    two = search(searched, *settings, "seeds=2").go()
    assert [names[:1] for names in two.points()] == before
    assert [len(names) for names in two.points()] == [2, 2]
    fewer = search(searched, *settings).go()
    assert fewer.epochs == 0
    assert fewer.points() == before


def test_what_the_ledger_has_is_told_and_not_run_again(searched: Planner) -> None:
    whole = search(searched, "search.pruner=none").go()
    run = search(searched, "search.pruner=none", "name=other")
    plan, _ = run.plan()
    assert plan.record.sweep == "other-own-tiny"
    run.go()
    assert run.epochs == 0
    diverged = sum(state == "failed" for state, _ in whole.states())
    assert len(run.told) == 7, f"{diverged} of them failed before, which is not repeated"


def test_a_space_with_fewer_points_is_drawn_once_and_whole(searched: Planner) -> None:
    run = search(searched, *FINITE, "search.trials=50").go()
    plan, _ = search(searched, *FINITE, "search.trials=50").plan()
    assert len({*run.points()}) == len(run.points()) == 8
    assert plan.left == 0


def test_points_of_one_fingerprint_are_one_point(searched: Planner) -> None:
    """A linear decoder has no depth: 2 x 2 x 2 points are 2 x 2 trials."""
    linear = ("stages.search.trial.decoder.name=linear", "stages.search.trial.decoder.channels=auto", *FINITE)
    run = search(searched, *linear, "search.trials=8").go()
    assert len({*run.points()}) == len(run.points()) == 4
    assert search(searched, *linear, "search.trials=8").plan()[0].left == 0


def test_another_recipe_draws_anew_and_the_old_trials_are_told_as_replaced(searched: Planner) -> None:
    old = search(searched).go().points()
    run = search(searched, "stages.search.trial.batch=2").go()
    assert len(run.points()) == 7
    assert not {*run.points()} & {*old}
    record = SweepRecord.load(searched.workspace.sweep("tiny-own-tiny"))
    assert record
    assert {name for names in old for name in names} <= {trial.fingerprint for trial in record.replaced}


def test_a_failed_point_is_not_repeated_and_retry_failed_runs_it(searched: Planner) -> None:
    run = search(searched, fare=lambda trial: None if trial.axes["point"] == 2 else fare(trial) or [0.1] * 3).go()
    assert [state for state, _ in run.states()].count("failed") == 1
    assert search(searched).plan()[0].left == 0
    again, _ = search(searched).plan(retry_failed=True)
    assert [item.trial.axes["point"] for item in again.items] == [2]


def test_a_stop_is_final_for_its_own_sweep_alone(searched: Planner) -> None:
    run = search(searched).go()
    stopped = [names[0] for names, (state, _) in zip(run.points(), run.states(), strict=True) if state == "stopped"]
    assert stopped
    assert {searched.ledger.state(name) for name in stopped} == {"partial"}
    assert {searched.ledger.state(name, "another") for name in stopped} == {"partial"}
    trial = next(trial for trial in run.trials() if trial.fingerprint == stopped[0])
    attempt = searched.ledger.begin(trial.spec)
    assert len(attempt.records) == run.states()[run.points().index((stopped[0],))][1], "it goes on from its checkpoint"
    finish(searched, trial, attempt, epoch=1)
    assert searched.ledger.state(stopped[0], "tiny-own-tiny") == "done", "what another sweep finished is finished"


def test_each_training_domain_is_left_out_once(searched: Planner) -> None:
    run = search(searched, "search.objective=leave-one-training-domain-out", "search.trials=3", "search.pruner=none")
    assert run.plan()[0].resolved.to_draw == 3 * 2
    run.go()
    assert [len(names) for names in run.points()] == [2, 2, 2]
    for one, two in zip(run.trials()[::2], run.trials()[1::2], strict=True):
        assert [set(trial.spec.train.counts) for trial in (one, two)] == [{"tiny/noise"}, {"tiny/blur"}]
        assert [set(trial.spec.valid.counts) for trial in (one, two)] == [{"tiny/blur"}, {"tiny/noise"}]
        assert {key: value for key, value in one.axes.items() if key != "left_out"} == {
            key: value for key, value in two.axes.items() if key != "left_out"
        }


def test_the_value_of_a_point_is_the_mean_over_its_folds(searched: Planner) -> None:
    values = {"tiny/blur": 0.2, "tiny/noise": 0.6}
    settings = ("search.objective=leave-one-training-domain-out", "search.trials=2", "search.pruner=none")
    search(searched, *settings, fare=lambda trial: [values[trial.axes["left_out"]]] * 3).go()
    _, drawn = search(searched, *settings).plan()
    assert [one.value for one in drawn.tried()] == [pytest.approx(0.4)] * 2


def test_folds_are_compared_with_their_own_kind_and_a_stopped_one_ends_its_point(searched: Planner) -> None:
    """The second point is worse on the first fold, on which it is stopped; its second fold is never trained."""
    settings = ("search.objective=leave-one-training-domain-out", "search.trials=2")

    def fared(trial: PlannedTrial) -> Sequence[float]:
        return [{"tiny/blur": 0.2, "tiny/noise": 0.6}[trial.axes["left_out"]] - 0.1 * trial.axes["point"]] * 3

    run = search(searched, *settings, fare=fared).go()
    assert run.states() == [("done", 3), ("done", 3), ("stopped", 1), ("new", 0)]
    plan, drawn = search(searched, *settings).plan()
    assert plan.left == 0
    assert [(one.state, one.value, one.epochs) for one in drawn.tried()] == [
        ("done", pytest.approx(0.4), 6),
        ("stopped", None, 1),
    ]


@pytest.mark.parametrize(
    ("settings", "axis", "better"),
    [
        (("search.objective=leave-one-training-domain-out",), "left_out", "tiny/blur"),
        (("seeds=2",), "seed", 0),
    ],
)
def test_a_stopped_point_has_the_mean_of_all_its_trials_or_no_value(
    searched: Planner, settings: Sequence[str], axis: str, better: object
) -> None:
    """After the first, even points are better on one trial and are stopped on the other, odd ones on the first."""

    def fared(trial: PlannedTrial) -> Sequence[float]:
        number = trial.axes["point"]
        value = {True: 0.2, False: 0.6}[trial.axes[axis] == better]
        up = trial.axes[axis] == better and number % 2 == 0
        return [value + (0.01 if up else -0.01) * number] * 3

    settings = (*settings, "search.trials=5")
    search(searched, *settings, fare=fared).go()
    _, drawn = search(searched, *settings).plan()
    assert [(one.state, one.value and round(one.value, 6)) for one in drawn.tried()] == [
        ("done", 0.4),
        ("stopped", None),
        ("stopped", 0.4),
        ("stopped", None),
        ("stopped", 0.4),
    ]
    found = drawn.added_to(drawn.resolved(retry_failed=False).record).search
    assert found
    assert (found.weighed, found.importance) == (0, {}), "three of the five have a value"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("stage: search\n", "stage: saerch\n"), r'tiny.yaml line \d+: unknown stage "saerch"; did you mean "search"'),
        (("trials: 7", "trials: 0"), r"tiny.yaml line \d+: search.trials: .*greater than or equal to 1"),
        (("trials: 7", "trials: 7\n  objective: test/iou"), r"search.objective: should be valid or leave-one.*test"),
        (("trials: 7", "trials: 7\n  objective: test/mean/iou"), r"never looks at test images"),
        (("trials: 7", "trials: 7\n  objective: vaild"), r"should be valid or leave-one-training-domain-out"),
        (("depth: [4, 8]", "dpeth: [4, 8]"), r'line \d+: axis "dpeth" of stage search is read by nothing'),
        (("depth: [4, 8]", "depth: []"), r"line \d+: search.space.depth: .*needs one choice"),
        (("depth: [4, 8]", "depth: [4, 6]"), r"depth.*multiple of 4"),
        (("loss: [bce, dice]", "loss: [bce, dcie]"), r'unknown loss "dcie"; did you mean "dice"'),
        (("loss: [bce,", "trial.optimizer.rl: [1]\n    loss: [bce,"), r'line \d+: unknown key "rl" in trial.optimizer'),
        (("low: 1e-4", "low: 1.0"), r"line \d+: search.space.lr: .*low should be less than high"),
        (("low: 1e-4", "low: 0"), r"a logarithm needs low > 0"),
        (("low: 1e-4", "lwo: 1e-4"), r'line \d+: unknown key "lwo" in search.space.lr; did you mean "low"'),
        (("min_epochs: 1", "min_epochs: 3"), r"line \d+: min_epochs should be less than the 3 epochs of a trial"),
        (("min_epochs: 1", "min_epochs: 0"), r"line \d+: search.pruner.min_epochs"),
        (("factor: 2", "factor: 1"), r"line \d+: search.pruner.factor: .*greater than or equal to 2"),
        (("sampler: {startup: 3}", "sampler: cmaes"), r"search.sampler.name.*'tpe' or 'random'"),
        (("stage: search\n", "stage: base\n"), r"stage finetune starts from base, whose trials are drawn"),
        ((TRAIN, TRAIN.replace("valid: 2", "valid: {blur: 1, rest: 2}")), r"needs the same number of validation"),
        (("depth: [4, 8]", "depth: [4, 8]\n    train.valid_domains: [all, blur]"), r"line \d+: every point"),
        (("depth: [4, 8]", "depth: [4, 8]\n    train.valid: [1, 2]"), r"judged by the same validation images"),
        (("depth: [4, 8]", "depth: [4, 8]\n    train.domains: [all, blur]"), r"judged by the same validation images"),
        ((TRAIN, TRAIN.replace("all", "blur")), r"needs two domains"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_search_is_one_message_with_its_line(
    searched: Planner, change: tuple[str, str], message: str
) -> None:
    text = searched.file.read_text()
    assert change[0] in text
    searched.file.write_text(text.replace(*change))
    settings = ("search.objective=leave-one-training-domain-out",) if "two domains" in message else ()
    with pytest.raises(ConfigError, match=message) as caught:
        search(searched, *settings).plan()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("setting", ["search=5", "search=tpe", "search.space=5", "search.space=[1]", "search=[1]"])
def test_a_search_that_is_no_mapping_is_one_message(searched: Planner, setting: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--set {setting}: ")):
        search(searched, setting).plan()


def test_an_axis_may_change_the_training_images_where_the_validation_images_stay(searched: Planner) -> None:
    text = searched.file.read_text().replace("    loss: [bce, dice]\n", "    train.domains: [[blur], [noise]]\n")
    text = text.replace("loss: {name: loss}, ", "").replace(
        "count: 6, valid: 2}\n    trial", "count: 6, valid: 2, valid_domains: all}\n    trial"
    )
    searched.file.write_text(text)
    trials = search(searched).go().trials()
    assert {frozenset(trial.spec.train.counts) for trial in trials} == {
        frozenset({"tiny/blur"}),
        frozenset({"tiny/noise"}),
    }
    assert len({trial.spec.valid.digest for trial in trials}) == 1


def test_an_axis_may_be_named_by_the_field_that_it_changes(searched: Planner) -> None:
    text = searched.file.read_text().replace("    loss: [bce, dice]\n", "    trial.batch: [2, 3]\n")
    searched.file.write_text(text.replace("loss: {name: loss}, ", ""))
    assert {trial.spec.batch for trial in search(searched).go().trials()} == {2, 3}


def test_choices_may_be_mappings_and_one_that_is_written_twice_is_drawn_once(searched: Planner) -> None:
    choices = "search.space.loss=[bce,{name: bce},{gamma: 3, name: focal}]"
    settings = (*FINITE, "search.space.depth=[4]", choices)
    run = search(searched, *settings).go()
    assert {(trial.axes["loss"], trial.spec.loss.gamma) for trial in run.trials()} == {
        ("bce", 2.0),
        ("focal(gamma=3)", 3.0),
    }
    assert len(run.points()) == 4
    plan, drawn = search(searched, *settings).plan()
    assert (plan.left, len(drawn.points)) == (0, 4), "every point is known again by its trials"
    assert any("loss is bce in" in note for note in plan.record.notes)


def test_a_search_that_could_draw_a_batch_of_one_is_refused_at_the_plan(searched: Planner) -> None:
    rows = "search.space={lr: [1e-3], depth: [4], loss: [bce], trial.decoder.grid: [1, 4], trial.batch: [4, 5]}"
    with pytest.raises(
        ConfigError, match=r"^--set search\.space=.*stage search: decoder conv cannot be trained on one"
    ):
        search(searched, rows, "stages.search.train.count=8").plan()
    assert search(searched, rows.replace("5", "8"), "stages.search.train.count=8").plan()[0].resolved.to_draw == 4
