"""The point values of a report, as its `evaluations.csv` has them; intervals are another matter."""

import csv
import platform
from pathlib import Path

import torch

INTERVALS = {"iou_low", "iou_high"}
PROCESSOR = "AMD EPYC, AVX512"
"""Where the golden files of whole studies were written."""
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
        exact: False: metrics may differ as they do on another processor.
    """
    by_key = {_key(row): row for row in found}
    for row in golden:
        other = by_key[_key(row)]
        for name, text in row.items():
            if exact or name not in METRICS or not text:
                assert other[name] == text, f"{name} of {row['stage']} {row['test_domain']} {row['checkpoint']}"
            else:
                assert abs(float(other[name]) - float(text)) < 0.05


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("stage", "case", "trial", "evaluation"))


def processor() -> str:
    """Return what decides the last digits of a sum of floats: who made the processor, and its instructions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0]}, {torch.backends.cpu.get_cpu_capability()}"
