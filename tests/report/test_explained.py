"""Where explanations of answers lie, on made-up rows: the table, the panel, the CSV, the notebook and MLflow."""

import csv
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from dfloc import notebook, summary
from dfloc.config import EvaluationSpec, ExplainSpec
from dfloc.ledger import Ledger
from dfloc.metrics.pointing import NUMBERS
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import explained, render
from dfloc.report.build import build
from dfloc.report.evaluations import csv as evaluations
from dfloc.report.groups import Study
from dfloc.report.page import Report
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from tests.report.image_studies import NUM, REAL, attribution, detection, filled
from tests.report.planned import any_number_of_images
from tests.report.studies import DOLOS

DOMAINS = DOLOS[:2]
LAYER = "layer22"
# Of the 1,000 pixels of an image 200 are fake; of these 150 are over half of the maximum, and 50 of the others.
COUNTS = {"tp": 150, "fp": 50, "fn": 50, "tn": 750}
IOU, AREA = 150 / 250, 0.2
POINTED, MASS = [1.0, 0.0] * (NUM // 2), [0.7, 0.3] * (NUM // 2)


def every_explained(record: SweepRecord, case: str) -> SweepRecord:
    """Return a record in which the trials of one case are explained."""
    by = {"explain": ExplainSpec(layer=LAYER)}

    def of(trial: PlannedTrial) -> PlannedTrial:
        asked = tuple(each.model_copy(update=by) for each in trial.evaluations)
        return trial.model_copy(update={"evaluations": asked}) if trial.case == case else trial

    return record.model_copy(update={"trials": tuple(map(of, record.trials))})


def explain(workspace: Workspace, record: SweepRecord, blank: str = "") -> None:
    """Write what an explanation adds to rows: of reals no pixel is fake; of a domain `blank` each map is zero."""
    ledger = Ledger(workspace)
    for trial in record.trials:
        for each in (each for each in trial.evaluations if each.explain and each.checkpoint == "best"):
            rows = ledger.rows(each.trial, each.key)
            (file,) = Path(str(ledger.folder(trial.fingerprint))).rglob(f"{each.key}.parquet")
            file.unlink()
            for name, values in _columns(each, blank == each.domain).items():
                there = rows.schema.get_field_index(name)
                rows = rows.append_column(name, values) if there < 0 else rows.set_column(there, name, values)
            ledger.put_rows(each.trial, each.key, rows)


def _columns(each: EvaluationSpec, blank: bool) -> dict[str, pa.Array]:
    counts = COUNTS
    if each.domain == REAL:
        counts = {"tp": 0, "fp": 200, "fn": 0, "tn": 800}
    elif blank:
        counts = {"tp": 0, "fp": 0, "fn": 200, "tn": 800}
    nothing = [float("nan")] * NUM
    assert each.explain
    return {
        **{name: pa.array([value] * NUM, pa.int32()) for name, value in counts.items()},
        "mask_area": pa.array([0.0 if each.domain == REAL else AREA] * NUM),
        "spread": pa.array([0.0 if blank else 1.0] * NUM),
        "explain": pa.array([each.explain.called] * NUM),
        "pointed": pa.array([0.0] * NUM if blank else POINTED),
        "mass_inside": pa.array(nothing if blank else MASS),
    }


def studied(folder: Path, blank: str = "") -> tuple[Workspace, SweepRecord, Study]:
    record = every_explained(detection(DOMAINS), "clip-linear")
    workspace = filled(folder, record)
    explain(workspace, record, blank)
    return workspace, record, Study(record, Results(workspace, record))


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, SweepRecord, Study]:
    return studied(tmp_path_factory.mktemp("explained"))


def table(study: Study) -> list[dict[str, str]]:
    (section,) = explained.sections(study)
    (found,) = (block for block in section.blocks if isinstance(block, Table))
    heads = [column.head for column in found.columns]
    return [dict(zip(heads, (cell.text for cell in row.cells), strict=True)) for row in found.rows]


def test_the_table_has_a_row_for_each_explained_model_and_domain_of_fakes(looked) -> None:  # type: ignore[no-untyped-def]
    rows = table(looked[2])
    assert [(row["Trained on"], row["Test domain"]) for row in rows] == [(a, b) for a in DOMAINS for b in DOMAINS]
    for row in rows:
        assert (row["Model"], row["Explained by"]) == ("single clip-linear", f"grad-cam {LAYER}")
        numbers = [row[name] for name in ("Mass inside", "Fake area", "Pointing game", "IoU", "Zero maps", "Images")]
        assert numbers == ["0.500", "0.200", "0.500", "0.600", "0", str(NUM)]


def test_a_study_without_explanations_has_no_section_and_no_column(tmp_path: Path) -> None:
    record = detection(DOMAINS)
    workspace = filled(tmp_path, record)
    study = Study(record, Results(workspace, record))
    assert explained.sections(study) == []
    assert explained.gallery(workspace, study) is None
    assert "explain" not in evaluations([study])


def test_maps_of_zeros_have_no_mass_miss_and_are_counted(tmp_path: Path) -> None:
    workspace, record, study = studied(tmp_path, blank=DOMAINS[0])
    rows = [row for row in table(study) if row["Test domain"] == DOMAINS[0]]
    assert {(row["Mass inside"], row["Pointing game"], row["Zero maps"]) for row in rows} == {("-", "0.000", str(NUM))}
    scores = summary.summary(record, Ledger(workspace), record.trials[0])
    assert f"test/{DOMAINS[0]}/explain_mass" not in scores, "no number, and no 0 either"
    assert scores[f"test/{DOMAINS[0]}/explain_pointed"] == 0
    assert scores[f"test/{DOMAINS[1]}/explain_mass"] == pytest.approx(0.5)


def test_numbers_of_explanations_stand_in_csv_notebook_and_mlflow_and_move_no_other(looked, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    workspace, record, study = looked
    frame = notebook.results(record.sweep, str(workspace.root))
    fakes = frame[frame.explained_by.notna() & frame.test_domain.ne(REAL)]
    expected = {"explain_iou": IOU, "explain_pointed": 0.5, "explain_mass": 0.5, "explain_area": AREA}
    assert expected.keys() == NUMBERS.keys()
    assert len(fakes) == 4
    for name, value in expected.items():
        assert fakes[name].tolist() == pytest.approx([value] * 4)
        assert frame.drop(index=fakes.index)[name].isna().all(), "neither of reals nor of what is not explained"
    assert set(fakes.explained_by) == {f"grad-cam {LAYER}"}
    head = next(csv.reader(evaluations([study]).splitlines()))
    assert {*expected, "explained_by"} <= {*head}

    plain = detection(DOMAINS)
    other = filled(tmp_path, plain)
    for trial, bare in zip(record.trials, plain.trials, strict=True):
        new = summary.summary(record, Ledger(workspace), trial)
        added = {key: value for key, value in new.items() if "explain_" in key}
        assert {key: value for key, value in new.items() if key not in added} == summary.summary(
            plain, Ledger(other), bare
        )
        if trial.case == "clip-linear":
            assert added == pytest.approx(
                {f"test/{domain}/{name}": value for domain in DOMAINS for name, value in expected.items()}
            )
        else:
            assert added == {}


def test_the_panel_takes_models_in_turn_and_says_what_its_maps_are_not(looked) -> None:  # type: ignore[no-untyped-def]
    workspace, _, study = looked
    found = explained.gallery(workspace, study, workspace.shards / "nowhere")
    assert found is not None
    assert [head.name for head in found.columns[1:]] == [
        f"single clip-linear, trained on {domain}" for domain in DOMAINS
    ]
    assert len(found.rows) == (len(DOMAINS) + 1) * explained.IMAGES, "of reals too, whose maps have a maximum as well"
    assert explained.MARK in found.caption
    assert all(picture.data is None for row in found.rows for picture in row.pictures)
    assert any("not shown" in note for note in found.notes), "data that are gone are told"


def test_of_a_classifier_the_explained_answer_is_a_generator(tmp_path: Path) -> None:
    record = every_explained(attribution(), "clip-linear")
    workspace = filled(tmp_path, record)
    explain(workspace, record)
    study = Study(record, Results(workspace, record))
    (section,) = explained.sections(study)
    assert section.title == "Does the classifier look at the fake region?"
    (found,) = (block for block in section.blocks if isinstance(block, Table))
    assert found.caption.startswith("Explanations of the likeliest generator on partly fake test images;")
    panel = explained.gallery(workspace, study)
    assert panel is not None
    assert panel.caption.startswith("Explanations of the likeliest generator, white = speaks for it,")
    assert panel.brief.startswith("White = speaks for the likeliest generator,")


def test_the_page_has_the_section_once_with_its_panel(tmp_path: Path) -> None:
    workspace, record, _ = studied(tmp_path)
    reports: list[Report] = []

    def keep(_: object, page: Report) -> str:
        reports.append(page)
        return ""

    with any_number_of_images(), mock.patch.object(render, "html", side_effect=keep):
        folder = Path(str(build(workspace, record)))
    (section,) = (one for one in reports[0].sections if one.id == explained.ID)
    assert section.title == "Does the detector look at the fake region?"
    read = [*csv.DictReader((folder / "explained.csv").read_text().splitlines())]
    assert [float(row["Mass inside"]) for row in read] == pytest.approx([0.5] * 4)
    assert np.isfinite([float(row["IoU"]) for row in read]).all()
