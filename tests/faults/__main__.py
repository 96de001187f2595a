"""Disturb sweeps at moments drawn from a seed, and look whether anything is lost: `make test-faults`."""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests import written
from tests.faults import batch, kinds
from tests.faults.ground import Ground
from tests.faults.scene import SHARES, Kind, Moment, Scene, play

KINDS: dict[str, Kind] = kinds.KINDS | batch.KINDS
MOMENTS = 20
OFTEN = ("kill driver", "kill command", "kill worker", "kill gcs", "kill raylet", "term one", "term all", "int", "hup")
"""What is drawn again once each kind has had its moment."""

DOCS = Path(__file__).parents[2] / "docs" / "FAULTS.md"


def moments(seed: int, number: int = MOMENTS) -> list[Moment]:
    """Return what happens when: each kind once, then some again; the same for the same seed."""
    draw = random.Random(seed)
    order = draw.sample(list(KINDS), len(KINDS)) + [draw.choice(OFTEN) for _ in range(number)]
    found = []
    for place, kind in enumerate(order[:number]):
        phase, share = draw.choice(KINDS[kind].phases), draw.uniform(*SHARES)
        found.append(Moment(place, kind, phase, share))
    return found


def main() -> int:
    """Run the moments; return 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats a run; drawn, and printed, by default")
    parser.add_argument("--only", choices=KINDS, help="the moments of one kind")
    parser.add_argument("--number", type=int, action="append", help="a moment by its number; repeatable")
    parser.add_argument("--write", action="store_true", help="write the table into docs/FAULTS.md")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was begun is ended
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = [
        moment
        for moment in moments(seed)
        if (not asked.only or moment.kind == asked.only) and (not asked.number or moment.number in asked.number)
    ]
    say(f"seed {seed}, {len(chosen)} moments; again by: python -m tests.faults --seed {seed}")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="faults-cache-")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        ground = Ground.run(Path(folder))
        say(f"quiet run: {time.monotonic() - start:.0f} s")
        lines, bad, skipped = [], 0, 0
        for moment in chosen:
            if why := KINDS[moment.kind].lacking():
                skipped += 1
                lines.append(_row(moment, ["skipped", "", why]))
                say(f"{moment.number} {moment.kind}: skipped, {why}")
                continue
            begun = time.monotonic()
            scene = play(KINDS[moment.kind], ground, moment, f"{seed} {moment.number}")
            bad += bool(scene.faults)
            lines.append(_row(scene.moment, _came_of(scene)))
            say(f"{moment.number} {_words(scene)} ({time.monotonic() - begun:.0f} s)")
            for fault in scene.faults:
                say(f"    {fault}")
    minutes = (time.monotonic() - start) / 60
    say(f"{len(chosen)} moments, {bad} with faults, {skipped} skipped, {minutes:.0f} minutes")
    if asked.write:
        written.put(DOCS, "faults", _table(seed, minutes, lines))
    return 1 if bad else 0


def _words(scene: Scene) -> str:
    moment = scene.moment
    notes = f" ({', '.join(scene.notes)})" if scene.notes else ""
    came = "FAULT" if scene.faults else "whole"
    when = f"{moment.phase} at {moment.share:.0%}{notes}"
    return f"{moment.kind}, {when}: ended with {scene.code} after {scene.seconds:.1f} s, {came}"


def _came_of(scene: Scene) -> list[str]:
    code = "" if scene.code is None else str(scene.code)
    return [code, f"{scene.seconds:.1f}", "; ".join(scene.faults)[:200] or "whole"]


def _row(moment: Moment, cells: list[str]) -> str:
    does = KINDS[moment.kind].does
    cells = [str(moment.number), does, f"{moment.phase}, {moment.share:.0%}", *cells]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _table(seed: int, minutes: float, lines: list[str]) -> str:
    head = [
        f"{time.strftime('%Y-%m-%d')}, seed {seed}, {minutes:.0f} minutes on {os.cpu_count()} cores:",
        "",
        "| no. | what | phase, share of its files | exit code | seconds to the end | after the same command |",
        "| ---: | --- | --- | ---: | ---: | --- |",
    ]
    return "\n".join([*head, *lines]) + "\n"


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
