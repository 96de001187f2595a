"""The mini exposure study in one line per seed, from a report's evaluations.csv.

python benchmarks/exposure_mini.py workspace/reports/exposure-mini-mini/evaluations.csv
"""

import sys
from pathlib import Path

import pandas as pd


def figures(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by seed, means over the held-out domains (fractions); `steps` of n = 0 are the base's."""
    best = table[table.checkpoint == "best"]
    base, tuned = best[best.stage == "base"], best[best.stage == "finetune"]
    most = tuned[tuned.n == tuned.n.max()]
    held_base, held_most = base[base.test_domain == base.held_out], most[most.test_domain == most.held_out]
    own, seen = base[base.test_domain != base.held_out], most[most.test_domain != most.held_out]
    gain = held_most.set_index(["seed", "held_out"]).iou - held_base.set_index(["seed", "held_out"]).iou
    return pd.DataFrame(
        {
            "own": own.groupby("seed").iou.mean(),
            "held-out n=0": held_base.groupby("seed").iou.mean(),
            f"held-out n={most.n.max():.0f}": held_most.groupby("seed").iou.mean(),
            "AP": held_most.groupby("seed").ap.mean(),
            "gain": gain.groupby("seed").mean(),
            "domains with gain >= 0.10": (gain >= 0.10).groupby("seed").sum(),
            "empty maps": held_most.groupby("seed")["empty"].mean(),
            "seen after": seen.groupby("seed").iou.mean(),
        }
    ).round(3)


if __name__ == "__main__":
    sys.stdout.write(figures(pd.read_csv(Path(sys.argv[1]))).to_string() + "\n")
