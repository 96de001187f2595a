"""A study that nothing disturbed, and workspaces as it had left them at the beginning of each phase."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.command import Started, Study
from tests.golden.points import PROCESSOR, assert_same, points, processor

SWEEP = "exposure-smoke-mini"
GOLDEN = Path(__file__).parent.parent / "golden" / "smoke.csv"
SETTINGS = ("--set", "stages.finetune.trial.epochs=4")
LONGER = "finetune"
"""The stage whose numbers are not those of the golden file, for it has more epochs here."""


class Phase(NamedTuple):
    """A part of a sweep: `folder` is where its files appear, `kept` what is there before."""

    folder: str
    kept: tuple[str, ...]


SHARDS = ("mini", "shards")
STORED = (*SHARDS, "features", "lists", "weights")
PHASES = {
    "import": Phase("shards", ("mini",)),
    "features": Phase("features", SHARDS),
    "trials": Phase("trials", STORED),
    "report": Phase("reports", STORED),
}


class Ground:
    """What is compared with, and begun from.

    Args:
        quiet: a finished study, with its report and MLflow's store.
        settings: what the command was given besides the usual.
    """

    def __init__(self, quiet: Study, settings: tuple[str, ...] = ()):
        self.quiet, self.settings = quiet, settings
        self.numbers = quiet.numbers()
        self.points = evaluations(quiet)
        self.files = names(quiet.root)
        golden = [row for row in points(GOLDEN) if not settings or row["stage"] != LONGER]
        assert_same(self.points, golden, exact=processor() == PROCESSOR)

    @classmethod
    def run(cls, folder: Path) -> "Ground":
        """Run the study, undisturbed."""
        study = Study(folder / "quiet")
        result = study.command(*SETTINGS)
        assert result.code == 0, result
        return cls(study, SETTINGS)

    def lay(self, phase: str, root: Path, link: bool = True) -> Study:
        """Return a workspace as it is at the beginning of a phase.

        Args:
            phase: one of `PHASES`.
            root: of the new workspace; an empty folder, or none yet.
            link: share the files, none of which is ever changed; else copy them.
        """
        root.mkdir(exist_ok=True)
        for name in PHASES[phase].kept:
            if (self.quiet.root / name).exists():
                how = {"copy_function": _link} if link else {}
                shutil.copytree(self.quiet.root / name, root / name, **how)
        return Study(root)

    def watch(self, study: Study, phase: str, share: float) -> Callable[[], bool]:
        """Return what says whether so large a share of a phase's files has appeared; the first one at least."""
        folder = PHASES[phase].folder
        total = len(_files(self.quiet.root / folder))
        seen = set[Path]()

        def reached() -> bool:
            seen.update(_files(study.root / folder))
            return len(seen) >= max(1, share * total)

        return reached


def evaluations(study: Study) -> list[dict[str, str]]:
    """Return the point values of a study's report."""
    return points(study.root / "reports" / SWEEP / "evaluations.csv")


def names(root: Path) -> set[str]:
    """Return the names of all files of a workspace but its logs and notes, without the digests and numbers in them."""
    found = (str(path.relative_to(root)) for path in _files(root) if path.parent.name not in ("logs", "settled"))
    return {re.sub(r"[0-9a-f]{20,64}|(?<=\block\.)\d+", "#", name) for name in found}


def until(started: Started, condition: Callable[[], bool], seconds: float = 300) -> bool:
    """Wait for a condition; return whether it came before the command ended."""
    end = time.monotonic() + seconds
    while not condition():
        if started.process.poll() is not None:
            return False
        assert time.monotonic() < end, f"waited in vain; it said: {started.said()}"
        time.sleep(0.02)
    return started.process.poll() is None


def _files(folder: Path) -> set[Path]:
    """Return the files below a folder that may be being written."""
    return {Path(place) / name for place, _, files in os.walk(folder) for name in files}


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
