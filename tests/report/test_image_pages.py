"""Pages of detectors and classifiers: what they answer, show, and never say."""

import csv
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from dfloc import notebook
from dfloc.config import EvaluationSpec
from dfloc.metrics import image
from dfloc.metrics.metric import IMAGE_RIGHT
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import confusion, histograms, latex, overview, render
from dfloc.report.answer import answer
from dfloc.report.build import build, read
from dfloc.report.chart import Figure, Heat
from dfloc.report.groups import Study
from dfloc.report.models import models, parts
from dfloc.report.page import Report
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.metrics.image_rows import detected as detected_rows
from tests.report import image_studies
from tests.report.drawn import overlaps
from tests.report.image_studies import NUM, REAL, attribution, detection, filled, valid_scores
from tests.report.planned import any_number_of_images
from tests.report.studies import DOLOS

LDM, REPAINT, LAMA, PLURALISTIC = DOLOS
MADE = {"detect": detection, "attribute": attribution}
STRANGE = r"IoU|\bempty\b|painted|pixel|\bmask"  # words of maps

Shown = tuple[Path, SweepRecord, Study, Report]


@pytest.fixture(scope="module", params=["detected", "attributed"])
def shown(request: pytest.FixtureRequest) -> Shown:
    found: Shown = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return made(tmp_path_factory.mktemp("detected"), detection())


@pytest.fixture(scope="module")
def attributed(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return made(tmp_path_factory.mktemp("attributed"), attribution(tests=(*DOLOS, "celebahq/other", REAL)))


def made(folder: Path, record: SweepRecord) -> Shown:
    """Fill a study and build its report; the page itself is not drawn."""
    reports: list[Report] = []
    with any_number_of_images():
        workspace = filled(folder, record)
        with mock.patch.object(render, "html", side_effect=lambda _, page: reports.append(page) or ""):
            built = Path(str(build(workspace, record)))
        return built, record, Study(record, Results(workspace, record)), reports[0]


def figure(report: Report, name: str) -> Figure:
    return next(block for block in report.blocks if isinstance(block, Figure) and block.id == name)


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return [*csv.DictReader((folder / f"{name}.csv").read_text().splitlines())]


def test_nothing_of_it_speaks_of_maps(shown: Shown) -> None:
    folder, _, study, _ = shown
    text = (folder / "report.md").read_text()
    quoted = r"What the documents conclude.*?\n## |[^.;]*not shown[^.]*\."  # claims, and published tables of others
    assert re.findall(rf".{{40}}(?:{STRANGE}).{{40}}", re.sub(quoted, "", text, flags=re.DOTALL)) == []
    for path in folder.glob("*.csv"):
        assert not re.search(STRANGE, path.read_text().splitlines()[0]), path.name
    assert not re.search("all.fake|constant", (folder / "evaluations.csv").read_text().splitlines()[0])
    assert study.first.label in text
    assert "validation AP" in text


def test_no_label_lies_on_another(shown: Shown) -> None:
    for block in shown[3].blocks:
        if isinstance(block, Figure):
            assert overlaps(block) == [], block.id


def test_tables_fit_the_column_of_a_paper(shown: Shown) -> None:
    _, _, study, report = shown
    for block in report.tables:
        assert latex.latex(block), block.id
    assert study.task in ("detect", "attribute")


def test_the_share_of_each_class_is_a_baseline_and_has_not_collapsed(shown: Shown) -> None:
    _, _, study, report = shown
    marks = {group.case or group.first.trial.spec.decoder.name: group.collapsed for group in study.groups}
    assert marks["prior"] == ""
    assert marks["collapsed"] == ("COLLAPSED (all real)" if study.task == "detect" else "COLLAPSED (all ldm)")
    assert marks["clip-linear"] == ""
    warned = next(words for words in report.warnings if words.startswith("COLLAPSED"))
    assert "over 90 % of the images of every class called one class): 1 all" in warned


def test_a_detector_s_answer_has_what_a_reader_asks_first(detected: Shown) -> None:
    _, _, study, _ = detected
    said = answer(study)
    assert [*said.sentences][:4] == ["best", "flagged", "prior", "lead"]
    assert "unseen" in said.sentences
    inside, outside = (means(study, known=known) for known in (True, False))
    assert f"balanced accuracy {inside:.2f} in domain and {outside:.2f} out of domain" in said.sentences["best"]
    assert "clip-linear, which validation chooses of 2," in said.sentences["best"]
    assert said.numbers["prior/prior"] == 0.5
    assert said.numbers["prior/difference"] == pytest.approx(outside - 0.5)
    assert f"wrongly flags {100 * said.numbers['flagged/reals']:.0f} % of the reals" in said.sentences["flagged"]
    assert said.sentences["unseen"].startswith("Trained on all but one, ")


def means(study: Study, *, known: bool) -> float:
    """Return the mean balanced accuracy of the CLIP detectors by hand: in domain, or out of it."""
    found = []
    for result in study.results.all:
        if result.trial.case == "clip-linear":
            real = float((result.scores["best", REAL].prob_fake <= 0.5).mean())
            for domain in DOLOS:
                fake = float((result.scores["best", domain].prob_fake > 0.5).mean())
                found += [(fake + real) / 2] if (domain in result.trial.spec.train.counts) is known else []
    return float(np.mean(found))


def test_shares_called_right_have_a_row_of_reals_and_ap_none(detected: Shown) -> None:
    _, _, study, report = detected
    right, ap = figure(report, "fig-train-test-right"), figure(report, "fig-train-test-ap")
    assert right.panels[0].chart.rows == [*DOLOS, REAL]
    assert ap.panels[0].chart.rows == [*DOLOS]
    clip = next(panel for panel in right.panels if panel.title == "clip-linear").chart
    result = next(one for one in study.results.all if one.trial.case == "clip-linear")
    column = clip.columns.index(next(name for name in result.trial.spec.train.counts if name != REAL))
    real = result.scores["best", REAL]
    assert clip.tiles[4][column].value == pytest.approx(float((real.prob_fake <= 0.5).mean()))
    assert clip.of == IMAGE_RIGHT.label
    score = result.scores["best", LAMA]
    chart = next(panel for panel in ap.panels if panel.title == "clip-linear").chart
    assert chart.tiles[DOLOS.index(LAMA)][column].value == score.of_set["image_ap"]


def test_histograms_hold_every_image_once_and_the_best_models_first(detected: Shown) -> None:
    shown = figure(detected[3], "fig-scores")
    assert len(shown.panels) <= histograms.MAX_PANELS
    lines = shown.panels[0].chart.series
    assert [line.name for line in lines] == ["reals", *DOLOS, "threshold that validation chooses"]
    for line in lines[:-1]:
        assert sum(mark.value for mark in line.marks[:-1]) == pytest.approx(1)
    assert "Of other models" in shown.caption
    assert {f"clip-linear, trained on {name}" for name in DOLOS} <= {panel.title for panel in shown.panels}


def test_a_threshold_is_chosen_on_the_training_s_own_validation_images(detected: Shown) -> None:
    folder, _, study, _ = detected
    rows = table(folder, "thresholds")
    (row,) = [one for one in rows if one["Model"].startswith("clip-linear") and one["Trained on"] == LAMA]
    threshold = image.image_threshold(valid_scores(LAMA), valid_scores(REAL))
    assert float(row["Threshold"]) == pytest.approx(threshold)
    assert threshold != 0.5
    result = next(
        one for one in study.results.all if one.trial.case == "clip-linear" and LAMA in one.trial.spec.train.counts
    )
    fake, real = (result.scores["best", name].prob_fake for name in (LAMA, REAL))
    assert float(row["At it, ID"]) == pytest.approx(image.image_accuracy(fake, real, threshold))
    assert float(row[f"Reals flagged, {REAL}"]) == pytest.approx(float((real > 0.5).mean()))
    assert f"900 {LAMA}" in row["Chosen on"]
    others = [one for one in rows if not one["Model"].startswith("clip-linear")]
    assert {one["Threshold"] for one in others} == {"-"}, "their validation images are not scored"


def test_published_tables_of_the_poster_stand_beside_ours_as_context_alone(detected: Shown) -> None:
    folder, _, study, report = detected
    rows = table(folder, "published-s003-clip_linear")
    (row,) = [one for one in rows if one["train domain"] == LAMA]
    result = next(
        one for one in study.results.all if one.trial.case == "clip-linear" and LAMA in one.trial.spec.train.counts
    )
    fake = float((result.scores["best", LDM].prob_fake > 0.5).mean())
    real = float((result.scores["best", REAL].prob_fake <= 0.5).mean())
    assert float(row[f"{LDM} ours"]) == pytest.approx(50 * (fake + real), abs=0.06)
    assert float(row[f"{LDM} ours, fakes alone"]) == pytest.approx(100 * fake, abs=0.06)
    assert not any(re.fullmatch(r"[-+\d.]+", one[f"{LDM} difference"]) for one in rows), "nothing is subtracted"
    text = (folder / "report.md").read_text()
    assert "the share of reals in its test sets is not known" in text
    titles = [panel.title for panel in figure(report, "fig-train-test").panels]
    assert any("s003.clip_linear (context)" in title for title in titles)
    assert "s003.c4" in text


def test_confusion_has_a_row_for_what_is_no_class(attributed: Shown) -> None:
    _, _, study, report = attributed
    panel = next(one for one in figure(report, "fig-confusion").panels if one.title == "clip-linear")
    chart = panel.chart
    assert isinstance(chart, Heat)
    assert chart.rows[-1] == "other (no class)"
    assert len(chart.rows) == len(chart.columns) + 1
    assert not any(tile.framed for tile in chart.tiles[-1])
    for line in chart.tiles:
        assert sum(tile.value or 0 for tile in line) == pytest.approx(1)
    diagonal = [chart.tiles[place][place] for place in range(len(chart.columns))]
    assert all(tile.framed for tile in diagonal)
    group = next(one for one in study.groups if one.case == "clip-linear")
    for name, tile in zip((REAL, *DOLOS), diagonal, strict=True):
        found = group.score([name])
        assert found is not None
        assert tile.value == pytest.approx(found.value)
    assert any(one.title == "collapsed: COLLAPSED (all ldm)" for one in figure(report, "fig-confusion").panels)


def test_recalls_stand_beside_published_ones_and_their_mean_is_of_all_classes(shown: Shown) -> None:
    folder, _, study, report = shown
    if study.task != "attribute":
        return
    panel = next(one for one in figure(report, "fig-recall").panels if one.title == "clip-linear")
    names = [series.name for series in panel.chart.series]
    assert names[:2] == ["share of each class", "ours"]
    assert "s003.attribution" in names
    assert "nb.classification.recall" not in names, "that one is of another optimiser"
    group = next(one for one in study.groups if one.case == "clip-linear")
    ours = panel.chart.series[1].marks
    assert ours[-1].value == pytest.approx(np.mean([mark.value for mark in ours[:-1]]))
    assert [mark.value for mark in panel.chart.series[0].marks] == [1, 0, 0, 0, 0, 0.2]
    row = next(one for one in table(folder, "classes") if one["Model"].startswith("clip-linear"))
    assert float(row["Mean recall"]) == pytest.approx(ours[-1].value, abs=1e-6)
    assert float(row["Macro AP"]) == pytest.approx(group.first.together["image_macro_ap"], abs=1e-3)
    said = answer(study).sentences
    assert [*said][:3] == ["best", "confused", "prior"]
    assert "in the mean of 5 classes" in said["best"]
    assert said["hardest"].startswith("The hardest class for it is celebahq/")
    assert confusion.confused(group) in said["confused"]


def test_the_frame_of_notebooks_has_the_numbers_of_images(shown: Shown) -> None:
    folder, record, study, _ = shown
    frame = notebook.results(record.name, workspace=str(folder.parent.parent))
    fakes = frame[(frame.test_domain == LDM) & (frame.checkpoint == "best")]
    assert fakes[study.first.key].between(0, 1).all()
    assert {"image_ap", "collapsed"} <= {*frame.columns}
    assert not {"empty", "all_fake", "constant", "iou"} & {*frame.columns}
    reals = frame[frame.test_domain == REAL]
    assert (reals.num_images == NUM).all()


def test_a_study_of_which_nothing_is_scored_says_so(tmp_path: Path) -> None:
    for make in MADE.values():
        record = make()
        study = Study(record, Results(Workspace(tmp_path), record))
        assert [*answer(study).sentences] == ["none"]
        report = read(Workspace(tmp_path), record)
        assert [block.id for block in report.blocks if isinstance(block, Figure) and block.panels]
        assert histograms.histograms(study, models(study)).panels == []


def test_validation_ranks_models_of_one_task_alone(tmp_path: Path) -> None:
    mixed = detection().model_copy(update={"trials": (*detection().trials, *attribution().trials)})
    with any_number_of_images():
        study = Study(mixed, Results(filled(tmp_path, mixed), mixed))
    tasks = {
        kind: {group.first.trial.spec.task for part in block for group in part.model.groups}
        for kind, block in parts(study, models(study)).items()
    }
    assert tasks["several domains, attribute"] == {"attribute"}
    assert tasks["several domains"] == {"detect"}


def test_where_all_numbers_are_alike_none_is_the_hardest_and_none_has_a_range(tmp_path: Path) -> None:
    def alike(_: PlannedTrial, each: EvaluationSpec) -> pa.Table:
        stems = [f"celebahq/{place // 3:03}" for place in range(NUM)]
        return detected_rows("image-1", each.domain, [0.4, 0.6] * (NUM // 2), stems=stems)

    with mock.patch.object(image_studies, "_detected", alike), any_number_of_images():
        record = detection()
        said = answer(Study(record, Results(filled(tmp_path, record), record)))
    texts = " ".join(said.sentences.values())
    assert "It wrongly flags 50 % of the reals, and misses 50 % of the fakes" in texts
    assert "Hardest" not in texts


def test_a_domain_without_reals_is_told_once_and_left_out_of_means(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    made = image_studies.detection([*DOLOS[:3], "mine/sd"])
    image_studies.fill(workspace, made)
    study = Study(made, Results(workspace, made))
    words = "No reals of mine/sd are tested: balanced accuracy is not told there, and means leave it out."
    assert overview.warnings(study).count(words) == 1
    first = next(group for group in study.groups if group.first.trial.axes.get("domain") == DOLOS[0])
    every, others = (study.mean_of([(first, domains)]) for domains in (study.tested, study.tested[:3]))
    assert every is not None
    assert others is not None
    assert every.value == others.value
    assert study.mean_of([(first, ["mine/sd"])]) is None
