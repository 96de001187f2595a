"""What a page begins with: the answer, its figure, a few predictions; and each term leads to what it means."""

from dataclasses import replace
from pathlib import Path

import pytest

from dfloc.report import opening, render
from dfloc.report.build import build
from dfloc.report.chart import Axis, Figure, Heat, Lines, Mark, Panel, Series, Tile
from dfloc.report.gallery import Gallery, GalleryRow, Head, Picture
from dfloc.report.page import Opening, Report, Section
from dfloc.report.reading import WRITTEN
from tests.report import studies

LINES = Lines([Series("a", [Mark(1, 0.5)], "#000000")], Axis("n"), Axis("IoU", ends=(0, 1)))


def figure(name: str, *charts: object) -> Figure:
    panels = [Panel(f"{name} {place}", chart, "") for place, chart in enumerate(charts or [LINES])]  # type: ignore[arg-type]
    return Figure(id=name, title=name, caption="", panels=panels)


def ranking(*models: str) -> Figure:
    return figure(
        "fig-models", replace(LINES, sideways=True, y=Axis("Model", {float(i): m for i, m in enumerate(models)}))
    )


def heat(x: str, y: str) -> Figure:
    return figure("fig-combined", Heat(["a"], ["b"], [[Tile(0.5, "0.5", [])]], x, y))


def report(*figures: Figure) -> Report:
    return Report("t", "s", [], [], [Section("one", "One", "", figures), Section("two", "Two", "Text.", [])], [])


def chosen(*figures: Figure, keys: tuple[str, ...] = ("best",)) -> str:
    found = opening.opened(report(*figures), dict.fromkeys(keys, "")).opening.figure
    return found.id if found else ""


def test_a_study_opens_with_its_own_comparison():
    matrix, trends = figure("fig-train-test"), [figure("fig-by-map"), figure("fig-by-depth")]
    assert chosen(figure("fig-exposure"), figure("fig-mean"), matrix) == "fig-mean"
    assert chosen(matrix, ranking("a", "b")) == "fig-models"
    assert chosen(matrix, ranking("a")) == "fig-train-test", "a ranking of one model compares nothing"
    assert chosen(matrix, ranking(*map(str, range(19)))) == "fig-train-test", "it would push all else off the screen"
    assert chosen(ranking("a", "b"), *trends, keys=("best", "depth", "map")) == "fig-by-depth"
    assert chosen(ranking("a", "b"), *trends) == "fig-by-map"
    assert chosen(ranking("a", "b"), heat("loss", "augment"), keys=("best", "loss")) == "fig-combined"
    assert chosen(ranking("a", "b"), heat("encoder", "decoder"), keys=("best", "loss")) == "fig-models"
    assert chosen(figure("fig-importance"), figure("fig-search")) == "fig-search"
    assert chosen(figure("fig-epochs")) == ""


def test_the_figure_moves_and_what_is_too_much_stays():
    few = opening.opened(report(figure("fig-mean", LINES, LINES)), {"a": "A."})
    assert [block.id for block in few.blocks] == ["fig-mean"]
    assert [section.id for section in few.sections] == ["two"], "a section without anything goes"
    long = replace(LINES, sideways=True, y=Axis("Model", {float(place): str(place) for place in range(19)}))
    many = opening.opened(report(figure("fig-mean", long, *[LINES] * 5)), {"a": "A."})
    titles = [(block.id, [panel.title for panel in block.panels]) for block in many.blocks if isinstance(block, Figure)]
    assert titles == [
        ("fig-mean", [f"fig-mean {place}" for place in (1, 2, 3, 4)]),
        ("fig-mean-more", ["fig-mean 0", "fig-mean 5"]),
    ]


def images(rows: int) -> Gallery:
    shown = [GalleryRow(f"row {row}", "", [Picture(None, "none")]) for row in range(rows)]
    return Gallery("panel", "Images.", "All of it.", "Brief.", [Head("Image", words="long")], shown, ["N."])


@pytest.mark.parametrize(("rows", "first", "rest"), [(5, 2, 3), (2, 2, 0), (1, 1, 0)])
def test_the_first_images_move_to_the_answer(rows, first, rest):
    page, left = opening.beside(report(), images(rows))
    assert page.opening.strip is not None
    assert (len(page.opening.strip.rows), len(left.rows) if left else 0) == (first, rest)
    assert bool(page.opening.strip.notes) == (left is None), "the notes are said once"


def test_page_and_markdown_begin_with_the_answer(mini_workspace):
    folder = Path(build(mini_workspace, studies.mini(), with_panel=False).path)
    text, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    title = studies.mini().title
    lines = markdown.split("\n")
    assert lines[0] == f"# {title}"
    assert lines[2].startswith("- ")
    assert "`dfloc sweep exposure --preset mini`" in markdown
    assert "<code>dfloc sweep exposure --preset mini</code>" in text
    places = [
        text.index(each) for each in (f"<h1>{title}", 'id="answer-gain"', 'id="fig-mean"', "<nav", 'id="reading"')
    ]
    assert places == sorted(places)
    assert text.count('id="fig-mean"') == 1


def test_a_command_goes_on_with_what_it_made():
    record = studies.mini()
    assert opening.command(record) == "dfloc sweep exposure --preset mini"
    other = record.model_copy(update={"preset": "paper", "data": "dolos", "limit": 16})
    assert opening.command(other) == "dfloc sweep exposure --preset paper --data DIR --limit 16"


def test_warnings_are_one_line_and_fold():
    page = replace(
        report(), warnings=["Random weights: they mean nothing.", "Failed: a: b", "Failed: c: d", "Mixed: x."]
    )
    assert page.warned == "Random weights: they mean nothing. Also: Failed; Mixed."
    assert report().warned == ""
    text = render.html("page", page=page)
    assert f"<summary>{page.warned}</summary>" in text
    assert "<li>Failed: c: d</li>" in text


def test_a_term_leads_to_what_it_means_once_and_as_a_whole_word():
    reading = [("n", "Images <of> it."), ("Validation and test", "Chosen by it."), ("Other", "Not written.")]
    page = replace(
        report(), reading=reading, opening=Opening({"a": "n = 4, not & then n = 8; by validation, validations"})
    )
    text = render.html("page", page=page)
    answer = text.partition('<li id="answer-a">')[2].partition("</li>")[0]
    assert answer == (
        '<a class="term" href="#reading-1" title="Images &lt;of&gt; it.">n</a> = 4, not &amp; then n = 8; '
        'by <a class="term" href="#reading-2" title="Chosen by it.">validation</a>, validations'
    )
    assert 'id="reading-2"' in text


def test_every_term_that_is_linked_can_be_in_how_to_read_it(mini_workspace, monkeypatch):
    from dfloc.report import reading

    source = Path(reading.__file__).read_text(encoding="utf-8")
    for term in WRITTEN:
        assert source.count(f'"{term}"') >= 2, f"{term} is no term of how to read"
