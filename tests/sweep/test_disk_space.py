"""What a plan needs, what is refused, and how a sweep ends on a full disk."""

import errno
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from upath import UPath

from dfloc import disk
from dfloc.data import dolos, importer, mini
from dfloc.errors import DiskFullError
from dfloc.features.store import TRUTH, bytes_of
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from dfloc.sweep import machine, tuning, work
from dfloc.sweep.plan import Plan, recipes_of
from dfloc.sweep.scheduler import ParentsFirst
from dfloc.sweep.tuning import Tuning
from dfloc.tracking import Tracker
from dfloc.worker_check import WorkerCheck
from tests.command import Study
from tests.sweep.conftest import Planner
from tests.test_tracking import RECORD


@pytest.fixture
def plan(planner: Planner) -> Plan:
    return planner.plan()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def has(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(disk, "free", lambda path: int(size))


def test_a_plan_needs_features_weights_and_rows(plan: Plan, planner: Planner) -> None:
    images = sum(job.rows for job in plan.jobs)
    [recipe] = recipes_of(plan.resolved.all)
    assert machine.of_features(plan) == images * (bytes_of(TRUTH) + bytes_of(recipe))
    weights = 0
    for trial in {item.trial.fingerprint: item.trial for item in plan.items}.values():
        decoder = work.decoders.build(trial.spec.decoder, work._shapes(trial.spec), work.repro.generator(0, "init"))
        weights += 2 * sum(tensor.numel() * tensor.element_size() for tensor in decoder.state_dict().values())
    rows = sum(evaluation.test.size for item in plan.items for evaluation in item.evaluations)
    assert machine.of_all(plan) == machine.of_features(plan) + weights + rows * machine.ROW_BYTES
    assert rows > 0
    assert weights > 0


def test_features_that_do_not_fit_are_refused_with_both_numbers(
    plan: Plan, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    look = machine.DiskSpace(planner.workspace, said.append).look
    has(monkeypatch, machine.of_features(plan) - 1)
    with pytest.raises(DiskFullError, match=r"too small: [\d.]+ MB free on /.*, the features .* need [\d.]+ MB"):
        look(plan)
    assert said == []
    has(monkeypatch, machine.of_features(plan))
    look(plan)
    assert [line.partition(":")[0] for line in said] == ["room may be short"]
    has(monkeypatch, machine.of_all(plan))
    look(plan)
    assert len(said) == 1


def test_what_is_there_already_needs_no_room(plan: Plan, planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 0)
    finished = replace(plan, items=(), jobs=())
    machine.DiskSpace(planner.workspace, pytest.fail).look(finished)
    assert machine.of_all(finished) == 0


def test_where_it_is_full_meanwhile_the_need_is_said_too(plan: Plan, planner: Planner) -> None:
    looked = machine.DiskSpace(planner.workspace, lambda line: None)
    looked.look(plan)
    for need, said in (("", "the plan needs about"), ("more than that", "more than that")):
        with pytest.raises(DiskFullError, match=f"0 GB free on /w, {said}.*make room"), looked.explained():
            raise DiskFullError("disk full: 0 GB free on /w", need)


def config(plan: Plan, planner: Planner) -> dict[str, Any]:
    told = {"workspace": str(planner.workspace.root), "data": str(planner.shards), "device": "cpu"}
    return work.config_of(plan.items[:1], **told, proof=WorkerCheck.begin())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        DiskFullError("disk full: 0.0 GB free in /w"),
        RuntimeError("cannot write; database or disk is full"),
    ],
)
def test_a_worker_reports_a_full_disk_once_and_is_not_tried_again(
    plan: Plan, planner: Planner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(_: work.Work) -> Iterator[dict[str, Any]]:
        yield {"epoch": 1, "epochs": 2}
        raise error

    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", reports.append)
    monkeypatch.setattr(tuning, "run", full)
    tuning.train_pack(config(plan, planner))
    [entry] = reports[-1]["pack"].values()
    assert str(DiskFullError(*entry["full"])).startswith("disk full: ")
    assert len(reports) == 2

    def broken(_: work.Work) -> Iterator[dict[str, Any]]:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(tuning, "run", broken)
    with pytest.raises(OSError, match="I/O error"):
        tuning.train_pack(config(plan, planner))


def test_a_full_disk_in_an_error_of_its_own_fails_no_trial(
    plan: Plan, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> Iterator[dict[str, Any]]:
        raise RuntimeError("a plug-in could not save") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(work, "_train", train)
    item = plan.items[0]
    asked = work.Work(item.trial.spec, True, (), planner.workspace, planner.shards)
    with pytest.raises(DiskFullError):
        list(work.run(asked))
    assert Ledger(planner.workspace).state(item.trial.fingerprint) == "new"


def test_what_a_worker_reports_stops_the_run_and_is_what_is_raised(plan: Plan, tmp_path: Path) -> None:
    packs = Tuning(ParentsFirst(plan.items), {}, on_report=lambda item, entry: None, on_stop=lambda number: None)
    packs._packs["t0"] = {plan.items[0].trial.fingerprint: plan.items[0]}
    told = {"epoch": 0, "epochs": 2, "full": ("disk full: 0.0 GB free in /w", "")}
    assert packs.reported("t0", {"pack": {plan.items[0].trial.fingerprint: told}})
    assert packs.suggest("t1") == "FINISHED"
    assert isinstance(packs._refused, DiskFullError)
    (tmp_path / "tune").mkdir()
    with pytest.raises(DiskFullError) as raised, packs._cleared(tmp_path / "tune"):
        raise RuntimeError("Tune") from OSError(errno.ENOSPC, "No space left on device")
    assert raised.value is packs._refused
    assert not (tmp_path / "tune").exists()


def test_what_lies_on_another_disk_names_that_one(small: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(small / "else" / "x"))
    assert f"MB free on {small};" in str(disk.full_disk(error, Path("/")))
    assert " free on /" in str(disk.full_disk(OSError(errno.ENOSPC, "No space left on device"), Path("/")))


def test_images_that_do_not_fit_are_refused_before_a_worker_is_started(
    small: Path, tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(importer, "_run", never)
    has(monkeypatch, 1000)
    with pytest.raises(DiskFullError, match=r"too small: .* the images and masks alone need [\d.]+ [MG]B more"):
        importer.import_samples(dolos.scan(tiny_tree), UPath(small / "data"))
    assert list(small.iterdir()) == []


def test_mini_data_that_do_not_fit_are_one_sentence(small: Path) -> None:
    with pytest.raises(DiskFullError, match=rf"disk full: 0\.0 [MG]B free on {small}"):
        mini.make(small / "mini", train=80, valid=8, test=8)


def test_a_store_of_runs_that_is_full_is_one_sentence_in_the_end(
    small: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(small)
    tracker = Tracker(workspace, Ledger(workspace))
    (small / "ballast").write_bytes(bytes(900_000))
    tracker.open(RECORD)
    with pytest.raises(DiskFullError, match="disk full: "):
        tracker.close("FINISHED")
    assert caplog.messages == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_on_a_full_disk_stops_once_goes_on_and_leaves_nothing(finished: Study, small: Path) -> None:
    data = finished.data or finished.root / "shards" / "mini"
    size = sum(path.stat().st_size + 4096 for path in (finished.root / "features").rglob("*"))
    subprocess.run(["mount", "-o", f"remount,size={size + (3 << 20)}", small], check=True)
    study = Study(small / "workspace", data)
    for name in ("features", "lists"):
        shutil.copytree(finished.root / name, study.root / name)
    stopped = study.command()
    lines = [line for line in f"{stopped.out}\n{stopped.err}".splitlines() if "disk full" in line]
    assert stopped.code == 2, stopped
    [line] = lines
    assert f"free on {small}" in line
    assert "the plan needs about" in line
    for rubbish in ("Traceback", "Logging error", "worker died"):
        assert rubbish not in stopped.out + stopped.err
    assert list(study.root.rglob("*.part")) == []
    assert list(study.root.rglob("failed.json")) == []
    assert not list(study.root.glob("sweeps/*/tune"))
    subprocess.run(["mount", "-o", "remount,size=500m", small], check=True)
    assert study.command().code == 0
    assert study.numbers() == finished.numbers()
