"""Axes whose values are mappings, lists, words and numbers beside each other, from record to page."""

import csv
import itertools
import json

import pytest

from dfloc import storage, summary
from dfloc.config import LossSpec
from dfloc.ledger import Ledger
from dfloc.planned import SearchAxis
from dfloc.record import OLD, SweepRecord, files
from dfloc.report import heatmaps, models
from dfloc.report.build import build
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.conftest import curve_of
from tests.report.studies import MINI, Maker
from tests.report.test_search import searched

LOSSES = [{"name": "focal", "gamma": 1}, {"gamma": 3.0, "name": "focal"}, "bce"]
WORDS = ["focal(gamma=1)", "focal(gamma=3)", "bce"]
OTHERS = [
    ("trial.decoder.standardize", [True, False]),
    ("trial.decoder.prior", [None, 0.5]),
    ("trial.maps", [["srm/stats"], ["srm/stats", "srm/variance"]]),
    ("mixed", [1, "one", None, {"a": {"b": 2.5}}]),
]


def kinds(axis: str, values: list[object]) -> SweepRecord:
    """Return a study that crosses losses with another axis, on each domain alone."""
    maker = Maker(MINI[:2], num_test=4)
    for loss, (place, value) in itertools.product(LOSSES, enumerate(values)):
        fields = loss if isinstance(loss, dict) else {"name": loss}
        spec = {"loss": LossSpec(**fields), "epochs": 3 + place}
        axes = {"trial.loss": loss, axis: value}
        crossed.single(maker, "single", 8, spec=spec, **axes)
    for held_out in MINI[:2]:
        base = maker.plan("base", {domain: 8 for domain in MINI[:2] if domain != held_out}, held_out=held_out)
        for n in (4, 16):
            maker.plan("finetune", {held_out: n}, parent=base, held_out=held_out, n=n)
    maker.baselines()
    return crossed.named(maker, "kinds", preset="mini", synthetic=True)


@pytest.fixture(scope="module", params=OTHERS, ids=[axis for axis, _ in OTHERS])
def built(request, tmp_path_factory):
    record = kinds(*request.param)
    workspace = Workspace(tmp_path_factory.mktemp("kinds"))
    studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
    return workspace, record, request.param, build(workspace, record, with_panel=False)


def test_a_report_has_every_value_by_its_name(built):
    workspace, record, (axis, values), folder = built
    page = (folder / "index.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((folder / "evaluations.csv").read_text().splitlines()))
    crossing = [row for row in rows if row["stage"] == "single"]
    assert {row["trial.loss"] for row in crossing} == set(WORDS)
    assert len({row[axis] for row in crossing}) == len(values)
    for word in WORDS:
        assert word in page
        assert word in (folder / "report.md").read_text(encoding="utf-8")
    assert "{'" not in (folder / "report.md").read_text(encoding="utf-8")
    study = Study(record, Results(workspace, record))
    assert len(study.stage("single")) == len(LOSSES) * len(values) * 2
    assert len({group.facet for group in study.stage("single")}) == len(LOSSES) * len(values)
    assert list(curve_of(study, MINI[0])) == [0, 4, 16]
    panels = heatmaps.combined(study, models.models(study)).panels
    assert panels


def test_tags_and_names_have_the_words(built):
    workspace, record, (axis, _), _ = built
    trial = record.trials[0]
    tags = summary.tags(record, Ledger(workspace), trial)
    assert tags["dfloc.axis.trial.loss"] == "focal(gamma=1)"
    assert "focal(gamma=1)" in trial.name
    assert tags[f"dfloc.axis.{axis}"] == str(trial.axes[axis])


def test_a_record_comes_back_as_it_was_and_an_older_one_in_the_same_form(tmp_path):
    record = kinds(*OTHERS[-1])
    folder = Workspace(tmp_path).sweep(record.sweep)
    record.save(folder)
    assert SweepRecord.load(folder) == record
    older = record.model_dump(mode="json", exclude_defaults=True)
    for trial in older["trials"]:
        if "trial.loss" in trial["axes"]:
            trial["axes"]["trial.loss"] = LOSSES[WORDS.index(trial["axes"]["trial.loss"])]
    assert json.dumps(older).count('"gamma": 3.0, "name": "focal"') > 0
    [start] = files(folder).values()
    start.unlink()
    storage.put(folder / OLD, json.dumps(older).encode())
    read = SweepRecord.load(folder)
    assert read is not None
    assert read.trials == record.trials


def test_a_search_over_mappings_has_its_page(tmp_path):
    axes = {"lr": SearchAxis(low=1e-4, high=1e-1, log=True), "layer": SearchAxis(choices=(*LOSSES, True, None))}
    study = searched(Workspace(tmp_path), axes=axes)
    folder = build(Workspace(tmp_path), study.record, with_panel=False)
    assert "a/1 + b/2" in (folder / "search.csv").read_text()
