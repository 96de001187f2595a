import io
import pickle
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dfloc import driver_notes
from dfloc.errors import WorkspaceError
from dfloc.sweep.plan import Item
from dfloc.sweep.scheduler import Next, ParentsFirst, Scheduler
from dfloc.sweep.tuning import Tuning
from tests.command import wait
from tests.sweep.conftest import Planner


@pytest.fixture
def items(planner: Planner) -> Sequence[Item]:
    return planner.plan().items


def tuning(scheduler: Scheduler, **how: Any) -> Tuning:
    told = {"workspace": "", "data": "", "device": "cpu", "proof": ()}
    return Tuning(scheduler, told, **{"on_report": lambda item, entry: None, "on_stop": lambda number: None, **how})


def names(config: object) -> list[str]:
    assert isinstance(config, dict)
    return [each["fingerprint"] for each in config["items"]]


def entry(**how: Any) -> dict[str, Any]:
    return {"epoch": 1, "epochs": 2, **how}


def report(found: Tuning, trial: str, entries: dict[str, dict[str, Any]]) -> bool:
    return found.reported(trial, {"training_iteration": 1, "pack": entries})


def test_child_waits_for_its_parent(items: Sequence[Item]) -> None:
    found = tuning(ParentsFirst(items))
    told = [found.suggest(f"t{k}") for k in range(5)]
    free = [item.trial.fingerprint for item in items if item.trial.parent is None]
    assert [name for config in told if config for name in names(config)] == free
    assert told[4] is None
    assert not report(found, "t1", {free[1]: entry(finished=True)})
    parents = {item.trial.fingerprint: item.trial.parent for item in items}
    assert [parents[name] for name in names(found.suggest("t5"))] == [free[1]]


def test_ends_when_everything_was_handed_out(items: Sequence[Item]) -> None:
    found, started = tuning(ParentsFirst(items)), list[str]()
    for k in range(20):
        config = found.suggest(f"t{k}")
        if config == "FINISHED":
            break
        started += names(config)
        report(found, f"t{k}", {started[-1]: entry(finished=True)})
        found.on_trial_complete(f"t{k}", {})
    assert sorted(started) == sorted(item.trial.fingerprint for item in items)


@pytest.mark.parametrize(
    ("told", "error", "why"),
    [({"failed": "NaN"}, False, "failed"), ({}, True, "failed"), ({}, False, "did not finish")],
)
def test_children_of_what_failed_are_dropped_with_a_message(
    items: Sequence[Item], told: dict[str, str], error: bool, why: str
) -> None:
    found = tuning(ParentsFirst(items))
    found.suggest("t0")
    report(found, "t0", {items[0].trial.fingerprint: entry(**told)})
    found.on_trial_complete("t0", None, error=error)
    children = [item for item in items if item.trial.parent == items[0].trial.fingerprint]
    assert list(found.troubles()) == [
        f"not started: {item.name}: its parent {items[0].name} {why}" for item in children
    ]


class Judge(ParentsFirst):
    """Stops who is told, and keeps what it hears."""

    def __init__(self, items: Sequence[Item], stops: Sequence[str]):
        super().__init__(items)
        self._stops = stops
        self.results: list[tuple[str, int]] = []
        self.ends: list[tuple[str, str]] = []

    def on_result(self, item: Item, entry: Mapping[str, Any]) -> str:
        self.results.append((item.trial.fingerprint, entry["epoch"]))
        return "one of the worse" if item.trial.fingerprint in self._stops else ""

    def on_end(self, item: Item, failure: str = "") -> None:
        self.ends.append((item.trial.fingerprint, failure))
        super().on_end(item, failure)


def test_the_results_of_two_members_of_a_pack_are_told_apart(items: Sequence[Item]) -> None:
    one, two = items[0].trial.fingerprint, items[1].trial.fingerprint
    judge, heard = Judge(items, stops=[one]), list[tuple[str, dict[str, Any]]]()
    found = tuning(judge, on_report=lambda item, entry: heard.append((item.trial.fingerprint, entry)))
    assert names(found.pack("t0", items[0], items[1])) == [one, two]
    assert not report(found, "t0", {one: entry(valid_iou=0.1), two: entry(valid_iou=0.7)}), "the other one goes on"
    assert not report(found, "t0", {one: entry(epoch=2), two: entry(epoch=2, finished=True)})
    found.on_trial_complete("t0")
    assert judge.results == [(one, 1), (two, 1), (two, 2)], "who was stopped is not heard any more"
    assert judge.ends == [(one, "was stopped early"), (two, "")]
    assert [(name, told.get("stopped"), told.get("finished")) for name, told in heard] == [
        (one, "one of the worse", None),
        (two, None, None),
        (two, None, True),
    ]


def test_a_pack_is_stopped_with_its_last_member(items: Sequence[Item]) -> None:
    one, two = items[0].trial.fingerprint, items[1].trial.fingerprint
    judge = Judge(items, stops=[two])
    found = tuning(judge)
    found.pack("t0", items[0], items[1])
    assert not report(found, "t0", {one: entry(failed="NaN")}), "a NaN spares its siblings"
    assert report(found, "t0", {two: entry(valid_iou=0.1)})
    found.on_trial_complete("t0", {})
    assert judge.ends == [(one, "failed"), (two, "was stopped early")]


def test_what_has_ended_is_ended_once_also_where_its_worker_dies_behind_it(items: Sequence[Item]) -> None:
    heard: list[dict[str, Any]] = []
    found = tuning(judge := Judge(items, ()), on_report=lambda item, entry: heard.append(entry))
    [name] = names(found.suggest("t0"))
    for _ in range(2):  # Tune tries it again, or tells its last result twice
        assert not report(found, "t0", {name: entry(finished=True)})
    found.on_trial_complete("t0", None, error=True)
    assert (len(heard), judge.ends) == (1, [(name, "")])


def test_tune_can_keep_it_though_nothing_is_ever_restored(items: Sequence[Item]) -> None:
    found = tuning(ParentsFirst(items), on_stop=lambda number: None)
    assert pickle.loads(pickle.dumps(found)) == ""


def test_first_ctrl_c_hands_out_nothing_more_and_the_second_ends(items: Sequence[Item]) -> None:
    told: list[int] = []
    packs = tuning(ParentsFirst(items), on_stop=told.append)
    before = signal.getsignal(signal.SIGINT)
    with packs._listening():
        signal.raise_signal(signal.SIGINT)
        wait(lambda: told == [signal.SIGINT], 10)
        assert packs.stopped == signal.SIGINT
        assert packs.suggest("t0") == "FINISHED"
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
    packs = tuning(ParentsFirst(items), on_stop=told.append)
    with packs._listening():
        signal.raise_signal(signal.SIGHUP)
    assert (len(started), told, packs.stopped) == (1, [signal.SIGHUP], signal.SIGHUP)


def test_another_signal_while_one_is_answered_starts_no_second_clock(
    items: Sequence[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    hups = [signal.SIGHUP]
    monkeypatch.setattr(driver_notes, "gone", lambda facts: "" if not hups else signal.raise_signal(hups.pop()) or "")
    told: list[int] = []
    packs = tuning(ParentsFirst(items), on_stop=told.append)
    with packs._listening():
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

    packs = tuning(ParentsFirst(items), on_stop=lambda number: say("stopping"))
    with packs._listening():
        say("a line")
    assert slow.written == b"a line\nstopping\n"


def test_a_line_that_nobody_reads_keeps_no_signal_and_no_end(items: Sequence[Item]) -> None:
    read, at = threading.Event(), time.monotonic()
    packs = tuning(ParentsFirst(items), on_stop=lambda number: read.wait(60))
    with packs._listening():
        signal.raise_signal(signal.SIGINT)
    assert time.monotonic() - at < 10
    read.set()


def test_an_error_of_the_driver_ends_the_run_in_order(items: Sequence[Item]) -> None:
    def lost(item: Item, entry: dict[str, Any]) -> None:
        raise WorkspaceError("another driver took over")

    packs = tuning(ParentsFirst(items), on_report=lost)
    [name] = names(packs.suggest("t0"))
    assert report(packs, "t0", {name: entry()}), "it is stopped"
    assert packs.suggest("t1") == "FINISHED"
    assert isinstance(packs._refused, WorkspaceError)


def test_an_error_of_the_scheduler_ends_the_run_in_order(items: Sequence[Item]) -> None:
    class Lost(ParentsFirst):
        def suggest(self) -> Next:
            raise WorkspaceError("another driver took over")

    packs = tuning(Lost(items))
    assert packs.suggest("t0") == "FINISHED"
    assert isinstance(packs._refused, WorkspaceError)
