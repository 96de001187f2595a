"""Pages as they are seen: on a screen, on a phone and on paper, in a headless Chromium."""

import csv
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dfloc.report import opening, render
from dfloc.report.answer import answer
from dfloc.report.build import build, read
from dfloc.report.gallery import Gallery, GalleryRow, Head, Picture
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests import chromium
from tests.chromium import Browser
from tests.golden.reports import CASES, written
from tests.report import image_studies, studies
from tests.report.planned import any_number_of_images

pytestmark = [pytest.mark.pages, pytest.mark.slow, pytest.mark.skipif(not chromium.path(), reason="needs chromium")]
STUDIES = (
    "exposure",
    "losses",
    "single-domain",
    "search",
    "decoder-depth",
    "segmenters",
    "generator-shift",
    "exposure-seeds",
)
OF_IMAGES = {"detection": image_studies.detection, "attribution": image_studies.attribution}
WIDTHS = (1600, 420)
PAPER = 1039  # pixels between the margins of the page: A4 on its side, less 11 mm on either side

BOXES = """
const boxes = ".scroll, .panel.wide", drawn = e => e.getBoundingClientRect();
const said = e => `${e.tagName} ${e.id || e.getAttribute("class") || ""} ${e.textContent.trim().slice(0, 40)}`;
"""
TOO_WIDE = (
    BOXES
    + """
const outside = e => drawn(e).width > 0 && (drawn(e).right > innerWidth + 1 || drawn(e).left < -1);
[...document.querySelectorAll("body *:not(.skip)")]
  .filter(e => !e.parentElement.closest(boxes) && outside(e)).map(said).slice(0, 5)
"""
)
OVERLAPS = (
    BOXES
    + """
const upright = e => !/rotate\\((?!-?(90|0)\\b)/.test(e.getAttribute("transform") || "");
const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
[...document.querySelectorAll(".panel svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].filter(upright), found = [];
  texts.forEach((one, i) => texts.slice(i + 1).forEach(other => {
    if (meet(drawn(one), drawn(other))) found.push(`${one.textContent} | ${other.textContent}`);
  }));
  return found.map(each => `${svg.parentElement.querySelector("h3").textContent}: ${each}`);
}).slice(0, 5)
"""
)
CUT = (
    BOXES
    + """
[...document.querySelectorAll("th, td, svg, img")]
  .filter(e => !e.closest(".values") && drawn(e).right > innerWidth + 1).map(said).slice(0, 5)
"""
)
FOLDED = 'document.querySelectorAll("details").forEach(each => { each.open = true; })'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser() as found:
        yield found


@pytest.fixture(scope="module", params=(*STUDIES, *OF_IMAGES))
def page(request, tmp_path_factory) -> Path:
    if request.param in OF_IMAGES:
        record = OF_IMAGES[request.param]()
        with any_number_of_images():
            workspace = image_studies.filled(tmp_path_factory.mktemp(request.param), record)
            return Path(str(build(workspace, record))) / "index.html"
    return written(CASES[request.param], Workspace(tmp_path_factory.mktemp(request.param))) / "index.html"


def with_images(workspace: Workspace, folder: Path) -> Path:
    """Return the mini study's page with the rows of images that a wide study has."""
    record = studies.mini()
    picture = Picture((Path(__file__).parent / "pixel.png").read_bytes(), "a map", "IoU 0.80")
    rows = [GalleryRow(f"mini/telea/test/{row:05d}.png", "first of its list", [picture] * 7) for row in range(6)]
    names = ("photograph", "base", *(f"fine-tuned, n = {n}" for n in (4, 16, 48)), "with replay", "from scratch")
    columns = [Head(name, words="How it was trained.") for name in names]
    images = Gallery("panel", "Predictions on single images.", "Some words.", "In brief.", columns, rows, ["A note."])
    found = answer(Study(record, Results(workspace, record))).sentences
    page, rest = opening.beside(opening.opened(read(workspace, record), found), images)
    assert rest
    sections = [*page.sections, replace(page.sections[0], id="panel-study", blocks=[rest])]
    (folder / "index.html").write_text(render.html("page", page=replace(page, sections=sections)), encoding="utf-8")
    return folder / "index.html"


def look(browser: Browser, page: Path) -> None:
    """Check a page at both widths."""
    for width in WIDTHS:
        browser.show(page, width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(TOO_WIDE) == []
        assert browser.run(OVERLAPS) == []
        if width == max(WIDTHS):
            assert browser.run('document.querySelector("figure").getBoundingClientRect().top') < 700
            for part in ("ul", ".warnings", ".panels", ".gallery .scroll"):
                low = f"document.querySelector('#answer {part}')?.getBoundingClientRect().bottom ?? 0"
                assert browser.run(low) <= 1000, part
    browser.run(FOLDED)
    assert browser.run(TOO_WIDE) == [], "nor is what folds"


def test_the_answer_is_on_the_first_screen_and_nothing_is_too_wide(page, browser):
    look(browser, page)
    assert page.stat().st_size <= 1e6


def test_a_table_has_the_cells_and_words_of_its_csv(page, browser):
    browser.show(page, 1600)
    rows = "[...document.querySelectorAll('#trials tbody tr')]"
    found = browser.run(f"{rows}.map(row => [...row.cells].map(cell => cell.firstChild?.textContent.trim() ?? ''))")
    with (page.parent / "trials.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    heads = [head for head in lines[0] if not head.endswith(": note")]
    assert len(found) == len(lines) > 3
    for name in ("Stage", "Train", "Trial", "Predict"):
        assert [row[heads.index(name)] for row in found] == [line[name] for line in lines]
    assert browser.run("document.querySelectorAll('td td, td th, th td, tr tr').length") == 0


def test_images_stand_beside_the_answer(mini_workspace, tmp_path, browser):
    look(browser, with_images(mini_workspace, tmp_path))


def test_first_column_and_heads_stay_in_sight(page, browser):
    browser.show(page, 420)
    moved = browser.run(
        """(() => {
          const boxes = [...document.querySelectorAll("figure.table .scroll")];
          const box = boxes.find(e => e.scrollWidth > e.clientWidth + 50);
          box.scrollLeft = 50;
          return box.querySelector("tbody tr > *").getBoundingClientRect().left - box.getBoundingClientRect().left;
        })()"""
    )
    assert abs(moved) < 2


def test_the_keyboard_reaches_what_scrolls_and_each_part_has_a_name(page, browser):
    browser.show(page, 1600)
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert browser.run(f"document.querySelectorAll('body > {landmark}').length") == 1
    assert browser.run("document.querySelector('a').className") == "skip"
    assert browser.run("document.querySelectorAll('th:not([scope])').length") == 0
    assert browser.run("document.querySelectorAll('.scroll:not([tabindex][role])').length") == 0
    there = "e => !document.getElementById(e.hash ? e.hash.slice(1) : e.getAttribute('aria-labelledby'))"
    named = """[...document.querySelectorAll('[aria-labelledby], a[href^="#"]')]"""
    assert browser.run(f"{named}.filter({there}).map(e => e.outerHTML)") == []


def test_on_paper_no_table_is_cut_and_every_head_is_there(page, browser, tmp_path):
    browser.show(page, PAPER)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    browser.run(FOLDED)
    assert browser.run(CUT) == []
    heads = browser.run("[...document.querySelectorAll('figure.table th[scope=col]')].map(e => e.textContent)")
    terms = browser.run("[...document.querySelectorAll('dt')].map(e => e.textContent)")
    last = browser.run("document.querySelector('#trials tbody tr:last-child td:last-child').textContent")
    rows = browser.run("document.querySelectorAll('#trials tbody tr').length")
    browser.show(page, PAPER)
    text = printed(browser, tmp_path)
    missing = {each for each in [*heads, *terms, last] if bare(each) not in text}
    assert not missing
    assert rows < 100 or text.count(bare("Valid. IoU")) > 2, "the heads are on each page"


def printed(browser: Browser, folder: Path) -> str:
    """Return the letters of a page as it is printed, without spaces."""
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext")
    (folder / "page.pdf").write_bytes(browser.printed())
    command = ["pdftotext", "-raw", str(folder / "page.pdf"), "-"]
    return bare(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bare(text: str) -> str:
    return re.sub(r"[\s\u00ad]+", "", text)
