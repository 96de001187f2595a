import io
import signal
import threading
import time
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
        wait(lambda: told == [signal.SIGINT], 10)
        assert packs.stopped == signal.SIGINT
        assert found.suggest("t0") == "FINISHED"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_two_of_a_signal_at_once_start_one_clock(items: Sequence[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []

    class Clock(threading.Timer):
        def start(self) -> None:
            started.append(self.interval)
            if len(started) < 3:
                signal.raise_signal(signal.SIGHUP)  # the keeper's comes while a thread is waited for

    monkeypatch.setattr(threading, "Timer", Clock)
    told: list[int] = []
    packs = Packs(items, on_report=lambda item, entry: None, on_stop=told.append)
    with packs._listening(searcher(items)):
        signal.raise_signal(signal.SIGHUP)
    assert (len(started), told, packs.stopped) == (1, [signal.SIGHUP], signal.SIGHUP)


def test_another_signal_while_one_is_answered_starts_no_second_clock(
    items: Sequence[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    hups = [signal.SIGHUP]
    monkeypatch.setattr(slate, "gone", lambda facts: "" if not hups else signal.raise_signal(hups.pop()) or "")
    told: list[int] = []
    packs = Packs(items, on_report=lambda item, entry: None, on_stop=told.append)
    with packs._listening(searcher(items)):
        signal.raise_signal(signal.SIGTERM)
    assert (told, packs.stopped) == ([signal.SIGTERM], signal.SIGTERM)


def test_a_signal_that_interrupts_a_write_is_told_once(items: Sequence[Item]) -> None:
    class Slow(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            if not self.written:
                signal.raise_signal(signal.SIGINT)
            self.written += bytes(data)
            return len(data)

    slow = Slow()
    screen = io.TextIOWrapper(io.BufferedWriter(slow), write_through=True)

    def say(line: str) -> None:
        screen.write(f"{line}\n")
        screen.flush()

    packs = Packs(items, on_report=lambda item, entry: None, on_stop=lambda number: say("stopping"))
    with packs._listening(searcher(items)):
        say("a line")
    assert slow.written == b"a line\nstopping\n"


def test_a_line_that_nobody_reads_keeps_no_signal_and_no_end(items: Sequence[Item]) -> None:
    read, at = threading.Event(), time.monotonic()
    packs = Packs(items, on_report=lambda item, entry: None, on_stop=lambda number: read.wait(60))
    with packs._listening(searcher(items)):
        signal.raise_signal(signal.SIGINT)
    assert time.monotonic() - at < 10
    read.set()


def test_an_error_of_the_driver_ends_the_run_in_order(items: Sequence[Item]) -> None:
    def lost(item: Item, entry: dict[str, Any]) -> None:
        raise WorkspaceError("another driver took over")

    packs = Packs(items, on_report=lost, on_stop=lambda number: None)
    packs._searcher = searcher(items)
    packs._report({items[0].trial.fingerprint: {"epoch": 1, "epochs": 2}})
    assert packs._searcher.suggest("t0") == "FINISHED"
    assert isinstance(packs._refused, WorkspaceError)
