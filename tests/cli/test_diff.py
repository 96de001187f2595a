"""`dfloc diff` from the command line: what is said of two trials that are scored on the same images."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dfloc.config import EvaluationSpec, SampleList, TrialSpec
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.storage import Workspace
from dfloc.sweep import lookup
from tests.cli.test_sweep import Dfloc, assert_one_message, dfloc
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_head, put_valid
from tests.report import studies
from tests.sweep.test_diff import rows

__all__ = ["dfloc"]

IOUS = list(np.random.default_rng(0).random(12) * 0.5)


def put(workspace: Workspace, ious: list[float] | None, protocol: str = "declip-2025", **changes: object) -> TrialSpec:
    """Begin a trial, and give it rows."""
    spec, ledger = make_spec(**changes), Ledger(workspace)
    ledger.begin(spec)
    if ious is not None:
        table = rows(ious, protocol=protocol, ap=0.5)
        test = SampleList(digest="d", counts={"a/b": len(ious)})
        given = {"trial": spec.fingerprint, "checkpoint": "best", "domain": "a/b", "test": test, "protocol": protocol}
        ledger.put_rows(spec.fingerprint, EvaluationSpec(**given).key, pa.table(table))
    return spec


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_fields_and_differences(dfloc: Dfloc, workspace: Workspace) -> None:
    a = put(workspace, IOUS)
    b = put(workspace, [iou + 0.25 for iou in IOUS], epochs=7, decoder={"depth": 12})
    result = dfloc("diff", a.fingerprint[:8], b.fingerprint)
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert [f"A: trial {a.fingerprint[:12]}".split(), f"B: trial {b.fingerprint[:12]}".split()] == lines[:2]
    assert ["decoder.depth", "4", "12"] in lines
    assert ["epochs", "3", "7"] in lines
    assert [line[0] for line in lines if len(line) == 3] == ["A:", "B:", "field", "decoder.depth", "epochs", "steps"]
    means = [f"{np.mean(IOUS):.3f}", f"{np.mean(IOUS) + 0.25:.3f}"]
    assert lines[-1] == ["a/b", "test", "12", "6", "1", *means, "-0.250", "-0.250", "to", "-0.250"], "no star"
    assert "intervals over source images, on these two trainings" in result.out
    other = dfloc("diff", a.fingerprint, b.fingerprint, "--metric", "ap").out.splitlines()[-1].split()
    assert other[-4:] == ["+0.000", "+0.000", "to", "+0.000"]


def test_detectors_have_a_table_of_calls_and_a_file_of_images(
    dfloc: Dfloc, workspace: Workspace, tmp_path: Path
) -> None:
    heads = [put_head(workspace, seed=seed) for seed in (0, 1)]
    for head, fakes in zip(heads, ([0.9, 0.8, 0.2], [0.9, 0.1, 0.7]), strict=True):
        put_valid(workspace, head, fakes, [0.1, 0.2, 0.3])
    localizer = put(workspace, IOUS)
    result = dfloc("diff", *(head.fingerprint for head in heads), "--alone", "--rows", "changed.csv")
    assert (result.code, result.err) == (0, "")
    last = result.out.splitlines()[-2].split()
    assert last == ["a/b", "valid", "3", "1", "1", "1", "0.633", "0.567"]
    listed = list(csv.DictReader((tmp_path / "changed.csv").read_text().splitlines()))
    assert [row["called_b"] for row in listed if row["alike"] == "false"] == ["real", "fake"]
    assert_one_message(dfloc("diff", heads[0].fingerprint, localizer.fingerprint), "A is of task detect", "localize")
    wrong = dfloc("diff", *(head.fingerprint for head in heads), "--rows", "changed.json")
    assert_one_message(wrong, "changed.json", ".csv")


def test_a_trial_beside_itself(dfloc: Dfloc, workspace: Workspace) -> None:
    a = put(workspace, IOUS)
    result = dfloc("diff", a.fingerprint, a.fingerprint)
    assert result.code == 0
    assert "no field differs" in result.out
    assert result.out.splitlines()[-1].split()[7] == "+0.000"


def test_two_photographs_have_words_for_an_interval(dfloc: Dfloc, workspace: Workspace) -> None:
    a, b = put(workspace, IOUS[:4]), put(workspace, IOUS[4:8], epochs=7)
    assert "none: under 3 source images" in dfloc("diff", a.fingerprint, b.fingerprint).out.splitlines()[-1]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study of three seeds; of the third, nothing from scratch is finished."""
    place = Workspace(tmp_path_factory.mktemp("seeds") / "workspace")
    record = studies.mini(seeds=3)

    def truth(trial: PlannedTrial, domain: str) -> float:
        return {"scratch": 0.4, "finetune": 0.6}.get(trial.stage, 0.5) + 0.01 * trial.spec.seed

    late = "scratch", 2
    studies.fill(place, record, truth, lambda trial: "new" if (trial.stage, trial.spec.seed) == late else "")
    record.save(place.sweep(record.sweep))
    return place


def test_a_name_stands_for_all_seeds_that_both_have(
    dfloc: Dfloc, seeds: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["finetune telea n=16", "scratch telea n=16"]
    result = dfloc("diff", *names, "--workspace", str(seeds.root))
    assert (result.code, result.err) == (0, "")
    assert "intervals over source images and 2 pairs of trainings" in result.out
    cells = [line.split() for line in result.out.splitlines() if line.startswith("mini/")]
    assert [(line[0], line[4]) for line in cells] == [(domain, "2") for domain in studies.MINI]
    by_seed = dfloc("diff", *(f"{name} seed=0" for name in names), "--workspace", str(seeds.root))
    assert [line.split() for line in by_seed.out.splitlines() if line.startswith("mini/")] == cells
    alone = dfloc("diff", *(f"{name} seed=0" for name in names), "--alone", "--workspace", str(seeds.root))
    assert "on these two trainings" in alone.out
    assert {line.split()[4] for line in alone.out.splitlines() if line.startswith("mini/")} == {"1"}


def test_seeds_without_rows_are_left_out(dfloc: Dfloc, tmp_path: Path) -> None:
    """Words mean a recipe: its first seed is not trained yet, its second not scored."""
    place, record = Workspace(tmp_path / "workspace"), studies.mini(seeds=3)
    wanted = [trial for trial in record.trials if trial.axes.get("n") in (4, 16) and trial.stage == "finetune"]
    record = record.model_copy(update={"trials": tuple(trial for trial in wanted if "telea" in str(trial.axes))})
    studies.fill(place, record, skip=lambda trial: "new" if trial.spec.seed == 0 else "")
    for trial in (trial for trial in record.trials if trial.spec.seed == 1 and trial.axes["n"] == 4):
        for path in (Ledger(place).folder(trial.fingerprint) / "rows").glob("*.parquet"):
            path.unlink()
    record.save(place.sweep(record.sweep))
    given = "finetune n=4", "finetune n=16", "--workspace", str(place.root)
    result = dfloc("diff", *given)
    assert (result.code, result.err) == (0, "")
    assert "on these two trainings" in result.out
    alone = dfloc("diff", *(f"{name} seed=2" for name in given[:2]), "--alone", *given[2:])
    assert [line for line in result.out.splitlines() if line.startswith("mini/")] == [
        line for line in alone.out.splitlines() if line.startswith("mini/")
    ]


def test_a_later_sweep_of_one_seed_hides_no_other_seed(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    three, one = studies.mini(seeds=3), studies.mini().model_copy(update={"sweep": "later-mini-mini", "name": "later"})
    for record in (three, one):
        record.save(place.sweep(record.sweep))
    found = lookup.repeated(place, one.trials[0].fingerprint)
    assert list(found) == [(0, 0), (0, 1), (0, 2)]
    assert found[0, 0] == one.trials[0].fingerprint
    assert lookup.repeated(place, "ab" * 32) == {}


def test_two_seeds_of_one_recipe_are_compared_themselves(dfloc: Dfloc, seeds: Workspace) -> None:
    two = [f"finetune telea n=16 seed={seed}" for seed in (0, 1)]
    result = dfloc("diff", *two, "--workspace", str(seeds.root))
    assert "on these two trainings" in result.out
    assert {line.split()[7] for line in result.out.splitlines() if line.startswith("mini/")} == {"-0.010"}


def test_words_of_several_recipes_are_still_too_few(dfloc: Dfloc, seeds: Workspace) -> None:
    result = dfloc("diff", "finetune telea", "scratch telea n=16", "--workspace", str(seeds.root))
    assert_one_message(result, '9 trials are called "finetune telea"; add words')


def test_mistakes_are_one_message(dfloc: Dfloc, workspace: Workspace) -> None:
    a, never = put(workspace, IOUS), put(workspace, None, epochs=9)
    other = put(workspace, IOUS, protocol="dolos-2024", epochs=8)
    for args, words in (
        ((a, never), ["no rows", "dfloc evaluate"]),
        ((a, other), ["declip-2025", "dolos-2024", "nothing is compared across protocols"]),
        ((a, a, "--metric", "iuo"), ['unknown metric of declip-2025 "iuo"', 'did you mean "iou"']),
        ((a, "nothing"), ['no trial is called "nothing"']),
        ((a, "abcdef"), ["no trial abcdef"]),
        ((a, a, "--workspace", "elsewhere"), ["no trial"]),
    ):
        words_given = [one if isinstance(one, str) else one.fingerprint for one in args]
        assert_one_message(dfloc("diff", *words_given), *words)
