import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from safetensors.torch import load

from dfloc.config import InitFrom, OptimizerSpec, ScheduleSpec, TrialSpec
from dfloc.engine.fit import Member, epoch_batches, fit
from dfloc.errors import WorkspaceError
from dfloc.ledger import EpochRecord
from dfloc.measures import MEASURED, MEASURES
from tests.engine.fakes import FakeSource, make_member, make_spec, numbers

VALID = FakeSource(4, seed=1)


def train(spec: TrialSpec, source: FakeSource | None = None, **arguments: Any) -> tuple[Member, list[EpochRecord]]:
    member = make_member(spec, **arguments)
    results = [result for results in fit([member], source or FakeSource(), VALID) for result in results]
    return member, [result.record for result in results if result.record]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def test_it_learns_and_records_each_epoch() -> None:
    member, records = train(make_spec(epochs=8))
    assert [record.epoch for record in records] == list(range(1, 9))
    assert [record.steps for record in records] == [3 * k for k in range(1, 9)]
    assert {record.images for record in records} == {10}
    assert records[-1].train_loss < records[0].train_loss
    assert records[-1].valid["iou"] > max(0.5, records[0].valid["iou"])
    assert member.ended


def test_validation_is_the_mean_of_each_images_iou_and_loss() -> None:
    member, records = train(make_spec(epochs=1))
    with torch.inference_mode():
        logit = member.decoder.eval()(VALID.x).squeeze(1)
    called, fake = logit.sigmoid() > 0.5, VALID.target > 0
    ious = [((c & f).sum() + 1e-8).item() / ((c | f).sum() + 1e-8).item() for c, f in zip(called, fake, strict=True)]
    assert records[0].valid["iou"] == pytest.approx(sum(ious) / 4, abs=1e-9)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logit, VALID.target.float())
    assert records[0].valid["loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_the_training_loss_weighs_each_image_the_same() -> None:
    spec = make_spec(decoder={"name": "linear"}, optimizer=OptimizerSpec(name="adamw", lr=1e-12), epochs=1)
    source = FakeSource()
    _, records = train(spec, source)
    assert [len(indices) for indices in source.asked[1:]] == [4, 4, 2]
    start = make_member(spec)
    start.start(source)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        start.decoder(source.x).squeeze(1), source.target.float()
    )
    assert records[0].train_loss == pytest.approx(loss.item(), rel=1e-5)


def test_one_seed_gives_the_same_bytes_and_another_others() -> None:
    (one, records), (two, again), (other, others) = (train(make_spec(seed=seed)) for seed in (3, 3, 4))
    assert [numbers(record) for record in records] == [numbers(record) for record in again]
    assert one.weights("last") == two.weights("last")
    assert one.weights("best") == two.weights("best")
    assert records[0].train_loss != others[0].train_loss
    assert one.weights("last") != other.weights("last")


def test_nothing_reads_or_moves_the_global_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, _ = train(make_spec())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert train(make_spec())[0].weights("last") == one.weights("last")


@pytest.mark.parametrize("schedule", ["constant", "plateau", "one-cycle"])
@pytest.mark.parametrize("epoch_steps", [None, 4])
def test_stopped_and_restored_equals_uninterrupted(schedule: str, epoch_steps: int | None) -> None:
    spec = make_spec(epochs=5, schedule=ScheduleSpec(name=schedule), epoch_steps=epoch_steps)
    whole, expected = train(spec)
    for stop in (1, 3, 5):
        first = make_member(spec)
        head = [result[0].record for _, result in zip(range(stop), fit([first], FakeSource(), VALID), strict=False)]
        second = make_member(spec)
        second.restore(first.state())
        tail = [result[0].record for result in fit([second], FakeSource(), VALID)]
        assert [numbers(record) for record in head + tail] == [numbers(record) for record in expected]
        assert second.weights("last") == whole.weights("last")
        assert second.weights("best") == whole.weights("best")
        assert second.best_epoch == whole.best_epoch


def test_an_epoch_reads_each_sample_once_and_keeps_the_short_batch() -> None:
    batches = [list(epoch_batches(make_spec(), 10, epoch)) for epoch in (1, 2)]
    assert [[len(batch) for batch in epoch] for epoch in batches] == [[4, 4, 2]] * 2
    assert all(sorted(flat(epoch)) == list(range(10)) for epoch in batches)
    assert batches[0] != batches[1]
    assert batches[0] == list(epoch_batches(make_spec(), 10, 1))


def test_epoch_steps_cut_one_stream_that_covers_the_list_evenly() -> None:
    spec = make_spec(epoch_steps=3, epochs=50)
    stream: list[int] = []
    for epoch in range(1, 51):
        batches = list(epoch_batches(spec, 10, epoch))
        assert [len(batch) for batch in batches] == [4, 4, 4]
        stream += flat(batches)
        seen = Counter(stream)
        assert max(seen.values()) - min(seen.get(index, 0) for index in range(10)) <= 1
    assert set(Counter(stream).values()) == {60}


def test_epoch_steps_larger_than_the_list_go_on_through_it() -> None:
    batches = list(epoch_batches(make_spec(epoch_steps=5, batch=4), 3, 1))
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(Counter(flat(batches)).values()) == [6, 7, 7]


def best_of(select: str, scores: list[tuple[float, float]], **more: Sequence[float]) -> int:
    member = make_member(make_spec(select=select, epochs=len(scores)))
    for place, (loss, iou) in enumerate(scores):
        others = {name: values[place] for name, values in more.items()}
        member.end_epoch({"loss": loss, "iou": iou} | others, seconds=1.0)
    return member.best_epoch


def test_selection() -> None:
    scores = [(0.5, 0.2), (0.4, 0.6), (0.3, 0.6), (0.3, 0.1)]
    assert best_of("iou", scores) == 2
    assert best_of("loss", scores) == 3
    assert best_of("last", scores) == 4
    assert best_of("iou", [(1.0, 0.0), (1.0, 0.0)]) == 1
    assert best_of("ap", scores, ap=(0.1, 0.2, 0.9, 0.3)) == 3
    assert best_of("accuracy", scores, accuracy=(0.5, 0.2, 0.4, 0.1)) == 1


def test_what_is_measured_is_what_can_be_watched() -> None:
    _, records = train(make_spec(epochs=1))
    assert list(records[0].valid) == [*MEASURED["localize"]]


def test_a_plateau_follows_the_measure_that_it_watches() -> None:
    """IoU falls: five plateaus of six epochs; the loss falls: none; AP and accuracy rise by half of theirs."""
    lasted = {}
    for watch in MEASURES:
        member = make_member(make_spec(schedule=ScheduleSpec(name="plateau", watch=watch), epochs=100))
        while not member.ended:
            rising = 0.5 + member.epoch / 2000
            valid = {"loss": 1 - member.epoch / 100, "iou": 0.5 - member.epoch / 1000, "ap": rising, "accuracy": rising}
            member.end_epoch(valid, seconds=1.0)
        lasted[watch] = member.epoch
    assert lasted["iou"] == 30
    assert lasted["loss"] == lasted["ap"] == lasted["accuracy"] == 100


def test_select_last_makes_the_last_epochs_weights_the_best() -> None:
    member, _ = train(make_spec(select="last"))
    assert member.best_epoch == 3
    assert member.weights("best") == member.weights("last")


def test_best_weights_are_those_of_the_best_epoch() -> None:
    """With a validation truth that is the opposite of the training one, each epoch makes the loss worse."""
    opposite = FakeSource(4, seed=1, touch=lambda batch: batch._replace(target_BHW=1 - batch.target_BHW))
    member, stopped = make_member(make_spec(select="loss")), make_member(make_spec(select="loss"))
    list(fit([member], FakeSource(), opposite))
    next(fit([stopped], FakeSource(), opposite))
    assert (member.epoch, member.best_epoch) == (3, 1)
    assert member.weights("best") == stopped.weights("last") != member.weights("last")


def test_plateau_ends_training_early() -> None:
    spec = make_spec(
        schedule=ScheduleSpec(name="plateau"), optimizer=OptimizerSpec(name="adamw", lr=1e-6), epochs=20, seed=1
    )
    member, records = train(spec)
    assert len(records) == 6
    assert {record.lr for record in records} == {1e-6}
    assert member.ended


def test_one_cycle_reaches_the_optimiser() -> None:
    _, records = train(make_spec(schedule=ScheduleSpec(name="one-cycle"), epochs=4))
    assert records[0].lr < 1e-2
    assert records[-1].lr == pytest.approx(1e-2 / 25 / 1e4)


def parent_and_child(**changes: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    parent, _ = train(make_spec())
    weights = load(parent.weights("best"))
    init = {"decoder": InitFrom(parent="p" * 64)}
    child, _ = train(make_spec(init=init, **changes), FakeSource(10, seed=7), parent_weights=weights)
    return weights, load(child.weights("last"))


def test_a_child_starts_from_its_parent_and_keeps_its_standardization() -> None:
    parent, child = parent_and_child(optimizer=OptimizerSpec(name="adamw", lr=1e-12))
    assert torch.equal(parent["layers.standardize.mean"], child["layers.standardize.mean"])
    torch.testing.assert_close(parent["layers.head.weight"], child["layers.head.weight"])


def test_frozen_batch_norm_keeps_the_parents_statistics_and_the_rest_trains() -> None:
    parent, child = parent_and_child(decoder={"batch_norm": "frozen"})
    norms = [name for name in parent if ".norm" in name]
    assert {name.rpartition(".")[2] for name in norms} >= {"running_mean", "running_var", "weight", "bias"}
    assert all(torch.equal(parent[name], child[name]) for name in norms)
    assert not torch.equal(parent["layers.head.weight"], child["layers.head.weight"])


def test_trained_batch_norm_moves() -> None:
    parent, child = parent_and_child()
    assert not torch.equal(parent["layers.norm1_1.running_mean"], child["layers.norm1_1.running_mean"])


def test_a_parent_of_another_shape_is_refused_by_name() -> None:
    parent, _ = train(make_spec(epochs=1))
    spec = make_spec(init={"decoder": InitFrom(parent="p" * 64)}, decoder={"channels": (8, 4)})
    with pytest.raises(WorkspaceError, match=r"best of trial pppppppppppp.*layers\.conv1_1\.weight"):
        make_member(spec, parent_weights=load(parent.weights("best")))


def poisoned(at_batch: int) -> FakeSource:
    source = FakeSource()

    def touch(batch: Any) -> Any:
        return batch._replace(x=batch.x * math.nan) if len(source.asked) == at_batch + 1 else batch

    source.touch = touch
    return source


def test_a_loss_that_is_no_number_ends_the_member_with_its_step() -> None:
    member = make_member(make_spec(epochs=5))
    results = [result for results in fit([member], poisoned(at_batch=5), VALID) for result in results]
    assert [result.record is None for result in results] == [False, True]
    assert results[1].divergence[:2] == (2, 5)
    assert "step 5, epoch 2" in results[1].divergence.message
    assert member.ended


def test_a_diverging_member_spares_its_siblings() -> None:
    wild = make_spec(optimizer=OptimizerSpec(name="adamw", lr=1e30), epochs=4)
    pack = [make_member(wild), make_member(make_spec(epochs=4))]
    results = [result for results in fit(pack, FakeSource(), VALID) for result in results]
    alone, expected = train(make_spec(epochs=4))
    assert [result.member for result in results if result.divergence] == [pack[0]]
    assert [numbers(r.record) for r in results if r.member is pack[1]] == [numbers(record) for record in expected]
    assert pack[1].weights("last") == alone.weights("last")


def test_a_pack_reads_each_batch_once() -> None:
    source = FakeSource()
    pack = [make_member(make_spec(decoder={"standardize": False}, optimizer=OptimizerSpec(name="adamw", lr=lr)))
            for lr in (1e-2, 1e-3)]  # fmt: skip
    list(fit(pack, source, VALID))
    assert len(source.asked) == 3 * 3
    assert pack[0].weights("last") != pack[1].weights("last")


def test_members_of_a_pack_that_are_at_different_epochs_each_go_on_from_their_own() -> None:
    specs = [make_spec(epochs=3), make_spec(epochs=3, optimizer=OptimizerSpec(name="adamw", lr=1e-3))]
    ahead = make_member(specs[0])
    for _ in zip(range(2), fit([ahead], FakeSource(), VALID), strict=False):
        pass
    pack = [make_member(spec) for spec in specs]
    pack[0].restore(ahead.state())
    list(fit(pack, FakeSource(), VALID))
    for member, spec in zip(pack, specs, strict=True):
        assert member.weights("last") == train(spec)[0].weights("last")


def test_a_baseline_is_solved_in_one_epoch() -> None:
    source = FakeSource()
    member, records = train(make_spec(decoder={"name": "mean-mask"}, epochs=5), source)
    assert (member.best_epoch, len(records)) == (1, 1)
    assert (records[0].steps, records[0].lr, records[0].train_loss) == (0, None, None)
    mean = source.target.double().mean(0)
    torch.testing.assert_close(load(member.weights("best"))["logit"][0, 0].double().sigmoid(), mean, atol=1e-4, rtol=0)


def test_bf16_changes_the_numbers_and_only_where_it_is_asked_for() -> None:
    (_, fp32), (_, bf16) = train(make_spec()), train(make_spec(precision="bf16"))
    assert fp32[0].train_loss != bf16[0].train_loss
    assert fp32[0].train_loss == pytest.approx(bf16[0].train_loss, rel=0.05)
    dtypes = set()
    member = make_member(make_spec(precision="bf16"))
    member.decoder.register_forward_hook(lambda module, inputs, output: dtypes.add((module.training, output.dtype)))
    list(fit([member], FakeSource(), VALID))
    assert dtypes == {(True, torch.bfloat16), (False, torch.float32)}


def test_threads_are_set_for_the_training_and_put_back() -> None:
    before = torch.get_num_threads()
    seen = set()
    source = FakeSource(touch=lambda batch: seen.add(torch.get_num_threads()) or batch)
    list(fit([make_member(make_spec())], source, VALID, num_threads=2))
    assert seen == {2}
    assert torch.get_num_threads() == before
