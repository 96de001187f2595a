"""Many seeds, every point of a crash, every planted fault: shared out to processes."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.simulator.chaos import Chaos
from tests.simulator.faults import FAULTS, WITHIN
from tests.simulator.simulation import RUBBISH, Result, simulate


def seeds(first: int, count: int, fault: str | None = None) -> Iterator[Result]:
    """Yield what came of seeds, each with what is drawn from it."""
    for seed in range(first, first + count):
        yield simulate(seed, fault=FAULTS[fault] if fault else None)


def points(part: int, every: int) -> Iterator[Result]:
    """Yield what comes of a loss of power at each write of a start in which nothing else goes wrong.

    Args:
        part: the first write.
        every: the distance of two.
    """
    for number in simulate(0, starts=[]).writes[part::every]:
        yield simulate(number, starts=[replace(Chaos(), power=number)])


def planted(names: Sequence[str]) -> Iterator[Result]:
    """Yield by which seed each fault is found; without a violation where it is not."""
    for name in names:
        found = next((one for one in seeds(1, WITHIN[name], name) if _shows(name, one)), None)
        told = f"{name}: found by seed {found.seed}: {found.violations[0]}" if found else f"{name}: NOT FOUND"
        yield Result(found.seed if found else 0, [] if found else [told], [told], found.writes if found else [], {})


def _shows(name: str, one: Result) -> bool:
    """Return whether a fault is found by what it breaks: scratch files lie about after many of them."""
    return bool(one.violations) and one.violations[0].startswith(RUBBISH) == (name == "scratch-left")


def part(told: tuple[argparse.Namespace, int]) -> list[Result]:
    """Return what came of a share of what is asked for."""
    asked, part = told
    if asked.planted:
        names = [name for name in FAULTS if WITHIN[name] <= asked.count]
        return list(planted(names[part :: asked.jobs]))
    if asked.points:
        found = points(part * asked.every, asked.every * asked.jobs)
    else:
        size = -(-asked.count // asked.jobs)
        found = seeds(asked.first + part * size, min(size, asked.count - part * size), asked.fault)
    return [one if one.violations else one._replace(log=[], numbers={}) for one in found]
