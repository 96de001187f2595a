"""Whose runs are written, where their files lie, and how they are found."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from upath import UPath

from dfloc import database_uri, run_layout
from dfloc.errors import ConfigError
from dfloc.identity import identify
from dfloc.ledger import Ledger
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.tracking import Tracker, trial_of
from dfloc.tracking_store import LostError, RefusedError, Store
from tests.ended import finish, planned_of, record_of, spec_of
from tests.tracked import BASE, LAMA, P2, RECORD, SCORES, TUNED, runs_of, track, warnings_of

BASELINE = planned_of(spec_of(P2, seed=3), "baselines", held_out=LAMA, seed=3)


def made(root: Path, empty_database: Path) -> Workspace:
    root.mkdir(parents=True)
    shutil.copy(empty_database, root / "mlflow.db")
    workspace = Workspace(root)
    for trial in (BASE, TUNED, BASELINE):
        finish(Ledger(workspace), trial, SCORES)
    return workspace


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path) -> Workspace:
    return made(tmp_path / "first", empty_database)


@pytest.fixture
def shared(tmp_path: Path, empty_database: Path) -> str:
    """A database outside of any workspace."""
    (tmp_path / "server").mkdir()
    shutil.copy(empty_database, tmp_path / "server" / "runs.db")
    return database_uri.of_database(tmp_path / "server" / "runs.db")


def every_run(uri: str, experiment: str = "dfloc") -> dict[str, Any]:
    """Return run id -> all that a store has of it."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return {run.info.run_id: run.to_dictionary() for run in runs}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def moved(workspace: Workspace, to: Path) -> Workspace:
    return Workspace(Path(workspace.root.path).rename(to))


def half_done(workspace: Workspace, record: SweepRecord, uri: str | None = None) -> None:
    """Leave a sweep as a killed driver does."""
    killed = Tracker(workspace, Ledger(workspace), uri)
    killed.open(record)
    killed._tasks.put(None)
    killed._thread.join()


def test_a_moved_workspace_takes_its_runs_and_files_along(workspace: Workspace, tmp_path: Path) -> None:
    half_done(workspace, record_of(BASELINE, sweep="other"))
    track(workspace, record_of(BASE))
    before = every_run(workspace.tracking_uri)
    away = Workspace(moved(workspace, tmp_path / "away").root / ".." / "away")
    track(away)
    away = Workspace(tmp_path / "away")
    track(away)
    runs = runs_of(away)
    assert before.keys() < every_run(away.tracking_uri).keys(), "no run was made twice"
    assert {run.info.status for run in runs.values()} == {"FINISHED"} | {"KILLED"}
    assert runs["other"].info.status == "KILLED"
    client = MlflowClient(tracking_uri=away.tracking_uri)
    for name in ("lama base seed=0", "n=6 lama finetune seed=0"):
        path = client.download_artifacts(runs[name].info.run_id, "rows/best/celebahq-ldm.parquet")
        assert pq.read_table(path).num_rows == 2
        assert Path(runs[name].data.tags["dfloc.weights"]).is_relative_to(tmp_path / "away")
        assert runs[name].data.tags["dfloc.workspace_path"].endswith(":" + str(tmp_path / "away"))
    assert not (tmp_path / "first").exists()
    assert files(tmp_path) == {f"away/{name}" for name in files(tmp_path / "away")}


def test_a_store_with_absolute_places_is_written_anew(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    old = client.create_experiment("dfloc", artifact_location=(tmp_path / "first" / "mlartifacts").as_uri())
    tags = {"dfloc.workspace": str(workspace.root), "dfloc.fingerprint": BASE.fingerprint, "mine": "a note"}
    kept = client.create_run(old, tags=tags, run_name="lama base seed=0").info.run_id
    away = moved(workspace, tmp_path / "away")
    track(away)
    track(away)
    (warning,) = warnings_of(caplog)
    assert 'they stay as experiment "dfloc before"' in warning
    assert set(runs_of(away)) == {"exposure-paper-dolos", "lama base seed=0", "n=6 lama finetune seed=0"}
    client = MlflowClient(tracking_uri=away.tracking_uri)
    assert client.get_run(kept).data.tags["mine"] == "a note"
    assert client.get_run(kept).info.status == "KILLED"
    assert client.get_experiment(old).name == "dfloc before"
    assert trial_of(away, kept) == BASE.fingerprint
    assert not (tmp_path / "first").exists()


def test_files_are_not_written_where_nobody_is_any_more(
    workspace: Workspace, tmp_path: Path, shared: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(tracking_uri=shared)
    client.create_experiment("dfloc", artifact_location=(tmp_path / "gone" / "mlartifacts").as_uri())
    track(workspace, uri=shared)
    (warning,) = warnings_of(caplog)
    assert f"they are kept in {tmp_path}/gone/mlartifacts, which is not there" in warning
    assert not (tmp_path / "gone").exists()
    before = every_run(shared)
    track(workspace, uri=shared)
    assert {name: run["data"] for name, run in every_run(shared).items()} == {
        name: run["data"] for name, run in before.items()
    }, "what has its numbers is left alone"
    (tmp_path / "gone").mkdir()
    track(workspace, uri=shared)
    assert len(list((tmp_path / "gone").rglob("*.parquet"))) == 16


def test_two_workspaces_on_one_store_leave_each_other_alone(
    workspace: Workspace, tmp_path: Path, empty_database: Path, shared: str
) -> None:
    half_done(workspace, record_of(BASELINE, sweep="running"), shared)
    track(workspace, uri=shared)
    before = every_run(shared)
    other = made(tmp_path / "second", empty_database)
    track(other, uri=shared)
    after = every_run(shared)
    assert {name: after[name] for name in before} == before
    runs = [MlflowClient(tracking_uri=shared).get_run(name) for name in after.keys() - before.keys()]
    assert {run.data.tags["dfloc.workspace"] for run in runs} == {identify(other)[0].id}
    assert len(runs) == 3, "its sweep and its trials are whole"
    trials = [run.data.tags for run in runs if run.data.params]
    assert len(trials) == 2
    for tags in trials:
        assert before[tags["dfloc.same_trial"]]["data"]["tags"]["dfloc.fingerprint"] == tags["dfloc.fingerprint"]
    for space, mine in ((workspace, before), (other, after.keys() - before.keys())):
        assert {name for search in searches(space, shared) for name in found_by(shared, search)} <= set(mine)


def test_equal_paths_on_two_machines_leave_each_other_alone(
    workspace: Workspace, tmp_path: Path, empty_database: Path, shared: str
) -> None:
    half_done(workspace, record_of(BASELINE, sweep="running"), shared)
    track(workspace, uri=shared)
    before = every_run(shared)
    moved(workspace, tmp_path / "the other machine")
    track(made(tmp_path / "first", empty_database), uri=shared)
    after = every_run(shared)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 3


def test_runs_that_name_a_path_alone_are_nobody_s_on_a_server(workspace: Workspace, shared: str) -> None:
    client = MlflowClient(tracking_uri=shared)
    tags = {"dfloc.workspace": str(workspace.root), "dfloc.fingerprint": BASE.fingerprint}
    old = client.create_run(client.create_experiment("dfloc"), tags=tags, run_name="old").info.run_id
    before = client.get_run(old).to_dictionary()
    track(workspace, uri=shared)
    assert client.get_run(old).to_dictionary() == before
    assert runs_of(workspace, shared)["lama base seed=0"].data.tags["dfloc.same_trial"] == old


@pytest.fixture
def copy(workspace: Workspace, tmp_path: Path) -> Workspace:
    track(workspace)
    shutil.copytree(workspace.root.path, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


def test_a_copy_goes_on_in_its_own_store(workspace: Workspace, copy: Workspace) -> None:
    before = every_run(workspace.tracking_uri)
    tracker = Tracker(copy, Ledger(copy))
    assert tracker.notes == [f"this workspace is a copy of {workspace.root}; --new-identity tells them apart"]
    track(copy, record_of(BASE, TUNED, BASELINE))
    assert every_run(workspace.tracking_uri) == before
    assert before.keys() < every_run(copy.tracking_uri).keys()


def test_a_copy_writes_nothing_into_a_shared_store_until_it_is_told(
    workspace: Workspace, copy: Workspace, shared: str
) -> None:
    track(workspace, uri=shared)
    before = every_run(shared)
    tracker = Tracker(copy, Ledger(copy), shared)
    assert tracker.notes[0].endswith(f"until then nothing is written to MLflow at {shared}")
    track(copy, record_of(BASE, TUNED, BASELINE), uri=shared)
    assert every_run(shared) == before
    assert Tracker(copy, Ledger(copy), shared, new_identity=True).notes == []
    track(copy, uri=shared)
    after = every_run(shared)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)


@pytest.mark.parametrize("how", ["told", "file lost"])
def test_its_own_store_follows_a_new_identity(copy: Workspace, how: str) -> None:
    before = every_run(copy.tracking_uri)
    if how == "file lost":
        (copy.root / "workspace.json").unlink()
    Tracker(copy, Ledger(copy), new_identity=how == "told")
    track(copy)
    after = every_run(copy.tracking_uri)
    assert after.keys() == before.keys()
    assert {run["data"]["tags"]["dfloc.workspace"] for run in after.values()} == {identify(copy)[0].id}


def searches(workspace: Workspace, uri: str | None = None) -> list[str]:
    client = MlflowClient(tracking_uri=uri or workspace.tracking_uri)
    found = client.search_runs(
        [client.get_experiment_by_name("dfloc").experiment_id],
        f"tags.`dfloc.workspace` = '{identify(workspace)[0].id}' AND tags.`dfloc.sweep_run` = 'exposure-paper-dolos'",
    )
    note = found[0].data.tags["mlflow.note.content"]
    return [line.strip() for line in note.splitlines() if line.startswith("    ")]


def found_by(uri: str, search: str) -> set[str]:
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("dfloc").experiment_id], search)
    return {run.info.run_id for run in runs}


def names_found(workspace: Workspace) -> list[set[str]]:
    by_id = {run.info.run_id: name for name, run in runs_of(workspace).items()}
    found = (found_by(workspace.tracking_uri, search) for search in searches(workspace))
    return [{by_id[name] for name in names} for names in found]


def test_every_filter_gives_exactly_its_trials(workspace: Workspace) -> None:
    strange = {"n+1", "a'b", "a`b", 'a"b', "100%", "a_b", "axb", "A", "a", "a//b", "..", "é"}
    more = [BASELINE.model_copy(update={"stage": stage}) for stage in sorted(strange)]
    track(workspace, record_of(BASE, TUNED, BASELINE, *more, BASE.model_copy(update={"stage": "budgets"})))
    base, tuned, baseline = "lama base seed=0", "n=6 lama finetune seed=0", "lama baselines seed=3"
    rest = [{baseline}] * len(more)
    assert names_found(workspace) == [{base, tuned, baseline}, {base}, {tuned}, {baseline}, *rest, {base}]


def test_what_a_sweep_does_not_have_any_more_is_not_found(workspace: Workspace) -> None:
    track(workspace, record_of(BASE, TUNED, BASE.model_copy(update={"stage": "budgets"})))
    track(workspace, record_of(BASE, BASELINE))
    base, baseline = "lama base seed=0", "lama baselines seed=3"
    assert names_found(workspace) == [{base, baseline}, {base}, {baseline}]
    assert not [tag for tag in runs_of(workspace)[base].data.tags if "budgets" in tag]
    track(workspace)
    assert names_found(workspace)[0] == {base, "n=6 lama finetune seed=0"}


@pytest.fixture
def older(workspace: Workspace) -> str:
    """The id of a run that an older dfloc has written, to which its user added a note and two sweeps belong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfloc.run_layout.NUMBER", run_layout.NUMBER - 1)
        patch.setattr("dfloc.summary.params", lambda *_: {"exposure": "99"})
        track(workspace)
        track(workspace, record_of(BASE, sweep="other (1)"))
    client, run = MlflowClient(tracking_uri=workspace.tracking_uri), runs_of(workspace)["lama base seed=0"].info.run_id
    client.log_metric(run, "forgetting/celebahq/lama", 0.5)
    client.set_tag(run, "mlflow.note.content", "a note")
    client.set_tag(run, "mine", "a word")
    return run


def test_runs_of_an_older_layout_are_made_again(workspace: Workspace, older: str) -> None:
    before = MlflowClient(tracking_uri=workspace.tracking_uri).get_run(older)
    track(workspace)
    made = runs_of(workspace)["lama base seed=0"]
    assert made.info.run_id != older
    assert made.info.start_time == before.info.start_time
    assert "forgetting/celebahq/lama" not in made.data.metrics
    assert made.data.params["exposure"] == "0"
    assert made.data.metrics["test/held_out/iou"] == pytest.approx(SCORES[LAMA])
    kept = {"mlflow.parentRunId", "mlflow.note.content", "mine"}
    kept |= {name for name in before.data.tags if "other" in name and "stamp" not in name}
    assert len(kept) == 3 + 2, "the other sweep finds it yet"
    assert {name: made.data.tags[name] for name in kept} == {name: before.data.tags[name] for name in kept}
    assert names_found(workspace)[1] == {"lama base seed=0"}
    assert MlflowClient(tracking_uri=workspace.tracking_uri).get_run(older).info.lifecycle_stage == "deleted"
    assert trial_of(workspace, older) == BASE.fingerprint
    whole = every_run(workspace.tracking_uri)
    track(workspace)
    assert every_run(workspace.tracking_uri).keys() == whole.keys(), "once is enough"
    track(workspace, record_of(BASE, sweep="other (1)"))
    assert runs_of(workspace)["lama base seed=0"].data.metrics == made.data.metrics
    assert every_run(workspace.tracking_uri).keys() == whole.keys()


@pytest.mark.parametrize("died", [True, False])
def test_a_run_that_could_not_be_deleted_is_not_there_twice(
    workspace: Workspace, older: str, monkeypatch: pytest.MonkeyPatch, died: bool
) -> None:
    def refuse(store: Store, run_id: str) -> None:
        raise LostError("gone") if died else RefusedError("MLflow", "to delete a run", "no")

    monkeypatch.setattr(Store, "delete", refuse)
    track(workspace)
    assert sum("dfloc.layout" in run["data"]["tags"] for run in every_run(workspace.tracking_uri).values()) > 0
    monkeypatch.undo()
    track(workspace)
    assert older not in every_run(workspace.tracking_uri)
    assert len(every_run(workspace.tracking_uri)) == 4, "two trials and two sweeps, each once"
    assert runs_of(workspace)["lama base seed=0"].data.tags["mine"] == "a word"
    assert runs_of(workspace)["lama base seed=0"].data.metrics["test/held_out/iou"] == pytest.approx(SCORES[LAMA])


def test_an_older_run_of_another_protocol_is_left_to_its_own_sweep(workspace: Workspace, older: str) -> None:
    theirs = planned_of(BASE.spec, "base", protocol="dolos-2024", held_out=LAMA, seed=0)
    finish(Ledger(workspace), theirs, SCORES)
    track(workspace, record_of(theirs, sweep="theirs", protocol="dolos-2024"))
    run = runs_of(workspace)["lama base seed=0"]
    assert (run.info.run_id, run.data.params["exposure"]) == (older, "99")
    assert run.data.tags["dfloc.sweep.theirs"] == "base"
    track(workspace)
    assert runs_of(workspace)["lama base seed=0"].data.params["exposure"] == "0"


def test_an_experiment_of_another_name(workspace: Workspace) -> None:
    tracker = Tracker(workspace, Ledger(workspace), experiment="théo's: 100%")
    tracker.open(RECORD)
    tracker.close("FINISHED")
    assert len(every_run(workspace.tracking_uri, "théo's: 100%")) == 3
    assert every_run(workspace.tracking_uri) == {}
    assert tracker.ui_words == ["--experiment", "théo's: 100%"]


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "a\tb", "a\0b", "x" * 251, "Default", "\udcff"])
def test_an_experiment_s_name_is_checked(workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="should be a name of 1 to 250 signs"):
        Tracker(workspace, Ledger(workspace), experiment=name)


def test_no_scratch_file_of_a_report_is_uploaded(workspace: Workspace, tmp_path: Path) -> None:
    report = tmp_path / "report"
    (report / "images").mkdir(parents=True)
    for name in ("index.html", ".index.html.0123abcd.part", "images/a.svg", "images/.a.svg.0123abcd.part"):
        (report / name).write_text("x")
    track(workspace, report=UPath(report))
    (found,) = [path for path in Path(workspace.root.path).rglob("report") if path.parent.name == "artifacts"]
    assert files(found) == {"index.html", "images/a.svg"}


def test_files_that_cannot_be_written_are_added_later(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    Path(workspace.root.path, "mlartifacts").write_text("a file in the way")
    track(workspace)
    (warning,) = warnings_of(caplog)
    assert "MLflow gets no files, numbers alone" in warning
    assert str(workspace.root / "mlartifacts") in warning
    assert {run.info.status for run in runs_of(workspace).values()} == {"FINISHED"}
    (workspace.root / "mlartifacts").unlink()
    track(workspace)
    assert len(list(Path(workspace.root.path, "mlartifacts").rglob("*.parquet"))) == 16
    assert len(warnings_of(caplog)) == 1
