"""The shipped search through Ray: it ends, goes on, is extended, and stops what the rule of its rungs stops."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from upath import UPath

from dfloc.planned import PlannedTrial
from dfloc.sweep.asha import Rungs
from dfloc.sweep.cell import Cell
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile, find
from tests.command import Study

STOPPING = ("trial.epochs=3", "search.pruner.name=asha", "search.pruner.min_epochs=1", "search.pruner.factor=2")


def drawn(study: Study) -> list[PlannedTrial]:
    [path] = study.root.glob("sweeps/search-*")
    record = study.record(path.name)
    assert record.search
    by_name = {trial.fingerprint: trial for trial in record.trials}
    return [by_name[name] for names in record.search.points for name in names]


@pytest.mark.ray
def test_a_search_runs_is_extended_and_stops_its_worse_trials(
    tmp_path: Path, tiny_shards: UPath, ray_local: None
) -> None:
    study = Study(tmp_path / "workspace", Path(tiny_shards.path))
    first = study.sweep(*STOPPING, "search.trials=3", name="search", max_concurrent=1)
    assert first.code == 0, first.out
    before, done = [trial.fingerprint for trial in drawn(study)], study.finished()
    assert len(before) == 3
    again = study.sweep(*STOPPING, "search.trials=5", name="search", max_concurrent=1)
    assert again.code == 0, again.out
    assert "2 to run" in again.out
    trials = drawn(study)
    assert [trial.fingerprint for trial in trials][:3] == before
    assert {name: study.finished()[name] for name in done} == done
    [path] = study.root.glob("sweeps/search-*")
    rungs = Rungs((1, 2), 2)
    for trial in trials:
        name = trial.fingerprint
        rungs.put((), name, {one.epoch: one.valid["iou"] for one in study.ledger.epochs(name)})
        cut, stopped = rungs.cut((), name), study.ledger.stopped(name, path.name)
        assert (stopped and (stopped.epoch, stopped.value, stopped.needed)) == (cut and tuple(cut))
        assert study.ledger.state(name, path.name) == ("stopped" if cut else "done")
    _tracked(study, trials, path.name)
    assert "## The search" in (study.root / "reports" / path.name / "report.md").read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_a_start_of_the_baselines_alone_keeps_the_search(tmp_path: Path, tiny_shards: UPath, ray_local: None) -> None:
    study = Study(tmp_path / "workspace", Path(tiny_shards.path))
    settings = ("trial.epochs=1", "search.pruner.name=none", "search.trials=2")
    assert study.sweep(*settings, name="search", max_concurrent=1).code == 0
    [path] = study.root.glob("sweeps/search-*")
    before, files = study.record(path.name), sorted((path / "starts").iterdir())
    again = study.sweep(*settings, "evaluate.protocol=dfloc-1", name="search", only=("baselines",))
    assert again.code == 0, again.out
    record = study.record(path.name)
    assert before.search
    assert record.search == before.search
    assert len(record.search.points) == 2
    assert {trial.fingerprint for trial in record.trials} == {trial.fingerprint for trial in before.trials}
    assert sorted((path / "starts").iterdir())[: len(files)] == files
    page = (study.root / "reports" / path.name / "report.md").read_text()
    assert "## The search" in page
    assert "| unfinished |" not in page
    assert "Protocol declip-2025; " in page
    assert "Protocol dfloc-1; " in page
    assert f"{len(before.trials)} distinct trials: {len(before.trials)} finished." in page
    client = MlflowClient(tracking_uri=f"sqlite:///{study.root}/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == "dfloc"]
    names = {run.info.run_name for run in client.search_runs([experiment.experiment_id])}
    assert names == {path.name, *(trial.name for trial in record.trials)}
    assert "0 to run" in study.sweep(*settings, name="search", max_concurrent=1).out


def _tracked(study: Study, trials: list[PlannedTrial], sweep: str) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{study.root}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    by_name = {run.data.tags.get("dfloc.fingerprint"): run for run in runs}
    for trial in trials:
        run = by_name[trial.fingerprint]
        stopped = study.ledger.stopped(trial.fingerprint, sweep)
        assert run.info.status == ("KILLED" if stopped else "FINISHED")
        assert run.data.tags.get("dfloc.stopped") == (stopped and f"after epoch {stopped.epoch} by {sweep}")
        assert run.data.tags["dfloc.axis.lr"] == str(trial.axes["lr"])
        assert run.data.metrics["valid/iou"] == study.ledger.epochs(trial.fingerprint)[-1].valid["iou"]


def cover(preset: str) -> tuple[Cell, ...]:
    domains = [f"mini/{name}" for name in "abcd"]
    file = SweepFile(find("search"))
    return expand(file.choose(preset, (), file.domains_asked(preset) if preset == "paper" else domains)).cover


def test_mini_keeps_every_axis_of_the_paper() -> None:
    paper, mini = cover("paper"), cover("mini")
    axes = {axis for axis in paper[0].axes if len({str(cell.axes[axis]) for cell in paper}) > 1}
    assert axes == {"backbone", "layer", "depth", "loss", "lr", "blur"}
    assert all(len({str(cell.axes[axis]) for cell in mini}) > 1 for axis in axes)
