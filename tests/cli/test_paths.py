"""A workspace under any path, moved, copied, and on a store of another name: the whole command."""

import shlex
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dfloc import database_uri
from dfloc.storage import Workspace
from tests.command import Study, runs

HOSTILE = "-a%41?b#c;d 'e\" \u4e2d\u00fc&f=g:h [bold]i"


def uri_of(root: Path) -> str:
    return Workspace(root).tracking_uri


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """The finished study under a path of many signs."""
    (tmp_path / "space").mkdir()
    return finished.copy(tmp_path / "space" / HOSTILE, tracked=False)


def test_a_finished_study_is_tracked_and_shown_under_any_path(study: Study, tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    done = study.command("--experiment", "th\u00e9o's", no_ray=tmp_path / "no")
    assert done.code == 0, done
    assert f"workspace {study.root}\n" in done.out
    assert f"dfloc ui --workspace {shlex.quote(str(study.root))} --experiment " in done.out
    assert f"report: {study.root}/reports/" in done.out
    client = MlflowClient(tracking_uri=uri_of(study.root))
    found = client.get_experiment_by_name("th\u00e9o's")
    tracked = client.search_runs([found.experiment_id])
    assert {run.info.status for run in tracked} == {"FINISHED"}
    assert len(tracked) == len({trial.fingerprint for trial in study.record().trials}) + 1
    assert [path.name for path in study.root.parent.iterdir()] == [HOSTILE]
    reports = list(study.root.glob("mlartifacts/*/*/artifacts/report/index.html"))
    assert len(reports) == 1


def test_a_copy_is_told_and_the_store_of_the_environment_named(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = database_uri.of_database(tmp_path / "runs?.db")
    monkeypatch.setattr("tests.command.fresh", _with(MLFLOW_TRACKING_URI=shared))
    first = study.command()
    assert f"MLflow: the one at MLFLOW_TRACKING_URI={shared}\n" in first.out
    assert f"compare: {shared}" in first.out
    before = runs(shared)
    assert len(before) > 1
    shutil.copytree(study.root, tmp_path / "copy")
    copy = Study(tmp_path / "copy", study.data)
    told = f"this workspace is a copy of {study.root}; --new-identity tells them apart"
    assert f"{told}; until then nothing is written to MLflow at {shared}\n" in copy.command().out
    assert runs(shared) == before
    assert "is a copy of" not in copy.command("--new-identity").out
    assert len(runs(shared)) == 2 * len(before)
    assert "is a copy of" not in copy.command("--new-identity").out
    assert len(runs(shared)) == 2 * len(before), "the same command again changes nothing"


def _with(**more: str) -> object:
    from tests.command import fresh

    return lambda: fresh() | more


@pytest.mark.slow
@pytest.mark.ray
def test_a_whole_sweep_under_any_path(finished: Study, tmp_path: Path) -> None:
    study = Study(tmp_path / "space" / HOSTILE)
    shutil.copytree(finished.root / "mini", study.root / "mini")
    done = study.command()
    assert done.code == 0, done
    assert "done, 0 to run" in done.out
    assert {status for _, status in runs(uri_of(study.root))} == {"FINISHED"}
    away = study.root.rename(tmp_path / "away #2")
    again = Study(away).command()
    assert again.code == 0, again
    assert len(runs(uri_of(away))) == len({trial.fingerprint for trial in Study(away).record().trials}) + 1
    assert list((tmp_path / "space").iterdir()) == []
