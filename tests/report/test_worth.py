"""Masks or labels: the worth of labels on made-up studies whose curve is known."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dfloc.config import SampleList
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import build, worth
from dfloc.report.answer import answer
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report.studies import MINI, Maker, fill, record

DOMAINS, REAL, NS, MS = MINI[:2], "mini/real", (0, 8, 32, 128), (0, 90, 4500)


def study_of(labels: str = "own") -> SweepRecord:
    """Two models of each of two domains, at every n and m but (0, 0)."""
    maker = Maker(domains=DOMAINS, tests=DOMAINS)
    for case, maps in (("clip", ("srm/stats",)), ("patches", ("pixels",))):
        for domain in DOMAINS:
            for n in NS:
                for m in MS:
                    if n or m:
                        _plan(maker, case, maps, domain, n, m, labels)
    maker.baselines()
    return record(maker, "mini", synthetic=True)


def _plan(maker: Maker, case: str, maps: tuple[str, ...], domain: str, n: int, m: int, labels: str) -> None:
    counts = {domain: n + m, **({REAL: m} if m else {})}
    weak = SampleList(digest=f"{domain}-{n}-{m}", counts={domain: m})
    spec = {"targets": "label"} if m and not n else {"labelled": weak, "labels": labels} if m else {}
    maker.plan("mixed", counts, case=case, maps=maps, spec=spec, held_out=domain, n=n, m=m)
    trial = maker.trials[-1]
    tests = [each.model_copy(update={"trial": trial.spec.fingerprint}) for each in trial.evaluations]
    maker.trials[-1] = trial.model_copy(update={"fingerprint": trial.spec.fingerprint, "evaluations": tuple(tests)})


def curve(n: float) -> float:
    """Twice the masks are 0.05 more."""
    return 0.2 + 0.05 * math.log2(n)


def truth(trial: PlannedTrial, domain: str) -> float:
    """4,500 + 4,500 labels alone are worth 16 masks, beside masks as many as there are; 90 + 90 are worth none."""
    n, m = (int(str(trial.axes.get(axis, 0))) for axis in ("n", "m"))
    if trial.stage == "baselines":
        return 0.1
    if not n:
        return curve(16) if m == 4500 else curve(2)
    return curve(2 * n if m == 4500 else n)


def made(tmp_path: Path, of: Callable[[PlannedTrial, str], float] = truth, labels: str = "own") -> Study:
    workspace, found = Workspace(tmp_path), study_of(labels)
    fill(workspace, found, of)
    return Study(found, Results(workspace, found))


def test_the_worth_is_what_the_curve_says(tmp_path: Path) -> None:
    study = made(tmp_path)
    every = worth.found(study)
    assert [(one.name, one.counts, one.labels) for one in every] == [
        ("clip", [8, 32, 128], [180, 9000]),
        ("patches", [8, 32, 128], [180, 9000]),
    ]
    for one in every:
        for n, expected in ((0, 16), (8, 8), (32, 32)):
            found = one.drawn(n, 9000)
            assert found is not None
            assert found[0] == pytest.approx(expected, rel=1e-6)
            gain = one.gain(n, 9000)
            assert (gain is None) if not n else gain and gain.value == pytest.approx(0.05)
        assert one.words(0, 180) == "under 8"
        assert one.words(128, 9000) == "over 0"
        assert one.words(8, 180).startswith("0 (")


def test_the_page_answers_first_and_shows_the_curves(tmp_path: Path) -> None:
    study = made(tmp_path)
    sentences = list(answer(study).sentences.values())
    assert sentences[0].startswith("Clip: 9,000 labels alone are worth 16 (")
    assert "9,000 labels add 0.050 IoU" in sentences[1]
    found = {one.id: one for one in build.read(Workspace(tmp_path), study.record).sections}["worth-study"]
    figure, table = found.blocks
    assert [panel.title for panel in figure.panels] == ["clip", "patches"]  # type: ignore[union-attr]
    rows = {(row.cells[0].text, row.cells[1].text, row.cells[2].text): row for row in table.rows}  # type: ignore[union-attr]
    assert len(rows) == 2 * 11
    assert rows["clip", "0", "9,000"].cells[5].text.startswith("16 (")
    assert rows["clip", "8", "0"].cells[5].text == ""


def test_a_flat_curve_has_no_worth(tmp_path: Path) -> None:
    study = made(tmp_path, lambda trial, domain: 0.3)
    for one in worth.found(study):
        assert one.words(0, 9000) == "none"
    assert "no number of masks: the curve of masks is flat" in next(iter(answer(study).sentences.values()))


def test_shuffled_labels_are_no_labels(tmp_path: Path) -> None:
    """Only the cells without masks, whose labels are true in this record, are left: nothing is read off them."""
    study = made(tmp_path, labels="shuffled")
    assert all((n, m) not in one.cells for one in worth.found(study) for n in NS[1:] for m in (180, 9000))


def test_a_study_without_labels_has_no_such_section(tmp_path: Path) -> None:
    maker = Maker()
    maker.curves([4, 16], epochs=1)
    found = record(maker, "mini", synthetic=True)
    fill(Workspace(tmp_path), found)
    study = Study(found, Results(Workspace(tmp_path), found))
    assert worth.found(study) == []
    assert "worth-study" not in [one.id for one in build.read(Workspace(tmp_path), found).sections]
