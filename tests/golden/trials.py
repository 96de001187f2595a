"""The trials of every study at `paper` size, planned without data: stage, case, axes and fingerprint.

Those of commit 40e56a3 have its mark. A result that was paid for then is found by its fingerprint for ever, so that no
line with a mark is ever written anew.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dfloc.frozen import canonical
from dfloc.sweep.sweep_file import shipped
from tests.report.planned import planned

FILE = Path(__file__).parent / "trials.tsv"
MARK = "40e56a3"


class Line(NamedTuple):
    """One planned trial."""

    sweep: str
    stage: str
    case: str
    axes: str
    fingerprint: str
    since: str = ""

    @property
    def trial(self) -> "Line":
        """The same without the mark."""
        return self._replace(since="")


def today() -> list[Line]:
    """Return the trials as they are planned now."""
    return [
        Line(name, one.stage, one.case, canonical(one.axes), one.fingerprint)
        for name in shipped()
        for one in planned(name).trials
    ]


def kept() -> list[Line]:
    """Return the trials on file."""
    with FILE.open(newline="") as file:
        return [Line(*row) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def lost(lines: Sequence[Line]) -> list[Line]:
    """Return those of 40e56a3 that a plan does not have, or has by another fingerprint."""
    there = {line.trial for line in lines}
    return [line for line in kept() if line.since and line.trial not in there]


def written(lines: Sequence[Line]) -> str:
    """Return the file of some trials, with the marks of those on file.

    Raises:
        ValueError: one of 40e56a3 is not among them.
    """
    if gone := lost(lines):
        raise ValueError(f"{len(gone)} trials of {MARK} are planned otherwise, the first is {' '.join(gone[0])}")
    marks = {line.trial: line.since for line in kept()}
    sink = io.StringIO()
    rows = [line._replace(since=marks.get(line, "")) for line in lines]
    csv.writer(sink, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None).writerows(rows)
    return sink.getvalue()
