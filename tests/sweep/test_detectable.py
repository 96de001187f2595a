"""What a plan says that a sweep can show, beside the intervals that the report then has."""

import re

import numpy as np
import pytest

from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep import detectable, messages
from dfloc.sweep.plan import Plan, Resolved
from tests.report import studies
from tests.report.studies import MINI, Maker


def planned(seeds: int, draws: int = 1, num_test: int = 120) -> SweepRecord:
    """Plan models of each domain with two losses, say: here two stages."""
    maker = Maker(num_test=num_test)
    for maker.draw in range(draws):
        for maker.seed in range(seeds):
            for stage, epochs in (("one", 8), ("other", 9)):
                for domain in MINI:
                    maker.plan(stage, {domain: 20}, epochs=epochs, domain=domain)
    return studies.record(maker, "mini", synthetic=True)


def fill(workspace: Workspace, record: SweepRecord, spread: float, ended: int) -> None:
    """Score the first seeds; a training's number scatters by `spread`."""

    def truth(trial: PlannedTrial, _: str) -> float:
        by = np.random.default_rng(int(trial.fingerprint[:8], 16)).normal(0, spread)
        return float(np.clip(0.5 + by, 0.1, 0.9))

    studies.fill(workspace, record, truth, lambda trial: "" if trial.spec.seed < ended else "new")


def number(workspace: Workspace, record: SweepRecord) -> float:
    (line,) = detectable.line(record, Ledger(workspace))
    found = re.search(r"differences from ([\d.]+)", line)
    assert found
    return float(found[1])


def halves(workspace: Workspace, record: SweepRecord) -> float:
    """Return half the width of the differences of the page, on each domain: the root of the mean square."""
    study = Study(record, Results(workspace, record))
    found = [
        study.less(one, other, [domain])
        for one, other in zip(study.stage("one"), study.stage("other"), strict=True)
        for domain in MINI
    ]
    return float(np.sqrt(np.mean([((each.high - each.low) / 2) ** 2 for each in found if each])))


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (10, 0.05)])
def test_the_plan_says_what_the_report_then_shows(tmp_path, seeds, spread):
    workspace, record = Workspace(tmp_path), planned(seeds)
    fill(workspace, record, spread, seeds)
    assert number(workspace, record) == pytest.approx(halves(workspace, record), rel=0.25)


def test_more_seeds_show_smaller_differences(tmp_path):
    workspace = Workspace(tmp_path)
    few, many = planned(3), planned(9)
    fill(workspace, many, 0.05, 3)
    assert number(workspace, many) < 0.7 * number(workspace, few)
    assert "9 trainings a side" in next(detectable.line(many, Ledger(workspace)))


def test_what_is_not_known_is_said(tmp_path):
    workspace, record = Workspace(tmp_path), planned(2)
    assert list(detectable.line(record, Ledger(workspace))) == []
    fill(workspace, record, 0.05, 1)
    (line,) = detectable.line(record, Ledger(workspace))
    assert "how far seeds differ is not on record yet" in line
    (line,) = detectable.line(planned(1), Ledger(workspace))
    assert "1 training a side" in line
    assert line.startswith("can show, on one domain:")
    assert "between two trainings, whatever another seed would give" in line


def test_two_photographs_can_show_nothing(tmp_path):
    workspace, record = Workspace(tmp_path), planned(1, num_test=12)
    fill(workspace, record, 0.0, 1)
    assert list(detectable.line(record, Ledger(workspace))) == []


def test_seeds_of_one_draw_are_one_repetition(tmp_path):
    """All seeds of a draw have one number: three of them show no more than one does."""

    def truth(trial: PlannedTrial, _: str) -> float:
        name = [trial.stage, trial.axes["domain"], trial.axes["draw"]]
        return 0.5 + 0.1 * float(np.random.default_rng(list(repr(name).encode())).uniform(-1, 1))

    found = []
    for seeds in (1, 3):
        workspace, record = Workspace(tmp_path / str(seeds)), planned(seeds, draws=3, num_test=24)
        studies.fill(workspace, record, truth, checkpoints=("best",))
        found.append(number(workspace, record))
        assert f"{3 * seeds} trainings in 3 sampling seeds a side" in next(detectable.line(record, Ledger(workspace)))
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_baselines_tell_nothing_of_models(tmp_path):
    workspace, maker = Workspace(tmp_path), Maker(num_test=24)
    maker.baselines()
    record = studies.record(maker, "mini", synthetic=True)
    studies.fill(workspace, record, checkpoints=("best",))
    assert list(detectable.line(record, Ledger(workspace))) == []


def test_a_plan_reads_the_rows_of_a_few_recipes_alone(tmp_path, monkeypatch):
    workspace, record = Workspace(tmp_path), planned(1, num_test=24)
    studies.fill(workspace, record, checkpoints=("best",))
    read = []
    is_whole = Ledger.has_scored
    monkeypatch.setattr(Ledger, "has_scored", lambda self, one: read.append(one.key) or is_whole(self, one))
    assert next(detectable.line(record, Ledger(workspace)))
    assert len(read) == detectable.MOST < 4 * len(record.trials)


def test_it_is_said_with_the_plan(tmp_path):
    workspace, record = Workspace(tmp_path), planned(1)
    fill(workspace, record, 0.0, 1)
    empty = dict.fromkeys(("items", "failed", "jobs", "views"), ())
    plan = Plan(Resolved(record, lambda cells: []), **empty, done=0, shared=0, images={}, seconds=None)
    (line,) = detectable.line(record, Ledger(workspace))
    assert list(messages.of_plan(plan, Ledger(workspace)))[-1] == line
