"""Every sweep that dfloc ships: its smoke preset runs to a report, and its mini preset keeps the axes of its paper."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from upath import UPath

from dfloc import storage
from dfloc.outcome import Cost, Done
from dfloc.storage import Workspace
from dfloc.sweep.cell import Cell
from dfloc.sweep.cell import Study as Expanded
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.messages import dry_run
from dfloc.sweep.prepare import prepare
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import SweepFile, shipped
from tests.command import Study
from tests.conftest import TINY_COUNTS

OTHERS = sorted(set(shipped()) - {"exposure", "search"})  # those two have tests of their own
FULL = ("sam2-decoders", "two-step", "weak")  # run in `make test`, as exposure and search do
# What no mini runs: whole Xceptions, the same models on data that the built-in ones have no like of, and specialists on
# SAM 2, of which single-domain's mini has none that learns.
LEFT_OUT = {
    "weak": {"other-source", "generators"},
    "generator-shift": {"others", "others-leave-one-out"},
    "two-step": {"specialists"},
}
FOUR = [f"celebahq/{name}" for name in ("ldm", "repaint-p2-9k", "lama", "pluralistic")]


def study(name: str, preset: str) -> Expanded:
    file = SweepFile(shipped()[name])
    asked = file.domains_asked(preset)
    domains = asked if isinstance(asked, list) else FOUR[: int(asked.partition(":")[2] or 4)]
    return expand(file.choose(preset, (), domains))


def cells(name: str, preset: str) -> list[Cell]:
    return study(name, preset).cells


def stages(name: str, preset: str) -> set[str]:
    found = study(name, preset)
    return {one.stage for one in (*found.cells, *found.composites)}


def axes(found: list[Cell]) -> dict[tuple[str, str], set[str]]:
    """Return (stage, axis) -> the values that its cells have; the cases of a stage are the axis `case`."""
    values: dict[tuple[str, str], set[str]] = {}
    for cell in found:
        for axis, value in {**cell.axes, "case": cell.case}.items():
            values.setdefault((cell.stage, axis), set()).add(str(value))
    return values


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all studies, which share maps and trials."""
    return tmp_path_factory.mktemp("studies") / "workspace"


@pytest.mark.ray
@pytest.mark.parametrize(
    "name", [name if name in FULL else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_smoke_runs_to_a_report(name: str, workspace: Path, tiny_shards: UPath, ray_local: None) -> None:
    study = Study(workspace, Path(tiny_shards.path))
    done = study.sweep(name=name)
    assert done.code == 0, done.out
    [folder] = study.root.glob(f"sweeps/{name}-smoke-*")
    record = study.record(folder.name)
    assert {trial.stage for trial in record.trials} == stages(name, "smoke")
    assert {study.ledger.state(trial.fingerprint) for trial in record.trials} == {"done"}
    page = (study.root / "reports" / record.sweep / "report.md").read_text()
    assert record.title in page
    assert "0 to run" in study.sweep(name=name).out


@pytest.mark.parametrize("name", OTHERS)
def test_smoke_can_be_planned_on_data_of_ones_own(name: str, tmp_path: Path, tiny_shards: UPath) -> None:
    options = SweepRequest(name, str(tmp_path / "workspace"), tiny_shards.path, preset="smoke")
    workspace = Workspace(tmp_path / "workspace")
    plan = prepare(options, workspace, data_of(options, workspace), Inventory(workspace)).plan
    assert {trial.stage for trial in plan.record.trials} == stages(name, "smoke")
    assert plan.left == len({trial.fingerprint for trial in plan.record.trials})
    images = {(job.shard, job.group, row) for job in plan.jobs for row in job.wanted}
    assert 0 < len(images) <= 2 * sum(TINY_COUNTS.values())


@pytest.mark.parametrize("name", OTHERS)
def test_mini_keeps_every_axis_of_the_paper(name: str) -> None:
    paper, mini = axes(cells(name, "paper")), axes(cells(name, "mini"))
    thin = {key for key, values in paper.items() if len(values) > 1 and len(mini.get(key, ())) < 2}
    assert {stage for stage, _ in thin} == LEFT_OUT.get(name, set())


def test_a_dry_run_counts_the_test_images_that_are_asked_for(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    dry_run(SweepRequest("single-domain", str(tmp_path / "workspace"), preset="mini"), console)
    assert isinstance(console.file, io.StringIO)
    assert f"{4 * (8 + 4 + 16) + 16} images through sam2.1-tiny" in console.file.getvalue()


def test_a_dry_run_before_an_import_says_what_is_finished(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    options = SweepRequest("single-domain", str(tmp_path / "workspace"), preset="mini")
    console = Console(file=io.StringIO(), width=200)
    assert isinstance(console.file, io.StringIO)
    dry_run(options, console)
    assert "finished" not in console.file.getvalue()
    prepared = prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False))
    record = prepared.plan.record
    record.save(workspace.sweep(record.sweep))
    cost = Cost(seconds=1.0, images_per_second=1.0, steps=1)
    done = Done(attempt="a", epochs=1, best_epoch=1, digests={}, cost=cost, versions={}, time=0.0)
    for trial in record.trials[:2]:
        storage.put_json(workspace.trials / trial.fingerprint / "done.json", done.model_dump(mode="json"))
    dry_run(options, console)
    said = "the data are imported first; 2 trials here are finished and stay if the data come out the same"
    assert said in console.file.getvalue()
