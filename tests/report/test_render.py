"""Pages from templates: everything is escaped, nothing is silently missing, and a block of each kind has its two."""

import itertools
import re
from importlib import resources

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from dfloc.data import mini
from dfloc.report import gallery, images, render
from dfloc.report.chart import Axis, Figure, Heat, LegendKey, Lines, Mark, Panel, Series, Tile
from dfloc.report.gallery import Gallery, Head, Picture
from dfloc.report.page import Opening, Report, Section
from dfloc.report.table import Cell, Column, Row, Table
from dfloc.storage import Workspace
from tests.golden.reports import CASES, written

EVIL = "<script>alert('1' & \"2\")</script>"
ESCAPED = "&lt;script&gt;alert("


def figure() -> Figure:
    series = Series(EVIL, [Mark(1, 0.5, (0.25, 0.75), notes=[EVIL]), Mark(2, 0.5)], "#000000")
    lines = Lines([series], Axis(EVIL), Axis(EVIL, ends=(0, 1)))
    heat = Heat([EVIL], [EVIL], [[Tile(None, EVIL, [])]], EVIL, EVIL)
    panels = [Panel(EVIL, lines, EVIL), Panel(EVIL, heat, EVIL, wide=True)]
    return Figure(id="fig-a", title=EVIL, caption=EVIL, panels=panels, legend=[LegendKey(EVIL, "#000000")], numbers="a")


def page() -> Report:
    columns = [Column[Cell](EVIL, lambda cell: cell)]
    table = Table(id="a", title=EVIL, caption=EVIL, columns=columns, rows=[Row([Cell(EVIL, EVIL)])], notes=[EVIL])
    pictures = [Picture(None, EVIL, EVIL), Picture(b"\xff", EVIL, EVIL)]
    heads = [Head(EVIL, EVIL, EVIL)] * 2
    images = Gallery("g", EVIL, EVIL, EVIL, heads, [gallery.GalleryRow(f"{EVIL}/x", EVIL, pictures)], [EVIL])
    return Report(EVIL, EVIL, [(EVIL, EVIL)], [EVIL], [Section("s", EVIL, EVIL, [figure(), table, images])], [EVIL])


def test_no_text_of_a_page_is_a_tag() -> None:
    text = render.html("page", page=page())
    assert "<script" not in text
    assert text.count(ESCAPED) > 25
    assert 'alt="&lt;script&gt;' in text
    assert "/<wbr>x<small>" in text, "a name may break after a slash, which no name says by itself"
    assert "&lt;wbr" not in text


def test_no_text_of_the_markdown_is_a_tag_and_its_quotes_are_quotes() -> None:
    text = render.markdown("report", page=page())
    assert "<script" not in text
    assert text.startswith("# &lt;script&gt;alert('1' &amp; \"2\")&lt;/script&gt;\n\n")
    assert text.count(ESCAPED) > 15
    assert "&amp;#39;" in render.markdown("report", page=Report("&#39;", "", [], [], [], []))


def test_no_text_of_the_markdown_begins_a_line() -> None:
    evil = "a\n# b\r\n\n- c\u2028> d"
    section = Section("s", evil, evil, [figure()], evil)
    report = Report(evil, evil, [(evil, evil)], [evil], [section], [evil], Opening({"a": evil}), evil)
    text = render.markdown("report", page=report)
    assert text.count("a # b - c &gt; d") == 11
    assert not [line for line in text.splitlines() if line.startswith(("# b", "- c", "> d", "&gt; d"))]


def test_the_index_escapes_what_failed() -> None:
    text = render.html("index", entries=[], failed={EVIL: EVIL}, claims=EVIL)
    assert "<script" not in text
    assert text.count(ESCAPED) == 3


def test_what_a_template_asks_for_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'failed' is undefined"):
        render.html("index", entries=[], claims="")


def test_values_fold_beside_a_figure_and_holes_are_empty() -> None:
    text = render.html("page", page=Report("", "", [], [], [Section("s", "", "", [figure()])], []))
    assert "<td>0.500<td>0.250<td>0.750<td>" in text
    assert "<td><td><td><td>" in text
    assert '<a href="#a">Numbers</a>' in text


def test_a_page_says_how_figures_look_once_and_gives_their_ids_short_names() -> None:
    text = render.html("page", page=Report("", "", [], [], [Section("s", "", "", [figure()])], []))
    (drawn,) = re.findall(r'aria-label="[^"]*" style="max-width:500px">(.*?)</svg>', text, re.DOTALL)
    used = re.findall(r"<(?:text|path) class=(l\d+) ", drawn)
    assert len(used) > len({*used}) > 0
    assert all(text.count(f".{name} {{ ") == 1 for name in {*used})
    looks = re.findall(r'<(?:text|path|use)[^>]* style="([^"]*)"', drawn)
    assert len(looks) == len({*looks}), "what one thing alone looks like stays with it"
    assert {*re.findall(r" href=#([^ >]*)", drawn)} <= {*re.findall(r" id=(f0-0-\d+)", drawn)}
    places = re.findall(r" [xy]=([^ >]*)", drawn)
    assert len(places) > 10
    assert all(re.fullmatch(r"-?\d+(\.\d)?", place) for place in places)


@pytest.mark.slow
def test_a_page_of_a_study_of_paper_size_with_its_images_is_less_than_a_megabyte(tmp_path, monkeypatch) -> None:
    """Photographs and masks are those of the built-in data; maps are as of a decoder of 16 x 16 tokens."""
    mini.make(tmp_path / "mini", train=1, valid=1, test=6)
    files = sorted((tmp_path / "mini").glob("mini/fake/*/images/test/*.png"))[:6]
    rng = np.random.default_rng(0)

    def make(workspace, kept, shards, samples, models) -> list[str]:
        for sample, path in zip(samples, itertools.cycle(files), strict=False):
            mask = Image.open(str(path).replace("images", "masks")).convert("L")
            fake = 255 - np.asarray(mask)
            kept.put(sample, np.asarray(Image.open(path).convert("RGB")), fake)
            small = np.asarray(Image.fromarray(fake).resize((16, 16))) / 255
            for model in models.values():
                tokens = (6 * small - 3 + rng.normal(size=small.shape)).astype(np.float32)
                logits = np.asarray(Image.fromarray(tokens).resize((256, 256), Image.Resampling.BICUBIC))
                kept.put_map(sample, model, (255 / (1 + np.exp(-logits))).astype(np.uint8))
        return []

    monkeypatch.setattr(images, "make", make)
    folder = written(CASES["exposure"], Workspace(tmp_path / "workspace"), with_panel=True)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/') == 6 * 7
    assert len(page.encode()) < 0.95e6


def test_a_page_holds_its_style_and_what_is_empty_is_not_there() -> None:
    text = render.html("page", page=Report("t", "s", [], [], [Section("x", "X", "", [])], []))
    assert ".panels { display: grid" in text
    assert "> :only-child" in text
    assert 'warnings"' not in text
    assert "<p></p>" not in text


def test_what_templates_take_as_it_is_is_drawn_or_escaped_already() -> None:
    folder = resources.files("dfloc.report") / "templates"
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir()]
    taken = [found for text in texts for found in re.findall(r"([\w.]+|\"[^\"]*\")(?:\([^()]*\))? \| *safe", text)]
    assert sorted({*taken}) == ['"/<wbr>"', "chart", "glyph"]


def test_every_template_compiles() -> None:
    names = render.environment().list_templates()
    assert {"page.html.j2", "index.html.j2", "report.md.j2"} < {*names}
    for kind in ("figure", "table", "gallery"):
        assert {f"{kind}.html.j2", f"{kind}.md.j2"} < {*names}
    for name in names:
        render.environment().get_template(name)
