"""Localizers of labels beside those of masks: what they are told apart by, and what the page says first."""

from pathlib import Path

import pytest

from dfloc.config import DecoderSpec, InitFrom, LossSpec
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import build, setups, supervision
from dfloc.report.answer import answer
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report.studies import Maker, fill, record

TEST, REAL = "celebahq/repaint-p2", "celebahq/real"
LISTS = {"A": {REAL: 9000, "celebahq/p2": 9000}, "B": {REAL: 9000, TEST: 9000}, "C": {TEST: 30000}}
TRUTH = {"patches": {"A": 0.8, "B": 0.4, "C": 0.9}, "gradcam": {"A": 0.1, "B": 0.3, "C": 0.85}}
WEAK = {
    "patches": {"targets": "label"},
    "gradcam": {"task": "detect", "loss": LossSpec(name="ce"), "decoder": DecoderSpec(name="small", widths=(4,))},
}


def study_of(methods: tuple[str, ...] = ("patches", "gradcam"), kinds: str = "ABC") -> SweepRecord:
    maker = Maker(domains=(TEST,), tests=(TEST,), protocol="dolos-2024", epoch_steps=500)
    for method in methods:
        for kind in kinds:
            spec = WEAK[method] if kind != "C" else {}
            maker.plan("setups", LISTS[kind], case=f"{method}-{kind}", spec=spec)
            trial = maker.trials[-1]
            tests = [each.model_copy(update={"trial": trial.spec.fingerprint}) for each in trial.evaluations]
            new = {"fingerprint": trial.spec.fingerprint, "evaluations": tuple(tests)}
            maker.trials[-1] = trial.model_copy(update=new)
    maker.plan("baselines", {TEST: 3000}, decoder="all-fake", maps=("srm/variance",))
    return record(maker, "paper")


def truth(trial: PlannedTrial, domain: str) -> float:
    method, _, kind = trial.case.partition("-")
    return TRUTH[method][kind] if method in TRUTH and domain == TEST else 0.25


def made(tmp_path: Path, of: SweepRecord) -> Study:
    fill(Workspace(tmp_path), of, truth)
    return Study(of, Results(Workspace(tmp_path), of))


def test_a_composite_of_models_of_masks_has_learned_from_none() -> None:
    part = next(one for one in study_of(kinds="C").trials if one.case == "patches-C")
    composed = {
        "decoder": DecoderSpec(name="composite", rule="mean"),
        "init": {"0": InitFrom(parent=part.fingerprint)},
    }
    assert setups.setup(part.spec) == "C"
    assert setups.setup(part.spec.model_copy(update=composed)) == ""


def test_what_is_learned_from_is_told_by_images_and_targets(tmp_path: Path) -> None:
    study = made(tmp_path, study_of())
    assert [(one.group.case, one.kind) for one in supervision.found(study)] == [
        (f"{method}-{kind}", kind) for method in ("patches", "gradcam") for kind in "ABC"
    ]
    spec = study.groups[0].first.trial.spec
    local = {"celebahq/p2": "local"}
    assert (setups.setup(spec), setups.setup(spec, local)) == ("A", "B"), "a kind that is recorded goes before the name"


def test_the_page_says_what_labels_reach_beside_masks(tmp_path: Path) -> None:
    study = made(tmp_path, study_of())
    sentences = answer(study).sentences
    assert sentences["supervision"] == (
        "2 localizers of labels of whole fakes have IoU 0.10 to 0.80; 2 localizers of labels of local fakes have IoU "
        "0.30 to 0.40; 2 localizers of masks have IoU 0.85 to 0.90."
    )
    assert "loses 0.40 over" in sentences["local"]
    assert "gains 0.20 over" in sentences["local_1"]
    assert sentences["above"] == "3 of 4 localizers of labels are above calling all fake."
    sections = {one.id: one for one in build.read(Workspace(tmp_path), study.record).sections}
    figure, table = sections["supervision-study"].blocks
    assert {series.name: len(series.marks) for series in figure.panels[0].chart.series} == {  # type: ignore[union-attr]
        "labels of whole fakes": 2,
        "labels of local fakes": 2,
        "masks": 2,
    }
    found = {row.cells[0].text: [cell.text for cell in row.cells] for row in table.rows}  # type: ignore[union-attr]
    assert [row[3] for row in found.values()][:6] == ["0.800", "0.400", "0.900", "0.100", "0.300", "0.850"]


@pytest.mark.parametrize(("methods", "kinds"), [(("patches",), "C"), ((), "")])
def test_a_study_of_masks_alone_has_no_such_section(methods: tuple[str, ...], kinds: str, tmp_path: Path) -> None:
    study = made(tmp_path, study_of(methods, kinds))
    assert supervision.found(study) == []
    assert "supervision" not in answer(study).sentences
