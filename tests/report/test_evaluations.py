"""The frame of a sweep: what its tables print follows from it, and nothing that a study may call an axis is lost."""

import csv
import io
from collections.abc import Sequence

import pandas as pd
import pytest

from dfloc.report import evaluations, exposure, models, ranking
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import MINI, Maker

DIGITS = 1e-9


def frame_of(study: Study) -> pd.DataFrame:
    return evaluations.frame([study])


def best(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.checkpoint.eq("best") & frame.test_domain.isin(frame.attrs["domains"])]


def over(frame: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Return the mean IoU of each test domain over trainings, for each of some columns."""
    return frame.groupby([*by, "test_domain"]).iou.mean()


def lines(table: Table) -> list[dict[str, str]]:
    """Return the rows of a table by its heads, numbers not rounded."""
    return list(csv.DictReader(io.StringIO(table.csv())))


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The built-in study with two seeds, all finished."""
    workspace, record = Workspace(tmp_path_factory.mktemp("seeded")), studies.mini(seeds=2)
    studies.fill(workspace, record)
    return Study(record, Results(workspace, record))


def test_the_curves_of_the_page_follow_from_the_frame(seeded: Study) -> None:
    frame = best(frame_of(seeded))
    tuned = over(frame[frame.role.eq("tuned")], ["held_out", "n"])
    base = over(frame[frame.role.str.contains("base")], ["held_out"])
    rows = [row for row in lines(exposure.curves(seeded)) if row["Held out"] in MINI]
    assert len(rows) == 4 * 4
    for row in rows:
        held_out, n = row["Held out"], int(row["n"])
        found = tuned[held_out, n] if n else base[held_out]
        assert [float(row[domain]) for domain in MINI] == pytest.approx(list(found[list(MINI)]), rel=DIGITS)
        assert float(row["Mean"]) == pytest.approx(found.mean(), rel=DIGITS)


def test_the_models_of_the_page_follow_from_the_frame(study_of) -> None:
    study = study_of(crossed.single_domain(), crossed.truth)
    frame = best(frame_of(study))
    rows = lines(ranking.ranked(study, models.models(study)))
    found = frame[frame.stage.ne("baselines")].groupby("case")
    inside, outside = (
        {case: part[part.in_domain.eq(which)].iou.mean() for case, part in found} for which in (True, False)
    )
    named = [row for row in rows if row["Model"] in inside]
    assert len(named) == len(inside) == 2
    for row in named:
        means = inside[row["Model"]], outside[row["Model"]]
        assert (float(row["ID"]), float(row["OOD"])) == pytest.approx(means, rel=DIGITS)


def test_the_csv_is_the_frame_without_roles(seeded: Study) -> None:
    frame = frame_of(seeded)
    written = pd.read_csv(io.StringIO(evaluations.csv([seeded])))
    shared = [name for name in written.columns if name in frame.columns]
    assert {*written.columns} == {*shared}
    assert {*frame.columns} - {*shared} == {"role", "in_domain"}
    for name in ("iou", "iou_low", "ap", "num_images", "steps"):
        pd.testing.assert_series_equal(written[name], frame[name], check_dtype=False, rtol=DIGITS)
    assert list(written.trial) == list(frame.trial)


def test_roles_and_axes_stand_in_columns(seeded: Study) -> None:
    frame = frame_of(seeded)
    assert {*frame.seed} == {0, 1}
    assert str(frame.n.dtype) == "Int64"
    assert {*frame[frame.stage.eq("replay")].role} == {"replayed"}
    assert {*frame[frame.stage.eq("scratch")].role} == {"alone"}
    assert {*frame[frame.stage.eq("base")].role} == {"base mixture"}
    assert frame[frame.stage.eq("base")].n.isna().all()
    assert str(frame.in_domain.dtype) == "bool"
    own = frame[frame.held_out.eq(frame.test_domain)]
    assert own[own.stage.eq("base")].in_domain.eq(False).all()
    assert own[own.stage.eq("finetune")].in_domain.eq(True).all()
    assert {"count", "decoder"} < {*frame.columns}, "axes of other stages"
    assert not [name for name in frame.columns if name.startswith("axis_")], "n and held_out say what the roles say"
    assert frame.attrs == {"sweep": seeded.record.sweep, "title": seeded.record.title, "domains": list(MINI)}


def test_an_axis_that_is_called_as_another_column_is_kept(study_of) -> None:
    maker = Maker()
    for images, n in ((4, 1), (8, 2)):
        maker.plan("alone", {MINI[0]: images}, n=n, state=f"s{n}", images=images)
    frame = frame_of(study_of(studies.record(maker, "mini")))
    found = frame[["n", "axis_n", "axis_state", "images"]].drop_duplicates()
    assert found.to_numpy().tolist() == [[4, 1, "s1", 4], [8, 2, "s2", 8]]
    assert {*frame.state} == {"done"}


def test_each_column_of_the_csv_has_a_name_of_its_own(study_of) -> None:
    maker = Maker()
    axes = {"trial": "warm", "iou": 0.9, "axis_iou": 0.8, "state": "s"}
    maker.plan("alone", {MINI[0]: 4}, **axes)
    study = study_of(studies.record(maker, "mini"))
    heads, line = [*csv.reader(io.StringIO(evaluations.csv([study])))][:2]
    assert len(heads) == len({*heads})
    found = dict(zip(heads, line, strict=True))
    assert (found["axis_trial"], found["axis_state"], found["state"]) == ("warm", "s", "done")
    assert (found["axis_iou"], found["axis_axis_iou"]) == ("0.9", "0.8")
    frame = frame_of(study)
    assert len(frame.columns) == len({*frame.columns})
    assert (frame.axis_iou[0], frame.axis_axis_iou[0]) == (0.9, 0.8)


def test_a_trial_without_rows_has_a_line_without_numbers(study_of) -> None:
    maker = Maker()
    for n in (4, 16):
        maker.plan("scratch", {MINI[0]: n}, held_out=MINI[0], n=n)
    study = study_of(studies.record(maker, "mini"), skip=lambda trial: "failed" if trial.axes["n"] == 16 else "")
    frame = frame_of(study)
    [hole] = frame[frame.n.eq(16)].itertuples()
    assert (hole.state, hole.test_domain, hole.protocol) == ("failed", hole.test_domain, "declip-2025")
    assert all(map(pd.isna, (hole.test_domain, hole.iou, hole.num_images, hole.in_domain, hole.collapsed)))
    assert len(frame[frame.in_domain]) == 1
    [line] = [line for line in csv.DictReader(io.StringIO(evaluations.csv([study]))) if line["n"] == "16"]
    assert (line["test_domain"], line["iou"], line["collapsed"]) == ("", "", "")


def test_a_sweep_without_trials_is_an_empty_frame(study_of) -> None:
    frame = frame_of(study_of(studies.mini().model_copy(update={"trials": ()})))
    assert len(frame) == 0
    assert "iou" in frame.columns


def test_numbers_of_what_is_not_scored_are_nan(study_of):
    found = evaluations.frame([study_of(studies.mini(), skip=lambda trial: "new")])
    assert str(found.iou.dtype) == "float64"
    assert found.iou.isna().all()
