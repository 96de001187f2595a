"""The point values of a report, as its `evaluations.csv` has them; intervals are another matter."""

import csv
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

INTERVALS = {"iou_low", "iou_high"}
PROCESSOR = "AMD EPYC, AVX512"
"""Where the golden files of whole studies were written."""
KEY = ("stage", "case", "trial", "evaluation")
PLACE = ("stage", "case", "draw", "held_out", "seed", "n", "count", "decoder", "checkpoint", "test_domain", "protocol")
METRICS = ("iou", "f1_fixed", "f1_best", "ap", "pbca")


def points(path: Path) -> list[dict[str, str]]:
    """Return an `evaluations.csv`, without its intervals; a golden file is one too."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: text for name, text in row.items() if name not in INTERVALS} for row in csv.DictReader(file)]


def assert_same(found: list[dict[str, str]], golden: list[dict[str, str]], exact: bool = True) -> None:
    """Assert that every golden value is there to its last digit; found may have columns and evaluations more.

    Args:
        found: as `points` reads them.
        golden: the same.
        exact: False: metrics may differ as they do on another processor, where OpenCV rounds a few built-in images
            otherwise, and their digests with them.
    """
    names = KEY if exact else [name for name in PLACE if name in golden[0]]
    by_key = {_key(row, names): row for row in found}
    for row in golden:
        other = by_key[_key(row, names)]
        for name, text in row.items():
            if not exact and name in KEY[2:]:
                continue
            if exact or name not in METRICS or not text:
                assert other[name] == text, f"{name} of {row['stage']} {row['test_domain']} {row['checkpoint']}"
            else:
                assert abs(float(other[name]) - float(text)) < 0.05


def _key(row: dict[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] for name in names)


def processor() -> str:
    """Return what decides the last digits of a sum of floats: who made the processor, and its instructions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0]}, {torch.backends.cpu.get_cpu_capability()}"
