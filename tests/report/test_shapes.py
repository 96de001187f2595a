"""Studies of other shapes than the shipped ones: each finished trial is shown as what it is."""

import csv
import json
from pathlib import Path

import pytest

from dfloc.report.build import build
from dfloc.report.controls import FINE_TUNED, REPLAY, controls_of, main
from dfloc.report.groups import Study
from dfloc.report.models import models
from dfloc.report.results import Results
from tests.report.test_names import planned

HEAD = """
title: Does it?
domains: data
device: cpu
trial:
  maps: [srm/stats]
  decoder: {name: conv, depth: 4, channels: [16, 8, 8], out_size: 64, prior: 0.18, standardize: true}
  loss: bce
  optimizer: {name: adamw, lr: 5e-3}
  schedule: one-cycle
  epochs: 1
  epoch_steps: 1
  batch: 4
evaluate: {domains: "${domains}", protocol: declip-2025}
stages:
"""
BASES = """
  base:
    grid: {held_out: "${domains}"}
    train: {domains: all_but_held_out, count: 8, valid: 4}
"""
PAIR = """
  base:
    train: {domains: [mini/telea, mini/renoise], count: 8, valid: 4}
"""
REPLAYED = f"""{BASES}
  mixed:
    from: base
    grid: {{n: [2, 4]}}
    train: {{domains: held_out, count: n, valid: 2, replay: equal}}
"""
AGAIN = """
  first:
    train: {domains: all, count: 8, valid: 4}
  second:
    from: first
    grid: {trial.loss: [dice, focal]}
    train: {domains: all, count: 8, valid: 4}
"""
TWO_NEW = f"""{PAIR}
  both:
    from: base
    grid: {{n: [2, 4]}}
    train: {{domains: [mini/reencode, mini/checkerboard], count: n, valid: 2}}
"""
OWN_AXIS = f"""{PAIR}
  tune:
    from: base
    grid: {{to: [mini/reencode, mini/checkerboard], k: [2, 4]}}
    train: {{domains: to, count: k, valid: 2}}
"""
CHAIN = f"""{BASES}
  one:
    from: base
    grid: {{n: [4]}}
    train: {{domains: held_out, count: n, valid: 2}}
  two:
    from: one
    grid: {{k: [8]}}
    train: {{domains: held_out, count: k, valid: 2}}
"""
ALONE = """
  alone:
    grid: {held_out: "${domains}", n: [2, 4]}
    train: {domains: held_out, count: n, valid: 2}
"""


@pytest.fixture
def made(tmp_path, request):
    """The study of a file's stages, filled, and its written report."""
    file = tmp_path / "own.yaml"
    file.write_text(f"name: own{HEAD}{request.param}")
    record, workspace = planned(tmp_path / "there", str(file), None)
    return Study(record, Results(workspace, record)), Path(str(build(workspace, record, with_panel=False)))


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open() as lines:
        return list(csv.DictReader(lines))


def sentences(folder: Path) -> dict[str, str]:
    return {each["key"]: each["text"] for each in json.loads((folder / "answer.json").read_text())["sentences"]}


@pytest.mark.parametrize("made", [REPLAYED, AGAIN, TWO_NEW, OWN_AXIS, CHAIN, ALONE], indirect=True)
def test_every_trial_stands_in_some_view_and_the_study_answers(made) -> None:
    study, folder = made
    assert "in no figure and in no table" not in (folder / "report.md").read_text()
    assert "none answers" not in " ".join(sentences(folder).values())
    assert study.results.counts()["done"] == len(study.results.by_fingerprint)


@pytest.mark.parametrize("made", [REPLAYED], indirect=True)
def test_a_study_that_has_replay_alone_is_about_it(made) -> None:
    study, folder = made
    assert (main(study).kind, controls_of(study)) == (REPLAY, [])
    assert [row["n"] for row in rows(folder, "exposure")][:3] == ["0", "2", "4"]
    assert {row["Model"] for row in rows(folder, "forgetting")} == {REPLAY.label}


@pytest.mark.parametrize("made", [AGAIN, TWO_NEW], indirect=True)
def test_what_goes_on_with_no_one_new_domain_is_a_model(made) -> None:
    study, folder = made
    groups = [group for model in models(study) for group in model.groups]
    assert {group.stage for group in groups} == set(study.record.stages)
    assert not (folder / "exposure.csv").exists()


@pytest.mark.parametrize("made", [OWN_AXIS], indirect=True)
def test_a_new_domain_is_told_by_what_is_trained_on(made) -> None:
    study, folder = made
    assert main(study).facets == [()]
    assert [row["Held out"] for row in rows(folder, "exposure")][:6:3] == ["mini/checkerboard", "mini/reencode"]
    assert "validation chooses" not in sentences(folder)["gain"]


@pytest.mark.parametrize("made", [CHAIN], indirect=True)
def test_a_curve_that_starts_elsewhere_is_not_told_by_its_steps(made) -> None:
    study, _ = made
    assert [(one.kind, one.told) for one in controls_of(study)] == [(FINE_TUNED, "two")]


@pytest.mark.parametrize("made", [ALONE], indirect=True)
def test_nothing_is_forgotten_without_a_base(made) -> None:
    _, folder = made
    assert not (folder / "forgetting.csv").exists()
    assert "What is forgotten" not in (folder / "report.md").read_text()


@pytest.mark.parametrize("made", [TWO_NEW], indirect=True)
def test_what_goes_on_is_ranked_beside_its_like_alone_and_says_where_it_starts(made) -> None:
    _, folder = made
    found = sentences(folder)["best"]
    assert found.startswith("Trained on further domains, from a trained model, n = ")
    assert "which validation chooses of 2" in found
    table = rows(folder, "models")
    starts = {row["Trained on"]: row["Initialisation"] for row in table if row["Initialisation"]}
    assert starts == {"several domains": "default", "further domains, from a trained model": "a trained model"}
    titles = [line for line in (folder / "report.md").read_text().splitlines() if "Best validation IoU" in line]
    assert not any("renoise" in line and "n = 2" in line for line in titles)
