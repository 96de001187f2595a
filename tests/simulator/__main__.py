"""Runs a study through all that can go wrong, seed by seed: `python -m tests.simulator`."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from tests.simulator import runs
from tests.simulator.faults import FAULTS

SHOWN = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 where an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one alone; prints its operations up to a violation")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--points", action="store_true", help="no seeds: power is lost at each write of a start")
    parser.add_argument("--every", type=int, default=1, help="of the points one of so many")
    parser.add_argument("--planted", action="store_true", help="find each planted fault for which COUNT seeds do")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="put this fault into the code")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        (result,) = runs.seeds(asked.seed, 1, asked.fault)
        sys.stdout.writelines(f"{line[:SHOWN]}\n" for line in result.log)
        sys.stdout.writelines(f"{line}\n" for line in result.violations)
        return int(bool(result.violations))
    begun = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        found = [
            one for share in pool.imap_unordered(runs.part, [(asked, n) for n in range(asked.jobs)]) for one in share
        ]
    bad = sorted((one for one in found if one.violations), key=lambda one: one.seed)
    if asked.planted:
        sys.stdout.writelines(f"{one.log[0][:SHOWN]}\n" for one in found)
    for one in bad[:10] if not asked.planted else ():
        again = f"--seed {one.seed}{f' --fault {asked.fault}' if asked.fault else ''}"
        sys.stdout.write(f"python -m tests.simulator {again}: {one.violations[0]}\n")
    writes, seconds = sum(len(one.writes) for one in found), time.monotonic() - begun
    sys.stdout.write(f"{len(found)} runs, {writes:,} writes, {len(bad)} violations, {seconds:.0f} s\n")
    return int(bool(bad))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is a part of the schedule
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulator", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
