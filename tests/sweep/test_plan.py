import numpy as np
import pyarrow as pa
import pytest

from dfloc.data.manifest import Manifest, SampleRef, read_samples
from dfloc.engine import checkpoint
from dfloc.features.store import CLEAN, FeatureStore
from dfloc.ledger import EpochRecord
from dfloc.models import decoders
from dfloc.planned import PlannedTrial
from dfloc.registry import map_spec
from dfloc.repro import generator
from dfloc.sweep.plan import Plan
from tests.sweep.conftest import Planner


def finish(planner: Planner, trial: PlannedTrial, rows: bool = True) -> None:
    """Put a trial into the ledger as if it had been trained."""
    attempt = planner.ledger.begin(trial.spec)
    record = EpochRecord(epoch=1, steps=1, images=1, valid={"loss": 0.0, "iou": 0.5}, seconds=1.0, time=0.0)
    attempt.save_epoch(b"state", [record])
    decoder = decoders.build(trial.spec.decoder, [map_spec(trial.spec.maps[0].map)], generator(0, "init"))
    weights = checkpoint.to_bytes(checkpoint.weights_of(decoder), trial.spec)
    attempt.finish(weights, weights, 1, {})
    for evaluation in trial.evaluations if rows else ():
        planner.ledger.put_rows(trial.fingerprint, evaluation.key, pa.table({"iou": [0.5]}))


def stage_of(plan: Plan) -> list[str]:
    return [item.trial.stage for item in plan.items]


def base_of(plan: Plan) -> PlannedTrial:
    return next(trial for trial in plan.record.trials if trial.stage == "base")


def test_new_workspace_has_everything_to_run_parents_first(planner: Planner) -> None:
    plan = planner.plan()
    assert stage_of(plan) == ["base"] * 2 + ["finetune"] * 4 + ["baselines"] * 2
    assert all(item.train for item in plan.items)
    assert (plan.done, plan.shared, plan.failed) == (0, 0, ())
    wanted = {ref.id for refs in planner.resolve().lists.values() for ref in refs}
    assert sum(job.rows for job in plan.jobs) == len(wanted) == max(plan.images.values())


def test_finished_trials_are_not_to_run(planner: Planner) -> None:
    trial = base_of(planner.plan())
    finish(planner, trial)
    plan = planner.plan()
    assert plan.done == 1
    assert trial.fingerprint not in {item.trial.fingerprint for item in plan.items}
    for trial in plan.record.trials:
        finish(planner, trial)
    plan = planner.plan()
    assert plan.items == ()
    assert plan.jobs == ()
    assert "0 to run: 0 to train, 0 evaluations" in list(plan.lines())


def test_one_more_count_runs_the_new_trials_alone(planner: Planner) -> None:
    for trial in planner.plan().record.trials:
        finish(planner, trial)
    plan = planner.plan("stages.finetune.grid.n=[2,3,4]")
    assert [(item.trial.stage, item.trial.axes["n"]) for item in plan.items] == [("finetune", 3)] * 2


def test_trained_but_not_scored_is_an_item_of_evaluations(planner: Planner) -> None:
    trial = base_of(planner.plan())
    finish(planner, trial, rows=False)
    planner.ledger.put_rows(trial.fingerprint, trial.evaluations[0].key, pa.table({"iou": [0.5]}))
    (item,) = [item for item in planner.plan().items if item.trial.fingerprint == trial.fingerprint]
    assert not item.train
    assert item.evaluations == trial.evaluations[1:]


def test_another_sweep_shares_what_is_finished(planner: Planner) -> None:
    first = planner.plan()
    first.record.save(planner.workspace.sweep(first.record.sweep))
    for trial in first.record.trials:
        finish(planner, trial)
    plan = planner.plan("name=second")
    assert (len(plan.items), plan.done, plan.shared) == (0, 8, 8)


def test_failed_trials_and_their_children_are_not_repeated_unless_asked(planner: Planner) -> None:
    trial = base_of(planner.plan())
    planner.ledger.begin(trial.spec).fail("nan", "the loss was no number", 1, 1)
    plan = planner.plan()
    children = {t.fingerprint for t in plan.record.trials if t.parent == trial.fingerprint}
    assert set(plan.failed) == {trial.fingerprint, *children}
    assert not {trial.fingerprint, *children} & {item.trial.fingerprint for item in plan.items}
    assert len(planner.plan(retry_failed=True).items) == 8


@pytest.mark.parametrize("with_child", [True, False])
def test_gone_weights_are_trained_again_only_for_who_needs_them(planner: Planner, with_child: bool) -> None:
    plan = planner.plan()
    trial = base_of(plan)
    for other in plan.record.trials:
        if not with_child or other.parent != trial.fingerprint:
            finish(planner, other)
    planner.ledger.weights(trial.fingerprint, "best").unlink()
    plan = planner.plan()
    again = [item for item in plan.items if item.trial.fingerprint == trial.fingerprint]
    assert bool(again) is with_child
    assert any("weights are gone" in note for note in plan.notes) is with_child


def reals_of(trial: PlannedTrial) -> list[str]:
    return [one.key for one in trial.evaluations if one.domain == "tiny/real"]


def before_reals(planner: Planner) -> Plan:
    """Finish every trial as a start without reals would."""
    plan = planner.plan("evaluate.reals=[]")
    for trial in plan.record.trials:
        finish(planner, trial)
    return plan


def test_a_finished_trial_is_scored_on_reals_that_nobody_named_and_not_trained(planner: Planner) -> None:
    before_reals(planner)
    plan = planner.plan()
    assert [item.train for item in plan.items] == [False] * 8
    assert all([one.key for one in item.evaluations] == reals_of(item.trial) for item in plan.items)
    assert not plan.notes
    assert "8 to run: 0 to train, 16 evaluations" in list(plan.lines())


def test_for_reals_that_nobody_named_no_gone_weights_are_trained_again(planner: Planner) -> None:
    for trial in before_reals(planner).record.trials:
        for one in ("best", "last"):
            planner.ledger.weights(trial.fingerprint, one).unlink()
    plan = planner.plan()
    assert (plan.items, plan.done) == ((), 8)
    assert plan.notes == (
        "finished trials that are not scored on tiny/real, since their weights are gone or damaged: 8; "
        "--set evaluate.reals=[tiny/real] trains them again for it",
    )
    named = planner.plan("evaluate.reals=[tiny/real]")
    assert [item.train for item in named.items] == [True] * 8, "asked for by name, like anything else"


def test_one_of_gone_weights_that_runs_anyway_is_scored_on_reals_too(planner: Planner) -> None:
    plan = planner.plan("evaluate.reals=[]")
    trial, other = [one for one in plan.record.trials if one.stage == "base"]
    finish(planner, trial)
    finish(planner, other)
    rows = planner.ledger.folder(other.fingerprint) / "rows" / f"{other.evaluations[0].key}.parquet"
    rows.unlink()
    for one in (trial, other):
        planner.ledger.weights(one.fingerprint, "best").unlink()
    by_name = {item.trial.fingerprint: item for item in planner.plan().items}
    for one, keys in ((trial, []), (other, [other.evaluations[0].key])):
        item = by_name[one.fingerprint]
        assert item.train, "for its child, or for rows that the study asks for"
        assert [each.key for each in item.evaluations] == sorted(
            [*keys, *reals_of(item.trial)], key=[each.key for each in item.trial.evaluations].index
        )


def test_lines_count_the_trials_of_each_stage(planner: Planner) -> None:
    lines = list(planner.plan().lines())
    assert lines[:3] == ["stage base: 2 trials", "stage finetune: 4 trials", "stage baselines: 2 trials"]
    assert "8 to run: 8 to train, 48 evaluations" in lines


def test_time_left_is_what_the_steps_took_so_far(planner: Planner) -> None:
    plan = planner.plan()
    assert plan.seconds is None
    for trial in plan.record.trials:
        if trial.stage in ("base", "baselines"):
            finish(planner, trial)
    left = sum(trial.spec.steps for trial in plan.record.trials if trial.stage == "finetune")
    assert planner.plan().seconds == left * 1.0, "finish() says one second and one step of each trial"


def test_damaged_rows_are_to_be_made_again(planner: Planner, caplog: pytest.LogCaptureFixture) -> None:
    for trial in planner.plan().record.trials:
        finish(planner, trial)
    trial = base_of(planner.plan())
    (path, *_) = (planner.ledger.folder(trial.fingerprint) / "rows").glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    (item,) = planner.plan().items
    assert (item.trial.fingerprint, item.train) == (trial.fingerprint, False)
    assert [each.key for each in item.evaluations] == [path.stem]
    assert "rows are made again" in caplog.text
    path.unlink()
    assert [each.key for each in planner.plan().items[0].evaluations] == [path.stem]


def test_damaged_features_are_counted_said_and_made_again(planner: Planner) -> None:
    plan = planner.plan()
    store = FeatureStore(planner.workspace.features)
    for job in plan.jobs:
        rows = [ref.id for ref in all_refs(planner) if (ref.shard_digest, ref.group) == (job.shard_digest, job.group)]
        for recipe in job.recipes:
            store.put(recipe, CLEAN, job.shard_digest, job.group, np.zeros((len(rows), 1)), rows)
    assert planner.plan().jobs == ()
    for path in store.files()[:2]:
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    plan = planner.plan()
    assert "2 groups of stored features are damaged, they are made again" in plan.notes
    assert sum(len(job.recipes) for job in plan.jobs) == 2


def all_refs(planner: Planner) -> list[SampleRef]:
    manifest = Manifest.load(planner.shards)
    places = [(domain, split) for domain, info in manifest.domains.items() for split in info.splits]
    return [ref for domain, split in places for ref in read_samples(planner.shards, manifest, domain, split)]
