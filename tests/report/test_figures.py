import numpy as np
import pytest

from dfloc.report import beside, figures, plot, published
from dfloc.report.groups import Study
from dfloc.report.results import Results
from tests.report import studies
from tests.report.conftest import curve_of
from tests.report.studies import MINI


def trace(panel, name):
    (found,) = [trace for trace in panel.figure.data if trace.name == name]
    return found


def test_a_panel_for_each_held_out_domain_with_a_line_for_each_test_domain(mini_study):
    figure = figures.panels(mini_study, [])
    assert [panel.title for panel in figure.panels] == [f"Held out: {domain}" for domain in MINI]
    line = trace(figure.panels[3], "mini/telea")
    curve = curve_of(mini_study, "mini/telea")
    np.testing.assert_allclose(line.y, [group.score(["mini/telea"]).value for group in curve.values()])
    np.testing.assert_allclose(line.x, list(curve), atol=1)
    low = [y - minus for y, minus in zip(line.y, line.error_y.arrayminus, strict=True)]
    np.testing.assert_allclose(low, [group.score(["mini/telea"]).low for group in curve.values()])


def test_a_domain_has_one_colour_everywhere(mini_study):
    colours = plot.colours(MINI)
    assert len(set(colours.values())) == 4
    for panel in figures.panels(mini_study, []).panels:
        assert all(trace(panel, domain).line.color == colours[domain] for domain in MINI)
    assert figures.controls(mini_study).panels[0].figure.data[0].line.color == colours[MINI[0]]


def test_the_held_out_domain_is_thick(mini_study):
    panel = figures.panels(mini_study, []).panels[0]
    assert trace(panel, MINI[0]).line.width > 2 * trace(panel, MINI[1]).line.width


def test_the_mean_panel_is_the_mean_of_the_panels(mini_study):
    line = trace(figures.means(mini_study).panels[0], "held-out domain")
    scores = [curve_of(mini_study, domain)[16].score([domain]).value for domain in MINI]
    assert line.y[line.x.index(16)] == pytest.approx(np.mean(scores))


def test_controls_show_three_models_on_held_out_and_seen(mini_study):
    figure = figures.controls(mini_study)
    assert len(figure.panels) == 8
    seen = figure.panels[1]
    scratch = trace(seen, "from scratch")
    group = curve_of(mini_study, MINI[0], "from scratch")[48]
    assert scratch.y[-1] == pytest.approx(group.score(list(MINI[1:])).value)


def test_the_controls_caption_says_what_else_differs(mini_study):
    caption = figures.controls(mini_study).caption
    assert (
        "Fine-tuned and from scratch also differ in steps 40 / 80, epochs 4 / 8: their distance is no answer."
        in caption
    )
    assert "with replay also" not in caption
    assert "also differ" not in figures.means(mini_study).caption, "ten steps an epoch, whatever n is"


def test_published_points_are_filled_or_hollow_with_the_reason(paper_study):
    found = beside.pairs(paper_study, published.choose(published.load(), paper_study.record.tables))
    panel = figures.panels(paper_study, found).panels[2]
    points = trace(panel, "published, celebahq/lama")
    shapes = dict(zip(points.x, points.marker.symbol, strict=True))
    assert {n for n, shape in shapes.items() if shape == "diamond-open"} == {250, 500, 750}
    assert points.y[points.x.index(1000)] == pytest.approx(0.701)
    assert "proved by the saved logs" in points.text[points.x.index(250)].replace("<br>", " ")
    ours = next(pair for pair in found if (pair.where, pair.n, pair.domain) == ("celebahq/lama", 1000, "celebahq/lama"))
    assert points.text[points.x.index(1000)].endswith("<br>".join(["", *beside.told(ours)]))
    assert "difference: " in points.text[points.x.index(1000)]
    assert "Published, with no digests of lists: celebahq/ldm" in figures.panels(paper_study, found).caption
    assert "ublished" not in figures.panels(paper_study, []).caption


def test_published_points_of_a_domain_that_is_not_tested_are_not_drawn(paper_study, paper_workspace):
    record = paper_study.record.model_copy(update={"domains": paper_study.record.domains[:3]})
    study = Study(record, Results(paper_workspace, record))
    found = beside.pairs(study, published.choose(published.load(), record.tables))
    names = {line.name for panel in figures.panels(study, found).panels for line in panel.figure.data}
    assert "published, celebahq/lama" in names
    assert "published, celebahq/pluralistic" not in names


def test_collapsed_trials_are_crosses_and_holes_are_left_out(study_of):
    def fate(trial):
        return "new" if trial.stage == "finetune" and trial.axes["n"] == 48 else ""

    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 else 0.5

    study = study_of(studies.mini(), of, fate)
    line = trace(figures.panels(study, []).panels[0], MINI[0])
    assert len(line.x) == 3
    assert list(line.marker.symbol) == ["circle", "circle", "x"]


def test_a_collapsed_trial_is_a_cross_in_the_mean_and_among_the_controls(study_of):
    def of(trial, domain):
        lost = trial.stage in ("finetune", "replay") and trial.axes["n"] == 16 and trial.axes["held_out"] == MINI[0]
        return 0.0 if lost else 0.5

    study = study_of(studies.mini(), of)
    mean = trace(figures.means(study).panels[0], "seen domains, mean")
    assert dict(zip(mean.x, mean.marker.symbol, strict=True)) == {0: "circle", 4: "circle", 16: "x", 48: "circle"}
    assert "COLLAPSED (empty): 1 of 4 models" in mean.text[2]
    replay = trace(figures.controls(study).panels[1], "with replay")
    assert "x" in replay.marker.symbol


def test_empty_maps_on_one_domain_are_a_cross_on_its_line_alone(study_of):
    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 and domain == MINI[1] else 0.5

    panel = figures.panels(study_of(studies.mini(), of), []).panels[0]
    assert trace(panel, MINI[1]).marker.symbol[2] == "x"
    assert "empty maps" in trace(panel, MINI[1]).text[2]
    for name in (MINI[0], "mean of all test domains"):
        assert "x" not in trace(panel, name).marker.symbol


def test_steps_stand_beside_n_in_the_mean(mini_study):
    (panel,) = figures.means(mini_study).panels
    assert "<br>80 steps of the base<br>" in trace(panel, "held-out domain").text[0]
    assert "<br>40 steps<br>" in trace(panel, "held-out domain").text[2]
    assert "n = 0: 80 steps, n = 4: 40 steps" in panel.words


def test_names_are_escaped_in_hovers(study_of):
    evil = ("mini/<b>x</b>", *MINI[1:])
    maker = studies.Maker(domains=evil)
    maker.curves([4], epochs=4)
    figure = figures.panels(study_of(studies.record(maker, "mini")), [])
    assert "<b>x</b>" not in str(figure.panels[0].figure.data[0].text) + figure.panels[0].figure.data[0].name
