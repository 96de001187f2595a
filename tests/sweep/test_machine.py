"""What sweeps and evaluations run on: rounds of features and work, lists, and what a worker is told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from upath import UPath

from dfloc import config, plugin
from dfloc.data import lists
from dfloc.errors import WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.proof import Proof
from dfloc.sweep import machine
from dfloc.sweep.machine import Machine
from dfloc.sweep.work import config_of, works
from tests.sweep.conftest import Planner

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
    made.ray.proof = Proof.begin()
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
    assert {digest: lists.ids(planner.workspace, digest) for digest in found} == {
        digest: tuple(ref.id for ref in refs) for digest, refs in found.items()
    }
    monkeypatch.setattr(lists, "keep", lambda *_: pytest.fail("written again"))
    one.keep(found)


def test_a_worker_reads_the_items_that_it_is_told_of(
    one: Machine, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, used = planner.plan().items, list[Any]()
    monkeypatch.setattr(plugin, "use", used.extend)
    told = config_of(items, **one.told(planner.shards))
    assert config.canonical({key: value for key, value in told.items() if key != "proof"}), "plain values"
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


def test_whom_a_driver_waits_for_is_said(planner: Planner) -> None:
    console = Console(record=True)
    lock = machine.locked(planner.workspace, console, wait=True)
    lock._on_wait(SimpleNamespace(name="gpu-7"))  # type: ignore[misc, arg-type]
    assert console.export_text() == "waiting for the driver on gpu-7\n"
