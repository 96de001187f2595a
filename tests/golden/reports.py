"""Reports of every study, kept: a rewrite of the report has to say the same, number by number and word by word.

Each study is planned as `dfloc sweep NAME --preset paper --dry-run` does, without data, its trials are given rows
(`filled`), and its report is built as the product does. After a change that is meant, write all that is kept anew by
`python -m tests.golden.reports --write`: it says what has changed.
"""

import argparse
import difflib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

from rich.console import Console
from upath import UPath

from dfloc.record import SweepRecord, union
from dfloc.report import overview, render
from dfloc.report.build import build
from dfloc.report.chart import Figure
from dfloc.report.page import Report
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.messages import dry_run
from dfloc.sweep.prepare import Prepared, prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import shipped
from tests.golden import compare, trials
from tests.golden.filled import HOLES, SCORED, Filled, smaller
from tests.report.planned import any_number_of_images

HERE = Path(__file__).parent
REPORTS = HERE / "reports"
DRY_RUNS = HERE / "dry_runs.txt"
PRESETS = ("paper", "mini", "smoke")
SHOWN = 12  # differences that are listed


@dataclass(frozen=True)
class Case:
    """A report that is kept.

    Attributes:
        starts: the sweep's, the oldest first: name, preset and what else the command line says.
        fates: what becomes of some trials (`Filled`).
        one_in: how rare that is.
        last: of so many trials, one has its last epoch evaluated too.
        points: of a search, how many are drawn.
    """

    starts: Sequence[Mapping[str, object]]
    fates: Sequence[str] = HOLES
    one_in: int = 90
    last: int = 4
    points: int = 0


def _paper(name: str, **more: object) -> Case:
    return Case([{"name": name, "preset": "paper"}], **more)  # type: ignore[arg-type]


_SMOKE = {"name": "exposure", "preset": "smoke"}
_FEW = ("stages.finetune.grid.n=[4,48]",)
_AT_RANDOM = ("search.sampler={name: random}",)  # what is drawn does not depend on what came of the points before
OF_IMAGES = ("attribution", "detection")
WITH_REALS = (*OF_IMAGES, "two-step", "weak")
CASES: Mapping[str, Case] = {
    "attribution": _paper("attribution", fates=SCORED),
    "cross-domain": _paper("cross-domain", fates=SCORED),
    "decoder-depth": _paper("decoder-depth", last=16),
    "detection": _paper("detection", one_in=20),
    "exposure": _paper("exposure", fates=SCORED),
    "first-day": _paper("first-day", fates=SCORED),
    "generator-shift": _paper("generator-shift", fates=SCORED, last=1),
    "losses": _paper("losses"),
    "sam2-decoders": _paper("sam2-decoders", fates=SCORED, last=8),
    "search": Case([{"name": "search", "preset": "paper", "settings": _AT_RANDOM}], one_in=16, points=40),
    "segmenters": _paper("segmenters", fates=SCORED),
    "single-domain": _paper("single-domain", fates=SCORED),
    "source-shift": _paper("source-shift"),
    "two-step": _paper("two-step", fates=SCORED),
    "weak": _paper("weak", fates=SCORED),
    "masks-or-labels": _paper("masks-or-labels", fates=SCORED),
    "exposure-seeds": Case([{"name": "exposure", "preset": "mini", "seeds": 3, "settings": _FEW}], one_in=24, last=2),
    "generator-shift-draws": Case([{"name": "generator-shift", "preset": "mini", "seeds": 2, "draws": 2}], one_in=12),
    "exposure-starts": Case(
        [
            _SMOKE,
            {**_SMOKE, "only": ("scratch", "budgets"), "settings": ("trial.optimizer.lr=1e-2",)},
            {**_SMOKE, "only": ("baselines", "scratch"), "settings": ("evaluate.protocol=dfloc-1",)},
        ],
        one_in=30,
    ),
}


class Built(NamedTuple):
    """A report's CSV files and report.md by name, numbers rounded as they are compared, and its figures."""

    files: dict[str, str]
    figures: list[Figure]


def files(case: Case) -> dict[str, str]:
    """Build a report; return its files."""
    return built(case).files


def built(case: Case) -> Built:
    """Build a report; its page is not drawn, since only words and numbers are kept."""
    reports: list[Report] = []
    drawn = mock.patch.object(render, "html", side_effect=lambda _, page: reports.append(page) or "")
    today = mock.patch.object(overview, "built", return_value=[])  # another commit and another day
    with TemporaryDirectory() as folder, drawn, today:
        built = written(case, Workspace(folder))
        texts = {path.name: path.read_text() for path in built.iterdir() if path.suffix in (".csv", ".md")}
    kept = {name: compare.kept(text) if name.endswith(".csv") else text for name, text in sorted(texts.items())}
    blocks = (block for report in reports for block in report.blocks)
    return Built(kept, [block for block in blocks if isinstance(block, Figure)])


def written(case: Case, workspace: Workspace, *, with_panel: bool = False) -> Path:
    """Fill the trials of a case in a workspace and build their report; return its folder."""
    prepared = [_prepared(workspace, start) for start in case.starts]
    with any_number_of_images(), mock.patch.object(os, "fsync"):  # no file waits for the disk
        filled = Filled(workspace, case.fates, case.one_in, case.last)
        record = union([_run(filled, each, case.points) for each in prepared])
        return Path(str(build(workspace, record, with_panel=with_panel)))


def _prepared(workspace: Workspace, start: Mapping[str, object]) -> Prepared:
    fakes = () if start["name"] in WITH_REALS else ("evaluate.reals=[]",)  # rows of maps here are of fakes alone
    settings = (*start.get("settings", ()), *fakes)  # type: ignore[misc]
    options = SweepRequest(workspace=str(workspace.root), **{**start, "settings": settings})  # type: ignore[arg-type]
    return prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False))


def _run(filled: Filled, prepared: Prepared, points: int) -> SweepRecord:
    """Fill the trials of a start, and those of a search one point after the other; return its record."""
    record = smaller(prepared.plan.resolved.record)
    filled.fill(record)
    if prepared.search is None:
        return record
    for _ in range(points):
        drawn = tuple(prepared.search.draw())
        filled.fill(smaller(record.model_copy(update={"trials": drawn})))
    return smaller(prepared.search.added_to(record))


def archive(name: str) -> Path:
    """Return where a report is kept."""
    return REPORTS / f"{name}.tar.xz"


def against(name: str, new: compare.Files) -> list[str]:
    """Return what differs between a kept report and today's."""
    old = compare.unpack(archive(name)) if archive(name).exists() else {}
    return [f"{name}/{one}" for one in compare.differences(old, new)]


def said(name: str) -> str:
    """Return what the dry runs of a study print, a part for each preset."""
    parts = []
    for preset in PRESETS:
        console = Console(file=io.StringIO(), width=200)
        with TemporaryDirectory() as folder:
            dry_run(SweepRequest(name, str(UPath(folder) / "workspace"), preset=preset), console)
        assert isinstance(console.file, io.StringIO)
        parts.append(f"$ dfloc sweep {name} --preset {preset} --dry-run\n{console.file.getvalue()}\n")
    return "".join(parts)


def dry_runs() -> str:
    """Return what the dry runs of all studies print."""
    return "".join(said(name) for name in shipped())


def kept_dry_runs() -> dict[str, str]:
    """Return the lines that are kept of each study's dry runs."""
    found: dict[str, str] = {}
    for part in DRY_RUNS.read_text().split("\n\n"):
        name = part.removeprefix("$ dfloc sweep ").partition(" ")[0]
        found[name] = found.get(name, "") + (f"{part}\n\n" if part else "")
    return found


def shortly(found: Sequence[str]) -> str:
    """Return the first differences, a line each, and how many more there are."""
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "\n".join([*found[:SHOWN], *more])


class Change(NamedTuple):
    """A file that is kept, what it would be today, and what differs."""

    path: Path
    data: bytes
    found: Sequence[str]

    def __str__(self) -> str:
        name = self.path.relative_to(HERE)
        return f"{name}: {len(self.found)} differences\n{shortly(self.found)}" if self.found else f"{name}: unchanged"


def changes(names: Sequence[str]) -> Iterator[Change]:
    """Yield each file that is kept as it would be today.

    Args:
        names: of the reports; all: the trials and the dry runs too.

    Raises:
        ValueError: a trial of 40e56a3 is not planned as it was.
    """
    for name in names:
        new = files(CASES[name])
        yield Change(archive(name), compare.pack(new), against(name, new))
    if {*names} == {*CASES}:
        for path, make in ((trials.FILE, lambda: trials.written(trials.today())), (DRY_RUNS, dry_runs)):
            text = make()
            yield Change(path, text.encode(), lines_apart(path.read_text() if path.exists() else "", text))


def lines_apart(old: str, new: str) -> list[str]:
    """Return the lines that only one of two texts has, as a diff shows them."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def main(words: Sequence[str] | None = None) -> int:
    """Say what differs from what is kept, and keep that if asked to; return 1 where something differs and is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.reports", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="report", help=f"of {', '.join(CASES)}; none: all that is kept")
    parser.add_argument("--write", action="store_true", help="write what has changed")
    asked = parser.parse_args(words)
    if unknown := {*asked.names} - {*CASES}:
        parser.error(f"no report is called {', '.join(unknown)}")
    differs = False
    for change in changes(asked.names or [*CASES]):
        sys.stdout.write(f"{change}\n")
        sys.stdout.flush()
        differs |= bool(change.found)
        if asked.write and change.found:
            change.path.parent.mkdir(exist_ok=True)
            change.path.write_bytes(change.data)
    return int(differs and not asked.write)


if __name__ == "__main__":
    sys.exit(main())
