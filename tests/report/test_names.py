"""Names decide nothing: a study whose stages and axes are called otherwise has the same tables, cell by cell."""

import csv
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from upath import UPath

from dfloc.planned import SearchRecord
from dfloc.record import SweepRecord
from dfloc.report import models
from dfloc.report.build import build
from dfloc.report.roles import WORDS
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import shipped
from tests.golden.filled import SCORED, Filled, smaller
from tests.report import studies
from tests.report.studies import MINI, Maker

HOUSE = Path(__file__).parent.parent / "cases/house"
MADE = (*WORDS, "point", "left_out")  # axes that dfloc makes
POINTS = 3
WRITTEN = re.compile(
    r"(?<=[{ ])\w+(?=: \[)|(?<=depth: |count: )\w+|(?<=stages\.)\w+|(?<=^  )\w+(?=:)|(?<=      )\w+(?=: \{)", re.M
)
"""A name in a file: of an axis with its values, of an axis as a value, of a stage."""


def planned(folder: Path, name: str, preset: str) -> tuple[SweepRecord, Workspace]:
    """Plan a study without data and fill its trials."""
    workspace = Workspace(UPath(folder))
    options = SweepRequest(name, str(workspace.root), preset=preset)
    data = data_of(replace(options, preset="smoke"), workspace)  # the built-in ones, for a file without presets too
    prepared = prepare(options, workspace, data, Inventory(workspace, load=False))
    filled, record = Filled(workspace, SCORED, one_in=40), prepared.plan.resolved.record
    if record.search:
        record = record.model_copy(update={"search": record.search.model_copy(update={"rungs": (1,)})})
    for _ in range(POINTS if prepared.search else 0):
        drawn = tuple(prepared.search.draw())
        filled.fill(smaller(record.model_copy(update={"trials": drawn})))
    record = smaller(prepared.search.added_to(record) if prepared.search else record)
    filled.fill(record)
    return record, workspace


Cells = dict[str, list[dict[str, str]]]


def tables(workspace: Workspace, record: SweepRecord, back: Mapping[str, str]) -> Cells:
    """Return the rows of each CSV file of a report and the heads of report.md, names put back.

    The words of a cell are in one order, since a page has axes in the order of their names; what a trial is called
    (column Name of all trials), which is made of names, is left out.
    """
    built = Path(str(build(workspace, record, with_panel=False)))
    lines = (built / "report.md").read_text().splitlines()
    found = {"report.md": [{"": put_back(line, back)} for line in lines if line.startswith("#")]}
    for path in built.glob("*.csv"):
        rows = csv.DictReader(put_back(path.read_text(), back).splitlines())
        found[path.name] = [
            {in_order(head): in_order(cell) for head, cell in row.items() if head != "Name"} for row in rows
        ]
    return found


def put_back(text: str, back: Mapping[str, str]) -> str:
    return re.sub("|".join(map(re.escape, back)), lambda word: back[word[0]], text) if back else text


def in_order(text: str) -> str:
    return ", ".join(sorted(text.split(", ")))


def renamed(record: SweepRecord, names: Mapping[str, str]) -> SweepRecord:
    """Return a record whose stages and axes are called otherwise."""
    trials = tuple(
        trial.model_copy(
            update={
                "stage": names[f"stage {trial.stage}"],
                "axes": dict(sorted((names.get(axis, axis), value) for axis, value in trial.axes.items())),
            }
        )
        for trial in record.trials
    )
    return record.model_copy(update={"trials": trials, "search": record.search and _searched(record.search, names)})


def _searched(search: SearchRecord, names: Mapping[str, str]) -> SearchRecord:
    axes = {
        names[axis]: of.model_copy(update={"of": names[of.of] if of.of else None}) for axis, of in search.axes.items()
    }
    weights = {names[axis]: share for axis, share in search.importance.items()}
    return search.model_copy(update={"stage": names[f"stage {search.stage}"], "axes": axes, "importance": weights})


def others(record: SweepRecord) -> dict[str, str]:
    """Return another name of each stage and axis, at random."""
    searched = record.search.axes if record.search else ()
    axes = dict.fromkeys([*(axis for trial in record.trials for axis in trial.axes), *searched])
    old = [*(axis for axis in axes if axis not in MADE), *(f"stage {stage}" for stage in record.stages)]
    draw = random.Random(record.sweep)
    return {name: "".join(draw.choices("bcdfghjklmnpqrstvwxz", k=draw.randint(9, 15))) for name in old}


@pytest.mark.parametrize("name", shipped())
def test_other_names_of_stages_and_axes_change_no_table(name: str, tmp_path: Path) -> None:
    record, workspace = planned(tmp_path, name, "smoke")
    names = others(record)
    back = {word: old.removeprefix("stage ") for old, word in names.items()}
    assert tables(workspace, renamed(record, names), back) == tables(workspace, record, {})


@pytest.mark.parametrize(
    ("file", "preset", "words"),
    [
        ("twodec", "paper", {"count": "depth"}),
        ("images", "paper", {"images": "n"}),
        ("tuned", "smoke", {"tune": "finetune"}),
    ],
)
def test_a_study_with_names_of_its_own_has_the_tables_of_the_usual_ones(
    file: str, preset: str, words: Mapping[str, str], tmp_path: Path
) -> None:
    own = (HOUSE / f"{file}.yaml").read_text()
    usual = tmp_path / "usual.yaml"
    usual.write_text(WRITTEN.sub(lambda found: words.get(found[0], found[0]), own))
    assert usual.read_text() != own
    usual = HOUSE / "twodec2.yaml" if file == "twodec" else usual
    (record, there), (other, here) = (
        planned(tmp_path / folder, str(path), preset)
        for folder, path in (("own", HOUSE / f"{file}.yaml"), ("usual", usual))
    )
    assert [trial.fingerprint for trial in record.trials] == [trial.fingerprint for trial in other.trials]
    back = {f"{old} = ": f"{new} = " for old, new in words.items()}
    expected = tables(here, other, {})
    found = tables(there, record, back)
    found["evaluations.csv"] = [
        {words.get(head, head): words.get(cell, cell) for head, cell in row.items()} for row in found["evaluations.csv"]
    ]
    found["trials.csv"] = [{head: words.get(cell, cell) for head, cell in row.items()} for row in found["trials.csv"]]
    assert found == expected
    assert len(found["exposure.csv"]) > 2


def test_what_no_view_takes_is_named(tmp_path: Path) -> None:
    maker = Maker()
    maker.curves([4], epochs=4)
    lost = maker.plan("onward", {MINI[1]: 8}, parent=maker.trials[0], epochs=4)
    record = studies.record(maker, "mini", synthetic=True)
    workspace = Workspace(UPath(tmp_path))
    studies.fill(workspace, record, checkpoints=("best",))
    said = "Finished, but in no figure and in no table but that of all trials: "
    assert said not in (build(workspace, record, with_panel=False) / "report.md").read_text()
    with mock.patch.object(models, "models", return_value=[]):
        assert f"{said}{lost.name}." in (build(workspace, record, with_panel=False) / "report.md").read_text()
