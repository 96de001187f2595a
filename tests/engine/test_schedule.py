import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dfloc.config import OptimizerSpec, ScheduleSpec
from dfloc.engine import schedule
from dfloc.measures import DELTAS, MEASURES
from tests import golden
from tests.engine.fakes import make_spec

FACTS = json.loads((Path(golden.__file__).parent / "notebook-facts.json").read_text(encoding="utf-8"))


def plateau(lr: float = 1e-3) -> schedule.Schedule:
    return schedule.make(make_spec(schedule=ScheduleSpec(name="plateau"), optimizer=OptimizerSpec(name="adamw", lr=lr)))


def rates(ious: list[float]) -> list[float]:
    """Return the rate of each epoch, up to the one after which training ends."""
    made, found = plateau(), []
    for iou in ious:
        found.append(made.lr(0))
        if not made.end_epoch(iou):
            break
    return found


def test_plateau_reproduces_a_hand_computed_list() -> None:
    ious = [
        0.5,  # the first best
        0.500005,  # bad 1: less than 1e-5 better
        0.4,  # bad 2
        0.50002,  # good: the best is 0.50002, the count starts anew
        0.5, 0.5, 0.5, 0.5, 0.5,  # bad 1 to 5: a tenth
        0.3,  # the best starts afresh
        0.300015,  # bad 1: less than 2e-5 better
        0.30003,  # good
        0.1, 0.1, 0.1, 0.1, 0.1,  # bad 1 to 5: a hundredth
        0.2, 0.1, 0.1, 0.1, 0.1, 0.1,  # a thousandth, which is a hair over 1e-6
        0.2, 0.1, 0.1, 0.1, 0.1, 0.1,  # under 1e-6: the end
        0.9,
    ]  # fmt: skip
    expected = [1e-3] * 9 + [1e-4] * 8 + [1e-5] * 6 + [1e-6] * 6
    assert rates(ious) == pytest.approx(expected, rel=1e-12)


def test_a_plateau_without_any_gain_lasts_four_times_six_epochs() -> None:
    assert len(rates([0.5] * 100)) == 24


def drops(values: Sequence[float], **follows: object) -> list[int]:
    """Return the epochs after which the rate falls."""
    spec = ScheduleSpec(name="plateau", **follows)
    made, found = schedule.make(make_spec(schedule=spec, optimizer=OptimizerSpec(name="adamw", lr=1e-3))), []
    for epoch, value in enumerate(values, 1):
        before = made.lr(0)
        made.end_epoch(value)
        found += [epoch] if made.lr(0) < before else []
    return found


def test_a_plateau_of_ap_replays_the_saved_logs() -> None:
    """The author's logs print their drops; the deltas of IoU would drop later."""
    for part, log in (("detector", "detector_valid_macro_ap"), ("classifier", "classifier_valid_macro_ap")):
        for follows in ({"watch": "ap"}, {"watch": "ap", "delta": 1e-3}, {"delta": 1e-3}):
            assert drops(FACTS[log], **follows) == FACTS[f"{part}_drops_after_epochs"]
    assert drops(FACTS["detector_valid_macro_ap"], watch="iou") == [17]
    assert drops(FACTS["detector_valid_macro_ap"], watch="ap", delta=1e-5) == [17]


def test_after_the_first_drop_an_epoch_must_gain_twice_the_delta() -> None:
    first = [0.5] * 6
    assert drops([*first, *(0.3 + 0.00015 * k for k in range(6))], delta=1e-4) == [6]
    assert drops([*first, *(0.3 + 0.00003 * k for k in range(6))], delta=1e-4) == [6, 12]
    assert drops([*(0.3 + 0.00015 * k for k in range(9))], delta=1e-4) == []
    assert drops([*first, 0.3, *[0.30015] * 5], delta=1e-4) == [6, 12]
    assert drops([*first, 0.3, *[0.30025] * 5], delta=1e-4) == [6]


def test_every_measure_has_a_delta() -> None:
    assert {*DELTAS} == {*MEASURES}


def test_plateau_goes_on_while_it_gains() -> None:
    assert set(rates([k / 1000 for k in range(100)])) == {1e-3}


def test_plateau_goes_on_from_its_state() -> None:
    ious = [0.5, 0.4, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.2, 0.2, 0.30001, 0.2, 0.2, 0.2]
    whole, expected = plateau(), []
    for iou in ious:
        expected.append((whole.lr(0), whole.end_epoch(iou)))
    parted, found = plateau(), []
    for iou in ious:
        fresh = plateau()
        fresh.restore(parted.state())
        parted = fresh
        found.append((parted.lr(0), parted.end_epoch(iou)))
    assert found == expected


@pytest.mark.parametrize(("epochs", "epoch_steps"), [(1, 1), (1, 2), (1, 5), (3, 10), (7, 11)])
def test_one_cycle_is_torchs(epochs: int, epoch_steps: int) -> None:
    spec = make_spec(
        schedule=ScheduleSpec(name="one-cycle"),
        optimizer=OptimizerSpec(name="adamw", lr=0.02),
        epochs=epochs,
        epoch_steps=epoch_steps,
    )
    num_steps = epochs * epoch_steps
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=num_steps)
    ours = schedule.make(spec)
    for step in range(num_steps):
        assert ours.lr(step) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        reference.step()


def test_constant_stays() -> None:
    made = schedule.make(make_spec())
    assert [made.lr(step) for step in (0, 1000)] == [1e-2, 1e-2]
    assert all(made.end_epoch(0.0) for _ in range(100))
