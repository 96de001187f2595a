"""Changes what goes in and what is stored, and reads it: `python -m tests.fuzz`."""

import argparse
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import written
from tests.fuzz import command, images, stored, sweeps, weights
from tests.fuzz.harness import FAULTS, Part, Result, run

PARTS: tuple[Part, ...] = (images.PART, images.ARRAYS, weights.PART, stored.PART, sweeps.PART, command.PART)
DOCS = Path(__file__).parents[2] / "docs" / "FAULTS.md"
WORDS = ("refused", "said so", "right", "read", *FAULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for and print a table; 1 where there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--part", choices=[part.name for part in PARTS], action="append", help="these alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="cases of each part  [default: its own]")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after these")
    parser.add_argument("--write", action="store_true", help="write the table into docs/FAULTS.md")
    asked = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="dfloc-fuzz-"))
    until = time.monotonic() + asked.seconds
    parts = [part for part in PARTS if not asked.part or part.name in asked.part]
    results = [run(part, asked.seed, asked.count or part.count, out, until, asked.first) for part in parts]
    stored.remove()
    command.remove()
    sweeps.remove()
    weights.CANARY.unlink(missing_ok=True)
    sys.stdout.write(table(results))
    if asked.write:
        written.put(DOCS, "fuzz", f"{time.strftime('%Y-%m-%d')}, seed {asked.seed}:\n\n{table(results)}")
    for result in results:
        sys.stdout.writelines(faults(result))
    if any(result.faults for result in results):
        sys.stdout.write(f"inputs and tracebacks: {out}\n")
        return 1
    out.rmdir()
    return 0


def faults(result: Result) -> Iterator[str]:
    """Yield a line for each kind of fault: how often it came, and the number of the first case that shows it."""
    kinds: dict[str, list[int]] = {}
    for number, name, verdict in result.faults:
        last = (verdict.detail.strip().splitlines() or [""])[-1]
        kinds.setdefault(f"{name}: {verdict.word}: {re.sub('[0-9]+', 'N', last)[:160]}", []).append(number)
    for kind, numbers in sorted(kinds.items(), key=lambda item: -len(item[1])):
        yield f"{len(numbers)} x {result.part}: {kind} (--first {numbers[0]} --count 1)\n"


def table(results: Sequence[Result]) -> str:
    """Return what came of the cases in Markdown."""
    words = [word for word in WORDS if word in FAULTS or any(result.words[word] for result in results)]
    lines = [["part", "cases", *words, "slowest", "seconds"], ["---", *["---:"] * (len(words) + 3)]]
    for result in results:
        counts = [str(result.words[word]) for word in words]
        lines.append([result.part, str(result.count), *counts, f"{result.slowest[0]:.2f} s", f"{result.seconds:.0f}"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\nmost memory: {peak:.1f} GiB\n"


if __name__ == "__main__":
    sys.exit(main())
