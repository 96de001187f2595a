"""What sweeps and evaluations run on: rounds of features and work, lists, and what a worker is told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from upath import UPath

from dfloc import plugin
from dfloc.data import sample_lists
from dfloc.data.manifest import Manifest
from dfloc.errors import WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.frozen import canonical
from dfloc.sweep import machine
from dfloc.sweep.data import Expected, Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.machine import Machine
from dfloc.sweep.plan import Item, Resolved, make
from dfloc.sweep.resolve import resolve
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.work import config_of, works
from dfloc.worker_check import WorkerCheck
from tests.sweep.conftest import Planner


def expected(planner: Planner, *settings: str) -> Resolved:
    """Return the study as it is planned before its data are there, which are said to have as much."""
    shards = Shards(planner.shards, "tiny")
    counts = {name: {split: one.images for split, one in shards.facts(name).items()} for name in shards.local}
    there = Manifest.load(planner.shards).domains
    real = {split: part.count for split, part in there["tiny/real"].splits.items()}
    data = Expected("tiny", {**counts, "tiny/real": real}, {})
    study = expand(SweepFile(planner.file).choose("own", settings), data=data)
    return resolve(study, data, Inventory(planner.workspace), preset="own")


JOB = Job("shard", "digest", 0, (), frozenset({0, 1}))


class Held:
    """Stands for a lock that is held, or was lost."""

    lost = False

    def check(self) -> None:
        if self.lost:
            raise WorkspaceError("another driver took over")


@pytest.fixture
def one(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> Machine:
    def extracted(*_: Any, on_progress: Callable[[int, int], None], **how: Any) -> None:
        on_progress(1, 2)

    monkeypatch.setattr(extract, "extract", extracted)
    made = Machine(planner.workspace, Held(), Console(record=True), None)  # type: ignore[arg-type]
    made.ray.proof = WorkerCheck.begin()
    return made


def worked(one: Machine, troubles: list[str], lacking: list[list[Job]]) -> list[str]:
    """Return what is done when rounds of work end with these troubles, after which these features are lacking."""
    done: list[str] = []
    left = iter(lacking)

    def work() -> str:
        done.append("work")
        return troubles.pop(0)

    def again() -> list[Job]:
        done.append("again")
        return next(left)

    one.run(UPath("data"), [JOB], work, again)
    return done


def test_work_is_done_again_only_where_something_went_wrong_and_features_are_lacking(one: Machine) -> None:
    assert worked(one, [""], []) == ["work"]
    assert worked(one, ["lost"], [[]]) == ["work", "again"]
    assert "damaged" not in one.console.export_text()
    assert worked(one, ["lost", ""], [[JOB, JOB]]) == ["work", "again", "work"]
    assert "\n2 groups of stored features were damaged, they are made again\n" in one.console.export_text()
    assert worked(one, ["lost"] * 3, [[JOB], [JOB]]) == ["work", "again", "work", "again", "work"], "three rounds"


def test_a_driver_that_has_lost_its_lock_writes_no_features_and_no_lists(one: Machine, planner: Planner) -> None:
    found = planner.resolve().lists
    one.lock.lost = True  # type: ignore[attr-defined]
    with pytest.raises(WorkspaceError, match="took over"):
        worked(one, [""], [])
    with pytest.raises(WorkspaceError, match="took over"):
        one.keep(found)
    assert not planner.workspace.lists.exists() or not list(planner.workspace.lists.iterdir())


def test_a_list_is_written_once(one: Machine, planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planner.resolve().lists
    one.keep(found)
    assert {digest: sample_lists.ids(planner.workspace, digest) for digest in found} == {
        digest: tuple(ref.id for ref in refs) for digest, refs in found.items()
    }
    monkeypatch.setattr(sample_lists, "keep", lambda *_: pytest.fail("written again"))
    one.keep(found)


def test_a_worker_reads_the_items_that_it_is_told_of(
    one: Machine, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, used = planner.plan().items, list[Any]()
    monkeypatch.setattr(plugin, "use", used.extend)
    told = config_of(items, **one.worker_settings(planner.shards))
    assert canonical({key: value for key, value in told.items() if key != "proof"}), "plain values"
    found = list(works(told))
    assert [(work.spec, work.train, work.evaluations) for work in found] == [
        (item.trial.spec, item.train, item.evaluations) for item in items
    ]
    assert {(work.workspace.root, work.data, work.device) for work in found} == {
        (planner.workspace.root, planner.shards, "cpu")
    }
    other = one.ray.proof._replace(runs={"dfloc": "0.0.1"})  # type: ignore[union-attr]
    with pytest.raises(WorkspaceError, match=r"the driver: dfloc 0\.0\.1"):
        next(works(told | {"proof": tuple(other)}))


def test_what_is_planned_on_samples_that_are_not_there_reaches_no_worker_and_no_list(
    one: Machine, planner: Planner
) -> None:
    resolved = expected(planner)
    items = [Item(trial, True, trial.evaluations) for trial in resolved.record.trials]
    for item in items:
        for train in (item, Item(item.trial, False, item.evaluations)):
            with pytest.raises(WorkspaceError, match="is planned on samples that are not there; import them first"):
                config_of([train], **one.worker_settings(planner.shards))
    with pytest.raises(WorkspaceError, match=r"of list [0-9a-f]{12} are not there; import them first"):
        one.keep(resolved.lists)
    there = planner.resolve().record.trials[0]
    later = there.evaluations[0].model_copy(update={"test": items[0].evaluations[0].test})
    with pytest.raises(WorkspaceError, match="not there"):
        config_of([Item(there, False, (later,))], **one.worker_settings(planner.shards))


@pytest.mark.parametrize("settings", [(), ("stages.finetune.train.replay=equal",), ("draws=2",), ("evaluate.count=3",)])
def test_a_plan_without_data_asks_for_what_it_asks_for_with_them(planner: Planner, settings: tuple[str, ...]) -> None:
    with_data, without = planner.resolve(*settings), expected(planner, *settings)
    sizes = [
        [
            (
                one.stage,
                one.axes,
                one.spec.train.counts,
                one.spec.valid.counts,
                [each.test.counts for each in one.evaluations],
            )
            for one in resolved.record.trials
        ]
        for resolved in (with_data, without)
    ]
    assert sizes[0] == sizes[1]
    plans = [
        make(resolved, planner.ledger, FeatureStore(planner.workspace.features), planner.workspace.root / "sweeps")
        for resolved in (with_data, without)
    ]
    assert plans[0].images == plans[1].images
    assert [plan.resolved.present for plan in plans] == [True, False]
    assert with_data.lists.keys().isdisjoint(without.lists)


def test_placeholders_are_paired_by_their_numbers() -> None:
    data = Expected("own", {name: {"train": 2, "test": 1} for name in ("s/a", "s/b", "t/c")}, {})
    found = {name: data.samples(name, "train") for name in data.local}
    assert [ref.id for ref in found["s/a"]] == ["s/a/train/00000", "s/a/train/00001"]
    shown = {name: [(ref.pair, ref.stem) for ref in refs] for name, refs in found.items()}
    assert shown["s/a"] == shown["s/b"]
    assert {*shown["s/a"]}.isdisjoint(shown["t/c"])
    assert {*shown["s/a"]}.isdisjoint((ref.pair, ref.stem) for ref in data.samples("s/a", "test"))
    assert data.samples("s/a", "valid") == []


def test_whom_a_driver_waits_for_is_said(planner: Planner) -> None:
    console = Console(record=True)
    lock = machine.locked(planner.workspace, console, wait=True)
    lock._on_wait(SimpleNamespace(name="gpu-7"))  # type: ignore[misc, arg-type]
    assert console.export_text() == "waiting for the driver on gpu-7\n"
