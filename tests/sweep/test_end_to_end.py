"""The exposure study from the command line, and all that must not be computed again."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from dfloc import parent_run, registry
from dfloc.data.dolos import scan
from dfloc.data.importer import import_samples
from dfloc.data.manifest import Manifest
from dfloc.metrics.declip import declip_2025
from dfloc.metrics.protocols import Protocol
from dfloc.storage import Workspace
from dfloc.sweep import settled
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.run import Driver
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import find
from tests.command import Result, Study, runs
from tests.conftest import write_tiny_tree
from tests.golden.points import PROCESSOR, assert_same, points, processor

pytestmark = pytest.mark.ray


@pytest.fixture
def alone(finished: Study, tmp_path: Path) -> Study:
    """The finished study, of which no other test shares a file; without its MLflow store."""
    return finished.copy(tmp_path / "workspace", tracked=False, alone=True)


def test_the_first_run_ends_with_a_report_and_a_quiet_screen(first_run: tuple[Study, Result]) -> None:
    finished, result = first_run
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].startswith("No --data: the built-in mini-Dolos, preset smoke.")
    assert lines[0].endswith("say nothing about Dolos.")
    assert lines[1] == f"workspace {finished.root}"
    assert lines[-2].endswith(f"index.html    compare: dfloc ui --workspace {finished.root}")
    assert lines[-1] == "done, 0 to run"
    answer = parent_run.sentences(UPath(finished.root) / "reports/exposure-smoke-mini")
    assert answer
    assert lines[-2 - len(answer) : -2] == [f"- {sentence}" for sentence in answer]
    assert "exposure-smoke-mini: 15 trials, 0 done, 15 to run, 36 images to pass through the backbones" in lines
    assert {path.name for path in (finished.root / "reports/exposure-smoke-mini").iterdir()} > {
        "index.html",
        "report.md",
    }
    assert (finished.root / "logs/ray.log").stat().st_size > 0, "Ray's chatter goes there"


def test_every_trial_has_one_finished_run(finished: Study) -> None:
    fingerprints = {trial.fingerprint for trial in finished.record().trials}
    expected = [(name, "FINISHED") for name in (*fingerprints, "sweep")]
    assert runs(f"sqlite:///{finished.root}/mlflow.db") == sorted(expected)


def test_the_same_command_runs_nothing_without_ray_and_is_quick(
    finished: Study, first_run: tuple[Study, Result], tmp_path: Path
) -> None:
    study = finished.copy(tmp_path / "workspace")
    before, store = study.finished(), runs(f"sqlite:///{study.root}/mlflow.db")
    again = study.command(no_ray=tmp_path)
    assert (again.code, again.err) == (0, "")
    assert "exposure-smoke-mini: 15 trials, 15 done, 0 to run" in again.out
    assert again.cpu < first_run[1].cpu / 2, "what is left: to read what is there, and MLflow's import"
    assert study.finished() == before
    assert runs(f"sqlite:///{study.root}/mlflow.db") == store


def test_a_finished_study_says_the_same_again_and_touches_nothing(alone: Study, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    first = alone.command(no_ray=scratch)
    assert (first.code, first.err) == (0, "")
    for library in ("torch", "mlflow", "matplotlib"):
        (scratch / f"{library}.py").write_text(f"raise AssertionError('{library} was imported')\n")
    before = identities(alone.root)
    again = alone.command(no_ray=scratch)
    assert (again.code, again.out, again.err) == (0, first.out, "")
    assert again.cpu < 3
    assert identities(alone.root) == before


@pytest.mark.parametrize("what", ["rows", "page", "database"])
def test_what_is_deleted_of_a_settled_study_is_made_again(
    alone: Study, ray_local: None, tmp_path: Path, what: str
) -> None:
    alone.sweep()
    assert settled.lines(asdict(alone.options())) is not None
    made = {
        "rows": min(alone.root.glob("trials/*/rows/*.parquet")),
        "page": alone.root / "reports/exposure-smoke-mini/index.html",
        "database": alone.root / "mlflow.db",
    }[what]
    made.unlink()
    (tmp_path / "no").mkdir()  # MLflow keeps a database open in a process
    again = alone.command(no_ray=tmp_path / "no") if what == "database" else alone.sweep()
    assert made.exists()
    assert ("1 to run" in again.out) == (what == "rows")
    assert len(runs(f"sqlite:///{alone.root}/mlflow.db")) == 16
    assert settled.lines(asdict(alone.options())), "and then it is settled again"


def test_another_sweep_s_start_is_put_before_a_settled_one_s(alone: Study, ray_local: None) -> None:
    alone.sweep()
    alone.sweep(only=("base",))
    assert settled.lines(asdict(alone.options())) is None
    alone.sweep()
    assert settled.lines(asdict(alone.options())) is not None
    assert settled.lines(asdict(alone.options(only=("base",)))) is None


def test_a_sweep_file_that_changes_meanwhile_is_not_settled(
    alone: Study, ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(find("exposure").read_text())
    alone.sweep(name=str(mine))
    assert settled.lines(asdict(alone.options(name=str(mine)))) is not None
    mine.write_text(mine.read_text() + "# another\n")
    build = Driver._report

    def change(*args: Any) -> Any:
        mine.write_text("title: broken")
        return build(*args)

    monkeypatch.setattr(Driver, "_report", change)
    assert alone.sweep(name=str(mine)).code == 0
    assert settled.lines(asdict(alone.options(name=str(mine)))) is None


def identities(root: Path) -> dict[str, tuple[int, ...]]:
    found = ((path, path.lstat()) for path in (root, *root.rglob("*")))
    return {str(path): (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in found}


def test_one_more_count_runs_the_new_trials_alone(copied: Study, ray_local: None) -> None:
    before = copied.finished()
    result = copied.sweep("stages.finetune.grid.n=[2,3,4]")
    assert "19 trials, 15 done, 4 to run" in result.out
    after = copied.finished()
    assert {name: after[name] for name in before} == before
    new = {trial.fingerprint for stage in ("finetune", "scratch") for trial in copied.planned(stage, n=3)}
    assert after.keys() - before.keys() == new
    assert len(new) == 4


@pytest.mark.slow
def test_a_second_sweep_reuses_the_bases(copied: Study, ray_local: None, tmp_path: Path) -> None:
    text = find("exposure").read_text().replace("name: exposure", "name: second", 1)
    (tmp_path / "second.yaml").write_text(text)
    before = copied.finished()
    settings = ("stages.finetune.grid.n=[3]",)
    result = copied.sweep(*settings, name=str(tmp_path / "second.yaml"), only=("finetune",))
    assert "second-smoke-mini: 4 trials, 2 done, 2 to run" in result.out
    after = copied.finished()
    assert {name: after[name] for name in before} == before
    record = copied.record("second-smoke-mini")
    children = {trial.fingerprint for trial in record.trials if trial.stage == "finetune"}
    assert after.keys() - before.keys() == children
    assert {trial.parent for trial in record.trials if trial.parent} == {
        trial.fingerprint for trial in copied.planned("base")
    }


@pytest.mark.slow
def test_another_seed_gives_other_numbers_and_shuffled_masks_other_trials(copied: Study, ray_local: None) -> None:
    before = copied.finished()
    shuffled = "stages.finetune.grid.trial.targets=[own,shuffled]"
    copied.sweep("stages.finetune.grid.n=[4]", shuffled, only=("finetune",), seeds=2)
    numbers = copied.numbers()
    for held_out in ("mini/checkerboard", "mini/reencode"):
        first, second = copied.planned("base", held_out=held_out)
        assert (first.spec.seed, second.spec.seed) == (0, 1)
        assert numbers[first.fingerprint]["epochs"] != numbers[second.fingerprint]["epochs"]
        for seed in (0, 1):
            own, other = (
                copied.planned("finetune", held_out=held_out, seed=seed, **{"trial.targets": how})[0]
                for how in ("own", "shuffled")
            )
            assert (own.spec.targets, other.spec.targets) == ("own", "shuffled")
            assert own.spec.train == other.spec.train
            assert numbers[own.fingerprint]["rows"] != numbers[other.fingerprint]["rows"]
    assert len(copied.finished().keys() - before.keys()) == 2 + 2 + 4


def test_a_changed_protocol_or_report_evaluates_and_trains_nothing(
    finished: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*settings: str) -> list[tuple[bool, int]]:
        options = SweepRequest(name="exposure", workspace=str(finished.root), preset="smoke", settings=settings)
        workspace = Workspace(finished.root)
        found = prepare(options, workspace, data_of(options, workspace), Inventory(workspace)).plan
        assert not found.jobs
        return [(item.train, len(item.evaluations)) for item in found.items]

    assert plan("title=Another page", "tables=[]") == []
    monkeypatch.setattr(registry, "FACTORIES", _with(registry.FACTORIES, "protocol", "own-1", f"{__name__}:own"))
    monkeypatch.setitem(registry.SEMANTICS, "protocol/own-1", 1)  # type: ignore[arg-type]
    every = [(False, 6)] * 15
    assert plan("evaluate.protocol=own-1") == every
    monkeypatch.setitem(registry.SEMANTICS, "protocol/declip-2025", 2)  # type: ignore[arg-type]
    assert plan() == every


def own() -> Protocol:
    """Return a protocol of another name that measures what declip-2025 does."""
    return replace(declip_2025(), name="own-1")


def _with(table: object, kind: str, name: str, factory: str) -> object:
    assert isinstance(table, dict)
    return {**table, kind: {**table[kind], name: factory}}


def test_a_fifth_domain_in_the_same_folder_retrains_nothing(
    finished: Study, copied: Study, ray_local: None, tmp_path: Path
) -> None:
    folder = tmp_path / "shards" / "mini"
    shutil.copytree(finished.root / "shards" / "mini", folder)
    digest = Manifest.load(UPath(folder)).digest
    write_tiny_tree(tmp_path / "tree")
    import_samples(scan(tmp_path / "tree"), UPath(folder), group_rows=4)
    manifest = Manifest.load(UPath(folder))
    assert manifest.digest != digest
    assert {"tiny/blur", "mini/telea"} < set(manifest.local)
    again = Study(copied.root, folder).sweep()
    assert "15 trials, 15 done, 0 to run" in again.out
    assert again.code == 0


def test_the_point_values_are_those_of_40e56a3(finished: Study) -> None:
    """To the last digit where the golden file was written; another processor adds in another order."""
    found = points(finished.root / "reports/exposure-smoke-mini/evaluations.csv")
    golden = points(Path(__file__).parent.parent / "golden" / "smoke.csv")
    assert len(golden) == 68
    assert_same(found, golden, exact=processor() == PROCESSOR)


def test_report_alone_builds_the_same_page(finished: Study, copied: Study) -> None:
    from dfloc.report.build import build

    folder = build(Workspace(copied.root), copied.record(), shards=UPath(finished.root / "shards" / "mini"))
    page = finished.root / "reports/exposure-smoke-mini/report.md"
    assert (folder / "report.md").read_text() == page.read_text()
