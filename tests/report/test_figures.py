import numpy as np
import pytest

from dfloc.report import chart, exposure, figures, place, published
from dfloc.report.chart import Mark
from dfloc.report.groups import Study
from dfloc.report.results import Results
from tests.report import studies
from tests.report.conftest import curve_of
from tests.report.drawn import series, titles
from tests.report.studies import MINI


def shapes(line) -> dict:
    return {mark.x: mark.shape for mark in line.marks}


def test_a_panel_for_each_held_out_domain_with_a_line_for_each_test_domain(mini_study):
    figure = figures.panels(mini_study, [])
    assert [panel.title for panel in figure.panels] == [f"Held out: {domain}" for domain in MINI]
    line = series(figure.panels[3], "mini/telea")
    curve = curve_of(mini_study, "mini/telea")
    scores = {n: group.score(["mini/telea"]) for n, group in curve.items()}
    assert [mark[:3] for mark in line.marks] == [(n, one.value, (one.low, one.high)) for n, one in scores.items()]


def test_a_domain_has_one_colour_everywhere(mini_study):
    colours = chart.colours(MINI)
    assert len(set(colours.values())) == 4
    for panel in figures.panels(mini_study, []).panels:
        assert all(series(panel, domain).colour == colours[domain] for domain in MINI)
    assert figures.controls(mini_study).panels[0].chart.series[0].colour == colours[MINI[0]]


def test_the_held_out_domain_is_thick(mini_study):
    panel = figures.panels(mini_study, []).panels[0]
    assert series(panel, MINI[0]).width > 2 * series(panel, MINI[1]).width


def test_the_mean_panel_is_the_mean_of_the_panels(mini_study):
    line = series(figures.means(mini_study).panels[0], "held-out domain")
    scores = [curve_of(mini_study, domain)[16].score([domain]).value for domain in MINI]
    assert {mark.x: mark.value for mark in line.marks}[16] == pytest.approx(np.mean(scores))


def test_controls_show_three_models_on_held_out_and_seen(mini_study):
    figure = figures.controls(mini_study)
    assert len(figure.panels) == 8
    seen = figure.panels[1]
    scratch = series(seen, "from scratch")
    group = curve_of(mini_study, MINI[0], "from scratch")[48]
    assert scratch.marks[-1].value == pytest.approx(group.score(list(MINI[1:])).value)


def test_the_controls_caption_says_what_else_differs(mini_study):
    caption = figures.controls(mini_study).caption
    assert (
        "Fine-tuned and from scratch also differ in steps 40 / 80, epochs 4 / 8: their distance is no answer."
        in caption
    )
    assert "with replay also" not in caption
    assert "also differ" not in figures.means(mini_study).caption, "ten steps an epoch, whatever n is"


def test_published_points_are_filled_or_hollow_with_the_reason(paper_study):
    found = place.pairs(paper_study, published.choose(published.load(), paper_study.record.tables))
    panel = figures.panels(paper_study, found).panels[2]
    points = {mark.x: mark for mark in series(panel, "published, celebahq/lama").marks}
    assert {n for n, mark in points.items() if mark.shape == "diamond-open"} == {250, 500, 750}
    assert points[1000].value == pytest.approx(0.701)
    assert "proved by the saved logs" in points[250].notes[0]
    ours = next(
        pair for pair in found if (pair.where, pair.row, pair.col) == ("celebahq/lama", "1,000", "celebahq/lama")
    )
    assert points[1000].notes == ours.told()
    assert any("difference: " in note for note in points[1000].notes)
    assert "Published, with no digests of lists: celebahq/ldm" in figures.panels(paper_study, found).caption
    assert "ublished" not in figures.panels(paper_study, []).caption


def test_published_points_of_a_domain_that_is_not_tested_are_not_drawn(paper_study, paper_workspace):
    record = paper_study.record.model_copy(update={"domains": paper_study.record.domains[:3]})
    study = Study(record, Results(paper_workspace, record))
    found = place.pairs(study, published.choose(published.load(), record.tables))
    names = {line.name for panel in figures.panels(study, found).panels for line in panel.chart.series}
    assert "published, celebahq/lama" in names
    assert "published, celebahq/pluralistic" not in names


def test_collapsed_trials_are_crosses_and_holes_are_left_out(study_of):
    def fate(trial):
        return "new" if trial.stage == "finetune" and trial.axes["n"] == 48 else ""

    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 else 0.5

    study = study_of(studies.mini(), of, fate)
    line = series(figures.panels(study, []).panels[0], MINI[0])
    assert list(shapes(line).values()) == ["", "", "x"]


def test_a_collapsed_trial_is_a_cross_in_the_mean_and_among_the_controls(study_of):
    def of(trial, domain):
        lost = trial.stage in ("finetune", "replay") and trial.axes["n"] == 16 and trial.axes["held_out"] == MINI[0]
        return 0.0 if lost else 0.5

    study = study_of(studies.mini(), of)
    mean = series(figures.means(study).panels[0], "known domains, mean")
    assert shapes(mean) == {0: "", 4: "", 16: "x", 48: ""}
    assert "COLLAPSED (empty): 1 of 4 models" in mean.marks[2].notes
    replay = series(figures.controls(study).panels[1], "with replay")
    assert shapes(replay)[16] == "x"


def test_empty_maps_on_one_domain_are_a_cross_on_its_line_alone(study_of):
    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 and domain == MINI[1] else 0.5

    panel = figures.panels(study_of(studies.mini(), of), []).panels[0]
    assert series(panel, MINI[1]).marks[2].shape == "x"
    assert "empty predictions" in " ".join(series(panel, MINI[1]).marks[2].notes)
    for name in (MINI[0], "mean of all test domains"):
        assert "x" not in shapes(series(panel, name)).values()


def test_steps_stand_beside_n_in_the_mean(mini_study):
    (panel,) = figures.means(mini_study).panels
    assert "80 steps of the base" in series(panel, "held-out domain").marks[0].notes
    assert "40 steps" in series(panel, "held-out domain").marks[2].notes
    assert "n = 0: 80 steps, n = 4: 40 steps" in panel.words


def test_names_are_shown_and_not_obeyed(study_of):
    evil = ("mini/<b>x</b>", *MINI[1:])
    maker = studies.Maker(domains=evil)
    maker.curves([4], epochs=4)
    figure = figures.panels(study_of(studies.record(maker, "mini")), [])
    assert any(title.startswith("mini/<b>x</b>, n 0: ") for title in titles(figure))


def test_forgetting_has_the_numbers_of_its_table_for_each_kind(mini_study):
    figure, table = figures.forgetting(mini_study), exposure.forgetting(mini_study)
    assert [panel.title for panel in figure.panels] == [f"Held out: {domain}" for domain in MINI]
    drawn = {
        (line.name, domain, mark.x): (mark.value, *(mark.span or ()))
        for domain, panel in zip(MINI, figure.panels, strict=True)
        for line in panel.chart.series
        for mark in line.marks
    }
    written = {
        (row.cells[0].text, row.cells[1].text, float(row.cells[2].text)): row.cells[-1].exact
        for row in table.rows
        if row.cells[-1].exact
    }
    assert drawn == written
    assert {name for name, *_ in drawn} == {"fine-tuned", "with replay"}


def test_the_axis_of_differences_has_0_and_all_intervals():
    axis = figures._signed("lost", [Mark(4, 0.25, (-0.05, 0.55)), Mark(8, -0.1)])
    assert axis.ends == (-0.2, 0.6)
    assert list(axis.ticks) == [-0.2, 0.0, 0.2, 0.4, 0.6]
