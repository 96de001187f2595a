import signal
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from dfloc import slate
from dfloc.errors import WorkspaceError
from dfloc.sweep.plan import Item
from dfloc.sweep.schedule import Packs, ParentsFirst
from tests.command import wait
from tests.sweep.conftest import Planner


@pytest.fixture
def items(planner: Planner) -> Sequence[Item]:
    return planner.plan().items


def searcher(items: Sequence[Item]) -> ParentsFirst:
    return ParentsFirst(items, lambda pack: {"name": pack[0].trial.fingerprint})


def ended(item: Item, how: str) -> dict[str, Any]:
    return {f"pack/{item.trial.fingerprint}/{how}": True}


def test_child_waits_for_its_parent(items: Sequence[Item]) -> None:
    found = searcher(items)
    told = [found.suggest(f"t{k}") for k in range(5)]
    free = [item.trial.fingerprint for item in items if item.trial.parent is None]
    assert [config["name"] for config in told if isinstance(config, dict)] == free
    assert told[4] is None
    found.on_trial_complete("t1", ended(items[1], "finished"))
    child = found.suggest("t5")
    assert isinstance(child, dict)
    parents = {item.trial.fingerprint: item.trial.parent for item in items}
    assert parents[child["name"]] == items[1].trial.fingerprint


def test_ends_when_everything_was_handed_out(items: Sequence[Item]) -> None:
    found = searcher(items)
    names: list[str] = []
    for k in range(20):
        config = found.suggest(f"t{k}")
        if config == "FINISHED":
            break
        assert isinstance(config, dict)
        names.append(config["name"])
        item = next(item for item in items if item.trial.fingerprint == config["name"])
        found.on_trial_complete(f"t{k}", ended(item, "finished"))
    assert sorted(names) == sorted(item.trial.fingerprint for item in items)


@pytest.mark.parametrize(("result", "error"), [("failed", False), ("", True)])
def test_children_of_what_failed_are_dropped_with_a_message(items: Sequence[Item], result: str, error: bool) -> None:
    found = searcher(items)
    found.suggest("t0")
    found.on_trial_complete("t0", ended(items[0], result) if result else None, error=error)
    children = [item for item in items if item.trial.parent == items[0].trial.fingerprint]
    assert set(found.dropped) == {item.name for item in children}
    assert all(items[0].name in why and "failed" in why for why in found.dropped.values())


def test_first_ctrl_c_hands_out_nothing_more_and_the_second_ends(items: Sequence[Item]) -> None:
    told: list[int] = []
    packs = Packs(items, on_report=lambda item, entry: None, on_stop=told.append)
    found = searcher(items)
    before = signal.getsignal(signal.SIGINT)
    with packs._listening(found):
        signal.raise_signal(signal.SIGINT)
        wait(lambda: told == [signal.SIGINT])
        assert packs.stopped == signal.SIGINT
        assert found.suggest("t0") == "FINISHED"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("where", ["clock", "look"])
def test_signals_that_interrupt_each_other_start_one_clock_and_say_one_line(
    items: Sequence[Item], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    started, look = list[float](), slate.gone

    def nested(*told: Any) -> str:
        if len(started) < 3 and not looked:
            looked.append(1)
            signal.raise_signal(signal.SIGTERM)
        return look({})

    class Clock(threading.Timer):
        def start(self) -> None:
            started.append(self.interval)
            if where == "clock" and len(started) < 3:
                signal.raise_signal(signal.SIGHUP)  # the keeper's comes while a thread is waited for

    looked: list[int] = []
    monkeypatch.setattr(threading, "Timer", Clock)
    if where == "look":
        monkeypatch.setattr(slate, "gone", nested)
    told: list[int] = []
    packs = Packs(items, on_report=lambda item, entry: None, on_stop=told.append)
    with packs._listening(searcher(items)):
        signal.raise_signal(signal.SIGHUP)
    wait(lambda: bool(told))
    assert (len(started), len(told), bool(looked)) == (1, 1, where == "look")


def test_a_ctrl_c_may_interrupt_what_is_being_written(items: Sequence[Item]) -> None:
    said: list[int] = []
    writing = threading.Lock()

    def say(number: int) -> None:
        with writing:
            said.append(number)

    packs = Packs(items, on_report=lambda item, entry: None, on_stop=say)
    with packs._listening(searcher(items)), writing:
        signal.raise_signal(signal.SIGINT)
        assert said == []
    wait(lambda: said == [signal.SIGINT])


def test_an_error_of_the_driver_ends_the_run_in_order(items: Sequence[Item]) -> None:
    def lost(item: Item, entry: dict[str, Any]) -> None:
        raise WorkspaceError("another driver took over")

    packs = Packs(items, on_report=lost, on_stop=lambda number: None)
    packs._searcher = searcher(items)
    packs._report({items[0].trial.fingerprint: {"epoch": 1, "epochs": 2}})
    assert packs._searcher.suggest("t0") == "FINISHED"
    assert isinstance(packs._refused, WorkspaceError)
