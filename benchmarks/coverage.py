"""How often a 95 % interval holds the truth, and how often two equal recipes are called different.

python -m benchmarks.coverage                       by drawn numbers whose truth is known, some minutes
python -m benchmarks.coverage --rows WORKSPACE      and by real rows: a finished sweep with six seeds or more
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pyarrow as pa

from dfloc.ledger import Ledger
from dfloc.metrics.bootstrap import interval
from dfloc.metrics.intervals import Images, Training, difference, mean
from dfloc.report import claims
from dfloc.report.find import records
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep import detectable
from tests.metrics.repeated import covered, trainings

Function = Callable[[Sequence[float]], float]

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


FUNCTIONS = {
    "difference": (lambda mean_K: mean_K[3] - mean_K[0]),
    "quotient": (lambda mean_K: (mean_K[1] - mean_K[0]) / (mean_K[3] - mean_K[0])),
    "largest": (lambda mean_K: max(mean_K[1:]) - mean_K[0]),
    "smallest": (lambda mean_K: min(mean_K[1:]) - mean_K[0]),
}
MEANS = (0.4, 0.6, 0.66, 0.7)


def functions(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Yield coverage and median width of numbers made of four means: by the gradient, as claims have it, and drawn."""
    yield "| number | photographs | trainings | gradient: coverage, width | bootstrap-t: coverage, width |"
    yield "|---|---:|---:|---:|---:|"
    for (name, of), (num, seeds) in product(FUNCTIONS.items(), ((8, 1), (30, 1), (30, 3))):
        truth, found = of(MEANS), []
        for run in range(runs // 5):
            value_KRP = _four(rng, num, seeds)
            found.append((*_by_gradient(value_KRP, of), *_drawn(value_KRP, of, run)))
        low, high, low_drawn, high_drawn = np.transpose(found)
        each = [
            f"{np.mean((least <= truth) & (truth <= most)):.3f}, {np.median(most - least):.3f}"
            for least, most in ((low, high), (low_drawn, high_drawn))
        ]
        yield f"| {name} | {num} | {seeds} | {' | '.join(each)} |"


def _four(rng: np.random.Generator, num: int, seeds: int) -> np.ndarray:
    """Return values [4, trainings, photographs] that share most of a photograph's effect."""
    shared_P, own_KP = rng.normal(0, 1, num), rng.normal(0, 1, (4, num))
    effect_KP = 0.8 * shared_P + 0.6 * own_KP
    of_training_KR1 = rng.normal(0, 0.02 if seeds > 1 else 0, (4, seeds, 1))
    noise_KRP = rng.normal(0, 0.05, (4, seeds, num))
    return np.array(MEANS)[:, None, None] + 0.15 * effect_KP[:, None] + of_training_KR1 + noise_KRP


def _by_gradient(value_KRP: np.ndarray, of: Function) -> tuple[float, float]:
    photographs = np.arange(value_KRP.shape[2])
    means = [
        mean([Training(0, seed, [Images(values, photographs)]) for seed, values in enumerate(value_RP)])
        for value_RP in value_KRP
    ]
    numbers = {"number": [of([one.value for one in means])]}
    ((span,),) = claims._spans(lambda line: {"number": [of(line)]}, numbers, means).values()
    return span


def _drawn(value_KRP: np.ndarray, of: Function, run: int) -> tuple[float, float]:
    part, seed, stem = (place.ravel() for place in np.indices(value_KRP.shape))
    rows = pa.table({"draw": np.zeros_like(seed), "seed": seed, "stem": stem, "part": part, "value": value_KRP.ravel()})

    def number(table: pa.Table) -> float:
        of_K = np.bincount(table["part"].to_numpy(), table["value"].to_numpy()) / np.bincount(table["part"].to_numpy())
        return float(of(of_K.tolist()))

    found = interval(rows, number, num_resamples=400, seed=run)
    return found.low, found.high


def pooled(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Yield the coverage of IoU over all pixels, of masks of very different size, three images a photograph."""
    yield "| photographs | trainings | pooled IoU covered |\n|---:|---:|---:|"
    big = _masks(rng, 200_000, 1)
    truth = _pooled(big)
    for num, seeds in ((8, 1), (30, 1), (30, 3)):
        found = [interval(_masks(rng, num, seeds), _pooled, num_resamples=200, seed=run) for run in range(runs // 5)]
        yield f"| {num} | {seeds} | {np.mean([one.low <= truth <= one.high for one in found]):.3f} |"


def _masks(rng: np.random.Generator, num: int, seeds: int) -> pa.Table:
    size_P3, level_P1 = rng.lognormal(6, 0.8, (num, 3)), rng.normal(0, 1, (num, 1))
    tables = []
    for seed in range(seeds):
        by = rng.normal(0, 0.02 if seeds > 1 else 0)
        share_P3 = np.clip(0.7 + 0.1 * level_P1 + rng.normal(0, 0.1, (num, 3)) + by, 0, 1)
        one = np.full(num * 3, seed)
        right, stem = (size_P3 * share_P3).ravel(), np.repeat(np.arange(num), 3)
        tables.append(pa.table({"draw": 0 * one, "seed": one, "stem": stem, "right": right, "union": size_P3.ravel()}))
    return pa.concat_tables(tables)


def _pooled(rows: pa.Table) -> float:
    return float(rows["right"].to_numpy().sum() / rows["union"].to_numpy().sum())


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


def shown(workspace: Workspace) -> Iterator[str]:
    """Yield what a plan says that a finished sweep can show, and half the width of the page's differences then."""
    yield "| trainings a side | the plan says: from | half the width of a difference, median |\n|---:|---:|---:|"
    (record,) = records(workspace.root, {})
    for num in (1, 3, 5, 10):
        kept = [trial for trial in record.trials if trial.repetition[1] < num]
        part = record.model_copy(update={"trials": tuple(kept)})
        spread = detectable.recorded(part, Ledger(workspace))
        study = Study(part, Results(workspace, part))
        pairs = combinations([group for group in study.groups if group.scored], 2)
        found = [study.less(one, other, [domain]) for one, other in pairs for domain in study.tested]
        half = np.median([(each.high - each.low) / 2 for each in found if each and each.known])
        yield f"| {num} | {spread.smallest(num) if spread else math.nan:.3f} | {half:.3f} |"


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
    parts = [photographs, seeds, functions, pooled]
    for place, part in enumerate(parts):
        for line in part(np.random.default_rng(asked.seed + place), asked.runs):
            sys.stdout.write(f"{line}\n")
        sys.stdout.write("\n")
    if asked.rows:
        workspace = Workspace(str(asked.rows), create=False)
        for line in (*real(np.random.default_rng(asked.seed), asked.runs, workspace), "", *shown(workspace)):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
