"""How often a 95 % interval holds the truth, and how often two equal recipes are called different.

python -m benchmarks.coverage                       by drawn numbers whose truth is known, some minutes
python -m benchmarks.coverage --rows WORKSPACE      and by real rows: a finished sweep with six seeds or more
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from dfloc.ledger import Ledger
from dfloc.metrics.intervals import Images, Training, difference, mean
from dfloc.report.find import records
from dfloc.storage import Workspace
from tests.metrics.repeated import covered, trainings

TRUTH = 0.7


def photographs(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Yield the coverage of one training's mean, by the number of photographs and their distribution."""
    yield "| photographs | normal | skewed |\n|---:|---:|---:|"
    for num in (3, 4, 8, 15, 30, 225):
        found = [
            np.mean([covered(mean(trainings(rng, num, 1, 0.0, skewed)[0]), TRUTH) for _ in range(runs)])
            for skewed in (False, True)
        ]
        yield f"| {num} | {found[0]:.3f} | {found[1]:.3f} |"


def seeds(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Yield coverage, and the share of equal recipes that are called different, by seeds and their spread."""
    yield "| seeds | their spread | coverage | equal recipes called different |\n|---:|---:|---:|---:|"
    for num, spread in product((2, 3, 5), (0.03, 0.01)):
        inside, apart = 0, 0
        for _ in range(runs):
            one, effect = trainings(rng, 225, num, spread)
            other, _ = trainings(rng, 225, num, spread, effect=effect)
            inside += covered(mean(one), TRUTH)
            apart += not covered(difference(list(zip(one, other, strict=True))), 0.0)
        yield f"| {num} | {spread} | {inside / runs:.3f} | {apart / runs:.3f} |"


def real(rng: np.random.Generator, runs: int, workspace: Workspace) -> Iterator[str]:
    """Yield the share of equal recipes called different, by recipes whose seeds are parted at random into two."""
    recipes = list(_recipes(workspace))
    yield f"{len(recipes)} recipes and test domains of {workspace.root.name}.\n"
    yield "| seeds a side | photographs | equal recipes called different |\n|---:|---:|---:|"
    for num, drawn in product((3, 5), (30, 225)):
        apart = 0
        for _ in range(runs):
            values_RP = recipes[rng.integers(len(recipes))]
            if len(values_RP) < 2 * num:
                raise SystemExit(f"a recipe has {len(values_RP)} seeds; train it with --seeds {2 * num}")
            parted = rng.permutation(len(values_RP))[: 2 * num]
            picked = rng.integers(values_RP.shape[1], size=drawn)
            sides = [
                Training(0, place % num, [Images(values_RP[run][picked], np.arange(drawn))])
                for place, run in enumerate(parted)
            ]
            apart += not covered(difference(list(zip(sides[:num], sides[num:], strict=True))), 0.0)
        yield f"| {num} | {drawn} | {apart / runs:.3f} |"


def _recipes(workspace: Workspace) -> Iterator[np.ndarray]:
    """Yield each recipe's mean IoU by training and photograph, on each test domain, best checkpoint."""
    ledger = Ledger(workspace)
    found: dict[tuple[str, str], dict[tuple[int, int], np.ndarray]] = {}
    for record in records(workspace.root, {}):
        for trial in record.trials:
            for one in trial.evaluations:
                if one.checkpoint == "best" and one.split == "test" and ledger.has_rows(one.trial, one.key):
                    rows = ledger.rows(one.trial, one.key).to_pandas()
                    found.setdefault((trial.recipe, one.domain), {})[trial.repetition] = rows.groupby("stem").iou.mean()
    for trained in found.values():
        yield np.stack([trained[at] for at in sorted(trained)])


def main() -> None:
    """Print the tables of docs/STATISTICS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="a workspace")
    asked = parser.parse_args()
    parts = [photographs, seeds]
    for place, part in enumerate(parts):
        for line in part(np.random.default_rng(asked.seed + place), asked.runs):
            sys.stdout.write(f"{line}\n")
        sys.stdout.write("\n")
    if asked.rows:
        for line in real(np.random.default_rng(asked.seed), asked.runs, Workspace(str(asked.rows), create=False)):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
