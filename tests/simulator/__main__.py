"""Runs a study through all that can go wrong, seed by seed: `python -m tests.simulator`."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.simulator.chaos import Chaos
from tests.simulator.faults import FAULTS
from tests.simulator.simulation import Result, simulate

SHOWN = 160


def seeds(first: int, count: int, fault: str | None = None) -> Iterator[Result]:
    """Yield what came of seeds, each with what is drawn from it."""
    for seed in range(first, first + count):
        yield simulate(seed, fault=FAULTS[fault] if fault else None)


def points(of: int = 1, part: int = 0, every: int = 1) -> Iterator[Result]:
    """Yield what comes of a loss of power at each operation of a start in which nothing else goes wrong.

    Args:
        of: in so many parts.
        part: this one of them.
        every: so many operations are passed over but one.
    """
    whole = simulate(0, starts=[]).ops
    for number in range(1 + part * every, whole + 1, of * every):
        yield simulate(number, starts=[replace(Chaos(), power=number)])


def _part(told: tuple[argparse.Namespace, int]) -> list[Result]:
    asked, part = told
    found = points(asked.jobs, part) if asked.points else seeds(*_share(asked, part), asked.fault)
    return [result if result.violations else result._replace(log=[], numbers={}) for result in found]


def _share(asked: argparse.Namespace, part: int) -> tuple[int, int]:
    size = -(-asked.count // asked.jobs)
    return asked.first + part * size, min(size, asked.count - part * size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 where an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one alone; prints its operations up to a violation")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--points", action="store_true", help="no seeds: power is lost at each operation of a start")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="put this fault into the code")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        (result,) = seeds(asked.seed, 1, asked.fault)
        sys.stdout.writelines(f"{line[:SHOWN]}\n" for line in result.log)
        sys.stdout.writelines(f"{line}\n" for line in result.violations)
        return int(bool(result.violations))
    begun = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        found = [one for part in pool.imap_unordered(_part, [(asked, n) for n in range(asked.jobs)]) for one in part]
    bad = sorted((one for one in found if one.violations), key=lambda one: one.seed)
    for one in bad[:10]:
        fault = f" --fault {asked.fault}" if asked.fault else ""
        sys.stdout.write(f"python -m tests.simulator --seed {one.seed}{fault}: {one.violations[0]}\n")
    ops, seconds = sum(one.ops for one in found), time.monotonic() - begun
    sys.stdout.write(f"{len(found)} runs, {ops:,} operations, {len(bad)} violations, {seconds:.0f} s\n")
    return int(bool(bad))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is a part of the schedule
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulator", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
