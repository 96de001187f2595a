"""A trial is meant by its fingerprint, its MLflow run or words of its name in a sweep, and by nothing else."""

import re
import time
from pathlib import Path

import pytest

from dfloc import registry
from dfloc.config import TrialSpec
from dfloc.errors import ConfigError, DflocError, WorkspaceError
from dfloc.features.store import recipe_for
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.lookup import find
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_trial

NAME = "n=4 a/b finetune seed=0"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def spec(workspace: Workspace) -> TrialSpec:
    return put_trial(workspace)


def plan(workspace: Workspace, sweep: str, *specs: TrialSpec, **more: object) -> None:
    axes = {"held_out": "a/b", "n": 4, **more, "seed": 0}
    trials = tuple(PlannedTrial(fingerprint=s.fingerprint, stage="finetune", axes=axes, spec=s) for s in specs)
    record = SweepRecord(
        sweep=sweep, name="x", title="X", preset="own", data="d", domains=("a/b",), protocol="p", trials=trials
    )
    record.save(workspace.sweep(sweep))


@pytest.mark.parametrize("digits", [6, 12, 64])
def test_by_fingerprint(workspace: Workspace, spec: TrialSpec, digits: int) -> None:
    assert find(workspace, spec.fingerprint[:digits]) == spec


def test_a_trial_whose_images_came_by_way_of_another_size_is_found(workspace: Workspace) -> None:
    spec = put_trial(workspace, maps=(recipe_for("srm/stats", via=32),))
    assert find(workspace, spec.fingerprint) == spec


def test_by_the_name_that_its_sweep_calls_it_by(workspace: Workspace, spec: TrialSpec) -> None:
    plan(workspace, "one", spec)
    plan(workspace, "two", spec)
    assert find(workspace, f" {NAME} ") == spec, "the same trial under two sweeps is one"
    plan(workspace, "three", other := put_trial(workspace, epochs=7))
    with pytest.raises(ConfigError, match=r"2 trials are called .*; add words, or name one by its digits: ") as told:
        find(workspace, NAME)
    for one, sweep in ((spec, "two"), (other, "three")):
        assert f'"{NAME}" {one.fingerprint[:12]} (of {sweep})' in str(told.value)


@pytest.mark.parametrize(
    "words",
    [
        NAME,
        "finetune",
        "SEED=0 Finetune B n=4",
        "finetune held_out=a/b n=4 seed=0",
        "a/b",
        "held_out=b",
        " n=4\tfinetune ",
        "n=4 n=4",
        "held_out=A/B",
    ],
)
def test_any_of_its_words_in_any_order_find_a_trial(workspace: Workspace, spec: TrialSpec, words: str) -> None:
    plan(workspace, "one", spec)
    assert find(workspace, words) == spec


@pytest.mark.parametrize("words", ["n=4 scratch", "n=40", "n", "finetune=4", "b/a", "*", "[a-z]+", "é"])
def test_a_word_that_it_has_not_does_not_find_it(workspace: Workspace, spec: TrialSpec, words: str) -> None:
    plan(workspace, "one", spec)
    with pytest.raises(ConfigError, match=re.escape(f'no trial is called "{words}"')):
        find(workspace, words)


def test_a_whole_name_wins_over_longer_ones(workspace: Workspace, spec: TrialSpec) -> None:
    plan(workspace, "one", spec)
    plan(workspace, "two", longer := put_trial(workspace, epochs=7), loss="dice")
    assert find(workspace, "a/b finetune n=4 seed=0") == spec
    assert find(workspace, "loss=dice") == longer
    with pytest.raises(ConfigError, match="2 trials are called"):
        find(workspace, "finetune n=4")


def test_what_a_newer_start_replaced_is_found_where_nothing_newer_fits(workspace: Workspace, spec: TrialSpec) -> None:
    plan(workspace, "one", spec)
    plan(workspace, "one", newer := put_trial(workspace, epochs=7))
    assert find(workspace, NAME) == newer
    assert find(workspace, spec.fingerprint) == spec
    plan(workspace, "one", third := put_trial(workspace, epochs=8), loss="dice")
    assert find(workspace, NAME) == newer
    assert find(workspace, "loss=dice") == third
    record = SweepRecord.load(workspace.sweep("one"))
    assert record
    assert [trial.fingerprint for trial in record.replaced] == [spec.fingerprint]


def test_a_name_that_is_nearly_right_is_told_what_is_near(workspace: Workspace, spec: TrialSpec) -> None:
    plan(workspace, "one", spec)
    with pytest.raises(ConfigError, match=f'no trial is called .* near: "{NAME}" {spec.fingerprint[:12]}'):
        find(workspace, "finetune n=5 seed=0")
    for few_or_capital in (spec.fingerprint[:5], "ABCDEF"):
        with pytest.raises(ConfigError, match="small letters, its first six digits or more"):
            find(workspace, few_or_capital)


def test_ten_near_ones_are_listed_at_most_and_quickly(workspace: Workspace) -> None:
    trials = tuple(
        PlannedTrial(fingerprint=f"{n:064x}", stage="finetune", axes={"n": n, "seed": 0}, spec=make_spec())
        for n in range(3000)
    )
    many = SweepRecord(sweep="x", name="x", title="X", preset="o", data="d", domains=(), protocol="p", trials=trials)
    many.save(workspace.sweep("x"))
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"^3000 trials are called .*, and 2990 more$") as told:
        find(workspace, "finetune seed=0")
    assert str(told.value).count("finetune seed=0") == 11
    with pytest.raises(ConfigError, match="no trial is called") as told:
        find(workspace, f"finetune n=2999 sed=0 {'x' * 10_000}")
    assert str(told.value).count("(of x)") == 10
    assert '"n=2999 finetune seed=0"' in str(told.value)
    assert time.process_time() - began < 20


def test_by_its_mlflow_run(workspace: Workspace, spec: TrialSpec) -> None:
    from mlflow import MlflowClient

    with pytest.raises(ConfigError, match="there is no such store"):
        find(workspace, "0" * 32)
    assert not (workspace.root / "mlflow.db").exists()
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    experiment = client.create_experiment("dfloc")
    trial = client.create_run(experiment, tags={"dfloc.fingerprint": spec.fingerprint}).info.run_id
    parent = client.create_run(experiment).info.run_id
    assert find(workspace, trial) == spec
    with pytest.raises(ConfigError, match="is no trial's"):
        find(workspace, parent)
    with pytest.raises(ConfigError, match=f"no such run in MLflow at {workspace.tracking_uri}"):
        find(workspace, "0" * 32)
    elsewhere = Workspace(workspace.root / "elsewhere")
    put_trial(elsewhere)
    assert find(elsewhere, trial, workspace.tracking_uri) == spec
    with pytest.raises(ConfigError, match="cannot be understood"):
        find(workspace, trial, "mlfow://host")


@pytest.mark.parametrize("run", ["", "abcdef", "no such trial", "3fa9", "../..", "a" * 64])
def test_what_names_nothing_is_one_error(workspace: Workspace, spec: TrialSpec, run: str) -> None:
    with pytest.raises(DflocError, match=r"no trial|is no fingerprint"):
        find(workspace, run)


def test_a_trial_that_is_under_way_is_not_finished(workspace: Workspace) -> None:
    spec = make_spec()
    Ledger(workspace).begin(spec)
    with pytest.raises(WorkspaceError, match="is not finished"):
        find(workspace, spec.fingerprint)


@pytest.mark.parametrize(("component", "said"), [("decode", "reads srm/stats"), ("decoder/conv", "was trained")])
def test_numbers_of_another_version_are_not_mixed(
    workspace: Workspace, spec: TrialSpec, component: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = spec.fingerprint
    monkeypatch.setattr(registry, "SEMANTICS", dict(registry.SEMANTICS) | {component: 99})
    monkeypatch.setattr("dfloc.config.SEMANTICS", dict(registry.SEMANTICS))
    with pytest.raises(WorkspaceError, match=f"{said} by code whose numbers were others"):
        find(workspace, name)


def test_a_word_of_hexadecimal_digits_is_a_word_where_no_fingerprint_begins_so(
    workspace: Workspace, spec: TrialSpec
) -> None:
    trial = PlannedTrial(fingerprint=spec.fingerprint, stage="facade", case="decade", axes={"seed": 0}, spec=spec)
    about = {"sweep": "one", "name": "x", "title": "X", "preset": "own", "data": "d", "domains": (), "protocol": "p"}
    SweepRecord(**about, trials=(trial,)).save(workspace.sweep("one"))
    for words in ("facade", "decade", "decade facade"):
        assert find(workspace, words) == spec
    with pytest.raises(WorkspaceError, match="no trial facad1"):
        find(workspace, "facad1")


@pytest.mark.parametrize(
    "words", ["loss=focal(gamma=3,alpha=1)", "loss=focal(gamma=3, alpha=1)", "maps=srm/stats + x/y"]
)
def test_a_value_may_be_written_as_the_page_has_it(workspace: Workspace, spec: TrialSpec, words: str) -> None:
    plan(workspace, "one", spec, loss="focal(gamma=3, alpha=1)", maps="srm/stats + x/y")
    assert find(workspace, words) == spec
    assert find(workspace, f"N=4 {words}") == spec


def test_a_damaged_record_of_another_sweep_hides_its_own_names_alone(
    workspace: Workspace, spec: TrialSpec, caplog: pytest.LogCaptureFixture
) -> None:
    plan(workspace, "one", spec)
    plan(workspace, "two", put_trial(workspace, epochs=7), loss="dice")
    [path] = (workspace.sweep("two") / "starts").iterdir()
    path.write_text("{")
    assert find(workspace, "finetune") == spec
    assert f"names of trials are not known: {path} is no JSON" in caplog.text
