"""The interface of a scheduler, driven by an engine that is no Ray."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from dfloc.sweep.plan import Item
from dfloc.sweep.scheduler import Next, ParentsFirst, Scheduler
from tests.sweep.conftest import Planner

Fare = Callable[[Item], Iterator[dict[str, Any]]]


@pytest.fixture
def items(planner: Planner) -> Sequence[Item]:
    return planner.plan().items


def name(item: Item) -> str:
    return item.trial.fingerprint


def of(items: Sequence[Item], parent: Item) -> list[Item]:
    return [item for item in items if item.trial.parent == name(parent)]


def finishes(item: Item) -> Iterator[dict[str, Any]]:
    yield from ({"epoch": epoch, "epochs": 2, "valid_iou": 0.5} for epoch in (1, 2))
    yield {"epoch": 2, "epochs": 2, "finished": True}


def drive(scheduler: Scheduler, room: int, fare: Fare = finishes) -> list[tuple[str, Item]]:
    """Run everything, so many items at once, an entry of each in turn; return what happened."""
    happened: list[tuple[str, Item]] = []
    running: dict[str, tuple[Item, Iterator[dict[str, Any]]]] = {}
    while True:
        found: Next = "wait"
        while len(running) < room and isinstance(found := scheduler.suggest(), Item):
            running[name(found)] = found, fare(found)
            happened.append(("start", found))
        if not running:
            assert found == "end", "else it waits for nothing"
            return happened
        for item, entries in list(running.values()):
            entry = next(entries)
            reason = scheduler.on_result(item, entry)
            if reason or entry.keys() & {"finished", "failed"}:
                del running[name(item)]
                scheduler.on_end(item, reason or entry.get("failed", ""))
                happened.append(("end", item))


@pytest.mark.parametrize("room", [1, 2, 9])
def test_each_item_starts_once_and_after_its_parent_has_ended(items: Sequence[Item], room: int) -> None:
    happened = drive(ParentsFirst(items), room)
    started = [item for what, item in happened if what == "start"]
    assert sorted(map(name, started)) == sorted(map(name, items))
    ends = [name(item) for what, item in happened if what == "end"]
    for place, (what, item) in enumerate(happened):
        if what == "start" and item.trial.parent:
            before = [name(one) for told, one in happened[:place] if told == "end"]
            assert item.trial.parent in before
    assert len(ends) == len(items)


def test_a_child_is_waited_for_until_its_own_parent_is_finished(items: Sequence[Item]) -> None:
    scheduler = ParentsFirst(items)
    free = [item for item in items if item.trial.parent is None]
    assert [scheduler.suggest() for _ in free] == free
    assert scheduler.suggest() == "wait"
    scheduler.on_end(free[1])
    assert scheduler.suggest() in of(items, free[1])


def test_children_of_what_failed_are_dropped_and_spare_those_of_its_sibling(items: Sequence[Item]) -> None:
    def fare(item: Item) -> Iterator[dict[str, Any]]:
        yield from [{"epoch": 1, "epochs": 2, "failed": "the loss is NaN"}] if item is items[0] else finishes(item)

    scheduler = ParentsFirst(items)
    started = [item for what, item in drive(scheduler, 2, fare) if what == "start"]
    lost = of(items, items[0])
    assert lost
    assert of(items, items[1])
    assert sorted(map(name, started)) == sorted(name(item) for item in items if item not in lost)
    assert scheduler.dropped == {item.name: f"its parent {items[0].name} the loss is NaN" for item in lost}


def test_what_a_scheduler_stops_ends_and_the_rest_goes_on(items: Sequence[Item]) -> None:
    class Impatient(ParentsFirst):
        def on_result(self, item: Item, entry: Mapping[str, Any]) -> str:
            return "was too slow" if item is items[0] and entry["epoch"] == 1 else ""

    entries: list[str] = []

    def fare(item: Item) -> Iterator[dict[str, Any]]:
        for entry in finishes(item):
            entries.append(name(item))
            yield entry

    scheduler = Impatient(items)
    drive(scheduler, 2, fare)
    assert (entries.count(name(items[0])), entries.count(name(items[1]))) == (1, 3)
    assert set(scheduler.dropped) == {item.name for item in of(items, items[0])}
