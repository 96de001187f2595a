from pathlib import Path

import pytest

from dfloc.config import TrialSpec
from dfloc.ledger import Ledger
from dfloc.objective import Standing, of_point, of_trial
from dfloc.outcome import EpochRecord, Stopped
from dfloc.storage import Workspace
from tests.report import studies

HALF, NONE, OPEN = Standing("done", 0.5, 3), Standing("stopped", None, 0), Standing("open")


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([HALF, Standing("done", 0.7, 2)], Standing("done", 0.6, 5)),
        ([HALF, Standing("stopped", 0.1, 1)], Standing("stopped", 0.3, 4)),
        ([HALF, Standing("stopped", 0.1, 1), OPEN], Standing("stopped", None, 4)),
        ([HALF, NONE], Standing("stopped", None, 3)),
        ([HALF, OPEN], OPEN),
        ([HALF, Standing("stopped", 0.1, 1), Standing("failed")], Standing("failed")),
        ([HALF, Standing("done", None, 0)], OPEN),
    ],
)
def test_a_point_is_over_with_its_first_trial_that_is_and_has_the_mean_of_all_or_none(
    trials: list[Standing], expected: Standing
) -> None:
    found = of_point(trials)
    assert found == (expected.state, expected.value and pytest.approx(expected.value), expected.epochs)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Workspace(tmp_path))


def epochs(*values: float) -> list[EpochRecord]:
    about = {"steps": 1, "images": 1, "seconds": 1, "time": 0}
    return [
        EpochRecord(epoch=number, valid={"loss": 0, "iou": value}, **about) for number, value in enumerate(values, 1)
    ]


def spec() -> TrialSpec:
    return studies.Maker().plan("search", dict.fromkeys(studies.MINI, 53), point=0).spec


def test_a_stopped_trial_stands_where_it_was_stopped_whatever_another_sweep_trains_of_it(ledger: Ledger) -> None:
    name, attempt = spec().fingerprint, ledger.begin(spec())
    assert of_trial(ledger, name, "mine") == OPEN
    attempt.save_epoch(b"state", epochs(0.4))
    ledger.stop(name, "mine", Stopped(epoch=1, value=0.4, needed=0.6, time=0))
    attempt.save_epoch(b"state", epochs(0.4, 0.9))
    assert of_trial(ledger, name, "mine") == Standing("stopped", 0.4, 1)
    assert of_trial(ledger, name, "another") == OPEN
    attempt.finish(b"best", b"last", 2, {})
    assert of_trial(ledger, name, "mine") == Standing("done", 0.9, 2)


def test_a_trial_that_failed_has_no_value(ledger: Ledger) -> None:
    ledger.begin(spec()).fail("nan", "the loss is NaN")
    assert of_trial(ledger, spec().fingerprint, "mine") == Standing("failed")
