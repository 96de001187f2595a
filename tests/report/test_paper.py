"""Tables as LaTeX in a two-column page: pdflatex itself says that nothing is wider than the column."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from dfloc.record import SweepRecord
from dfloc.report import latex
from dfloc.report.build import read
from dfloc.storage import Workspace
from tests.report import crossed, image_studies, studies
from tests.report.conftest import small_paper

pytestmark = [
    pytest.mark.latex,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed"),
]


def compiled(folder: Path) -> str:
    """Compile all.tex; return the log in one line each, as LaTeX breaks them at 79 letters."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return (folder / "all.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("make", "tables"),
    [
        (studies.mini, {"exposure", "controls", "forgetting", "budgets", "trials"}),
        (small_paper, {"exposure", "best-last", "published-exposure", "claims"}),
        (crossed.cross_domain, {"train-test", "models", "measures-models"}),
        (crossed.source_shift, {"train-test", "areas", "published-s004-table3"}),
        (crossed.segmenters, {"tested", "models"}),
    ],
)
def test_no_table_of_a_study_is_wider_than_a_column(
    tmp_path: Path, make: Callable[[], SweepRecord], tables: set[str]
) -> None:
    record, workspace = make(), Workspace(tmp_path / "workspace")
    studies.fill(workspace, record, checkpoints=("best",))
    check(workspace, record, tmp_path / "latex", tables)


@pytest.mark.parametrize(
    ("make", "tables"),
    [
        (image_studies.detection, {"train-test", "thresholds", "cells", "published-s003-clip_linear"}),
        (image_studies.attribution, {"classes", "models", "published-s003-attribution"}),
    ],
)
def test_no_table_of_images_as_a_whole_is_wider_than_a_column(
    tmp_path: Path, make: Callable[[], SweepRecord], tables: set[str]
) -> None:
    record = make()
    check(image_studies.filled(tmp_path / "workspace", record), record, tmp_path / "latex", tables)


def check(workspace: Workspace, record: SweepRecord, folder: Path, tables: set[str]) -> None:
    paths = latex.write(read(workspace, record), UPath(folder))
    assert tables <= {path.stem for path in paths}
    log = compiled(folder)
    assert not re.findall(r"Overfull \\hbox.*", log)
    assert "Output written on all.pdf" in log


def test_the_column_is_that_of_a_paper(tmp_path: Path) -> None:
    """3.25 in are 234.9 points; a rule of that width fits, and one of 4 points more does not."""
    for width, fits in ((234.8, True), (239.0, False)):
        (tmp_path / "all.tex").write_text(latex.DOCUMENT % rf"\noindent\rule{{{width}pt}}{{1pt}}")
        assert ("Overfull" not in compiled(tmp_path)) == fits
